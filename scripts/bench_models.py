"""The models that the channel bench works on, with random weights, as ONNX files.

Batch norms get random statistics and biases random numbers, so that no channel is dead by accident.

python scripts/bench_models.py NAME model.onnx
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

# Without torchvision's compiled ops its registrations of them raise; no model here uses one.
sys.modules["torchvision._meta_registrations"] = types.ModuleType("empty")

import torch  # noqa: E402
import torchvision  # noqa: E402
from quiet_export import quiet_export  # noqa: E402
from torch import Tensor, nn  # noqa: E402

DETECTORS = (
    "ssdlite320_mobilenet_v3_large",
    "ssd300_vgg16",
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
)
PROPOSERS = ("fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenet_v3_large_320_fpn")
SEGMENTERS = ("fcn_resnet50", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large")
FLOWS = ("raft_small", "raft_large")
CIFAR = ("resnet20", "resnet56")
SIZES = {
    **dict.fromkeys(CIFAR, 32),
    "inception_v3": 299,
    "ssdlite320_mobilenet_v3_large": 320,
    "ssd300_vgg16": 300,
}
FLOW_SIZE, FLOW_UPDATES = 128, 2


class Detector(nn.Module):
    """All layers of a detector; what follows them picks boxes and has no weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.head(list(self.backbone(image).values())).values())


class Proposer(nn.Module):
    """The backbone of a detector of two stages and what proposes regions on it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.rpn.head

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        objects, boxes = self.head(list(self.backbone(image).values()))
        return (*objects, *boxes)


class Segmenter(nn.Module):
    """The tensor of classes out of a segmenter's dictionary."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image)["out"]


class Flow(nn.Module):
    """The last of the flows that RAFT refines."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.model(first, second, num_flow_updates=FLOW_UPDATES)[-1]


def build(name: str) -> nn.Module:
    """A model in evaluation mode; the same for the same name."""
    torch.manual_seed(0)
    if name in CIFAR:
        return enliven(cifar_resnet(name)).eval()
    more: dict[str, object] = {}
    if name in ("googlenet", "inception_v3"):
        more = {"init_weights": True, "aux_logits": True}
    if name in DETECTORS + PROPOSERS + SEGMENTERS:
        more = {"weights_backbone": None}
    model = enliven(torchvision.models.get_model(name, weights=None, **more).eval())
    wrappers = {**dict.fromkeys(DETECTORS, Detector), **dict.fromkeys(SEGMENTERS, Segmenter)}
    wrappers |= {**dict.fromkeys(FLOWS, Flow), **dict.fromkeys(PROPOSERS, Proposer)}
    return wrappers[name](model).eval() if name in wrappers else model


def cifar_resnet(name: str) -> nn.Module:
    """One of models/resnet_cifar.py: ResNet-20 is the demo's, ResNet-56 the CIFAR recipe's."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models"))
    import resnet_cifar

    return getattr(resnet_cifar, name)()


def enliven(model: nn.Module) -> nn.Module:
    """Give norms, biases and layers that start as zeros random numbers."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1)
            if not module.weight.any():
                nn.init.normal_(module.weight, 0, 0.05)
    return model


def inputs_of(name: str) -> tuple[Tensor, ...]:
    """Random inputs, batch 1."""
    if name in FLOWS:
        return torch.randn(1, 3, FLOW_SIZE, FLOW_SIZE), torch.randn(1, 3, FLOW_SIZE, FLOW_SIZE)
    size = SIZES.get(name, 224)
    return (torch.randn(1, 3, size, size),)


if __name__ == "__main__":
    name, path = sys.argv[1], Path(sys.argv[2])
    quiet_export(build(name), inputs_of(name), path)
