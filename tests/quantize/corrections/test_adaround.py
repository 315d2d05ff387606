from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deploypipe.quantize.corrections.adaround import Adaround


def test_no_weight_moves_by_a_whole_step(task) -> None:
    found = Adaround(steps=300).solve(task)
    assert np.abs(found - task.weight / task.scales).max() <= 1


def test_weights_that_are_whole_steps_stay(task) -> None:
    whole = replace(task, weight=task.nearest() * task.scales)
    assert np.array_equal(Adaround(steps=300).solve(whole), task.nearest())


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        Adaround(steps=0)
    with pytest.raises(ValueError, match="samples and rows must be at least 1"):
        Adaround(samples=0)
    with pytest.raises(ValueError, match="regularization must be positive, got 0"):
        Adaround(regularization=0)
