"""Shift and mirror against NumPy."""

from __future__ import annotations

import numpy as np
import torch

from deploypipe.compress.augment import Augment

IMAGES = torch.arange(5 * 2 * 3 * 4, dtype=torch.float32).reshape(5, 2, 3, 4) + 1


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_shift_cuts_each_image_out_of_its_padded_self():
    shifted = Augment(shift=2)(IMAGES, generator()).numpy()
    tops, lefts = torch.randint(0, 5, (2, 5), generator=generator()).numpy()
    padded = np.pad(IMAGES.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    for image, one, top, left in zip(shifted, padded, tops, lefts, strict=True):
        np.testing.assert_array_equal(image, one[:, top : top + 3, left : left + 4])
    assert len({*zip(tops.tolist(), lefts.tolist(), strict=True)}) > 1


def test_a_mirror_turns_whole_images_left_to_right():
    mirrored = Augment(mirror=True)(IMAGES, generator())
    same = (mirrored == IMAGES).flatten(1).all(1)
    turned = (mirrored == IMAGES.flip(3)).flatten(1).all(1)
    assert (same | turned).all()
    assert same.any()
    assert turned.any()


def test_without_options_nothing_happens():
    assert Augment()(IMAGES, generator()) is IMAGES


def test_the_generator_decides():
    augment = Augment(shift=1, mirror=True)
    assert torch.equal(augment(IMAGES, generator(3)), augment(IMAGES, generator(3)))
    assert not torch.equal(augment(IMAGES, generator(3)), augment(IMAGES, generator(4)))


def test_the_images_that_were_given_stay_as_they_are():
    before = IMAGES.clone()
    Augment(shift=1, mirror=True)(IMAGES, generator())
    assert torch.equal(IMAGES, before)
