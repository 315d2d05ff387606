"""Cross-entropy and distillation against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deploypipe.compress import LOSSES
from deploypipe.compress.losses.cross_entropy import CrossEntropy
from deploypipe.compress.losses.knowledge import Knowledge
from deploypipe.core.errors import UserError

STUDENT = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
TEACHER = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, -1.0]])
LABELS = torch.tensor([0, 2])


def softmax(logits: torch.Tensor, temperature: float = 1.0) -> np.ndarray:
    powers = np.exp(logits.double().numpy() / temperature)
    return powers / powers.sum(1, keepdims=True)


def hard() -> float:
    return float(-np.log(softmax(STUDENT)[[0, 1], LABELS]).mean())


def test_cross_entropy_is_the_mean_of_minus_log_of_the_label():
    assert float(CrossEntropy()(STUDENT, LABELS, None)) == pytest.approx(hard(), rel=1e-6)


def test_smoothing_gives_every_class_a_share():
    logs = -np.log(softmax(STUDENT))
    expected = 0.9 * logs[[0, 1], LABELS].mean() + 0.1 * logs.mean()
    assert float(CrossEntropy(0.1)(STUDENT, LABELS, None)) == pytest.approx(expected, rel=1e-6)


def test_knowledge_is_its_formula():
    theirs, ours = softmax(TEACHER, 3), softmax(STUDENT, 3)
    divergence = (theirs * np.log(theirs / ours)).sum(1).mean()
    expected = 0.4 * hard() + 0.6 * 9 * divergence
    loss = Knowledge(temperature=3, weight=0.6)
    assert float(loss(STUDENT, LABELS, TEACHER)) == pytest.approx(expected, rel=1e-5)


def test_of_a_teacher_who_says_the_same_only_the_labels_are_left():
    assert float(Knowledge()(STUDENT, LABELS, STUDENT)) == pytest.approx(0.1 * hard(), rel=1e-4)


def test_with_weight_0_the_teacher_does_not_matter():
    loss = Knowledge(weight=0)
    assert float(loss(STUDENT, LABELS, TEACHER)) == pytest.approx(hard(), rel=1e-6)


def test_without_a_teacher_there_are_only_the_labels():
    assert float(Knowledge()(STUDENT, LABELS, None)) == pytest.approx(hard(), rel=1e-6)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"knowledge": {"weight": 1.5}}, r"l.knowledge: weight must be in \[0, 1\], got 1.5"),
        ({"knowledge": {"temperature": 0}}, "temperature must be positive, got 0"),
        ({"cross-entropy": {"smoothing": 2}}, r"smoothing must be in \[0, 1\], got 2"),
        ("knowlege", "did you mean 'knowledge'?"),
    ],
)
def test_impossible_options_are_named(spec, message):
    with pytest.raises(UserError, match=message):
        LOSSES.build(spec, "l")
