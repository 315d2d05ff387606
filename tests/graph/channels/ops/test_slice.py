from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,H,W] y) {
    a = Conv(x, w, b)
    s = Slice(a, starts, ends, axes, steps)
    y = Conv(s, v)}"""


def filters(channels: int, *dead: int) -> np.ndarray:
    weights = (np.arange(channels * 2) % 3 + 1).reshape(channels, 2, 1, 1).astype(np.float32)
    weights[list(dead)] = 0
    return weights


def readers(channels: int) -> np.ndarray:
    return (np.arange(2 * channels) % 4 + 1).reshape(2, channels, 1, 1).astype(np.float32)


def window(axis: int, start: int = 0, end: int = 99, step: int = 1) -> dict[str, np.ndarray]:
    numbers = {"starts": start, "ends": end, "axes": axis, "steps": step}
    return {name: np.array([number]) for name, number in numbers.items()}


def bias(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.float32)


@pytest.mark.parametrize("axis", [2, -1])
def test_channels_pass_where_another_axis_is_cut(cut, axis):
    done = cut(TEXT, w=filters(3, 1), b=bias(0, 7, 0), v=readers(3), **window(axis, step=2))
    assert done.gone["w"] == {0: [1]} and done.constant("Slice", 4) == [2]


@pytest.mark.parametrize("axis", [1, -3])
def test_a_window_of_channels_shrinks(cut, axis):
    """What lies outside is read by nobody, and channel 3 is a constant inside."""
    arrays = {"w": filters(6, 3), "b": bias(0, 0, 0, 5, 0, 0), "v": readers(4)}
    done = cut(TEXT, **arrays, **window(axis, start=1, end=5))
    assert done.gone["w"] == {0: [0, 3, 5]} and done.gone["v"] == {1: [2]}
    assert [done.constant("Slice", place) for place in (1, 2)] == [[0], [3]]


WINDOWS = {
    "from the end": ((-4, -1, 1), [2, 3, 4]),
    "far ends": ((-99, np.iinfo(np.int64).max, 1), [0, 1, 2, 3, 4, 5]),
    "every second": ((0, 6, 2), [0, 2, 4]),
    "every second from one": ((1, 99, 2), [1, 3, 5]),
    "backward": ((5, 1, -1), [5, 4, 3, 2]),
    "backward to the beginning": ((-1, np.iinfo(np.int64).min, -1), [5, 4, 3, 2, 1, 0]),
    "backward by two": ((99, -99, -2), [5, 3, 1]),
    "backward and open": ((-2, -7, -3), [4, 1]),
}


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("dead", [(), (3,), (2, 4), (0, 1, 5)])
def test_any_window_of_channels_is_cut(cut, name, dead):
    (start, end, step), index = WINDOWS[name]
    v = readers(len(index))
    done = cut(TEXT, w=filters(6, *dead), b=np.zeros(6, np.float32), v=v,
               **window(1, start, end, step))  # fmt: skip
    gone = set(dead) | (set(range(6)) - set(index))
    assert done.gone.get("w", {0: []}) == {0: sorted(gone)}
    assert len(done.after.graph.initializers["v"].shape) == 4
    assert done.array("v").shape[1] == 6 - len(gone)


def test_what_is_left_of_a_strided_window_may_be_unbroken(cut):
    """0, 2, 4 are read; 2 is dead, so that 0 and 4 are the only channels: a plain window."""
    done = cut(TEXT, w=filters(6, 2), b=np.zeros(6, np.float32), v=readers(3),
               **window(1, 0, 6, 2))  # fmt: skip
    assert "Gather" not in done.ops and done.constant("Slice", 4) == [1]


def test_what_is_left_backward_is_gathered(cut):
    done = cut(TEXT, w=filters(6, 2), b=np.zeros(6, np.float32), v=readers(6),
               **window(1, -1, -99, -1))  # fmt: skip
    assert "Slice" not in done.ops and done.constant("Gather", 1) == [4, 3, 2, 1, 0]


BOTH = TEXT.replace("2,4,4] x", "2,H,4] x").replace("N,2,H,W] y", "N,2,K,W] y")


def both(step: int) -> dict[str, np.ndarray]:
    numbers = {"starts": [0, 1], "ends": [99, 3], "axes": [1, 2], "steps": [step, 1]}
    return {name: np.array(number) for name, number in numbers.items()}


def test_a_window_of_an_axis_of_unknown_size_stays_as_it_is(cut):
    done = cut(BOTH, w=filters(4, 2), b=np.zeros(4, np.float32), v=readers(4), **both(1))
    assert done.gone["w"] == {0: [2]}
    assert done.constant("Slice", 1) == [0, 1] and done.constant("Slice", 2)[1] == 3


def test_a_broken_window_next_to_an_axis_of_unknown_size_is_right(cut):
    """Two channels of three that are read stay, with one between them that another reads."""
    text = BOTH.replace("y)", "y, float[N,2,H,4] z)")
    text = text.replace("y = Conv", "z = Conv(a, u)\ny = Conv")
    done = cut(text, w=filters(5, 4), b=np.zeros(5, np.float32), v=readers(3), u=readers(5),
               **both(2))  # fmt: skip
    assert done.gone["w"] == {0: [4]} and done.ops == ["Conv", "Slice", "Gather", "Conv", "Conv"]


def test_without_axes_the_first_ones_are_cut(cut):
    text = TEXT.replace(", axes, steps", "")
    bounds = {"starts": np.array([0, 0, 1, 1]), "ends": np.array([9, 9, 9, 9])}
    done = cut(text, w=filters(3, 1), b=np.zeros(3, np.float32), v=readers(3), **bounds)
    assert done.gone.get("w", {0: [1]}) == {0: [1]}


def test_bounds_that_are_computed_leave_the_other_axes_free(parse, evaluate, cut):
    text = """g (float[N,2,4,4] x, int64[1] start) => (float[N,2,K,4] y) <float[N,3,K,4] s> {
        a = Conv(x, w, b)
        s = Slice(a, start, ends, axes)
        y = Conv(s, v)}"""
    arrays = {"ends": np.array([4]), "axes": np.array([2])}
    done = cut(text, w=filters(3, 1), b=np.zeros(3, np.float32), v=readers(3), **arrays)
    assert done.gone["w"] == {0: [1]}
    feeds = {"x": np.ones((1, 2, 4, 4), np.float32), "start": np.array([3])}
    np.testing.assert_array_equal(*(evaluate(m, feeds)["y"] for m in (done.before, done.after)))


def test_channels_cut_at_a_computed_place_stay(cut):
    text = """g (float[N,2,4,4] x, int64[1] start) => (float[N,2,4,4] y) {
        a = Conv(x, w, b)
        s = Slice(a, start, ends, axes)
        y = ReduceSum(s, one)}"""
    text = text.replace("float[N,2,4,4] y", "float[N,1,4,4] y")
    arrays = {"ends": np.array([9]), "axes": np.array([1]), "one": np.array([1])}
    assert cut(text, w=filters(3, 1), b=np.zeros(3, np.float32), **arrays).gone == {}


def test_axes_that_are_computed_pin(parse, flow):
    text = TEXT.replace("float[N,2,4,4] x", "float[N,2,4,4] x, int64[1] q")
    text = text.replace("axes, steps", "q").replace("[N,2,H,W] y", "[A,B,C,D] y")
    arrays = {"starts": np.array([0]), "ends": np.array([9])}
    model = parse(text, w=filters(3, 1), b=np.zeros(3, np.float32), v=readers(3), **arrays)
    assert any("axes that are computed" in why for why in flow(model).cells.pins.values())


@pytest.mark.parametrize("dead", [(2,), (1, 2)])
def test_a_slice_of_an_old_opset_becomes_a_gather(cut, dead):
    text = TEXT.replace("Slice(a, starts, ends, axes, steps)",
                        "Slice <starts = [1, 0], ends = [9, 3], axes = [1, -1]> (a)")  # fmt: skip
    text = text.replace("y) {", "y) <float[N,3,4,3] s> {").replace("N,2,H,W] y", "N,2,4,3] y")
    done = cut(text, opset=9, w=filters(4, *dead), b=np.zeros(4, np.float32), v=readers(3))
    assert done.gone["w"] == {0: [0, *dead]}
    assert done.ops == ["Conv", "Slice", "Gather", "Conv"]  # the pixels are still cut by a Slice
