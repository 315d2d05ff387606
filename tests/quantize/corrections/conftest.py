"""How near a proposal's outputs are to the float model's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from deploypipe.quantize.correction import Draft
from deploypipe.quantize.signal import outputs_of, sqnr_db
from deploypipe.runtime import Target


@pytest.fixture
def nearness(target: Target) -> Callable[[Draft, Draft, np.ndarray], list[float]]:
    """dB of the outputs before, after, and of the float model that the proposal made of the first."""

    def measure(start: Draft, found: Draft, x: np.ndarray) -> list[float]:
        models = [start.shop.model, start.made.model, found.made.model, found.shop.model]
        expected, *given = outputs_of(models, [{"x": one[None]} for one in x], target)
        return [sqnr_db(expected, one) for one in given]

    return measure
