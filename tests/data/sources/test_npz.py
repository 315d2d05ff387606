from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.data import open_samples, source_of


def test_arrays_are_fed_as_they_are(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, mask=np.arange(5, dtype=np.int64), label=np.arange(5) % 2)
    source = source_of(f"npz:{tmp_path / 'a.npz'}")
    assert source.ids()[3] == "a.npz#000003"
    inputs = source.read([3, 1]).inputs
    assert inputs is not None
    assert (inputs["x"] == x[[3, 1]]).all()
    assert inputs["x"].dtype == np.float32
    assert inputs["mask"].tolist() == [3, 1]
    labels = source.labels()
    assert labels is not None
    assert labels.tolist() == [0, 1, 0, 1, 0]
    assert "label" not in inputs


def test_the_digest_is_of_the_inputs_not_of_the_label(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=[1.0, 2.0, 1.0], label=[0, 1, 1])
    digests = source_of(f"npz:{tmp_path / 'a.npz'}").digests()
    assert digests[0] == digests[2] != digests[1]


def test_an_archive_that_is_damaged_anywhere_is_refused_or_read(tmp_path: Path) -> None:
    """Every bit of its table of contents, which tells how each array is packed."""
    file = tmp_path / "a.npz"
    np.savez_compressed(file, x=np.arange(200, dtype=np.float32).reshape(20, 10))
    whole = file.read_bytes()
    for bit in range(8 * whole.rindex(b"PK\1\2"), 8 * len(whole)):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bytes(broken))
        try:
            source_of(f"npz:{file}").ids()
        except UserError as error:
            assert "a.npz" in str(error)


def test_float_labels_stay_scores_and_missing_ones_are_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=[1, 2], label=[0.5, 1.5])
    np.savez(tmp_path / "b.npz", x=[1, 2])
    labels = source_of(f"npz:{tmp_path / 'a.npz'}").labels()
    assert labels is not None
    assert labels.dtype == np.float64
    assert source_of(f"npz:{tmp_path / 'b.npz'}").labels() is None


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": [[1.0], [np.nan]]}, "'x' holds NaN or infinity, first in sample a.npz#000001"),
        ({"x": [[1.0], [np.inf]]}, "'x' holds NaN or infinity"),
        ({"x": [1, 2], "label": [0.5, np.nan]}, "'label' holds NaN or infinity"),
        ({"x": [1, 2], "z": [1, 2, 3]}, "number of samples: 'x' has 2, 'z' has 3"),
        ({"x": [1, 2], "label": [1]}, "number of samples: 'x' has 2, 'label' has 1"),
        ({"x": 3.0}, "'x' is one number, it has no axis for the samples"),
        ({"x": ["a", "b"]}, "'x' holds <U1, expected numbers"),
        ({"label": [1, 2]}, "there are no inputs"),
        ({}, "there are no inputs"),
    ],
)
def test_wrong_arrays_are_explained(arrays: dict[str, Any], says: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError) as caught:
        open_samples(f"npz:{tmp_path / 'a.npz'}")
    assert says in str(caught.value)


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return open, (str(tmp_path / "sprung"), "w")

    np.savez(tmp_path / "a.npz", x=np.array([Trap(), 1], object))
    with pytest.raises(UserError, match="it holds pickled objects"):
        open_samples(f"npz:{tmp_path / 'a.npz'}")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 broken"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match="a.npz: cannot be read as arrays"):
        open_samples(f"npz:{tmp_path / 'a.npz'}")


def test_an_archive_damaged_inside_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=200))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[300:320] = bytes(20)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as arrays"):
        open_samples(f"npz:{tmp_path / 'a.npz'}")


def test_a_single_array_has_no_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(UserError, match="one array without a name"):
        open_samples(f"npz:{tmp_path / 'a.npy'}")
