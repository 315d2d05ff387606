from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.channels.groups import groups_of
from deploypipe.graph.channels.removal import plan_removal
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    h = Conv(x, w)
    y = Conv(h, v)}"""


def weights(channels: int, *dead: int) -> dict[str, np.ndarray]:
    w = np.ones((channels, 2, 1, 1), np.float32)
    w[list(dead)] = 0
    return {"w": w, "v": np.ones((2, channels, 1, 1), np.float32)}


def test_a_plan_is_data_and_edits_nothing(parse, flow):
    model = parse(TEXT, **weights(3, 1))
    removal = plan_removal(flow(model))
    assert {(v.name, a): i.tolist() for (v, a), i in removal.indices.items()} == {
        ("w", 0): [1], ("h", 1): [1], ("v", 1): [1],
    }  # fmt: skip
    assert model.graph.initializers["w"].const_value.numpy().shape == (3, 2, 1, 1)


def test_nothing_dead_is_nothing_modified(parse):
    outcome = DropDeadChannels()(parse(TEXT, **weights(3)))
    assert not outcome.modified and outcome.changes == [] and outcome.refusals == []


def test_a_second_run_finds_nothing(parse):
    model = parse(TEXT, **weights(5, 1, 2))
    assert DropDeadChannels()(model).modified and not DropDeadChannels()(model).modified


@pytest.mark.parametrize(("round_to", "left"), [(1, 3), (2, 4), (3, 3), (4, 4), (8, 7)])
def test_blocks_are_filled_with_dead_channels(cut, round_to, left):
    done = cut(TEXT, round_to=round_to, **weights(7, 0, 2, 4, 6))
    kept = 7 if not done.gone else done.array("w").shape[0]
    assert kept == left


def test_shapes_are_inferred_anew(parse):
    model = parse(TEXT, **weights(3, 1))
    DropDeadChannels()(model)
    assert list(model.graph[0].outputs[0].shape)[1] == 2
    assert model.graph.initializers["v"].shape == [2, 2, 1, 1]


def test_a_negative_block_is_refused_and_none_is_a_block_of_one(parse):
    with pytest.raises(ValueError, match="round_to must not be negative, got -1"):
        DropDeadChannels(round_to=-1)
    model = parse(TEXT, **weights(5, 1, 2))
    assert DropDeadChannels(round_to=0)(model).modified
    assert model.graph.initializers["w"].shape == [3, 2, 1, 1]


# Merging

PADDED = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    h = Conv(x, w, b)
    y = Conv <pads = [1,1,1,1]> (h, v)}"""


def constants(*numbers: float) -> dict[str, np.ndarray]:
    """A live channel, then one for every constant."""
    channels = len(numbers) + 1
    w = np.zeros((channels, 2, 1, 1), np.float32)
    w[0] = 1
    v = (np.arange(channels * 18) % 4 + 1).reshape(2, channels, 3, 3).astype(np.float32)
    return {"w": w, "b": np.array([0, *numbers], np.float32), "v": v}


@pytest.mark.parametrize(
    ("numbers", "gone"),
    [
        ((2,), []),
        ((2, 0), [2]),
        ((2, 4), [1]),
        ((-8, 4), [2]),
        ((4, 4, 4), [2, 3]),
        ((1, 16, 0, -2, 0.5), [1, 3, 4, 5]),
    ],
)
def test_of_all_constants_the_largest_stays(cut, numbers, gone):
    done = cut(PADDED, **constants(*numbers))
    assert done.gone.get("w", {0: []}) == {0: gone}


SHOWN = PADDED.replace("y) {", "y, float[N,1,4,4] z) {").replace(
    "y = ", "z = Slice(h, from, to, one)\ny = "
)


def shown(channel: int) -> dict[str, np.ndarray]:
    return {"from": np.array([channel]), "to": np.array([channel + 1]), "one": np.array([1])}


