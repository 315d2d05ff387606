"""Static int8 with int8 tables: what is promised is promised of both together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deploypipe.quantize.methods.static import Static
from deploypipe.quantize.signal import outputs_of, sqnr_db

IDS = np.random.default_rng(1).integers(0, 600, (24, 1, 7))
FEEDS = [{"ids": one} for one in IDS]


@pytest.fixture
def uneven(parse, constants):
    """One number of every row of the table is far larger than the others, and nobody needs it."""
    rng = np.random.default_rng(5)
    wide = np.where(np.arange(64) == 0, 30, 1)
    return constants(
        parse("""agraph (int64[N,L] ids) => (float[N,L,8] y) {
          e = Gather(table, ids) n = Mul(e, mask) m = MatMul(n, w) y = Add(m, b) }"""),
        table=rng.normal(size=(600, 64)) * wide,
        mask=wide == 1,
        w=rng.normal(size=(64, 8)),
        b=rng.normal(size=8),
    )


@pytest.fixture
def static(job, target):
    def run(model, embeddings: bool, least: float | None = None):
        asked = replace(job, feeds=FEEDS, least_sqnr=least, diagnosis=True)
        done = Static(embeddings=embeddings).quantize(model, asked)
        expected, given = outputs_of([model, done.model], FEEDS, target)
        return done, sqnr_db(expected, given)

    return run


def test_the_diagnosis_counts_the_tables(static, transformer, target) -> None:
    done, _ = static(transformer, True)
    assert any("1 embedding table in int8" in line for line in done.changes)
    without = static(transformer, False)[0].notes["diagnosis"]["output_db"]
    assert done.notes["diagnosis"]["output_db"] < without


def test_tables_stay_float_where_the_floor_asks_for_it(static, uneven) -> None:
    _, plain = static(uneven, False)
    _, stored = static(uneven, True)
    assert stored < plain - 3
    done, kept = static(uneven, True, least=plain - 1.5)
    assert kept > plain - 1.5 - 0.5  # judged on half of the samples
    assert done.modified and not any("embedding" in line for line in done.changes)
    assert any("embedding tables stay float" in line for line in done.refusals)
    assert "table" in done.model.graph.initializers
