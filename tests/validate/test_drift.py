"""Drift: how far the raw answers moved."""

import json
import math

import numpy as np
import pytest
from scipy import special, stats

from deploypipe.core.errors import UserError
from deploypipe.validate import METRICS
from deploypipe.validate.drift import measure_drift
from deploypipe.validate.records import Records

A = np.array([[3, 1, 2], [0, 2, 1], [1, 1, 4]], np.float32)


def records(outputs, metric="top1", kept=None):
    outputs = np.asarray(outputs, np.float32)
    n = len(outputs)
    built = METRICS.build(metric)
    bad = ~np.isfinite(outputs).reshape(n, -1).all(axis=1)
    return Records(
        "", built, tuple(f"s{i}" for i in range(n)), np.zeros(n), built.predict(outputs),
        np.zeros(n), outputs[:kept], bad,
    )  # fmt: skip


def test_equal_answers_have_not_moved():
    told = measure_drift(records(A), records(A))
    assert (told.top1_agreement, told.max_abs_error, told.mean_kl) == (1, 0, 0)
    assert told.sqnr_db == math.inf
    assert told.worst == ()
    assert told.to_json()["sqnr_db"] is None


def test_the_distances_are_those_of_their_formulas():
    noise = np.array([[0.5, 0, 0], [0, -2.5, 0], [0, 0, 0]], np.float32)
    told = measure_drift(records(A), records(A + noise))
    assert told.max_abs_error == pytest.approx(2.5)
    assert told.sqnr_db == pytest.approx(10 * math.log10((A**2).sum() / (noise**2).sum()))
    expected = [
        stats.entropy(special.softmax(a), special.softmax(b))
        for a, b in zip(A, A + noise, strict=True)
    ]
    assert told.mean_kl == pytest.approx(np.mean(expected), rel=1e-5)
    assert told.top1_agreement == pytest.approx(2 / 3)
    assert told.worst == ("s1", "s0")


def test_changed_answers_come_before_larger_errors_and_new_nan_before_both():
    was = np.float32([[9, 0], [1, 0], [9, 0], [5, 0]])
    now = np.float32([[4, 0], [0, 0.5], [6, 0], [np.nan, 0]])
    assert measure_drift(records(was), records(now)).worst == ("s3", "s1", "s0", "s2")


def test_nan_is_counted_and_left_out_of_the_distances():
    broken = A.copy()
    broken[0, 0], broken[1, 1] = np.nan, np.inf
    told = measure_drift(records(A), records(broken))
    assert (told.candidate_nonfinite, told.reference_nonfinite, told.samples) == (2, 0, 1)
    assert told.max_abs_error == 0


def test_nan_is_new_only_where_the_reference_has_none():
    was, now = A.copy(), A.copy()
    was[0, 0] = was[1, 1] = now[1, 1] = now[2, 2] = np.nan
    told = measure_drift(records(was), records(now))
    assert (told.reference_nonfinite, told.candidate_nonfinite, told.new_nonfinite) == (2, 2, 1)


def test_an_answer_that_is_newly_nan_does_not_agree():
    broken = A.copy()
    broken[0] = np.nan  # its largest value is the first, as the reference's is
    assert measure_drift(records(A), records(broken)).top1_agreement == pytest.approx(2 / 3)
    assert measure_drift(records(broken), records(broken)).top1_agreement == 1


def test_nothing_finite_gives_no_distance():
    told = measure_drift(records(A), records(np.full_like(A, np.nan)))
    assert (told.samples, told.sqnr_db, told.max_abs_error, told.mean_kl) == (0, None, None, None)


def test_a_regression_has_no_classes():
    told = measure_drift(records(A, "mean-squared-error"), records(A + 1, "mean-squared-error"))
    assert told.top1_agreement is None
    assert told.mean_kl is None
    assert told.max_abs_error == 1


def test_large_scores_do_not_overflow():
    told = measure_drift(records(A * 1000), records(A * 1000 + 1))
    assert math.isfinite(told.mean_kl)


def test_distances_are_over_the_outputs_that_were_kept():
    assert measure_drift(records(A, kept=2), records(A + 1)).samples == 2


def test_outputs_of_another_shape_are_refused():
    with pytest.raises(UserError, match="differ in shape"):
        measure_drift(records(A), records(A[:, :2]))


def test_the_section_of_the_report_is_plain_json():
    told = measure_drift(records(A), records(A + 1)).to_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