@pytest.mark.parametrize(("stays", "other", "gone"), [(4, 8, True), (1, 8, True), (0.5, 8, False)])
def test_constants_are_merged_into_one_that_stays_anyway_if_it_is_not_too_small(
    cut, stays, other, gone
):
    """The weights would grow by 16, and with them the rounding."""
    done = cut(SHOWN, **constants(stays, other), **shown(1))
    assert done.gone.get("w", {0: []}) == {0: [2] if gone else []}


def test_a_constant_that_others_were_merged_into_is_needed(cut):
    """Its own weights are zero; the merged ones are not."""
    arrays = constants(8, 4)
    arrays["v"][:, 1] = 0
    done = cut(PADDED, **arrays)
    left = done.array("w").shape[0]
    assert left == 2


def test_every_reader_makes_good_in_its_own_way(cut):
    """One reader is padded, the other is not: the one constant that stays serves the first."""
    text = PADDED.replace("y) {", "y, float[N,2,2,2] z) {").replace("y = ", "z = Conv(h, u)\ny = ")
    arrays = constants(2, 8, 4)
    done = cut(text, u=arrays["v"] + 1, **arrays)
    assert done.gone["w"] == {0: [1, 3]}
    assert sorted(done.changes)[:2] == [
        "h: 2 constant channels into one of them", "h: 2 constant channels into the bias",
    ]  # fmt: skip


def test_a_reader_that_cannot_make_good_keeps_the_constant(cut):
    text = PADDED.replace("y) {", "y, float[N,1,4,4] z) {").replace(
        "y = ", "z = ReduceSum(h, one)\ny = "
    )
    done = cut(text, one=np.array([1]), **constants(2, 8, 0))
    assert done.gone["w"] == {0: [3]}


def test_merged_weights_are_as_exact_as_their_dtype(cut):
    rng = np.random.default_rng(0)
    arrays = constants(0.3, 0.7, 0.11)
    arrays["v"] = rng.standard_normal(arrays["v"].shape).astype(np.float32)
    done = cut(PADDED, exact=False, **arrays)
    wanted = arrays["v"][:, 2] + sum(
        arrays["v"][:, k] * (arrays["b"][k] / arrays["b"][2]) for k in (1, 3)
    )
    np.testing.assert_allclose(done.array("v")[:, 1], wanted, rtol=1e-6)


def test_what_only_dead_outputs_read_needs_no_bias(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w, b)
        k = Conv(h, v)
        y = Conv(k, u)}"""
    arrays = constants(5)
    v, u = np.ones((3, 2, 1, 1), np.float32), np.ones((2, 3, 1, 1), np.float32)
    v[:2, 1] = 0
    u[:, 2] = 0
    done = cut(text, **{**arrays, "v": v}, u=u)
    assert done.gone["v"] == {0: [2], 1: [1]} and len(done.after.graph[1].inputs) == 2


def test_quantized_weights_of_unread_outputs_get_no_float_bias(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w, b)
        d = DequantizeLinear(q, s)
        k = Conv <pads = [1,1,1,1]> (h, d)
        y = Conv(k, u)}"""
    arrays = constants(1, 5)
    arrays["w"][1] = 2
    del arrays["v"]
    q, u = np.ones((4, 3, 3, 3), np.int8), np.ones((2, 4, 1, 1), np.float32)
    q[:3, 2] = 0  # only k's output 3 reads h's constant, and nothing reads that
    u[:, 3] = 0
    done = cut(text, round_to=2, q=q, s=np.float32(0.5), u=u, **arrays)
    assert done.array("q").shape == (4, 2, 3, 3)
    assert [len(node.inputs) for node in done.after.graph if node.op_type == "Conv"] == [3, 2, 2]


# Blocks, limits and what must not become empty


