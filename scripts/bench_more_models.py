"""Models of transformers and timm for the channel bench, with random weights, as ONNX files.

Norms and biases get random numbers, so that no channel is dead by accident.

python scripts/bench_more_models.py NAME model.onnx      in a Python with transformers and timm
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

# Without torchvision's compiled ops its registrations of them raise; no model here uses one.
sys.modules["torchvision._meta_registrations"] = types.ModuleType("empty")

import torch  # noqa: E402
from more_models import SIZE, TOKENS, TRANSFORMERS, WORDS  # noqa: E402
from quiet_export import quiet_export  # noqa: E402
from torch import Tensor, nn  # noqa: E402

Inputs = tuple[Tensor, ...]


class First(nn.Module):
    """The first tensor that a model of transformers answers with."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, given: Tensor) -> Tensor:
        return self.model(given, return_dict=False)[0]


def build(name: str) -> tuple[nn.Module, Inputs]:
    """A model in evaluation mode and inputs for it; the same for the same name."""
    torch.manual_seed(0)
    if name.startswith("timm/"):
        import timm

        model = timm.create_model(name.partition("/")[2], pretrained=False, exportable=True)
        return enliven(model).eval(), (torch.randn(1, *model.pretrained_cfg["input_size"]),)
    import transformers

    config_name, model_name, options = TRANSFORMERS[name]
    config = getattr(transformers, config_name)(**options)
    config.use_cache = False
    config._attn_implementation = "eager"
    model = getattr(transformers, model_name)(config)
    given = _given(name)
    model = model.encoder if name == "whisper_encoder" else model
    return First(enliven(model)).eval(), (given,)


def _given(name: str) -> Tensor:
    if name == "whisper_encoder":
        return torch.randn(1, 20, 60)
    if name == "wav2vec2":
        return torch.randn(1, 1600)
    if TRANSFORMERS[name][2].get("vocab_size"):
        return torch.randint(3, WORDS, (1, TOKENS))
    return torch.randn(1, 3, SIZE, SIZE)


def enliven(model: nn.Module) -> nn.Module:
    """Give norms, biases and layers that start as zeros random numbers."""
    for name, weight in model.named_parameters():
        if weight.ndim == 1 and name.endswith("bias"):
            nn.init.normal_(weight, 0, 0.1)
        elif weight.ndim == 1:
            nn.init.uniform_(weight, 0.5, 1.5)
        elif not weight.any():
            nn.init.normal_(weight, 0, 0.05)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            nn.init.normal_(buffer, 0, 0.2)
        elif name.endswith("running_var"):
            nn.init.uniform_(buffer, 0.5, 1.5)
    return model


if __name__ == "__main__":
    name, path = sys.argv[1], Path(sys.argv[2])
    quiet_export(*build(name), path)
