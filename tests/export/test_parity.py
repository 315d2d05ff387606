"""Torch and ONNX must say the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deploypipe.core.errors import UserError
from deploypipe.export.parity import check_parity

BATCHES = [{"x": np.ones((size, 3), np.float32)} for size in (1, 4)]


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


def answering(change):
    return lambda feeds: {"y": change(2 * feeds["x"])}


def test_equal_answers_pass():
    parity = check_parity(Double(), answering(lambda y: y), BATCHES, 0)
    assert parity.errors == {1: 0, 4: 0}
    assert parity.worst == 0


def test_the_error_is_relative_to_the_largest_output():
    parity = check_parity(Double(), answering(lambda y: y + 0.02), BATCHES, 0.1)
    assert parity.worst == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y * 1.1,
        lambda y: y * np.nan,
        lambda y: y[:, :2],
        lambda y: y if len(y) == 1 else -y,
    ],
)
def test_another_answer_is_an_error(change):
    with pytest.raises(UserError, match=r"export: the exported model differs from torch by .* at"):
        check_parity(Double(), answering(change), BATCHES, 1e-4)


def test_the_batch_size_that_differs_is_told():
    with pytest.raises(UserError, match="at batch size 4, more than 1e-04"):
        check_parity(Double(), answering(lambda y: y if len(y) == 1 else -y), BATCHES, 1e-4)


def test_the_module_answers_as_in_use_not_as_in_training():
    module = nn.Sequential(nn.Dropout(0.9)).train()
    check_parity(module, lambda feeds: {"y": feeds["x"]}, BATCHES, 0)


def test_outputs_that_are_all_zero_can_be_compared():
    class Zero(nn.Module):
        def forward(self, x):
            return torch.zeros_like(x), x

    run = lambda feeds: {"a": 0 * feeds["x"], "b": feeds["x"]}  # noqa: E731
    assert check_parity(Zero(), run, BATCHES, 0).worst == 0


def test_of_two_batches_of_one_size_the_worse_one_is_told():
    batches = [{"x": np.full((2, 3), value, np.float32)} for value in (1, 2)]
    run = answering(lambda y: y + 0.02 * (y == 2))
    assert check_parity(Double(), run, batches, 0.1).errors == {2: pytest.approx(0.01, rel=1e-4)}


@pytest.mark.parametrize("kind", [dict, tuple, list])
def test_answers_may_be_nested(kind):
    class Nested(nn.Module):
        def forward(self, x):
            pair = (x, 2 * x)
            return {"a": pair[0], "b": (pair[1],)} if kind is dict else kind(pair)

    run = lambda feeds: {"a": feeds["x"], "b": 2 * feeds["x"]}  # noqa: E731
    assert check_parity(Nested(), run, BATCHES, 0).worst == 0
    with pytest.raises(UserError, match="differs from torch"):
        check_parity(Nested(), lambda feeds: {"a": feeds["x"], "b": feeds["x"]}, BATCHES, 1e-4)


def test_a_missing_output_is_a_mistake_and_not_a_bug():
    with pytest.raises(UserError, match=r"\(1 outputs against 2\) at batch size 1"):
        check_parity(Double(), lambda feeds: {"a": feeds["x"], "b": feeds["x"]}, BATCHES, 1)


def test_whole_numbers_are_compared_exactly():
    class Large(nn.Module):
        def forward(self, x):
            return (x * 0).long() + 2**53

    def run(off):
        return lambda feeds: {"y": np.full(feeds["x"].shape, 2**53 + off)}

    assert check_parity(Large(), run(0), BATCHES, 0).worst == 0
    with pytest.raises(UserError, match=r"\(3 of 3 whole numbers\)"):
        check_parity(Large(), run(1), BATCHES, 0.1)


def test_infinity_that_both_give_is_equal_and_elsewhere_it_is_not():
    class Masked(nn.Module):
        def forward(self, x):
            return torch.where(torch.arange(3) == 1, -torch.inf, x)

    def run(place):
        return lambda feeds: {"y": np.where(np.arange(3) == place, -np.inf, feeds["x"])}

    assert check_parity(Masked(), run(1), BATCHES, 0).worst == 0
    with pytest.raises(UserError, match="NaN or infinity in other places"):
        check_parity(Masked(), run(2), BATCHES, 0.1)
