"""Tiny models and samples that one can read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx.parser
import pytest

from deploypipe.core.errors import UserError
from deploypipe.data import Batch
from deploypipe.runtime import TARGETS, Target


@dataclass
class Samples:
    """What a split gives, from two arrays."""

    x: np.ndarray
    labels: np.ndarray | None
    name: str = "validation"
    input: str = "x"

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        count = limit or len(self)
        if count > len(self):
            raise UserError(f"{count} samples were asked for, the split has {len(self)}")
        for start in range(0, count, size):
            rows = range(start, min(start + size, count))
            labels = None if self.labels is None else self.labels[list(rows)]
            ids = tuple(f"sample/{row}" for row in rows)
            yield Batch(ids, {self.input: self.x[list(rows)]}, labels)


@pytest.fixture
def samples() -> Callable[..., Samples]:
    return Samples


@pytest.fixture(scope="session")
def cpu() -> Target:
    return TARGETS.build({"cpu": {"threads": 1}})


@pytest.fixture(scope="session")
def scaled() -> Callable[..., bytes]:
    """A model y = x * w of 3 classes; w decides which class wins."""

    def build(w=(1, 1, 1), batch="N", inputs="x", outputs="y", dtype="float") -> bytes:
        text = f"""<ir_version: 10, opset_import: ["" : 20]>
        scaled ({dtype}[{batch}, 3] {inputs}) => ({dtype}[{batch}, 3] {outputs})
        <{dtype}[3] w = {{{", ".join(map(str, w))}}}> {{ {outputs} = Mul({inputs}, w) }}"""
        return onnx.parser.parse_model(text).SerializeToString()

    return build


@pytest.fixture(scope="session")
def chain() -> Callable[[int], bytes]:
    """A model of ``length`` matrix products in a row: length is its work."""

    def build(length: int, width: int = 64) -> bytes:
        body = " ".join(f"h{i + 1} = MatMul(h{i}, w)" for i in range(length - 1))
        weights = ", ".join(["0.015625"] * width * width)
        text = f"""<ir_version: 10, opset_import: ["" : 20]>
        chain (float[N, {width}] h0) => (float[N, {width}] y)
        <float[{width}, {width}] w = {{{weights}}}> {{ {body} y = MatMul(h{length - 1}, w) }}"""
        return onnx.parser.parse_model(text).SerializeToString()

    return build
