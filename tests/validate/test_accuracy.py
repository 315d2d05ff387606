"""Records per sample, compared in pairs."""

import json

import numpy as np
import onnx.parser
import pytest

from deploypipe.core.errors import UserError
from deploypipe.validate import METRICS
from deploypipe.validate.accuracy import compare_accuracy
from deploypipe.validate.judge_accuracy import accuracy_check
from deploypipe.validate.records import record

X = np.array([[3, 1, 2], [1, 2, 3], [2, 3, 1], [3, 2, 1], [1, 3, 2]], np.float32)
LABELS = np.array([0, 2, 1, 0, 2])


@pytest.fixture
def records(cpu, scaled, samples):
    def run(w=(1, 1, 1), x=X, labels=LABELS, model=None, **how):
        with cpu.open(model or scaled(w)) as session:
            return record(session, samples(x, labels), **how)

    return run


def test_records_hold_every_sample_with_its_answer(records):
    told = records(batch=2)
    assert told.ids == tuple(f"sample/{i}" for i in range(5))
    assert told.predictions.tolist() == [0, 2, 1, 0, 1]
    assert told.scores.tolist() == [1, 1, 1, 1, 0]
    assert told.value == 0.8
    assert told.nonfinite.tolist() == [False] * 5
    np.testing.assert_array_equal(told.outputs, X)


def test_the_batch_size_does_not_change_the_records(records):
    one, all_at_once = records(batch=1), records(batch=64)
    assert one.ids == all_at_once.ids
    np.testing.assert_array_equal(one.outputs, all_at_once.outputs)


def test_a_fixed_batch_of_the_model_wins_and_is_filled_up(records, scaled):
    told = records(model=scaled(batch=2), batch=64)
    assert told.ids == records().ids
    np.testing.assert_array_equal(told.outputs, X)


def test_a_limit_takes_the_first_samples(records):
    assert records(limit=3).ids == ("sample/0", "sample/1", "sample/2")


def test_only_so_many_raw_outputs_are_kept_as_fit(records):
    told = records(batch=2, keep_bytes=3 * 12)
    assert len(told.outputs) == 3
    assert len(told) == 5


def test_samples_without_labels_are_refused(records):
    with pytest.raises(UserError, match="the samples have no labels"):
        records(labels=None)


def test_unlabelled_samples_still_give_predictions(records):
    told = records(labels=None, labelled=False)
    assert told.predictions.tolist() == [0, 2, 1, 0, 1]
    assert np.isnan(told.scores).all()


def test_a_nan_label_is_named(records):
    with pytest.raises(UserError, match="the label of sample sample/3 is NaN"):
        records(labels=np.array([0, 1, 2, np.nan, 0]))


def test_a_label_that_is_no_class_is_told_with_its_samples(records):
    with pytest.raises(UserError, match="sample/0 to sample/4: label 7 is not one of"):
        records(labels=np.array([0, 1, 2, 7, 0]))


def test_an_unknown_output_is_refused(records):
    with pytest.raises(UserError, match="no output 'logits', known: y"):
        records(output="logits")


def test_samples_that_do_not_fit_the_model_are_refused(records):
    with pytest.raises(UserError, match="the model takes x"):
        records(x=X.astype(np.float64))


def test_nan_answers_are_noted_and_wrong(records):
    broken = X.copy()
    broken[1, 0] = np.nan
    told = records(x=broken, batch=2)
    assert told.nonfinite.tolist() == [False, True, False, False, False]
    assert told.scores.tolist() == [1, 0, 1, 1, 0]


