"""Answers that are to stay, and what is told of those that change."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.core.errors import UserError
from deploypipe.quantize import Job
from deploypipe.quantize.floor import LeastAgreement, floor_of
from deploypipe.quantize.margins import Margins
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
    plain = quantize(close, X, classifies=True)
    share = plain.notes["outputs"]["agreement"]
    asked = share + 0.8
    better = quantize(close, X, least_agreement=asked)
    found = better.notes["outputs"]
    assert found["agreement"] >= asked > share
    assert found["sqnr_db"] > plain.notes["outputs"]["sqnr_db"]
    assert 0 < len(better.plan.units) < len(plain.plan.units)
    told = f"the outputs keep {found['sqnr_db']:.1f} dB; by the margins of 40 samples"
    assert any(told in one for one in better.changes)
    needed = f"of the noise, and {asked:g} % of the answers are to stay"
    assert any(needed in one for one in better.refusals)


def test_both_floors_hold(close, quantize) -> None:
    plain = quantize(close, X, classifies=True).notes["outputs"]
    asked = {"least_sqnr": plain["sqnr_db"] + 1, "least_agreement": plain["agreement"] + 0.1}
    done = quantize(close, X, **asked)
    found = done.notes["outputs"]
    assert found["sqnr_db"] >= asked["least_sqnr"]
    assert found["agreement"] >= asked["least_agreement"]
    assert any("dB were asked for and" in one for one in done.refusals)
    assert quantize(close, X, **{**asked, "least_sqnr": 1}).notes["outputs"]["sqnr_db"] < 200


def test_nothing_asked_is_no_floor(target) -> None:
    assert floor_of(Job(target, None, None), None) is None  # type: ignore[arg-type]


def test_answers_that_there_are_not_cannot_be_promised(target) -> None:
    job = Job(target, None, None, least_agreement=99)  # type: ignore[arg-type]
    with pytest.raises(
        UserError, match="least_agreement: no calibration sample has finite outputs"
    ):
        floor_of(job, None)


@pytest.mark.parametrize(
    ("leads", "noise", "short"),
    [([[1]], 0.0, -math.inf), ([[0], [0]], 0.1, math.inf), ([[1]], math.inf, math.inf)],
)
def test_noise_without_bound_and_ties_keep_nothing(monkeypatch, leads, noise, short) -> None:
    monkeypatch.setattr("deploypipe.quantize.floor.noise_of_leads", lambda _: noise)
    floor = LeastAgreement(99, Margins(np.float32(leads)))
    assert floor.shortfall(None) == short  # type: ignore[arg-type]


def test_twice_the_noise_that_is_allowed_is_six_decibels_too_many(monkeypatch) -> None:
    margins = Margins(np.float32([[1], [2], [3]]))
    allowed = margins.deviation(0.9)
    monkeypatch.setattr("deploypipe.quantize.floor.noise_of_leads", lambda _: 2 * allowed)
    floor = LeastAgreement(90, margins)
    assert floor.shortfall(None) == pytest.approx(20 * math.log10(2))  # type: ignore[arg-type]


def test_what_nobody_asked_for_is_not_measured(conv_net, quantize) -> None:
    assert quantize(conv_net, X).notes["outputs"] == {}


def test_changed_answers_are_told_where_samples_have_classes(close, quantize) -> None:
    told = quantize(close, X, classifies=True)
    stays = told.notes["outputs"]["agreement"]
    down = math.floor(10 * stays) / 10  # never up to all
    line = f"by the margins of 40 samples {down:.1f} % of the answers are expected to stay"
    assert stays < 99 and any(line in one for one in told.changes)
    assert any(line in one for one in told.refusals)
    unasked = quantize(close, X)
    assert not any("answers" in one for one in [*unasked.changes, *unasked.refusals])


def test_answers_that_stay_are_no_warning(conv_net, quantize) -> None:
    told = quantize(conv_net, X, classifies=True)
    assert any("100.0 % of the answers are expected" in one for one in told.changes)
    assert not any("answers" in one for one in told.refusals)


def test_a_model_without_answers_cannot_keep_them(parse, quantize) -> None:
    text = """agraph (float[N,4] x) => (float[N,2] y) <float[4,2] w = {1,2,3,4,5,6,7,8}> {
      h = MatMul(x, w) y = Softmax(h) }"""
    with pytest.raises(UserError, match="least_agreement: .* it ends in Softmax") as caught:
        quantize(parse(text), np.ones((4, 4), np.float32) * X[:4, 0, 0, :1], least_agreement=99)
    assert "least_sqnr" in str(caught.value)


@pytest.mark.parametrize("classes", [2, 9000])
@pytest.mark.parametrize("batch", ["N", 5])
def test_margins_are_those_of_the_outputs_whatever_the_batches(
    parse, constants, target, classes, batch
):
    text = f"agraph (float[{batch},3] x) => (float[{batch},{classes}] y) "
    rng = np.random.default_rng(5)
    w = rng.normal(size=(3, classes)).astype(np.float32)
    model = constants(parse(text + "{ y = MatMul(x, w) }"), w=w)
    x = rng.normal(size=(40, 3)).astype(np.float32)
    best = -np.sort(-(x @ w), axis=1)[:, :8]
    expected = best[:, :1] - best[:, 1:]
    for size in (5,) if batch == 5 else (40, 7, 1):
        feeds = ({"x": x[i : i + size]} for i in range(0, 40, size))
        found = observe(model, ["x"], feeds, target)
        assert list(found.histograms) == ["x"]
        leads = found.margins.leads
        order = np.argsort(leads[:, 0]), np.argsort(expected[:, 0])
        np.testing.assert_allclose(leads[order[0]], expected[order[1]], rtol=1e-3, atol=1e-4)


def test_samples_of_other_sizes_are_in_the_margins(any_size_net, target) -> None:
    rng = np.random.default_rng(5)
    feeds = [{"x": rng.normal(size=(1, 1, n, n)).astype(np.float32)} for n in (3, 4, 3, 5)]
    assert len(observe(any_size_net, ["r"], feeds, target).margins.leads) == 4
