"""What a sample costs."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from deploypipe.compress.pace import measure

FEEDS = {"x": np.zeros((4, 3, 8, 8), np.float32)}


@pytest.mark.parametrize("bf16", [False, True])
def test_bytes_are_counted_and_times_are_positive(bf16):
    module = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU())
    train, forward, weights, activations = measure(module, FEEDS, bf16)
    assert train > 0
    assert forward > 0
    assert weights == 4 * (5 * 27 + 5 + 4 * 5) + 8  # and an int64 counter
    assert activations == 3 * 5 * 8 * 8 * 4


def test_no_hook_stays_behind():
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    measure(module, FEEDS)
    assert not any(part._forward_hooks for part in module.modules())
