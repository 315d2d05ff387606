"""Encoded images to uint8 pixels, and pixels to another size; the only file that needs Pillow."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from deploypipe.core.errors import UserError

_GREY = ("1", "L", "LA", "La")
_METHODS = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}


def decode(encoded: bytes, name: str) -> np.ndarray:
    """One image as uint8 ``[H, W, C]``: C is 1 where the file is grey, else 3 (RGB).

    Transparency is dropped, 16-bit grey keeps its upper byte, of an animation the first frame counts,
    and the EXIF orientation is not applied (as in torchvision's folder of images).

    Raises:
        UserError: the bytes are no image that Pillow reads; names ``name``.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            pixels = _pixels(image)
    except UnidentifiedImageError as error:
        raise _undecodable(name, "its format is unknown") from error
    except Exception as error:  # a damaged file makes Pillow raise whatever its codec ran into
        raise _undecodable(name, f"{type(error).__name__}: {error}") from error
    return pixels


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)[..., None]
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range")
    if image.mode in _GREY:
        return np.asarray(image.convert("L"))[..., None]
    return np.asarray(image.convert("RGB"))


def _undecodable(name: str, why: str) -> UserError:
    return UserError(
        f"cannot be decoded as an image: {why}", where=name, then="Replace it or take it out"
    )


def resize(pixels: np.ndarray, size: tuple[int, int], method: str) -> np.ndarray:
    """uint8 ``[H, W, C]`` to ``[*size, C]``; Pillow's bilinear averages when it shrinks."""
    squeezed = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    height, width = size
    image = Image.fromarray(np.ascontiguousarray(squeezed))
    resized = np.asarray(image.resize((width, height), _METHODS[method]))
    return resized.reshape(height, width, pixels.shape[-1])
