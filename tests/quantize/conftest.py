"""Tiny models in text, and ONNX Runtime on one thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.core import options
from deploypipe.quantize import (
    CALIBRATORS,
    PROFILES,
    Correction,
    Histogram,
    Job,
    Profile,
    Quantized,
    Unit,
    quantize_model,
)
from deploypipe.quantize.correction import Draft
from deploypipe.quantize.corrections.bias import Bias
from deploypipe.quantize.histogram import PICKED, Counter
from deploypipe.quantize.layerwise import Task
from deploypipe.quantize.lookout import ChannelMean
from deploypipe.quantize.plan import QuantPlan
from deploypipe.runtime import Target
from deploypipe.runtime.targets.cpu import Cpu

TARGET = Cpu(threads=1)

CONV_NET = """
agraph (float[N,1,2,2] x) => (float[N,2] y)
<float[2,1,1,1] w = {2.0, -1.0}, float[2] b = {0.5, 1.0}, float[2,2] v = {1.0, 0.0, 0.5, -1.0},
 float[2] c = {0.25, 0.0}>
{
  [conv] t = Conv(x, w, b)
  [relu] r = Relu(t)
  [pool] p = GlobalAveragePool(r)
  [flat] f = Flatten(p)
  [head] y = Gemm<transB=1>(f, v, c)
}
"""


@pytest.fixture
def parse() -> Callable[..., ir.Model]:
    """Text of a graph -> model, opset 17 unless told."""

    def read(text: str, opset: int = 17) -> ir.Model:
        return ir.from_onnx_text(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')

    return read


@pytest.fixture
def conv_net(parse: Callable[..., ir.Model]) -> ir.Model:
    return parse(CONV_NET)


@pytest.fixture
def any_size_net(parse: Callable[..., ir.Model]) -> ir.Model:
    """The same for images of any size."""
    return parse(CONV_NET.replace("float[N,1,2,2] x", "float[N,1,H,W] x"))


@pytest.fixture
def cpu() -> Profile:
    return PROFILES.build("cpu")


@pytest.fixture
def target() -> Target:
    return TARGET


@pytest.fixture
def count() -> Callable[[object], Histogram]:
    """Values -> histogram."""

    def histogram(values: object) -> Histogram:
        counter, array = Counter(), np.asarray(values, np.float32).reshape(-1)
        for start in range(0, len(array), PICKED):  # of more than that some would be left out
            counter.add(array[start : start + PICKED])
        return counter.histogram()

    return histogram


@pytest.fixture
def quantize(cpu: Profile) -> Callable[..., Quantized]:
    """Model and one array for its input -> quantized, by extremes."""

    def run(model: ir.Model, array: object, profile: Profile = cpu, **more: Any) -> Quantized:
        feeds = [{str(model.graph.inputs[0].name): np.asarray(array, np.float32)}]
        minmax = CALIBRATORS.build("minmax")
        return quantize_model(model, Job(TARGET, minmax, profile, feeds, **more))

    return run


@pytest.fixture
def constants() -> Callable[..., ir.Model]:
    """Model, arrays by the names that it reads and nothing makes -> the model with those."""

    def give(model: ir.Model, **arrays: Any) -> ir.Model:
        read = {v.name: v for node in model.graph for v in node.inputs if v is not None}
        for name, array in arrays.items():
            value = read[name]
            value.const_value = ir.tensor(np.asarray(array, np.float32), name=name)
            value.type = ir.TensorType(ir.DataType.FLOAT)
            value.shape = ir.Shape(np.shape(array))
            model.graph.register_initializer(value)
        return model

    return give


@pytest.fixture
def filled(
    parse: Callable[..., ir.Model], constants: Callable[..., ir.Model]
) -> Callable[..., ir.Model]:
    """Text of a graph, name -> shape of constants -> model with random ones for those it reads."""

    def build(text: str, shapes: dict[str, tuple[int, ...]], seed: int = 8) -> ir.Model:
        rng, model = np.random.default_rng(seed), parse(text)
        read = {v.name for node in model.graph for v in node.inputs if v is not None}
        taken = {name: shape for name, shape in shapes.items() if name in read}
        return constants(model, **{name: rng.normal(size=shape) for name, shape in taken.items()})

    return build


@pytest.fixture
def draft(cpu: Profile, quantize: Callable[..., Quantized]) -> Callable[..., Draft]:
    """Model and one array for its input -> quantized by extremes, not corrected."""

    def run(model: ir.Model, array: object, profile: Profile = cpu) -> Draft:
        drafts: list[Draft] = []

        class Spy(Correction):
            order = 0

            def propose(self, draft: Draft) -> None:
                drafts.append(draft)

            def needs(self, model: ir.Model, units: Iterable[Unit]) -> Collection[ChannelMean]:
                return Bias().needs(model, units)

        options.NAMES[Spy] = "spy"
        quantize(model, array, profile, corrections=[Spy()])
        return drafts[0]

    return run


@pytest.fixture
def task() -> Task:
    """One group of 20 outputs, twelve inputs that go together, four bits."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(500, 12))
    weight = rng.normal(size=(1, 20, 12))
    return Task(weight, np.abs(weight).max(2, keepdims=True) / 7, 7, (x.T @ x)[None])


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that fuses no convolution."""
    from deploypipe.quantize import workshop

    real = workshop.audit

    def audit(model: ir.Model, plan: QuantPlan, target: Target) -> workshop.Audit:
        checked = real(model, plan, target)
        refused = {unit.name: "this build does not" for unit in plan.units if unit.op == "Conv"}
        return workshop.Audit(checked.kernels, refused)

    monkeypatch.setattr(workshop, "audit", audit)
