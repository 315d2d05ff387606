from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from deploypipe.data import source_of


def test_the_digits_are_there_with_ids_and_classes() -> None:
    source = source_of("digits")
    assert len(source) == 1797
    assert source.ids()[17] == "digits/0017"
    assert source.classes == tuple("0123456789")
    labels = source.labels()
    assert labels is not None
    assert labels.dtype == np.int64
    assert labels[:4].tolist() == [0, 1, 2, 3]


def test_grey_values_are_stretched_to_a_byte() -> None:
    images = np.asarray(source_of("digits").read([5, 3]).images)
    assert images.dtype == np.uint8
    assert images.shape == (2, 8, 8, 1)
    want = np.round(load_digits().images[[5, 3]] * 255 / 16)
    assert (images[..., 0] == want).all()
    assert images.max() == 255


def test_digests_tell_images_apart() -> None:
    digests = source_of("digits").digests()
    assert len(digests) == 1797
    assert len(set(digests)) > 1790
