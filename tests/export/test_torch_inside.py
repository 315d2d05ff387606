"""A torch module and an ONNX file, layer by layer."""

import numpy as np
import onnx_ir as ir
import pytest
import torch

from deploypipe.export.to_onnx import to_onnx
from deploypipe.export.torch_inside import TorchInside, module_names
from deploypipe.runtime import TARGETS
from deploypipe.validate.inside import OnnxInside
from deploypipe.validate.layers import compare_layers

X = np.random.default_rng(0).normal(size=(2, 1, 6, 6)).astype(np.float32)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
        self.head = torch.nn.Linear(64, 3)
        self.idle = torch.nn.Linear(2, 2)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


@pytest.fixture(scope="module")
def exported():
    return to_onnx(Net(), {"image": X})


@pytest.fixture(scope="module")
def target():
    return TARGETS.build({"cpu": {"threads": 1}})


def test_leaves_are_the_tensors_inside():
    names = [tensor.name for tensor in TorchInside(Net()).tensors]
    assert names == ["body.0", "body.1", "head", "idle"]


def test_hooks_read_the_outputs_and_leave():
    net = Net()
    with TorchInside(net).looking(["body.1", "head"]) as look:
        found = look({"image": X})
    with torch.no_grad():
        np.testing.assert_array_equal(found["head"], net(torch.from_numpy(X)).numpy())
    assert found["body.1"].shape == (2, 4, 4, 4)
    assert not net.head._forward_hooks


def test_the_exporters_notes_say_which_tensor_a_module_gives(exported):
    names = module_names(Net(), exported)
    assert set(names) == {"body.0", "body.1", "head"}
    tensors = {out.name for node in exported.graph for out in node.outputs}
    assert set(names.values()) <= tensors


def test_an_export_answers_as_its_module_layer_by_layer(exported, target):
    inside = TorchInside(Net()), OnnxInside(exported, target, 2)
    told = compare_layers(*inside, [{"image": X}], module_names(Net(), exported))
    assert [layer.name for layer in told.layers] == ["body.0", "body.1", "head"]
    assert all(layer.sqnr_db > 100 for layer in told.layers)
    assert told.cliff is None


def test_the_layer_that_differs_is_found(exported, target):
    other = exported.clone()
    value = other.graph.initializers["head.weight"]
    value.const_value = ir.tensor(value.const_value.numpy() * 3, name=value.name)
    inside = TorchInside(Net()), OnnxInside(other, target, 2)
    told = compare_layers(*inside, [{"image": X}], module_names(Net(), exported))
    assert told.cliff.name == "head"


def test_a_module_that_does_not_run_is_not_measured(exported, target):
    logits = exported.graph.outputs[0].name
    inside = TorchInside(Net()), OnnxInside(exported, target, 2)
    told = compare_layers(*inside, [{"image": X}], {"idle": logits})
    assert (told.layers[0].sqnr_db, told.layers[0].drop_db) == (None, None)
