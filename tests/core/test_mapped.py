from __future__ import annotations

import numpy as np
import pytest

from deploypipe.core.mapped import let_go, mapped_array
from deploypipe.validate.memory import resident

VALUES = np.arange(3_000_000, dtype=np.float32)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"head" + VALUES.tobytes())
    return path


def test_it_holds_what_the_file_does_at_any_offset(file):
    array = mapped_array(file, 4 + 4 * 1_500_001, np.float32, (7, 2))
    assert np.array_equal(array, VALUES[1_500_001:][:14].reshape(7, 2))
    assert not array.flags.writeable
    assert mapped_array(file, 4, np.float32, (0, 3)).shape == (0, 3)


@pytest.mark.skipif(resident("VmRSS") is None, reason="the system does not tell")
def test_pages_are_held_from_a_look_until_they_are_let_go(file):
    array = mapped_array(file, 4, np.float32, VALUES.shape)
    before = resident("VmRSS")
    total = float(array.sum())
    assert resident("VmRSS") - before > 8_000_000
    let_go()
    assert resident("VmRSS") - before < 4_000_000
    assert float(array.sum()) == total


def test_a_file_that_is_replaced_is_read_as_it_was(file):
    array = mapped_array(file, 4, np.float32, VALUES.shape)
    other = file.with_name("other")
    other.write_bytes(b"head" + (-VALUES).tobytes())
    other.replace(file)
    let_go()
    assert np.array_equal(array, VALUES)
