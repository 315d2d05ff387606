"""Tables of which only rows are read."""

from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.files import weight_bytes
from deploypipe.quantize.embeddings import store_tables

TEXT = """agraph (int64[N] ids) => (float[N,16] y) {
  a = Gather(t, ids) %s y = Add(a, b) }"""


@pytest.fixture
def net(parse, constants):
    def build(body: str, text: str = TEXT):
        table = np.random.default_rng(0).normal(size=(300, 16))
        return constants(parse(text % body), t=table)

    return build


def test_a_table_that_is_read_twice_is_stored_once(net, target) -> None:
    model = net("k = Neg(ids) n = Neg(k) b = Gather(t, n)")
    made, (told,) = store_tables(model)
    saved = weight_bytes(model) - weight_bytes(made)
    assert saved == 300 * 16 * 3 - 300 * 4
    assert told == "1 embedding table in int8 with a scale a row: 0.0 MB less"
    ops = [node.op_type for node in made.graph]
    assert (ops.count("Gather"), ops.count("Cast")) == (4, 2)


@pytest.mark.parametrize(
    "body",
    [
        "seven = Constant<value = int64[1] {7}>() b = Gather(t, seven)",
        "k = ReduceSum<keepdims=0>(t) b = Neg(k)",
        "b = Gather(t, ids) h = Cast<to=9>(ids) g = ReduceMax<keepdims=0>(ids)",
    ],
    ids=["a constant row", "all of it", "an output"],
)
def test_a_table_that_somebody_else_reads_stays(net, body) -> None:
    text = TEXT.replace("y) {", "y, float[300,16] t) {") if "h = " in body else TEXT
    model = net(body, text)
    assert store_tables(model) == (model, [])
