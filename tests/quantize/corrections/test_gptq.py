from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deploypipe.quantize.corrections.gptq import Gptq


def test_where_no_inputs_go_together_every_weight_is_rounded_for_itself(task) -> None:
    apart = replace(task, products=np.eye(12)[None] * 500)
    assert np.array_equal(Gptq().solve(apart), task.nearest())


@pytest.mark.parametrize("block", [1, 5, 128])
def test_inputs_are_taken_in_blocks_without_a_difference(task, monkeypatch, block) -> None:
    from deploypipe.quantize.corrections import gptq

    whole = Gptq().solve(task)
    monkeypatch.setattr(gptq, "_BLOCK", block)
    assert np.array_equal(Gptq().solve(task), whole)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="damping must be positive, got 0"):
        Gptq(damping=0)
    with pytest.raises(ValueError, match="samples and rows must be at least 1"):
        Gptq(rows=0)
