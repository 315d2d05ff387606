from __future__ import annotations

import sys

import pytest

from deploypipe.core.heap import give_back
from deploypipe.validate.memory import resident


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep less")
def test_freed_memory_goes_back():
    held = [bytes(60_000) for _ in range(2000)]  # too small to be mapped one by one
    last = bytes(60_000)  # keeps the end of the heap, so that nothing goes back by itself
    before = resident("VmRSS")
    del held
    give_back()
    after = resident("VmRSS")
    assert before - after > 80_000_000 and last
