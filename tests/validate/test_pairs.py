"""Both models' answers side by side, and what accuracy and drift make of them."""

import json
import math

import numpy as np
import onnx.parser
import pytest
from scipy import stats

from deploypipe.core.errors import UserError
from deploypipe.validate import METRICS
from deploypipe.validate.accuracy import accuracy_of, compare_accuracy
from deploypipe.validate.drift import drift_of, measure_drift
from deploypipe.validate.pairs import join, pair, record_pairs, take
from deploypipe.validate.records import record

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype(np.float32)
LABELS = X.argmax(axis=1)
LABELS[::7] = 1


@pytest.fixture
def pairs(cpu, scaled, samples):
    def run(w=(1, 1, 2), x=X, labels=LABELS, models=None, **how):
        first, second = models or (scaled(), scaled(w))
        with cpu.open(first) as a, cpu.open(second) as b:
            return record_pairs(a, b, samples(x, labels), **how)

    return run


@pytest.fixture
def records(cpu, scaled, samples):
    def run(w, metric, **how):
        with cpu.open(scaled(w)) as session:
            return record(session, samples(X, LABELS), metric=METRICS.build(metric), **how)

    return run


def model(text):
    return onnx.parser.parse_model(text).SerializeToString()


def test_a_table_has_every_sample_with_both_answers(pairs):
    table = pairs(batch=7)
    assert table.ids == tuple(f"sample/{i}" for i in range(60))
    assert table.reference_predictions.tolist() == X.argmax(axis=1).tolist()
    assert table.candidate_predictions.tolist() == (X * [1, 1, 2]).argmax(axis=1).tolist()
    np.testing.assert_allclose(table.moved.error, np.abs(X[:, 2]), rtol=1e-6)


def test_the_batch_size_does_not_change_the_table(pairs):
    one, other = pairs(batch=1), pairs(batch=64)
    assert one.ids == other.ids
    np.testing.assert_array_equal(one.moved.kl, other.moved.kl)
    assert accuracy_of(one) == accuracy_of(other)


@pytest.mark.parametrize("metric", ["top1", "macro-f1", "mean-average-precision"])
def test_asking_both_is_asking_one_after_the_other(pairs, records, metric, monkeypatch):
    monkeypatch.setattr("deploypipe.validate.bootstrap.RESAMPLES", 300)
    monkeypatch.setattr("deploypipe.validate.bootstrap.FEWEST", 300)
    together = pairs(metric=METRICS.build(metric))
    apart = records((1, 1, 1), metric), records((1, 1, 2), metric)
    assert accuracy_of(together) == compare_accuracy(*apart)
    assert drift_of(together) == measure_drift(*apart)


def test_distances_cover_all_samples_where_records_keep_only_some(pairs, records):
    few = [records(w, "top1", keep_bytes=5 * 12) for w in ((1, 1, 1), (1, 1, 2))]
    assert measure_drift(*few).samples == 5
    assert drift_of(pairs()).samples == 60
    assert np.isnan(pair(*few).moved.error[5:]).all()


def test_parts_put_together_in_another_order_are_the_table_again(pairs):
    whole = pairs()
    parts = join([take(whole, range(20, 60)), take(whole, range(20))])
    again = take(parts, [parts.ids.index(one) for one in whole.ids])
    assert again.ids == whole.ids
    assert accuracy_of(again) == accuracy_of(whole)
    assert drift_of(again) == drift_of(whole)


def test_the_drop_of_macro_f1_has_the_interval_of_scipys_bootstrap(pairs):
    table = pairs(metric=METRICS.build("macro-f1"))
    told = accuracy_of(table)
    labels, was, now = LABELS, table.reference_predictions, table.candidate_predictions

    def drop(labels, was, now):
        def f1(given):
            each = [
                2
                * ((labels == c) & (given == c)).sum()
                / ((labels == c).sum() + (given == c).sum())
                for c in range(3)
            ]
            return np.mean(each)

        return 100 * (f1(was) - f1(now))

    expected = stats.bootstrap(
        (labels, was, now), drop, paired=True, vectorized=False, confidence_level=0.9,
        n_resamples=2000, method="BCa", rng=2,
    ).confidence_interval  # fmt: skip
    assert told.method == "bca"
    assert told.drop.value == pytest.approx(drop(labels, was, now))
    width = expected.high - expected.low
    assert told.drop.low == pytest.approx(expected.low, abs=0.06 * width)
    assert told.drop.high == pytest.approx(expected.high, abs=0.06 * width)
    assert told.standard_error > 0
    assert told.proven_margin == told.drop.high


def test_few_changes_of_a_bounded_metric_prove_no_more_than_no_flip_does(pairs):
    same = accuracy_of(pairs((1, 1, 1), metric=METRICS.build("macro-f1")))
    least = accuracy_of(pairs((1, 1, 1))).drop.high  # top1: the score interval of no flip
    assert same.drop.value == 0
    assert (same.drop.low, same.drop.high) == pytest.approx((-least, least))
    assert same.provable_margin == pytest.approx(least)


