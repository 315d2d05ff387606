"""Certificates that lie about what cells hold, or about what takes their place."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from certified import Wrong, assert_refused, both, change, entry, instead, kept, say, scale
from certified_layouts import quantized
from certified_sums import (
    attention,
    averaged,
    constant_of_which_nothing_is_left,
    conv_relu_conv,
    folded,
    merged,
    merged_in_groups,
    positions,
)

WRONG: dict[str, Wrong] = {
    "zero_with_a_bias": (
        conv_relu_conv,
        lambda c: change(c.before_weights["b1"], 3, 0.7),
        ("'c1' axis 1 index 3", "always 0.0", "node 'c1' (Conv) gives 0.7"),
    ),
    "zero_with_a_tiny_bias": (
        conv_relu_conv,
        lambda c: change(c.before_weights["b1"], 1, 1e-12),
        ("'c1' axis 1 index 1", "1e-12"),
    ),
    "zero_only_for_likely_inputs": (
        conv_relu_conv,
        lambda c: (
            change(c.before_weights["w1"], 1, 0.01),
            change(c.before_weights["b1"], 1, -9),
            say(c, "c1", **{"is": "unread", "value": None}),
        ),
        ("'r1' axis 1 index 1", "always 0.0", "node 'r1' (Relu) gives"),
    ),
    "constant_off_in_all_entries": (
        folded,
        lambda c: (say(c, "c1", value=0.751), say(c, "r1", value=0.751), c.compensations.clear()),
        ("'c1' axis 1 index 2", "always 0.751", "0.75"),
    ),
    "constant_off_in_the_second_entry": (
        folded,
        lambda c: (say(c, "r1", value=0.751), c.compensations.clear()),
        ("'r1' axis 1 index 2", "node 'r1' (Relu)"),
    ),
    "constant_off_in_the_bias": (
        folded,
        lambda c: scale(c, "b2", ..., 0.751 / 0.75),
        ("'y' at [", "in AFTER"),
    ),
    "bias_at_a_border": (lambda: folded("pads=[1,1,1,1]"), lambda c: None, ("'y' at [",)),
    "compensated_as_another": (
        folded,
        lambda c: c.compensations[0].update(values=[0.7]),
        ("'r1' axis 1 index 2", "compensated as 0.7"),
    ),
    "merged_by_a_wrong_ratio": (
        merged,
        lambda c: instead(c, "w2", 1, 0, 3),
        ("'y' at [", "in BEFORE"),
    ),
    "merged_into_what_is_not_constant": (
        merged,
        lambda c: c.compensations[0].update(into=1),
        ("'r1' axis 1 index 1", "not said to be always a constant"),
    ),
    "merged_into_what_is_removed": (
        merged,
        lambda c: c.compensations[0].update(into=3),
        ("'r1' axis 1 index 3", "is removed"),
    ),
    "merged_into_what_is_not_listed": (
        merged,
        lambda c: c.constants.clear(),
        ("'r1' axis 1 index 2", "not said to be always a constant"),
    ),
    "merged_into_another_constant": (
        merged,
        lambda c: c.constants[1].update(values=[0.8]),
        ("'r1' axis 1 index 2", "always 0.8", "gives 0.75"),
    ),
    "merged_into_what_only_looks_constant": (
        merged,
        lambda c: change(c.before_weights["w1"], 2, 1e-4),
        ("'c1' axis 1 index 2", "always 0.75"),
    ),
    "kept_and_removed_as_constant": (
        merged,
        lambda c: c.constants.append(kept("r1", i3=2.0)),
        ("'r1' axis 1 index 3", "listed twice"),
    ),
    "merged_within_the_wrong_group": (
        merged_in_groups,
        lambda c: scale(c, "wg", (3, 1), 1.01),
        ("'y' at [", "3, "),
    ),
    "no_constant_of_the_second_group": (
        merged_in_groups,
        lambda c: c.constants[0].update(index=[0], values=[0.5]),
        ("'c' axis 1 index 5", "not said to be always a constant"),
    ),
    "another_multiple": (
        averaged,
        lambda c: say(c, "p", value=0.66),
        ("'p' axis 1 index 0", "always 0.66 times index 2", "node 'p' (AveragePool) gives"),
    ),
    "a_multiple_of_what_is_alive": (
        averaged,
        lambda c: say(c, "p", of=1),
        ("'p' axis 1 index 0", "times index 1"),
    ),
    "a_multiple_of_what_is_removed": (
        averaged,
        lambda c: say(c, "p", of=3),
        ("'p' axis 1 index 0", "a multiple of index 3, which is not kept"),
    ),
    "a_multiple_of_nothing": (
        averaged,
        lambda c: say(c, "p", of=5),
        ("'p' axis 1 index 0", "a multiple of index 5, which is not kept"),
    ),
    "a_pattern_that_is_one_number": (
        averaged,
        lambda c: say(c, "p", **{"is": "constant", "value": 0.5}),
        ("'p' axis 1 index 0", "always 0.5"),
    ),
    "an_integer_multiple": (
        quantized,
        lambda c: say(c, "q", **{"is": "multiple", "value": 1.0, "of": 1}),
        ("'q' axis 1 index 2", "uint8"),
    ),
    "multiples_merged_by_a_wrong_ratio": (
        averaged,
        lambda c: instead(c, "w2", 1, 0, 3),
        ("'y' at [",),
    ),
    "fixed_as_another_array": (
        positions,
        lambda c: entry(c, "s")["cells"][0]["value"].reverse(),
        ("'s' axis 1 index 1", "the same array", "node 's' (Add) gives"),
    ),
    "fixed_but_read_from_the_input": (
        positions,
        lambda c: (change(c.before_weights["w1"], 1, 1e-3), say(c, "c", **{"is": "unread"})),
        ("'s' axis 1 index 1", "the same array"),
    ),
    "fixed_along_its_own_axis": (
        positions,
        lambda c: say(c, "s", axes=[1]),
        ("'s' axis 1 index 1", "vary along axes [1]"),
    ),
    "fixed_along_no_axis_that_there_is": (
        positions,
        lambda c: say(c, "s", axes=[-1]),
        ("'s' axis 1 index 1", "vary along axes [-1]"),
    ),
    "fixed_in_another_shape": (
        positions,
        lambda c: say(c, "s", value=[1.0, 2.0]),
        ("'s' axis 1 index 1", "shape [2], which is [4]"),
    ),
    "fixed_but_half_of_it_taken_over": (
        positions,
        lambda c: scale(c, "all", (..., 2), 0.5),
        ("'y' at [", "2]"),
    ),
    "a_mean_whose_weights_do_not_sum_to_1": (
        attention,
        lambda c: both(c, "Softmax<axis=-1>", "Sigmoid"),
        ("'o' axis 2 index 1", "always 0.75", "node 'o' (MatMul) gives"),
    ),
    "a_mean_that_no_bias_takes_over": (
        attention,
        lambda c: change(c.after_weights["bo"], ..., c.before_weights["bo"]),
        ("'y' at [",),
    ),
    "a_mean_that_is_missed_before_the_bias": (
        attention,
        lambda c: both(c, "float[N,3,5] y)", "float[N,3,5] y, float[N,3,5] m)"),
        ("'m' at [",),
    ),
    "a_mean_that_is_missed_beside_the_bias": (
        attention,
        lambda c: (
            both(c, "float[N,3,5] y)", "float[N,3,5] y, float[N,3,5] z)"),
            both(c, "y = Add(m, bo)", "z = Relu(m)  y = Add(m, bo)"),
        ),
        ("'z' at [",),
    ),
    "a_mean_that_is_missed_where_no_bias_is_said_to_be": (
        attention,
        lambda c: c.compensations.clear(),
        ("'m' at [",),
    ),
    "a_constant_that_AFTER_has_forgotten_but_reads": (
        constant_of_which_nothing_is_left,
        lambda c: change(c.after_weights["w2"], (1, 2), 1e-2),
        ("'y' at [", "1, "),
    ),
    "a_constant_that_AFTER_has_forgotten_but_reads_as_it_was": (
        constant_of_which_nothing_is_left,
        lambda c: c.after_weights.update(w2=c.before_weights["w2"], b2=np.zeros(3, np.float32)),
        ("'y' at [",),
    ),
    "the_same_node_of_fewer_cells": (
        folded,
        lambda c: (
            both(c, "float[N,3,H,W] y)", "float[N,3,H,W] y, float[N,H,W] z)"),
            both(c, "y = Conv", "z = ReduceMax<axes=[1], keepdims=0>(r1)  y = Conv"),
        ),
        ("'z' at [",),
    ),
    "a_constant_that_AFTER_has_forgotten_unsaid": (
        constant_of_which_nothing_is_left,
        lambda c: c.unread.pop(0),
        ("'c1' at [", "2, ", "9 in AFTER"),
    ),
    "a_forgotten_constant_that_was_another": (
        constant_of_which_nothing_is_left,
        lambda c: c.constants[0].update(values=[0.7]),
        ("'c1' axis 1 index 2", "always 0.7"),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_certificate_is_refused(name, tmp_path):
    assert_refused(WRONG[name], tmp_path)
