"""Answers that are to stay, and what is told of those that change."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.core.errors import UserError
from deploypipe.graph.files import to_bytes
from deploypipe.quantize import Job
from deploypipe.quantize.floor import floor_db
from deploypipe.quantize.observe import observe

X = np.random.default_rng(3).normal(size=(40, 1, 2, 2)).astype(np.float32)


@pytest.fixture
def close(conv_net):
    """Two classes that are always close."""
    v = np.float32([[1.0, 0.5], [0.97, 0.5]])
    conv_net.graph.initializers["v"].const_value = ir.Tensor(v, name="v")
    conv_net.graph.initializers["c"].const_value = ir.Tensor(np.zeros(2, np.float32), name="c")
    return conv_net


def test_units_go_back_until_the_answers_are_expected_to_stay(close, quantize) -> None:
    plain = quantize(close, X)
    share = plain.notes["outputs"]["agreement"]
    asked = share + 0.8
    better = quantize(close, X, least_agreement=asked)
    found = better.notes["outputs"]
    assert found["agreement"] >= asked > share
    assert found["sqnr_db"] >= found["least_db"] > plain.notes["outputs"]["sqnr_db"]
    assert 0 < len(better.plan.units) < len(plain.plan.units)
    assert any(
        "that were to be kept: by the margins of 40 samples" in told for told in better.changes
    )


def test_the_higher_of_two_floors_holds(conv_net, target) -> None:
    seen = observe(conv_net, [], [{"x": X}], target).margins
    needed = seen.decibels(0.999)
    job = Job(target, None, None, least_agreement=99.9)  # type: ignore[arg-type]
    for least, floor in ((None, needed), (needed - 5, needed), (needed + 5, needed + 5)):
        assert floor_db(Job(**{**vars(job), "least_sqnr": least}), seen) == floor


def test_changed_answers_are_told_where_samples_have_classes(close, quantize) -> None:
    told = quantize(close, X, classifies=True)
    stays = told.notes["outputs"]["agreement"]
    line = f"by the margins of 40 samples {stays:.1f} % of the answers stay"
    assert stays < 99 and any(line in one for one in told.changes)
    assert any(line in one for one in told.refusals)
    unasked = quantize(close, X)
    assert not any("answers" in one for one in [*unasked.changes, *unasked.refusals])


def test_answers_that_stay_are_no_warning(conv_net, quantize) -> None:
    told = quantize(conv_net, X, classifies=True)
    assert any("100.0 % of the answers stay" in one for one in told.changes)
    assert not any("answers" in one for one in told.refusals)


def test_a_model_without_answers_cannot_keep_them(parse, quantize) -> None:
    text = """agraph (float[N,4] x) => (float[N,2] y) <float[4,2] w = {1,2,3,4,5,6,7,8}> {
      h = MatMul(x, w) y = Softmax(h) }"""
    with pytest.raises(UserError, match="it ends in Softmax.*") as caught:
        quantize(parse(text), np.ones((4, 4), np.float32) * X[:4, 0, 0, :1], least_agreement=99)
    assert "least_sqnr" in str(caught.value)


def test_margins_are_those_of_the_outputs_whatever_the_batches(conv_net, target) -> None:
    with target.open(to_bytes(conv_net)) as session:
        rows = session({"x": X})["y"]
    expected = np.sort(-rows.round(4), axis=1)
    for size in (40, 7, 1):
        feeds = ({"x": X[i : i + size]} for i in range(0, 40, size))
        found = observe(conv_net, ["y"], feeds, target)
        leads = -found.margins.leaders.round(4)
        assert sorted(map(tuple, leads)) == sorted(map(tuple, expected))
        assert found.margins.powers.mean() == pytest.approx(np.square(rows).mean(), rel=1e-5)
        assert list(found.histograms) == ["y"]
