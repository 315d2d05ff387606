"""Small pictures without a library."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest

from deploypipe.report.png import data_uri, is_picture, png, shrunk


def opened(data: bytes) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    return np.asarray(image.open(io.BytesIO(data)))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1), (64, 3, 3)])
def test_a_picture_is_read_back_pixel_by_pixel(shape: tuple[int, ...]) -> None:
    pixels = noise(*shape)
    assert np.array_equal(opened(png(pixels)), pixels)


def test_one_channel_is_grey() -> None:
    uri = data_uri(noise(8, 8, 1))
    assert opened(base64.b64decode(uri.partition(",")[2])).shape == (8, 8)


def test_a_large_picture_shrinks_until_it_fits_and_keeps_its_sides() -> None:
    uri = data_uri(noise(480, 640, 3), room=6_000)
    assert len(uri) < 6_100
    height, width = opened(base64.b64decode(uri.partition(",")[2])).shape[:2]
    assert width <= 64 and abs(width / height - 640 / 480) < 0.1


def test_shrinking_takes_means() -> None:
    assert shrunk(np.array([[0, 2], [4, 6]], np.uint8), 2).tolist() == [[3]]
    assert shrunk(np.array([[9]], np.uint8), 4).tolist() == [[9]]
    assert shrunk(noise(3, 200), 100).shape == (1, 2)


@pytest.mark.parametrize("image", [np.zeros((3, 3), np.float32), np.zeros((2, 2, 4), np.uint8)])
def test_what_is_no_picture_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected a uint8 image"):
        data_uri(image)


@pytest.mark.parametrize(
    "text",
    ["", 'data:image/png;base64,AA" onerror="x', "data:image/svg+xml;base64,AAAA", None, 3,
     "data:text/html;base64,AAAA", "https://example.org/a.png"],
)  # fmt: skip
def test_only_our_own_kind_of_picture_is_one(text: object) -> None:
    assert not is_picture(text)
    assert is_picture(data_uri(noise(4, 4)))
