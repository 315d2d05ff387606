"""From uint8 images to the float32 tensor the model was trained on; recorded with every artifact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from deploypipe.core.errors import UserError, needs_extra

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Length = Annotated[int, Field(ge=1)]


class Preprocess(BaseModel):
    """Resize, set the channels, then ``(x * scale - mean) / std`` per channel, as float32 NCHW.

    ``size`` is ``[height, width]``, or one number for both; the aspect ratio is not kept.
    ``channels`` 1 -> 3 repeats the grey value, 3 -> 1 is the luminance of ITU-R BT.601.
    ``mean`` and ``std`` have one value, or one per channel.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Annotated[list[Length], Field(min_length=2, max_length=2)] | Length | None = None
    channels: Literal[1, 3] | None = None
    resize: Literal["bilinear", "nearest"] = "bilinear"
    scale: Positive = 1 / 255
    mean: Annotated[list[Finite], Field(min_length=1)] = [0.0]
    std: Annotated[list[Positive], Field(min_length=1)] = [1.0]

    @model_validator(mode="after")
    def _one_value_per_channel(self) -> Preprocess:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if self.channels and len(values) not in (1, self.channels):
                raise ValueError(f"{name} needs 1 or {self.channels} values, it has {len(values)}")
        return self

    def __call__(self, images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """uint8 ``[N, H, W, C]`` (or N images of any size) to float32 ``[N, C, H, W]``."""
        return self.normalise(self.fit(images, [f"image {i}" for i in range(len(images))]))

    def fit(self, images: Sequence[np.ndarray] | np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """Bring uint8 ``[H, W, C]`` images to one size and number of channels: ``[N, H, W, C]``.

        Raises:
            UserError: not uint8 grey or RGB, or unequal shapes that no option evens out; names ids.
        """
        fitted = [self._fit_one(image, name) for image, name in zip(images, ids, strict=True)]
        for image, name in zip(fitted, ids, strict=True):
            check_same_shape(fitted[0].shape, ids[0], image.shape, name)
        return np.stack(fitted)

    def _fit_one(self, image: np.ndarray, name: str) -> np.ndarray:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3):
            raise UserError(
                f"expected an image of uint8 [H, W, 1 or 3], got {image.dtype}{list(image.shape)}",
                where=name,
            )
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        if size and tuple(size) != image.shape[:2]:
            image = _resize(image, (size[0], size[1]), self.resize)
        return _with_channels(image, self.channels or image.shape[-1])

    def normalise(self, images: np.ndarray) -> np.ndarray:
        """uint8 ``[N, H, W, C]`` to float32 ``[N, C, H, W]``; every step is rounded to float32."""
        channels = images.shape[-1]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise UserError(
                    f"needs 1 or {channels} values, it has {len(values)}: the images have "
                    f"{channels} channels",
                    where=f"preprocess.{name}",
                    then="Set preprocess.channels, or as many values as the images have channels",
                )
        x = images.astype(np.float32) * np.float32(self.scale)
        x -= np.asarray(self.mean, np.float32)
        x /= np.asarray(self.std, np.float32)
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def check_same_shape(
    first: tuple[int, ...], first_id: str, shape: tuple[int, ...], name: str
) -> None:
    """Raise a user's error where two images' ``[H, W, C]`` differ; it says which option helps."""
    if shape == first:
        return
    raise UserError(
        f"images have different shapes [H, W, C]: {list(first)} ({first_id}) "
        f"and {list(shape)} ({name})",
        where="preprocess",
        then=f"Set preprocess.{'channels' if shape[:2] == first[:2] else 'size'}",
    )


def _resize(image: np.ndarray, size: tuple[int, int], method: str) -> np.ndarray:
    try:
        from deploypipe.data import pixels  # here, so that arrays of the right size need no Pillow
    except ModuleNotFoundError as error:
        raise needs_extra("preprocess.size", error.name or "PIL", "images") from error
    return pixels.resize(image, size, method)


def _with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    if image.shape[-1] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=-1)
    # Pillow's own fixed-point luminance, so that a grey image is the same whoever converts it.
    red, green, blue = np.moveaxis(image.astype(np.uint32), -1, 0)
    grey = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return np.asarray(grey[..., None], np.uint8)
