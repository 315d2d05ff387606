from __future__ import annotations

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.core.tensors import TensorSpec, check_feeds, fixed_batch

IMAGE = TensorSpec("image", "float32", ("batch", 3, 8, 8))


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


def test_a_dynamic_dimension_takes_any_size():
    assert IMAGE.fits(zeros(1, 3, 8, 8)) and IMAGE.fits(zeros(7, 3, 8, 8))


@pytest.mark.parametrize(
    "array",
    [zeros(1, 1, 8, 8), zeros(3, 8, 8), zeros(1, 3, 8, 8, 1), zeros(1, 3, 8, 8, dtype="float64")],
)
def test_another_size_rank_or_type_does_not_fit(array):
    assert not IMAGE.fits(array)


def test_a_type_that_numpy_does_not_know_fits_nothing():
    assert not TensorSpec("x", "bfloat16", (1,)).fits(zeros(1))


def test_a_spec_is_written_as_a_person_reads_it():
    assert str(IMAGE) == "image: float32[batch, 3, 8, 8]"


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ([("batch", 3)], None),
        ([(1, 3)], 1),
        ([(4, 3), (4,), ()], 4),
        ([("batch", 3), (2, 3)], 2),
        ([(4, 3), (2, 3)], None),
        ([], None),
    ],
)
def test_a_batch_is_fixed_where_the_inputs_agree_on_one(shapes, size):
    specs = [TensorSpec(f"x{i}", "float32", shape) for i, shape in enumerate(shapes)]
    assert fixed_batch(specs) == size


def test_feeds_that_fit_pass():
    check_feeds({"image": zeros(2, 3, 8, 8)}, [IMAGE], "data")


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        (
            {"imag": zeros(1)},
            "data: the samples have 'imag', which is no input of the model, did you mean 'image'?",
        ),
        ({}, "data: the samples lack the model's input 'image'."),
        (
            {"image": zeros(1, 1, 8, 8)},
            "data: the model takes image: float32[batch, 3, 8, 8], the samples are "
            "float32[1, 1, 8, 8]. Set data.preprocess so that shapes and dtypes fit.",
        ),
    ],
)
def test_feeds_that_do_not_fit_are_explained(feeds, message):
    with pytest.raises(UserError) as raised:
        check_feeds(feeds, [IMAGE], "data")
    assert str(raised.value) == message