def test_idle_channels_that_fill_a_block_are_told(parse, flow):
    v = np.ones((2, 6, 1, 1), np.float32)
    v[:, 3:] = 0
    model = parse(TEXT, w=np.ones((6, 2, 1, 1), np.float32), v=v)
    removal = plan_removal(flow(model), round_to=4)
    unread = {(value.name, axis): index.tolist() for (value, axis), index in removal.unread.items()}
    gone = next(i for (value, _), i in removal.indices.items() if value.name == "w")
    assert len(gone) == 2 and unread["h", 1] == sorted({3, 4, 5} - set(gone.tolist()))


def test_an_idle_channel_may_change_and_the_answers_stay(cut):
    """Channel 3 stays for its block, though it loses an input; nothing reads it."""
    text = TEXT.replace("y = Conv(h", "k = Conv(h, u)\ny = Conv(k")
    u, v = np.ones((4, 5, 1, 1), np.float32), np.ones((2, 4, 1, 1), np.float32)
    u[:3, 4] = 0  # only k's idle channel reads h's channel 4
    v[:, 3] = 0
    done = cut(text, round_to=4, w=np.ones((5, 2, 1, 1), np.float32), u=u, v=v)
    assert done.array("u").shape == (4, 4, 1, 1)
    assert done.refusals[-1] == "1 dead channels stay to fill blocks of 4"


def test_blocks_count_the_constant_that_stays(cut):
    done = cut(PADDED, round_to=2, **constants(2, 4, 8, 16))
    assert done.array("w").shape[0] == 2
    done = cut(PADDED, round_to=4, **constants(2, 4, 8, 16))
    assert done.array("w").shape[0] == 4


def test_blocks_and_groups_at_once(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w)
        d = Conv <group = 2> (h, gw)
        y = Conv(d, v)}"""
    w = np.ones((16, 2, 1, 1), np.float32)
    w[[1, 2, 3, 8, 9, 10, 11, 12]] = 0
    arrays = {"gw": np.ones((8, 8, 1, 1), np.float32), "v": np.ones((2, 8, 1, 1), np.float32)}
    done = cut(text, round_to=4, w=w, **arrays)
    left = done.array("w").shape[0]
    assert left % 2 == 0 and left >= 10 and done.array("gw").shape == (8, left // 2, 1, 1)


def test_a_branch_that_is_all_dead_leaves_a_concat(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, wa)
        b = Conv(x, wb)
        r = Relu(b)
        m = Conv(r, wm)
        c = Concat <axis = 1> (a, m)
        y = Conv(c, v)}"""
    ones = np.ones((3, 2, 1, 1), np.float32)
    three = np.ones((3, 3, 1, 1), np.float32)
    v = np.ones((2, 6, 1, 1), np.float32)
    v[:, 3:] = 0
    done = cut(text, wa=ones, wb=ones, wm=three, v=v)
    assert done.ops == ["Conv", "Concat", "Conv"] and len(done.node("Concat").inputs) == 1
    assert set(done.after.graph.initializers) == {"wa", "v"}


def test_a_dead_branch_through_a_split_and_a_shuffle_of_parts_goes(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w)
        a, b = Split <axis = 1> (h, sizes)
        q = Relu(b)
        p = MaxPool <kernel_shape = [1,1]> (q)
        c = Concat <axis = 1> (a, p)
        d = Concat <axis = 1> (c, c)
        y = Conv(d, v)}"""
    w = np.ones((5, 2, 1, 1), np.float32)
    w[3:] = 0
    done = cut(text, w=w, sizes=np.array([3, 2]), v=np.ones((2, 10, 1, 1), np.float32))
    assert done.ops == ["Conv", "Split", "Concat", "Concat", "Conv"]
    assert done.array("v").shape[1] == 6


def test_everything_that_a_concat_holds_may_be_dead_but_one(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, wa)
        b = Conv(x, wb)
        c = Concat <axis = 1> (a, b)
        y = Conv(c, v)}"""
    zero = np.zeros((3, 2, 1, 1), np.float32)
    done = cut(text, wa=zero, wb=zero, v=np.ones((2, 6, 1, 1), np.float32))
    assert done.array("v").shape[1] == 1 and len(done.node("Concat").inputs) == 1


