"""Metrics give each sample a row, and all rows a number; the peers say which."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as peers

from deploypipe.core.errors import UserError
from deploypipe.validate import METRICS

LOGITS = np.array([[3, 1, 2, 0, -1, -2], [0, 1, 2, 3, 4, 5]], np.float32)


def test_the_shelf_holds_the_metrics():
    assert {"top1", "top5", "mean-squared-error"} <= set(METRICS.names())


def test_top1_is_right_where_the_highest_score_is_the_label():
    assert METRICS.build("top1").score(LOGITS, np.array([0, 4])).tolist() == [1, 0]


def test_top5_is_right_where_the_label_is_among_the_five_highest():
    assert METRICS.build("top5").score(LOGITS, np.array([5, 0])).tolist() == [0, 0]
    assert METRICS.build("top5").score(LOGITS, np.array([4, 1])).tolist() == [1, 1]


def test_top5_of_three_classes_is_always_right():
    assert METRICS.build("top5").score(LOGITS[:, :3], np.array([0, 2])).tolist() == [1, 1]


@pytest.mark.parametrize("metric", ["top1", "top5"])
def test_equal_scores_go_to_the_lower_class(metric):
    tied = np.zeros((1, 6), np.float32)
    assert METRICS.build(metric).score(tied, np.array([0])).tolist() == [1]
    assert METRICS.build(metric).score(tied, np.array([5])).tolist() == [0]


@pytest.mark.parametrize("metric", ["top1", "top5"])
def test_nan_scores_are_wrong(metric):
    broken = np.array([[np.nan, 1, 2]], np.float32)
    assert METRICS.build(metric).score(broken, np.array([0])).tolist() == [0]


@pytest.mark.parametrize("metric", ["top1", "top5"])
def test_float_labels_that_are_whole_numbers_are_classes(metric):
    assert METRICS.build(metric).score(LOGITS[:1], np.array([0.0])).tolist() == [1]


@pytest.mark.parametrize("label", [-1, 6, 0.5])
def test_a_label_that_is_no_class_is_told(label):
    with pytest.raises(ValueError, match=f"label {label} is not one of the model's 6 classes"):
        METRICS.build("top1").score(LOGITS[:1], np.array([label]))


def test_outputs_that_are_no_scores_are_told():
    with pytest.raises(ValueError, match=r"top1 takes outputs \[N, classes\]"):
        METRICS.build("top1").score(np.zeros((2, 3, 4)), np.zeros(2))


def test_mean_squared_error_is_the_mean_over_each_sample():
    scores = METRICS.build("mean-squared-error").score(
        np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[1.0, 4.0], [0.0, 0.0]])
    )
    assert scores.tolist() == [2.0, 0.0]


def test_mean_squared_error_takes_a_column_for_a_vector():
    scores = METRICS.build("mean-squared-error").score(np.ones((2, 1)), np.zeros(2))
    assert scores.tolist() == [1.0, 1.0]


def test_mean_squared_error_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match="one shape"):
        METRICS.build("mean-squared-error").score(np.ones((2, 3)), np.zeros(2))


def test_whole_number_outputs_do_not_wrap_around():
    bytes_ = np.array([[3, 5]], np.uint8)
    squared = METRICS.build("mean-squared-error").score(bytes_, np.array([[5, 3]], np.uint8))
    assert squared.tolist() == [4.0]
    ranked = np.array([[0, 1, 2, 3, 4, 5]], np.uint8)
    assert METRICS.build("top5").score(ranked, np.array([0])).tolist() == [0]
    assert METRICS.build("top5").score(ranked, np.array([5])).tolist() == [1]


@pytest.mark.parametrize("metric", ["top1", "top5"])
@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3, 2)])
def test_outputs_that_are_no_scores_of_classes_predict_none(metric, shape):
    assert METRICS.build(metric).predict(np.zeros(shape)) is None
    assert METRICS.build(metric).predict(LOGITS).tolist() == [0, 5]


def total(metric, outputs, labels):
    built = METRICS.build(metric)
    return built.total(built.score(np.asarray(outputs), np.asarray(labels)))


def drawn(metric, outputs, labels, counts):
    """The metric of samples drawn ``counts`` times: as estimated, and with rows repeated."""
    built = METRICS.build(metric)
    rows = built.score(np.asarray(outputs), np.asarray(labels))
    table = rows.reshape(len(rows), -1)
    repeated = np.repeat(rows, counts, axis=0)
    return built.estimator(table)(counts[None].astype(float))[0], built.total(repeated)


@pytest.fixture
def classified():
    rng = np.random.default_rng(4)
    labels = rng.choice(6, size=200, p=[0.5, 0.3, 0.1, 0.05, 0.03, 0.02])
    logits = rng.normal(size=(200, 6)) + 1.5 * np.eye(6)[labels]
    return logits.astype(np.float32), labels


@pytest.fixture
def regressed():
    rng = np.random.default_rng(6)
    wanted = np.round(rng.normal(size=150), 1) + 1e4  # ties, and far from zero
    return (wanted + np.round(rng.normal(size=150), 1)).astype(np.float64), wanted


COUNTS = np.random.default_rng(8).integers(0, 3, 200)
CLASS_METRICS = ["top1", "top5", "macro-f1", "mean-average-precision"]


@pytest.mark.parametrize("metric", CLASS_METRICS)
def test_a_draw_of_classified_samples_is_its_samples_repeated(classified, metric):
    estimated, repeated = drawn(metric, *classified, COUNTS)
    assert estimated == pytest.approx(repeated, rel=1e-12)


@pytest.mark.parametrize("metric", ["pearson", "spearman", "mean-squared-error"])
def test_a_draw_of_measured_samples_is_its_samples_repeated(regressed, metric):
    estimated, repeated = drawn(metric, *regressed, COUNTS[:150])
    assert estimated == pytest.approx(repeated, rel=1e-9)


def test_macro_f1_is_that_of_scikit_learn(classified):
    logits, labels = classified
    expected = peers.f1_score(labels, logits.argmax(axis=1), average="macro")
    assert total("macro-f1", logits, labels) == pytest.approx(expected, rel=1e-12)


def test_macro_f1_leaves_out_classes_that_nobody_names():
    logits = np.eye(5)[[0, 1, 1]]
    assert total("macro-f1", logits, [0, 1, 0]) == pytest.approx(
        peers.f1_score([0, 1, 0], [0, 1, 1], average="macro")
    )


def test_macro_f1_counts_a_class_that_is_only_predicted():
    logits, labels = np.eye(3)[[0, 1]], [0, 0]
    expected = peers.f1_score(labels, [0, 1], average="macro")
    assert total("macro-f1", logits, labels) == pytest.approx(expected) == pytest.approx(1 / 3)


def test_macro_f1_counts_nan_as_no_prediction():
    logits = np.eye(3)[[0, 1, 2]]
    logits[0] = np.nan
    assert total("macro-f1", logits, [0, 1, 2]) == pytest.approx(2 / 3)


def test_correlations_are_those_of_scipy(regressed):
    outputs, wanted = regressed
    assert total("pearson", outputs, wanted) == pytest.approx(stats.pearsonr(*regressed)[0])
    assert total("spearman", outputs, wanted) == pytest.approx(stats.spearmanr(*regressed)[0])
    assert total("pearson", outputs[:, None], wanted) == pytest.approx(
        stats.pearsonr(outputs, wanted)[0]
    )


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_a_constant_output_correlates_with_nothing(metric):
    assert np.isnan(total(metric, np.ones(5), np.arange(5.0)))


def test_the_spearman_of_nan_is_no_number():
    assert np.isnan(total("spearman", np.array([1.0, np.nan, 2.0]), np.arange(3.0)))


def test_cosine_is_that_of_scikit_learn():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 30, 8))
    expected = peers.pairwise.paired_cosine_distances(a, b)
    np.testing.assert_allclose(METRICS.build("cosine").score(a, b), 1 - expected, atol=1e-12)


def test_the_cosine_of_a_zero_vector_is_zero():
    assert METRICS.build("cosine").score(np.zeros((1, 3)), np.ones((1, 3))).tolist() == [0]


def test_perplexity_is_the_exponential_of_the_log_loss():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(4, 5, 7)) * 3
    labels = rng.integers(0, 7, (4, 5))
    chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    loss = peers.log_loss(labels.ravel(), chances.reshape(-1, 7), labels=range(7))
    assert total("perplexity", logits, labels) == pytest.approx(np.exp(loss), rel=1e-9)


def test_perplexity_weighs_tokens_not_samples():
    logits = np.zeros((2, 3, 4))
    logits[1, 0, 2] = 100  # certain and right; the two other places do not count
    labels = np.array([[0, 1, 2], [2, -100, -100]])
    assert total("perplexity", logits, labels) == pytest.approx(4 ** (3 / 4))


def test_perplexity_takes_large_logits():
    assert total("perplexity", np.array([[1e4, 0.0]]), [0]) == pytest.approx(1)


def test_a_token_outside_the_vocabulary_is_told():
    with pytest.raises(ValueError, match="label 9 is not one of the model's 4 tokens"):
        METRICS.build("perplexity").score(np.zeros((1, 2, 4)), np.array([[1, 9]]))


def test_average_precision_is_that_of_scikit_learn(classified):
    logits, labels = classified
    marks = np.eye(6)[labels]
    expected = peers.average_precision_score(marks, logits, average="macro")
    assert total("mean-average-precision", logits, labels) == pytest.approx(expected)
    assert total("mean-average-precision", logits, marks) == pytest.approx(expected)


def test_average_precision_of_many_labels_and_ties_is_that_of_scikit_learn():
    rng = np.random.default_rng(9)
    marks = (rng.random((120, 4)) < 0.3).astype(np.int64)
    scores = np.round(rng.random((120, 4)) + 0.4 * marks, 1)
    expected = peers.average_precision_score(marks, scores, average="macro")
    assert total("mean-average-precision", scores, marks) == pytest.approx(expected)


UNIT, BESIDE, HALF = (0, 0, 1, 1), (5, 5, 6, 6), (0, 0, 1, 2)


def boxes(*found):
    return np.array([[[*box, score, label] for box, score, label in one] for one in found], float)


def truths(*wanted):
    return np.array([[[*box, label] for box, label in one] for one in wanted], float)


def test_boxes_that_are_all_right_have_a_precision_of_one():
    found = boxes([(UNIT, 0.9, 0), (BESIDE, 0.2, 1)])
    assert total("mean-average-precision", found, truths([(UNIT, 0), (BESIDE, 1)])) == 1


def test_the_precision_of_boxes_is_that_of_the_area_by_hand():
    # By score: hit, miss, hit of 3 true boxes: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3.
    found = boxes([(UNIT, 0.9, 0), (BESIDE, 0.8, 0)], [(BESIDE, 0.7, 0), (UNIT, 0.1, -1)])
    wanted = truths([(UNIT, 0), (UNIT, -1)], [(BESIDE, 0), (UNIT, 0)])
    expected = (1 + 2 / 3) / 3
    assert total("mean-average-precision", found, wanted) == pytest.approx(expected)


def test_a_true_box_is_found_only_once():
    found = boxes([(UNIT, 0.9, 0), (UNIT, 0.8, 0)], [(UNIT, 0.7, 0), (UNIT, 0.6, 0)])
    wanted = truths([(UNIT, 0)], [(UNIT, 0)])
    assert total("mean-average-precision", found, wanted) == pytest.approx((1 + 2 / 3) / 2)


def test_a_box_must_overlap_enough():
    found, wanted = boxes([(HALF, 0.9, 0)]), truths([(UNIT, 0)])
    assert total({"mean-average-precision": {"iou": 0.5}}, found, wanted) == 1
    assert total({"mean-average-precision": {"iou": 0.51}}, found, wanted) == 0


def test_drawn_boxes_stay_with_their_sample():
    rng = np.random.default_rng(1)
    corners = rng.random((9, 4, 2))
    wanted = np.concatenate([corners, corners + 0.4, rng.integers(0, 2, (9, 4, 1))], axis=2)
    moved = wanted[..., :4] + rng.normal(scale=0.07, size=(9, 4, 4))
    found = np.concatenate([moved, rng.random((9, 4, 1)), wanted[..., 4:]], axis=2)
    estimated, repeated = drawn("mean-average-precision", found, wanted, COUNTS[:9])
    assert estimated == pytest.approx(repeated)
    assert 0 < estimated < 1


@pytest.mark.parametrize(
    ("metric", "outputs", "labels", "takes"),
    [
        ("macro-f1", (4,), (4,), r"macro-f1 takes outputs \[N, classes\] and labels \[N\]"),
        ("pearson", (4, 3), (4,), "pearson takes one output and one label a sample"),
        ("spearman", (4,), (4, 2), "spearman takes one output and one label a sample"),
        ("cosine", (4, 3), (4,), "cosine takes outputs and labels of one shape"),
        ("cosine", (4, 1), (4, 1), "vectors of two values or more"),
        ("perplexity", (4, 3, 9), (4,), r"perplexity takes outputs \[N, tokens, vocabulary\]"),
        ("mean-average-precision", (4, 3), (4, 2), "mean-average-precision takes outputs"),
        ("mean-average-precision", (4,), (4,), r"got \[4\] and \[4\]"),
    ],
)
def test_a_metric_that_does_not_fit_says_what_it_takes(metric, outputs, labels, takes):
    with pytest.raises(ValueError, match=takes):
        METRICS.build(metric).score(np.zeros(outputs), np.zeros(labels))


def test_a_column_of_labels_will_do():
    assert total("top1", LOGITS, np.array([[0], [4]])) == 0.5


@pytest.fixture
def own(tmp_path):
    def write(body):
        path = tmp_path / "own.py"
        path.write_text(f"import numpy as np\n\ndef judge(outputs, labels):\n    {body}\n")
        return f"{path}:judge"

    return write


def test_a_function_of_the_users_is_a_metric(own):
    function = own("return np.abs(outputs[:, 0] - labels)")
    metric = METRICS.build(f"python:{function}")
    assert metric.total(metric.score(np.array([[1.0], [4.0]]), np.array([0.0, 0.0]))) == 2.5
    assert METRICS.build({"python": {"function": function, "unit": "kg"}}).unit == "kg"
    assert METRICS.build(f"python:{function},unit=kg").unit == "kg"
    assert METRICS.build("mean-average-precision:0.75").iou == 0.75


def test_a_function_of_the_users_may_take_all_samples_at_once(own):
    spec = {"python": {"function": own("return np.corrcoef(outputs.ravel(), labels)[0, 1]")}}
    spec = f"python:{spec['python']['function']},whole=true"
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(60, 1)), rng.normal(size=60)
    assert total(spec, outputs, labels) == pytest.approx(np.corrcoef(outputs.T, labels)[0, 1])
    estimated, repeated = drawn(spec, outputs, labels, COUNTS[:60])
    assert estimated == pytest.approx(repeated)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return outputs / missing", r"raises NameError: .*own.py"),
        ("return 'much'", "raises ValueError"),
    ],
)
def test_what_a_function_of_the_users_raises_is_told_with_its_line(own, body, message):
    with pytest.raises(UserError, match=message):
        total(f"python:{own(body)}", LOGITS, np.zeros(2))


def test_a_function_that_gives_one_number_must_say_so(own):
    with pytest.raises(ValueError, match="set whole: true"):
        total(f"python:{own('return 1.0')}", LOGITS, np.zeros(2))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("python:judge", "expected FILE.py:FUNCTION"),
        ("python:gone.py:judge", "no such file"),
        ("python:no_such_module:judge", "no module 'no_such_module'"),
        ("python:math:judge", "math has no function 'judge'"),
        ("python:math:sqrt,whole", "'whole' is no OPTION=VALUE. Separate options by commas"),
        ("mean-average-precision:iou=0.75,iou=0.5", "'iou=0.5' comes twice"),
        ("mean-average-precision:iuo=0.75", "unknown option 'iuo', did you mean 'iou'"),
        ("python:math:sqrt,hole=true", "unknown option 'hole', did you mean 'whole'"),
        ("top1:5", "'top1' takes no argument"),
        ("top9:5", "unknown metric 'top9'"),
    ],
)
def test_a_metric_that_is_not_there_is_told(spec, message):
    with pytest.raises(UserError, match=message):
        total(spec, LOGITS, np.zeros(2))