@pytest.mark.parametrize(
    ("other", "broken"),
    [
        ("float[N, 3] z", [False, False, True, False, False]),
        ("float[] whole", [False, False, True, True, False]),
        ("int64[2] shape", [False] * 5),
    ],
)
def test_nan_in_an_output_that_is_not_scored_is_noted_too(records, other, broken):
    x = X.copy()
    x[2, 0] = -1  # its logarithm is NaN; the sum over the batch has no sample of its own
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
    two (float[N, 3] x) => (float[N, 3] y, {other}) {{
      y = Abs(x) z = Log(x) whole = ReduceSum<keepdims=0>(z) shape = Shape(x) }}"""
    told = records(model=onnx.parser.parse_model(text).SerializeToString(), x=x, batch=2)
    assert np.isfinite(told.outputs).all()
    assert told.nonfinite.tolist() == broken


WHOLE = """<ir_version: 10, opset_import: ["" : 20]>
    two (float[{batch}, 3] x) => ({outputs}) {{ y = Abs(x) whole = ReduceSum<keepdims=0>(x) }}"""


def test_an_output_of_the_whole_batch_passes_a_filled_up_batch(records):
    text = WHOLE.format(batch=2, outputs="float[2, 3] y, float[] whole")
    told = records(model=onnx.parser.parse_model(text).SerializeToString())
    np.testing.assert_array_equal(told.outputs, X)


def test_an_output_of_the_whole_batch_has_no_score(records):
    text = WHOLE.format(batch="N", outputs="float[] whole, float[N, 3] y")
    with pytest.raises(UserError, match="the first dimension must be the sample"):
        records(model=onnx.parser.parse_model(text).SerializeToString())


def test_flips_are_counted_both_ways(records):
    # A last class four times as loud loses samples 0, 2 and 3, and wins sample 4.
    told = compare_accuracy(records(), records((1, 1, 4)))
    assert (told.flips_to_wrong, told.flips_to_right, told.samples) == (3, 1, 5)
    assert (told.reference, told.candidate) == (0.8, pytest.approx(0.4))
    assert told.drop.value == pytest.approx(40)
    assert told.drop.low < 40 < told.drop.high
    assert told.mcnemar_p == pytest.approx(0.625)
    assert (told.metric, told.unit) == ("top1", "points")
    assert told.to_json()["scale"] == 100


def test_equal_models_drop_nothing_within_an_interval(records):
    told = compare_accuracy(records(), records())
    assert told.drop.value == 0
    assert told.drop.high == pytest.approx(-told.drop.low)
    assert told.provable_margin == pytest.approx(told.drop.high)


def test_an_error_that_grows_is_a_drop(records):
    mse, x = METRICS.build("mean-squared-error"), np.tile(X, (4, 1))
    good, bad = (records(w, x=x, labels=x, metric=mse) for w in ((1, 1, 1), (1, 1, 2)))
    told = compare_accuracy(good, bad)
    assert told.drop.value == pytest.approx((bad.scores - good.scores).mean())
    assert 0 < told.drop.low < told.drop.value < told.drop.high
    assert told.flips_to_wrong is None
    assert compare_accuracy(bad, good).drop.value < 0
    assert told.to_json()["higher_is_better"] is False


def test_two_samples_decide_nothing(records):
    mse = METRICS.build("mean-squared-error")
    pair = [records(w, labels=X, limit=2, metric=mse) for w in ((1, 1, 1), (1, 1, 1.5))]
    check = accuracy_check(compare_accuracy(*pair), 10.0)
    assert (check.outcome, check.high) == ("UNDECIDED", None)
    assert "so few have no interval" in check.why


def test_other_samples_are_refused(records):
    with pytest.raises(UserError, match="different samples: 5 against 3 samples"):
        compare_accuracy(records(), records(limit=3))


def test_another_metric_is_refused(records):
    with pytest.raises(UserError, match="different metrics"):
        compare_accuracy(records(), records(metric=METRICS.build("top5")))


def test_the_section_of_the_report_is_plain_json(records):
    told = compare_accuracy(records(), records((1, 1, 4))).to_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["drop_points"] == pytest.approx(40)
    assert told["higher_is_better"] is True


def test_the_confidence_is_said_to_be_of_either_end(records):
    told = compare_accuracy(records(), records((1, 1, 4)))
    assert (told.confidence, told.drop.confidence) == (0.95, pytest.approx(0.9))
    section = told.to_json()
    assert (section["confidence"], section["one_sided"]) == (0.95, True)


def test_a_metric_that_no_draw_moves_proves_no_more_than_no_flip_does(records):
    metric = METRICS.build("mean-average-precision")
    x = np.tile(X, (40, 1)) + np.arange(200, dtype=np.float32)[:, None] / 1e4
    labels = np.tile(LABELS, 40)
    reference = records(x=x, labels=labels, metric=metric)
    candidate = records((2, 2, 2), x=x, labels=labels, metric=metric)  # other scores, same order
    told = compare_accuracy(reference, candidate)
    assert told.drop.value == 0
    assert told.drop.high == -told.drop.low
    assert told.drop.high > 1
    assert told.provable_margin == told.drop.high
