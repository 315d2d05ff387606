from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploypipe.core.errors import UserError
from deploypipe.data import open_samples, source_of


@pytest.fixture
def folder(tmp_path: Path, png: Callable[..., bytes]) -> Path:
    for number, name in enumerate(["dog/b.png", "cat/a.png", "cat/deep/c.PNG", "dog/a.png"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    return tmp_path


def test_a_class_is_a_folder_and_all_is_sorted(folder: Path) -> None:
    source = source_of(f"images:{folder}")
    assert source.ids() == ("cat/a.png", "cat/deep/c.PNG", "dog/a.png", "dog/b.png")
    assert source.classes == ("cat", "dog")
    labels = source.labels()
    assert labels is not None
    assert labels.tolist() == [0, 0, 1, 1]
    assert source.notes() == []


def test_a_corrupt_image_among_good_ones_is_named(folder: Path) -> None:
    path = folder / "dog" / "a.png"
    path.write_bytes(path.read_bytes()[:60])
    data = open_samples(f"images:{folder}")
    with pytest.raises(UserError, match=f"{path}: cannot be decoded as an image"):
        list(data.split("validation").batches(2))


def test_text_with_the_name_of_an_image_is_named(folder: Path) -> None:
    (folder / "dog" / "a.png").write_text("hello")
    with pytest.raises(UserError, match=r"dog/a.png: .*its format is unknown"):
        source_of(f"images:{folder}").read([2])


def test_other_files_and_empty_classes_are_noted_and_hidden_ones_ignored(folder: Path) -> None:
    (folder / "readme.txt").touch()
    (folder / "cat" / "notes.md").touch()
    (folder / "cat" / ".DS_Store").touch()
    (folder / ".cache").mkdir()
    (folder / "zebra").mkdir()
    source = source_of(f"images:{folder}")
    assert source.classes == ("cat", "dog", "zebra")
    assert source.notes() == [
        "class folders without images: zebra",
        "left out as no images of a class: 2 files (readme.txt, cat/notes.md)",
    ]


def test_loose_images_have_no_labels(tmp_path: Path, png: Callable[..., bytes]) -> None:
    (tmp_path / "b.png").write_bytes(png(1))
    (tmp_path / "a.png").write_bytes(png(2))
    source = source_of(f"images:{tmp_path}")
    assert source.ids() == ("a.png", "b.png")
    assert source.classes is None
    assert source.labels() is None


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are no samples"):
        open_samples(f"images:{tmp_path}")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(UserError, match="expected a folder"):
        source_of(f"images:{tmp_path / 'x'}")


def test_equal_files_have_equal_digests(folder: Path) -> None:
    (folder / "dog" / "z.png").write_bytes((folder / "cat" / "a.png").read_bytes())
    digests = source_of(f"images:{folder}").digests()
    assert digests[0] == digests[-1]
    assert len(set(digests)) == 4


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3), ("I;16", 1)],
)
def test_every_mode_becomes_grey_or_rgb_bytes(mode: str, channels: int, tmp_path: Path) -> None:
    image = Image.fromarray(np.full((3, 5), 0x8123, np.uint16)) if mode == "I;16" else None
    (image or Image.new(mode, (5, 3), 0)).save(tmp_path / "a.png")
    images = source_of(f"images:{tmp_path}").read([0]).images
    assert images is not None
    assert images[0].shape == (3, 5, channels)
    assert images[0].dtype == np.uint8
    if mode == "I;16":
        assert set(images[0].ravel()) == {0x81}


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), np.float32)).save(buffer, "TIFF")
    (tmp_path / "a.tif").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="pixels of mode F have no known range"):
        source_of(f"images:{tmp_path}").read([0])


def test_a_file_that_vanished_is_named(folder: Path) -> None:
    source = source_of(f"images:{folder}")
    source.ids()
    (folder / "cat" / "a.png").unlink()
    with pytest.raises(UserError, match="cat/a.png: cannot be read"):
        source.read([0])
