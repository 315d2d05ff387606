"""Tiny models in text, an opener on ONNX Runtime, and a session that answers as told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from deploypipe.quantize import CALIBRATORS, PROFILES, Histogram, Profile, Quantized, quantize_model
from deploypipe.quantize.histogram import Counter

onnxruntime.set_default_logger_severity(3)

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
def cpu() -> Profile:
    return PROFILES.build("cpu")


Answer = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


@contextmanager
def _open(model: bytes, *, optimized: Path | None = None) -> Iterator[Answer]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if optimized:
        options.optimized_model_filepath = str(optimized)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    yield lambda feeds: dict(zip(names, session.run(None, dict(feeds)), strict=True))


@pytest.fixture
def open_session() -> Callable[..., AbstractContextManager[Answer]]:
    return _open


@pytest.fixture
def count() -> Callable[[object], Histogram]:
    """Values -> histogram."""

    def histogram(values: object) -> Histogram:
        counter = Counter()
        counter.add(np.asarray(values, np.float32))
        return counter.histogram()

    return histogram


@pytest.fixture
def quantize(cpu: Profile) -> Callable[..., Quantized]:
    """Model and one array for its input -> quantized, by extremes."""

    def run(model: ir.Model, array: object, **options: object) -> Quantized:
        feeds = [{str(model.graph.inputs[0].name): np.asarray(array, np.float32)}]
        minmax = CALIBRATORS.build("minmax")
        return quantize_model(model, feeds, _open, calibrator=minmax, profile=cpu, **options)

    return run