def test_one_channel_stays_where_a_reader_needs_some(cut):
    """An op that the engine does not know reads what is all zero."""
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, w)
        r = Relu(a)
        b = Conv(r, u)
        y = LRN <size = 1> (b)}"""
    zero = np.zeros((3, 2, 1, 1), np.float32)
    done = cut(text, exact=False, w=zero, u=np.ones((2, 3, 1, 1), np.float32))
    assert done.array("w").shape[0] == 1


def test_a_residual_stream_that_is_constant_in_one_channel_is_cut_everywhere(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, wa, ba)
        p = Conv(a, wp)
        q = Relu(p)
        b = Conv(q, wb, bb)
        s = Add(a, b)
        y = Conv(s, v)}"""
    wa, wb = np.ones((3, 2, 1, 1), np.float32), np.ones((3, 4, 1, 1), np.float32)
    wa[1] = wb[1] = 0
    more = {"wp": np.ones((4, 3, 1, 1), np.float32), "v": np.ones((2, 3, 1, 1), np.float32)}
    ba, bb = np.array([0, 2, 0], np.float32), np.array([0, 3, 0], np.float32)
    done = cut(text, wa=wa, wb=wb, ba=ba, bb=bb, **more)
    assert done.gone["wa"] == done.gone["wb"] == {0: [1]} and done.gone["wp"] == {1: [1]}
    assert done.after.graph[1].inputs[2].const_value.numpy().tolist() == [2] * 4
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [5, 5]


def test_live_and_constant_added_keep_the_constant(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, wa)
        b = Conv(x, wb, bb)
        s = Add(a, b)
        y = Conv(s, v)}"""
    wa, wb = np.ones((3, 2, 1, 1), np.float32), np.ones((3, 2, 1, 1), np.float32)
    wb[1] = 0
    bb = np.array([0, 3, 0], np.float32)
    assert cut(text, wa=wa, wb=wb, bb=bb, v=np.ones((2, 3, 1, 1), np.float32)).gone == {}


def test_a_gate_that_closes_a_channel_does_not_close_its_own_input(cut):
    """Squeeze and excitation: the pool needs the channel whose gate is zero."""
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        a = Conv(x, wa)
        p = GlobalAveragePool(a)
        q = Conv(p, wq)
        g0 = Relu(q)
        s = Mul(a, g0)
        y = Conv(s, v)}"""
    wq = np.ones((3, 3, 1, 1), np.float32)
    wq[1] = 0
    more = {"wa": np.ones((3, 2, 1, 1), np.float32), "v": np.ones((2, 3, 1, 1), np.float32)}
    assert cut(text, exact=False, wq=wq, **more).gone == {}


def test_every_cut_is_told(cut):
    done = cut(PADDED, **constants(2, 8))
    assert done.changes == [
        "w: axis 0 from 3 to 2", "v: axis 1 from 3 to 2", "h: 1 constant channels into one of them",
    ]  # fmt: skip


def test_channels_of_a_pinned_tensor_are_refused_with_the_reason(cut):
    text = PADDED.replace("y) {", "y, float[N,3,4,4] h) {")
    done = cut(text, **constants(2, 0))
    assert done.gone == {} and done.refusals == ["2 dead channels stay: 'h' is a graph output"]


def test_groups_that_are_frozen_stay_whole(parse, flow):
    text = TEXT.replace("y = Conv(h", "k = Conv(h, u)\ny = Conv(k")
    arrays = weights(3, 1)
    u = np.ones((3, 3, 1, 1), np.float32)
    u[2] = 0
    found = flow(parse(text, u=u, **arrays))
    frozen = [
        place
        for place, group in enumerate(groups_of(found))
        if any(value.name == "w" for value, _ in group.axes)
    ]
    indices = plan_removal(found, frozen=frozen).indices
    assert {(value.name, axis) for value, axis in indices} == {("u", 0), ("k", 1), ("v", 1)}
