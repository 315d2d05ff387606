from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    h = Conv(x, w)
    SPLIT
    q = Relu(b)
    r = Concat <axis = 1> (c, q, a)
    y = Conv(r, v)}"""

FORMS = {
    "sizes": (13, "a, b, c = Split <axis = 1> (h, sizes)"),
    "equal": (13, "a, b, c = Split <axis = 1> (h)"),
    "num_outputs": (18, "a, b, c = Split <axis = -3, num_outputs = 3> (h)"),
    "attribute": (11, "a, b, c = Split <axis = 1, split = [2, 2, 2]> (h)"),
    "equal attribute": (11, "a, b, c = Split <axis = 1> (h)"),
}


def arrays(form: str, *dead: int) -> dict[str, np.ndarray]:
    w = (np.arange(12) % 3 + 1).reshape(6, 2, 1, 1).astype(np.float32)
    w[list(dead)] = 0
    v = (np.arange(12) % 4 + 1).reshape(2, 6, 1, 1).astype(np.float32)
    sizes = {"sizes": np.array([2, 2, 2])} if form == "sizes" else {}
    return {"w": w, "v": v, **sizes}


def text(form: str) -> tuple[int, str]:
    opset, line = FORMS[form]
    return opset, TEXT.replace("SPLIT", line)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dead", [(1,), (0, 3, 5), (0, 1, 2)])
def test_every_part_loses_its_own_channels(cut, form, dead):
    opset, graph = text(form)
    done = cut(graph, opset=opset, **arrays(form, *dead))
    assert done.gone["w"] == {0: list(dead)}
    assert done.gone["v"] == {1: sorted((index - 2 * (index // 2)) + (4, 2, 0)[index // 2]
                                        for index in dead)}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_part_that_is_all_dead_goes_with_what_reads_it(cut, form, part):
    opset, graph = text(form)
    done = cut(graph, opset=opset, **arrays(form, 2 * part, 2 * part + 1))
    assert done.array("w").shape[0] == 4 and len(done.node("Split").outputs) == 2
    assert len(done.node("Concat").inputs) == 2 and ("Relu" in done.ops) is (part != 1)


def test_one_part_may_be_all_that_is_left(cut):
    opset, graph = text("sizes")
    done = cut(graph, opset=opset, **arrays("sizes", 0, 1, 4, 5))
    assert done.constant("Split", 1) == [2] and len(done.node("Concat").inputs) == 1


def test_uneven_parts_of_a_number_of_outputs_are_written_out(cut):
    graph = TEXT.replace("SPLIT", "a, b, c = Split <axis = 1, num_outputs = 3> (h)")
    w = np.ones((8, 2, 1, 1), np.float32)  # 3, 3 and 2
    w[[2, 7]] = 0
    done = cut(graph, opset=18, w=w, v=np.ones((2, 8, 1, 1), np.float32))
    assert (
        done.constant("Split", 1) == [2, 3, 1]
        and "num_outputs" not in done.node("Split").attributes
    )


def test_a_part_that_nobody_reads_takes_its_filters_along(cut):
    graph = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w)
        a, b, c = Split <axis = 1> (h, sizes)
        y = Conv(b, v)}"""
    weights = arrays("sizes")
    done = cut(graph, **{**weights, "v": weights["v"][:, :2]})
    assert done.gone["w"] == {0: [0, 1, 4, 5]} and len(done.node("Split").outputs) == 1


def test_channels_pass_where_another_axis_is_split(cut):
    graph = TEXT.replace("SPLIT", "a, b, c = Split <axis = 2> (h, sizes)")
    graph = graph.replace("Concat <axis = 1>", "Concat <axis = 2>")
    weights = {**arrays("sizes", 1, 4), "sizes": np.array([1, 2, 1])}
    done = cut(graph, **weights)
    assert done.gone["w"] == {0: [1, 4]} and done.constant("Split", 1) == [1, 2, 1]


def test_a_constant_goes_from_the_part_that_can_make_good_for_it(cut):
    graph = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w, bias)
        a, b = Split <axis = 1> (h, sizes)
        s = Conv(a, v)
        t = Conv <pads = [1,1,1,1]> (b, u)
        y = Add(s, t)}"""
    weights = arrays("sizes", 1, 4)
    ones, three = np.ones((2, 3, 1, 1), np.float32), np.ones((2, 3, 3, 3), np.float32)
    done = cut(graph, w=weights["w"], bias=np.full(6, 2, np.float32), u=three, v=ones,
               sizes=np.array([3, 3]))  # fmt: skip
    assert done.gone["w"] == {0: [1]} and done.constant("Split", 1) == [2, 3]


def test_sizes_that_are_computed_pin(parse, flow):
    graph = """g (float[N,2,4,4] x, int64[2] q) => (float[N,A,4,4] y) <float[N,B,4,4] a> {
        h = Conv(x, w)
        a, y = Split <axis = 1> (h, q)}"""
    found = flow(parse(graph, w=arrays("equal")["w"]))
    assert any("parts of unknown size" in why for why in found.cells.pins.values())
