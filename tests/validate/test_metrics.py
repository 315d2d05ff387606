"""Metrics score samples one by one; their mean is the metric."""

import numpy as np
import pytest

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
