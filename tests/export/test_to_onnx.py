"""Names, dynamic sizes, and what cannot be exported."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from deploypipe.core.errors import UserError
from deploypipe.export.to_onnx import to_onnx
from deploypipe.graph.files import to_bytes

X = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)


class Scaled(nn.Module):
    """Its parameters are called as inputs and outputs like to be."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.fc = nn.Linear(3, 3)

    def forward(self, image):
        return self.fc(image) * self.logits


class Two(nn.Module):
    def forward(self, a, b):
        return a + b.mean(1, keepdim=True), a * 2


class Branches(nn.Module):
    def forward(self, x):
        return x + 1 if x.sum() > 0 else x - 1


def session(model) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("given", "output"), [("logits", "fc.weight"), ("fc.weight", "logits"), ("linear", "fc.bias")]
)
def test_inputs_and_outputs_may_be_called_as_what_is_inside(given, output):
    module = Scaled()
    run = session(to_onnx(module, {given: X}, outputs=[output]))
    assert [value.name for value in run.get_inputs()] == [given]
    assert [value.name for value in run.get_outputs()] == [output]
    with torch.no_grad():
        expected = module(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(run.run(None, {given: X})[0], expected, rtol=1e-5, atol=1e-6)


def test_outputs_without_a_name_are_numbered_and_axes_are_dynamic():
    module = to_onnx(Two(), {"a": X, "b": X}, dynamic={"b": [1]})
    run = session(module)
    assert [value.name for value in run.get_outputs()] == ["logits", "output_1"]
    a, b = np.ones((5, 3), np.float32), np.ones((5, 9), np.float32)
    first, second = run.run(None, {"a": a, "b": b})
    np.testing.assert_array_equal(first, a + 1)
    np.testing.assert_array_equal(second, a * 2)


def test_more_names_than_outputs_are_refused():
    with pytest.raises(UserError, match="export.outputs: 2 output names were given, .* 1 outputs"):
        to_onnx(nn.Linear(3, 2), {"x": X}, outputs=["a", "b"])


def test_an_input_cannot_share_its_name_with_an_output():
    with pytest.raises(UserError, match="inputs and outputs share a name"):
        to_onnx(nn.Linear(3, 2), {"logits": X})


def test_control_flow_on_values_gives_one_clear_paragraph(capfd):
    with pytest.raises(UserError) as caught:
        to_onnx(Branches(), {"x": X})
    text = str(caught.value)
    assert text.startswith("export: torch cannot export the model: ")
    assert text.endswith("Remove control flow that depends on tensor values from forward().")
    assert "\n" not in text
    said = capfd.readouterr()
    assert said.out == said.err == ""
