"""Augmentation of a batch of images, in torch: random shift with zero padding, and mirror."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Augment:
    """Random crop after padding by ``shift`` pixels, and a mirror image half of the time."""

    shift: int = 0
    mirror: bool = False

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """float32 [N, C, H, W] -> the same shape."""
        if self.shift:
            images = _crop(images, self.shift, generator)
        if self.mirror:
            flip = torch.rand(len(images), generator=generator) < 0.5
            images = torch.where(flip[:, None, None, None], images.flip(3), images)
        return images


def _crop(images: torch.Tensor, shift: int, generator: torch.Generator) -> torch.Tensor:
    """Each image is cut at its own offset out of its padded self, by one gather."""
    count, channels, height, width = images.shape
    padded = functional.pad(images, (shift,) * 4)
    top, left = torch.randint(0, 2 * shift + 1, (2, count), generator=generator)
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    index = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
    flat = padded.reshape(count, channels, -1)
    index = index.reshape(count, 1, -1).expand(count, channels, -1)
    return flat.gather(2, index).reshape(count, channels, height, width)
