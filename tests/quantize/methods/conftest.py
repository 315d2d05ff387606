"""A model with every kind of weight, and what a method makes of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.core.shelf import kebab
from deploypipe.graph.files import to_bytes
from deploypipe.quantize import CALIBRATORS, METHODS, Job, Quantized
from deploypipe.runtime import Target

VOCABULARY, WIDTH, HIDDEN = 600, 64, 96


@pytest.fixture
def transformer(constants: Callable[..., ir.Model]) -> ir.Model:
    """ids [N, L] -> rows of a table -> MatMul + Add -> Relu -> MatMul -> y [N, L, 8]."""
    text = """<ir_version: 8, opset_import: ["": 17]>
    agraph (int64[N,L] ids) => (float[N,L,8] y) {
      [look] e = Gather(table, ids)
      [up] t = MatMul(e, w) [bias] u = Add(t, b) [act] r = Relu(u)
      [down] y = MatMul(r, v) }"""
    rng = np.random.default_rng(5)
    return constants(
        ir.from_onnx_text(text),
        table=rng.normal(size=(VOCABULARY, WIDTH)),
        w=rng.normal(size=(WIDTH, HIDDEN)) / 8,
        b=rng.normal(size=HIDDEN),
        v=rng.normal(size=(HIDDEN, 8)) / 8,
    )


@pytest.fixture
def images(constants: Callable[..., ir.Model]) -> ir.Model:
    """x [N, 3, 6, 6] -> Conv -> Conv -> mean -> Gemm -> y [N, 10]."""
    text = """<ir_version: 8, opset_import: ["": 17]>
    agraph (float[N,3,6,6] x) => (float[N,10] y) {
      [first] t = Conv<pads = [1,1,1,1]>(x, w, b) [act] r = Relu(t)
      [second] u = Conv(r, v) [pool] p = GlobalAveragePool(u) [flat] f = Flatten(p)
      [head] y = Gemm<transB=1>(f, h, c) }"""
    rng = np.random.default_rng(6)
    return constants(
        ir.from_onnx_text(text),
        w=rng.normal(size=(32, 3, 3, 3)),
        b=rng.normal(size=32),
        v=rng.normal(size=(40, 32, 3, 3)) / 8,
        h=rng.normal(size=(10, 40)),
        c=rng.normal(size=10),
    )


@pytest.fixture
def job(target: Target) -> Job:
    from deploypipe.quantize.profiles.cpu import Cpu

    return Job(target, CALIBRATORS.build("minmax"), Cpu())


@pytest.fixture
def by(job: Job) -> Callable[..., Quantized]:
    """Method's name, model and options -> quantized."""

    def run(method: str, model: ir.Model, **options: object) -> Quantized:
        return METHODS.build({kebab(method): options}).quantize(model, job)

    return run


@pytest.fixture
def noise(target: Target) -> Callable[..., float]:
    """How far the outputs are from the original's, as a share of theirs."""

    def measure(original: ir.Model, other: ir.Model) -> float:
        rng = np.random.default_rng(7)
        name = str(original.graph.inputs[0].name)
        feeds = {"x": rng.normal(size=(5, 3, 6, 6)).astype(np.float32)}
        if name == "ids":
            feeds = {"ids": rng.integers(0, VOCABULARY, (3, 7))}
        answers = []
        for model in (original, other):
            with target.open(to_bytes(model)) as session:
                answers.append(session(feeds)["y"].astype(np.float64))
        return float(np.linalg.norm(answers[0] - answers[1]) / np.linalg.norm(answers[0]))

    return measure


@pytest.fixture
def kernels(target: Target) -> Callable[[ir.Model], list[str]]:
    """The operators that the runtime executes, in order."""
    from deploypipe.quantize.audit import optimized_graph

    def read(model: ir.Model) -> list[str]:
        return [node.op_type for node in optimized_graph(model, target)]

    return read