def test_an_unchanged_error_has_an_interval_without_width(pairs):
    same = accuracy_of(pairs((1, 1, 1), labels=X, metric=METRICS.build("mean-squared-error")))
    assert (same.drop.low, same.drop.value, same.drop.high) == (0, 0, 0)


def test_the_sections_are_plain_json(pairs):
    table = pairs(metric=METRICS.build("macro-f1"))
    for told in (accuracy_of(table).to_json(), drift_of(table).to_json()):
        assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_flips_are_counted_by_where_they_go(pairs):
    table = pairs((1, 1, 4))
    told = drift_of(table)
    was, now = (table.reference_predictions == LABELS), (table.candidate_predictions == LABELS)
    assert told.flips_to_wrong == (was & ~now).sum()
    assert told.flips_to_right == (~was & now).sum()
    moved = table.reference_predictions != table.candidate_predictions
    assert told.flips_between_wrong == (~was & ~now & moved).sum()


def test_the_worst_samples_are_told_with_their_answers(pairs):
    told = drift_of(pairs())
    assert len(told.worst_samples) == 20
    first = told.worst_samples[0]
    flipped = X.argmax(axis=1) != (X * [1, 1, 2]).argmax(axis=1)
    assert 0 < flipped.sum() < 20
    row = int((np.abs(X[:, 2]) * flipped).argmax())
    assert (first.id, first.label) == (f"sample/{row}", LABELS[row])
    assert first.error == pytest.approx(abs(X[row, 2]))
    assert first.reference == X[row].argmax()
    assert first.sqnr_db == pytest.approx(10 * math.log10((X[row] ** 2).sum() / X[row, 2] ** 2))
    assert told.worst == tuple(one.id for one in told.worst_samples)
    assert told.to_json()["worst_samples"][0]["id"] == first.id


def test_the_cosine_is_over_whole_outputs(pairs):
    told = drift_of(pairs((2, 2, 2)))
    assert told.mean_cosine == pytest.approx(1)
    assert drift_of(pairs((1, 1, -1))).least_cosine < 0


def test_a_masked_value_does_not_hide_a_new_nan(pairs):
    # log gives -inf at zero in both models; the candidate's square root adds a NaN beside it.
    body = '<ir_version: 10, opset_import: ["" : 20]> m (float[N, 3] x) => (float[N, 3] y) '
    first = model(body + "{ a = Abs(x) b = Log(a) y = Identity(b) }")
    second = model(body + "{ a = Abs(x) b = Log(a) s = Sqrt(x) z = Sub(s, s) y = Add(b, z) }")
    x = np.ones((4, 3), np.float32)
    x[0, 0] = 0  # -inf in both
    x[0, 1] = x[2, 2] = -1  # NaN in the candidate only
    table = pairs(models=(first, second), x=x, labels=np.zeros(4, np.int64))
    assert table.reference_nonfinite.tolist() == [1, 0, 0, 0]
    assert table.new_nonfinite.tolist() == [1, 0, 1, 0]
    told = drift_of(table)
    assert (told.reference_nonfinite, told.new_nonfinite, told.new_nonfinite_values) == (1, 2, 2)
    assert told.worst == ("sample/0", "sample/2")
    assert told.to_json()["worst_samples"][1]["error"] is None


def test_nan_in_another_output_is_new_too(pairs):
    body = '<ir_version: 10, opset_import: ["" : 20]> m (float[N, 3] x) => (float[N, 3] y, float[N, 3] z) '
    first = model(body + "{ y = Abs(x) z = Abs(x) }")
    second = model(body + "{ y = Abs(x) z = Sqrt(x) }")
    x = -np.ones((2, 3), np.float32)
    told = drift_of(pairs(models=(first, second), x=x, labels=np.zeros(2, np.int64)))
    assert (told.new_nonfinite, told.new_nonfinite_values) == (2, 6)


def test_a_metric_that_does_not_fit_the_output_is_a_users_error(pairs):
    with pytest.raises(UserError, match="sample/0 to sample/59: pearson takes one output"):
        pairs(metric=METRICS.build("pearson"))


def test_unlabelled_samples_have_distances_but_no_score(pairs):
    table = pairs(labels=None, labelled=False)
    told = drift_of(table)
    assert told.flips_to_wrong is None
    assert told.samples == 60
    assert told.worst_samples[0].label is None


def test_an_answer_that_is_newly_nan_flips_to_wrong(pairs):
    body = '<ir_version: 10, opset_import: ["" : 20]> m (float[N, 3] x) => (float[N, 3] y) '
    first, second = model(body + "{ y = Abs(x) }"), model(body + "{ y = Sqrt(x) }")
    x = np.array([[9, 4, -1], [9, 4, 1]], np.float32)
    told = drift_of(pairs(models=(first, second), x=x, labels=np.zeros(2, np.int64)))
    assert (told.flips_to_wrong, told.flips_to_right) == (1, 0)
