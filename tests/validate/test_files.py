"""Two files: do they fit each other, and with what are they fed?"""

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.core.tensors import TensorSpec
from deploypipe.validate.experiment import Plan
from deploypipe.validate.feeds import random_feeds, sample_feeds
from deploypipe.validate.files import compare_file_latency, pair_files
from deploypipe.validate.looks import Looks
from deploypipe.validate.signature import shared_inputs

QUICK = Plan(Looks((3,)), seconds=0.1, blocks=1)


@pytest.fixture
def pair(cpu):
    def told(a, b):
        with cpu.open(a) as reference, cpu.open(b) as candidate:
            return shared_inputs(reference, candidate)

    return told


def test_equal_signatures_fit(pair, scaled):
    assert [str(s) for s in pair(scaled(), scaled((1, 2, 3)))] == ["x: float32[N, 3]"]


def test_the_names_of_free_dimensions_do_not_matter(pair, scaled):
    assert pair(scaled(batch="N"), scaled(batch="batch"))


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_a_fixed_dimension_wins_over_a_free_one(pair, scaled, order):
    specs = pair(*[scaled(batch=2), scaled()][order])
    assert specs[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"inputs": "image"}, "only the candidate has the input 'image'"),
        ({"outputs": "logits"}, "only the candidate has the output 'logits'"),
        ({"dtype": "double"}, "the output of the reference is y: float32[N, 3], of the candidate"),
    ],
)
def test_what_differs_is_named(pair, scaled, other, message):
    with pytest.raises(UserError) as error:
        pair(scaled(), scaled(**other))
    assert message in str(error.value)


def test_two_fixed_sizes_that_differ_are_named(pair, scaled):
    with pytest.raises(UserError, match=r"y: float32\[2, 3\], of the candidate y: float32\[4, 3\]"):
        pair(scaled(batch=2), scaled(batch=4))


def test_random_feeds_fit_and_repeat_with_their_seed():
    specs = (TensorSpec("x", "float32", ("N", 3)), TensorSpec("ids", "int64", (1, 4)))
    feeds = random_feeds(specs, batch=5)
    assert len(feeds) == 4
    assert all(spec.fits(feed[spec.name]) for spec in specs for feed in feeds)
    assert feeds[0]["x"].shape == (5, 3)
    assert set(np.unique(feeds[0]["ids"])) <= {0, 1}
    np.testing.assert_array_equal(feeds[3]["x"], random_feeds(specs, batch=5)[3]["x"])


def test_another_free_dimension_needs_a_shape():
    specs = (TensorSpec("x", "float32", ("N", "T")),)
    with pytest.raises(UserError, match="free dimensions besides the first"):
        random_feeds(specs)
    assert random_feeds(specs, shapes={"x": [2, 7]})[0]["x"].shape == (2, 7)


def test_a_shape_for_no_input_is_refused():
    with pytest.raises(UserError, match="'z', which is no input, known: x"):
        random_feeds((TensorSpec("x", "float32", (1,)),), shapes={"z": [1]})


@pytest.mark.parametrize("dtype", ["object", "bfloat16", "seq(tensor(float)"])
def test_an_input_that_cannot_be_drawn_is_told(dtype):
    with pytest.raises(UserError, match="is no tensor of numbers that can be drawn"):
        random_feeds((TensorSpec("words", dtype, (1,)),))


def test_a_scalar_input_is_fed():
    assert random_feeds((TensorSpec("s", "float32", ()),))[0]["s"].shape == ()


def test_sample_feeds_are_full_batches(samples):
    feeds = sample_feeds(samples(np.arange(7.0)[:, None], None), batch=3)
    assert [feed["x"].ravel().tolist() for feed in feeds] == [[0, 1, 2], [3, 4, 5]]


def test_fewer_samples_than_a_batch_are_told(samples):
    with pytest.raises(UserError, match="a batch of 9 was asked for, the split has 7 samples"):
        sample_feeds(samples(np.zeros((7, 1)), None), batch=9)


@pytest.fixture
def write(tmp_path):
    def put(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return put


def test_two_files_are_timed_at_their_fixed_batch(write, scaled, cpu):
    a, b = write("a.onnx", scaled(batch=2)), write("b.onnx", scaled())
    told = compare_file_latency(a, b, cpu, batch=64, plan=QUICK)
    assert told.batch == 2
    assert told.reference.environment == told.candidate.environment


def test_two_files_are_timed_on_samples(write, scaled, cpu, samples):
    a, b = write("a.onnx", scaled()), write("b.onnx", scaled())
    split = samples(np.ones((8, 3), np.float32), None)
    assert compare_file_latency(a, b, cpu, samples=split, batch=4, plan=QUICK).batch == 4


def test_files_that_do_not_fit_are_not_timed(write, scaled, cpu):
    a, b = write("a.onnx", scaled()), write("b.onnx", scaled(inputs="image"))
    with pytest.raises(UserError, match="only the candidate has the input 'image'"):
        compare_file_latency(a, b, cpu, plan=QUICK)


def test_two_files_are_paired_on_the_same_samples(write, scaled, cpu, samples):
    a, b = write("a.onnx", scaled()), write("b.onnx", scaled((1, 1, 9)))
    split = samples(np.ones((4, 3), np.float32), np.zeros(4, np.int64))
    pairs = pair_files(a, b, cpu, split)
    assert pairs.reference_rows.tolist() == [1.0] * 4
    assert pairs.candidate_rows.tolist() == [0.0] * 4
