"""Tiny models in text, and ONNX Runtime on one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.core import options
from deploypipe.quantize import (
    CALIBRATORS,
    PROFILES,
    Correction,
    Histogram,
    Profile,
    Quantized,
    Unit,
    quantize_model,
)
from deploypipe.quantize.correction import Draft
from deploypipe.quantize.corrections.bias import Bias
from deploypipe.quantize.histogram import PICKED, Counter
from deploypipe.quantize.lookout import ChannelMean
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

    def run(model: ir.Model, array: object, **options: object) -> Quantized:
        feeds = [{str(model.graph.inputs[0].name): np.asarray(array, np.float32)}]
        minmax = CALIBRATORS.build("minmax")
        return quantize_model(model, feeds, TARGET, calibrator=minmax, profile=cpu, **options)

    return run


@pytest.fixture
def filled(parse: Callable[..., ir.Model]) -> Callable[..., ir.Model]:
    """Text of a graph, name -> shape of its constants -> model with random ones."""

    def build(text: str, shapes: dict[str, tuple[int, ...]], seed: int = 8) -> ir.Model:
        rng = np.random.default_rng(seed)
        sizes = {name: f"[{','.join(map(str, s))}]" if s else "" for name, s in shapes.items()}
        zeros = {name: ", ".join(["0"] * int(np.prod(s))) for name, s in shapes.items()}
        given = ", ".join(f"float{sizes[name]} {name} = {{{zeros[name]}}}" for name in shapes)
        model = parse(text.replace("{", f"<{given}> {{", 1))
        for name, shape in shapes.items():
            array = rng.normal(size=shape).astype(np.float32)
            model.graph.initializers[name].const_value = ir.tensor(array, name=name)
        return model

    return build


@pytest.fixture
def draft(cpu: Profile) -> Callable[..., Draft]:
    """Model and one array for its input -> quantized by extremes, not corrected."""

    def run(model: ir.Model, array: object, profile: Profile = cpu) -> Draft:
        drafts: list[Draft] = []

        class Spy(Correction):
            order = 0

            def propose(self, draft: Draft) -> None:
                drafts.append(draft)

            def needs(self, model: ir.Model, units: Iterable[Unit]) -> Mapping[str, ChannelMean]:
                return Bias().needs(model, units)

        options.NAMES[Spy] = "spy"
        feeds = [{str(model.graph.inputs[0].name): np.asarray(array, np.float32)}]
        minmax = CALIBRATORS.build("minmax")
        quantize_model(
            model, feeds, TARGET, calibrator=minmax, profile=profile, corrections=[Spy()]
        )
        return drafts[0]

    return run
