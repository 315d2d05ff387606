"""Peak memory of a block."""

import numpy as np
import pytest

from deploypipe.validate import memory
from deploypipe.validate.memory import peak_growth


def test_memory_that_is_given_back_counts():
    with peak_growth() as growth:
        np.ones(8_000_000).sum()  # so large that it never comes from memory that was given back
        grown = growth()
    if grown is None:
        pytest.skip("this system does not let a process reset its peak")
    assert 60e6 < grown < 90e6


def test_where_the_peak_cannot_be_reset_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_RESET", tmp_path)
    with peak_growth() as growth:
        assert growth() is None
