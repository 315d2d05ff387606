"""Small pictures as data URIs, so that a page that loads nothing can show them."""

from __future__ import annotations

import base64
import re
import struct
import zlib

import numpy as np

SIDE = 64
"""Pixels of a picture's longer side, at most."""

_URI = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")


def data_uri(image: np.ndarray, room: int = 6_000) -> str:
    """A uint8 image [H, W], [H, W, 1] or [H, W, 3] as a PNG, shrunk until it fits into ``room``.

    ``room`` is in characters; the smallest picture is returned even if it does not fit.

    Raises:
        ValueError: the array is no such image.
    """
    pixels = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise ValueError(f"expected a uint8 image [H, W(, 3)], got {image.dtype}{image.shape}")
    factor = -(-max(pixels.shape[:2]) // SIDE)
    while True:
        encoded = base64.b64encode(png(shrunk(pixels, factor))).decode()
        if len(encoded) <= room or max(pixels.shape[:2]) // factor <= 8:
            return f"data:image/png;base64,{encoded}"
        factor += 1


def is_picture(text: object) -> bool:
    """Whether this is such a data URI and nothing else."""
    return isinstance(text, str) and _URI.fullmatch(text) is not None


def shrunk(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Means over squares of ``factor`` pixels; what is left at the right and below is cut off."""
    height, width = (max(1, size // factor) for size in pixels.shape[:2])
    rows, columns = (min(factor, size) for size in pixels.shape[:2])
    cut = pixels[: height * rows, : width * columns]
    squares = cut.reshape(height, rows, width, columns, *pixels.shape[2:])
    return np.asarray(squares.mean(axis=(1, 3)).round().astype(np.uint8))


def png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W] as grey, [H, W, 3] as colour (ISO/IEC 15948), unfiltered."""
    height, width = pixels.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    lines = pixels.reshape(height, -1)
    unfiltered = np.concatenate([np.zeros((height, 1), np.uint8), lines], axis=1).tobytes()
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(unfiltered, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
