"""Certificates that lie about which cells go, or about a node that moves them."""

from __future__ import annotations

import pytest

pytest.importorskip("onnxruntime")

from certified import (
    Wrong,
    assert_refused,
    change,
    cut,
    entry,
    forget,
    instead,
    repeat,
    say,
    scale,
    swap,
    unread,
    zero,
)
from certified_layouts import (
    bypassed,
    captured,
    concat_split,
    depthwise,
    flattened,
    grouped,
    half,
    kept_garbage,
    not_needed,
    quantized,
    residual,
    shuffle,
)
from certified_sums import conv_relu_conv

WRONG: dict[str, Wrong] = {
    "unread_but_read_a_little": (
        not_needed,
        lambda c: change(c.before_weights["w2"], (1, 2), 1e-7),
        ("'r' axis 1 index 1", "unread", "'y' at [", "node 'y' (Gemm)"),
    ),
    "kept_unread_but_read": (
        kept_garbage,
        lambda c: c.unread[1]["index"].append(3),
        ("'r' axis 1 index 3", "unread"),
    ),
    "kept_garbage_that_is_not_listed": (
        kept_garbage,
        lambda c: c.unread.pop(0),
        ("'a' at [", "1]", "7"),
    ),
    "rows_swapped": (conv_relu_conv, lambda c: swap(c, "w1", 0), ("'c1' at [",)),
    "columns_swapped": (conv_relu_conv, lambda c: swap(c, "w2", 1), ("'y' at [",)),
    "other_columns_cut": (
        conv_relu_conv,
        lambda c: instead(c, "w2", 1, 0, 3),
        ("'y' at [",),
    ),
    "listed_twice": (
        conv_relu_conv,
        lambda c: repeat(c, "r1"),
        ("'r1' axis 1 index 1", "listed twice"),
    ),
    "removed_and_kept": (
        not_needed,
        lambda c: c.unread.append({"tensor": "r", "axis": 1, "index": [1]}),
        ("'r' axis 1 index 1", "listed twice"),
    ),
    "no_entry_for_a_tensor": (
        conv_relu_conv,
        lambda c: forget(c, "r1"),
        ("'r1' axis 1", "has 5 cells before and 3 after; 0 are listed"),
    ),
    "no_entry_for_a_weight": (
        conv_relu_conv,
        lambda c: forget(c, "w2"),
        ("'w2' axis 1", "has 5 cells before and 3 after"),
    ),
    "a_cell_that_is_still_there": (
        depthwise,
        lambda c: (forget(c, "w1"), c.removed.append(cut("w1", 0, 4, 1, 2))),
        ("'w1' axis 0", "has 4 cells before and 3 after; 2 are listed"),
    ),
    "one_weight_changed": (
        residual,
        lambda c: scale(c, "w3", (1, 2), 1.01),
        ("'y' at [", "1, "),
    ),
    "one_side_of_an_addition_is_alive": (
        residual,
        lambda c: change(c.before_weights["w2"], (2, 3), 0.1),
        ("'b' axis 1 index 2", "node 'b' (Conv)"),
    ),
    "another_channel_of_a_group": (
        grouped,
        lambda c: change(c.after_weights["wg"], slice(0, 2), c.before_weights["wg"][:2, [0, 2]]),
        ("'y' at [",),
    ),
    "split_elsewhere": (
        concat_split,
        lambda c: change(c.after_weights["sizes"], ..., [3, 1]),
        ("AFTER", "does not run"),
    ),
    "shuffled_wrongly": (shuffle, lambda c: swap(c, "order", 0), ("'s' at [",)),
    "a_branch_that_the_run_may_not_take": (
        captured,
        lambda c: scale(c, "w3", (1, 2), 1.1),
        ("'y' at [",),
    ),
    "another_branch_that_the_run_may_not_take": (
        captured,
        lambda c: scale(c, "w2", (1, 2), 1.1),
        ("'y' at [",),
    ),
    "another_integer": (
        quantized,
        lambda c: say(c, "q", value=9),
        ("'q' axis 1 index 2", "always 9", "gives 10"),
    ),
    "no_integer_of_this_type": (
        quantized,
        lambda c: say(c, "q", value=300),
        ("'q' axis 1 index 2", "uint8", "300"),
    ),
    "half_precision_but_another_constant": (
        half,
        lambda c: (say(c, "c1", value=0.76), say(c, "r1", value=0.76), c.compensations.clear()),
        ("'c1' axis 1 index 2",),
    ),
    "half_precision_but_another_weight": (
        half,
        lambda c: scale(c, "w2", (0, 1), 1.1),
        ("'y' at [",),
    ),
    "a_branch_that_is_not_zero": (
        bypassed,
        lambda c: change(c.before_weights["w1"], (2, 0), 1e-3),
        ("'a' axis 1 index 2",),
    ),
    "a_bypass_without_a_reason": (
        bypassed,
        lambda c: (change(c.before_weights["w1"], (2, 0), 1e-3), forget(c, "a")),
        ("'y' at [",),
    ),
    "a_flattened_block_shifted": (
        flattened,
        lambda c: instead(c, "w2", 1, 5, 6, 7, 8),
        ("'y' at [",),
    ),
    "no_such_tensor": (
        conv_relu_conv,
        lambda c: entry(c, "r1").update(tensor="r2"),
        ("'r2'", "no such tensor"),
    ),
    "no_such_replaced_tensor": (
        shuffle,
        lambda c: c.replaced[0].update(tensor="t"),
        ("'t'", "no such tensor"),
    ),
    "outside": (
        conv_relu_conv,
        lambda c: say(c, "r1", index=5),
        ("'r1' axis 1 index 5", "outside of the shape"),
    ),
    "from_the_end": (
        conv_relu_conv,
        lambda c: say(c, "r1", index=-2),
        ("'r1' axis 1 index -2", "outside"),
    ),
    "no_such_axis": (
        conv_relu_conv,
        lambda c: entry(c, "r1").update(axis=4),
        ("'r1' axis 4",),
    ),
    "another_size": (
        conv_relu_conv,
        lambda c: entry(c, "r1").update(size=6),
        ("'r1' axis 1", "6 cells"),
    ),
    "an_output": (
        conv_relu_conv,
        lambda c: c.removed.append(unread("y", 1, 3, 0)),
        ("'y' axis 1 index 0", "belongs to an output"),
    ),
    "an_input": (
        conv_relu_conv,
        lambda c: c.removed.append(zero("x", 1, 2, 0)),
        ("'x' axis 1 index 0", "belongs to an input"),
    ),
    "an_activation_cut_like_a_weight": (
        conv_relu_conv,
        lambda c: (forget(c, "r1"), c.removed.append(cut("r1", 1, 5, 1, 3))),
        ("'r1' axis 1 index 1", "no reason"),
    ),
    "a_weight_that_is_not_zero": (
        conv_relu_conv,
        lambda c: (forget(c, "w2"), c.removed.append(zero("w2", 1, 5, 1, 3, kind="weight"))),
        ("'w2' axis 1 index 1", "the weight has"),
    ),
    "another_output": (
        conv_relu_conv,
        lambda c: setattr(
            c, "after", c.after.replace("[N,3,H,W] y", "[N,3,H,W] y, float[N,3,H,W] c1")
        ),
        ("inputs and outputs",),
    ),
    "AFTER_does_not_run": (
        conv_relu_conv,
        lambda c: instead(c, "w2", 1, 1),
        ("AFTER", "node 'y' (Conv) does not run"),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_certificate_is_refused(name, tmp_path):
    assert_refused(WRONG[name], tmp_path)
