"""Group L2 against sums by hand."""

from __future__ import annotations

import numpy as np

from deploypipe.compress.criteria.l2 import L2
from deploypipe.graph.channels.groups import ChannelGroup, ParameterSlices


def test_all_weights_of_a_channel_count_out_of_one_layer_and_into_the_next():
    first = np.array([[3.0, 0.0], [1.0, 1.0]])  # rows are channels
    second = np.array([[0.0, 2.0, 4.0, 0.0]])  # two columns for each channel
    group = ChannelGroup(
        "g",
        2,
        (
            ParameterSlices("first", 0, np.array([[0], [1]])),
            ParameterSlices("second", 1, np.array([[0, 2], [1, 3]])),
        ),
    )
    scores = L2().score(group, {"first": first, "second": second})
    np.testing.assert_allclose(scores, [(9 + 16) ** 0.5, (1 + 1 + 4) ** 0.5])


def test_norms_and_biases_do_not_count(group):
    made = group("w", 2)
    norm = ParameterSlices("norm", 0, np.array([[0], [1]]))
    made = ChannelGroup("g", 2, (*made.slices, norm))
    parameters = {"w": np.array([[1.0], [2.0]]), "norm": np.array([100.0, 0.0])}
    np.testing.assert_allclose(L2().score(made, parameters), [1, 2])


def test_slices_of_what_is_no_parameter_are_passed_over(group):
    np.testing.assert_array_equal(L2().score(group("running_mean", 3), {}), np.zeros(3))


def test_small_numbers_of_half_precision_do_not_vanish(group):
    weights = np.full((2, 1), 1e-4, np.float16)
    assert (L2().score(group("w", 2), {"w": weights}) > 0).all()
