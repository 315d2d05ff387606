from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deploypipe.core import options
from deploypipe.quantize import Correction
from deploypipe.quantize.correct import correct
from deploypipe.quantize.corrections.bias import Bias
from deploypipe.quantize.signal import outputs_of, sqnr_db

IMAGES = (np.random.default_rng(8).random((12, 4, 6, 6)) + 0.5).astype(np.float32)
NET = "agraph (float[N,4,6,6] x) => (float y) { t = Conv(x, w, b) y = Erf(t) }"
SHAPES = {"w": (6, 4, 1, 1), "b": (6,)}


class Spoil(Correction):
    """Every bias is nine."""

    order = 1

    def propose(self, draft):
        biases = {"t": np.full(6, 9, np.float32)}
        return draft.with_plan(replace(draft.made.plan, biases=biases))


class Shrug(Correction):
    """Finds nothing to do."""

    order = 2

    def propose(self, draft):
        return None


options.NAMES.update({Spoil: "spoil", Shrug: "shrug"})


def test_what_brings_outputs_no_nearer_leaves_no_trace(filled, quantize) -> None:
    model = filled(NET, SHAPES)
    spoilt = quantize(model, IMAGES, corrections=[Spoil(), Shrug()])
    assert spoilt.plan.biases == {}
    first, second = spoilt.notes["corrections"]
    assert (first["correction"], first["accepted"]) == ("spoil", False)
    assert first["after_db"] < first["before_db"]
    assert second["reason"] == "there is nothing that it could change"
    assert first["seconds"] >= 0


def test_what_brings_them_nearer_ships_and_is_told(filled, quantize, target) -> None:
    model = filled(NET, SHAPES)
    good, plain = quantize(model, IMAGES), quantize(model, IMAGES, corrections=[])
    (step,) = good.notes["corrections"]
    assert step["accepted"] is (list(good.plan.biases) == ["t"]) is True
    assert step["after_db"] > step["before_db"]
    assert plain.notes["corrections"] == []
    assert any(line.startswith("bias: outputs ") for line in good.changes)
    probes = [{"x": image[None]} for image in IMAGES]
    expected, with_it, without = outputs_of([model, good.model, plain.model], probes, target)
    assert sqnr_db(expected, with_it) > sqnr_db(expected, without)


def test_they_run_in_their_own_order_whatever_the_list_says(filled, draft) -> None:
    start = draft(filled(NET, SHAPES), IMAGES)
    _, steps = correct(start, [Bias(), Shrug(), Spoil()])
    assert [step.correction for step in steps] == ["spoil", "shrug", "bias"]


class Worse(Correction):
    """Coarser weights, which need other biases."""

    order = 3

    def propose(self, draft):
        plan = draft.made.plan
        scales = tuple(2 * one for one in plan.weights["t"].scales)
        weights = {"t": replace(plan.weights["t"], scales=scales)}
        return draft.with_plan(replace(plan, weights=weights, biases={}))


options.NAMES[Worse] = "worse"


def test_what_moves_means_is_judged_with_the_means_put_right(filled, draft) -> None:
    start = draft(filled(NET, SHAPES), IMAGES)
    _, (alone,) = correct(start, [Worse()])
    _, (together, bias) = correct(start, [Worse(), Bias()])
    assert together.before_db > alone.before_db and together.after_db > alone.after_db
    assert bias.accepted


def test_a_gain_on_few_samples_must_be_more_than_they_differ_by() -> None:
    from deploypipe.quantize.correct import _is_better, _Verdict

    before = _Verdict(20.0, np.zeros(4))
    assert _is_better(before, _Verdict(20.5, np.array([-0.4, -0.6, -0.5, -0.5])))
    assert not _is_better(before, _Verdict(20.5, np.array([-4.0, 1.5, 1.0, -0.5])))
    assert not _is_better(before, _Verdict(20.005, np.full(4, -0.005)))
    assert _is_better(_Verdict(20.0, np.zeros(1)), _Verdict(21.0, np.array([-1.0])))


def test_without_corrections_nothing_runs(filled, draft, monkeypatch) -> None:
    from deploypipe.quantize import correct as module

    start = draft(filled(NET, SHAPES), IMAGES)
    monkeypatch.setattr(module, "outputs_of", lambda *_: pytest.fail("ran"))
    assert correct(start, []) == (start, [])


def test_they_are_judged_on_samples_that_they_never_see(filled, draft) -> None:
    seen = draft(filled(NET, SHAPES), IMAGES).shop.seen
    assert (len(seen.judges), len(seen.lessons)) == (6, 6)
    held = [one["x"].tobytes() for one in [*seen.judges, *seen.lessons]]
    assert len(set(held)) == 12


def test_one_sample_has_to_do_for_both(filled, draft) -> None:
    seen = draft(filled(NET, SHAPES), IMAGES[:1]).shop.seen
    assert len(seen.judges) == len(seen.lessons) == 1
