"""Constants that differ between the readers of one weight: as many stay as are independent."""

from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.channels.merging import find_basis, shares
from deploypipe.graph.channels.rule import Absorb
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels

CHANNELS = 8


def levels(*biases: list[float], head: str = "pads = [1,1,1,1]", more: str = "") -> str:
    """A tensor for each list of biases, and one head for all of them."""
    outputs = ", ".join(f"float[N,3,A{k},B{k}] y{k}" for k in range(len(biases)))
    lines = [
        f"h{k} = Conv(x, w{k}, b{k})\ny{k} = Conv <{head}> (h{k}, v{more})"
        for k in range(len(biases))
    ]
    return f"g (float[N,2,5,5] x) => ({outputs}) {{" + "\n".join(lines) + "}"


def weights(*biases: list[float]) -> dict[str, np.ndarray]:
    """The last channels, as many as there are biases in a list, are constants."""
    count = len(biases[0])
    found = {"v": (np.arange(3 * CHANNELS * 9) % 7 - 3).reshape(3, CHANNELS, 3, 3)}
    for k, bias in enumerate(biases):
        w = (np.arange(CHANNELS * 2) % 5 + 1 + k).reshape(CHANNELS, 2, 1, 1)
        w[-count:] = 0
        found |= {f"w{k}": w, f"b{k}": np.array([0] * (CHANNELS - count) + bias)}
    return {name: array.astype(np.float32) for name, array in found.items()}


@pytest.mark.parametrize(
    ("biases", "left"),
    [
        (([1, 2, 4, 8],), 5),
        (([1, 2, 4, 8], [1, 2, 4, 8]), 5),
        (([1, 2, 4, 8], [2, 4, 8, 16]), 5),
        (([1, 2, 4, 8], [8, 1, 2, 2]), 6),
        (([1, 2, 4, 8], [8, 1, 2, 2], [9, 3, 6, 10]), 6),
        (([1, 2, 4, 8], [8, 1, 2, 2], [1, 0, 0, 1]), 7),
        (([1, 2, 0, 0], [0, 0, 3, 5]), 6),
        (([0, 0, 0, 0], [4, 2, 3, 5]), 5),
    ],
)
def test_as_many_stay_as_the_readers_can_tell_apart(cut, biases, left):
    done = cut(levels(*biases), exact=False, **weights(*biases))
    assert done.array("v").shape == (3, left, 3, 3)
    assert done.array("w0").shape[0] == left
    assert [name for name in done.after.graph.initializers if name.startswith("v")] == ["v"]


def test_the_changes_tell_how_many_the_others_went_into(cut):
    biases = [1, 2, 4, 8], [8, 1, 2, 2]
    done = cut(levels(*biases), exact=False, **weights(*biases))
    told = [line for line in done.changes if "constant" in line]
    assert told == [f"h{k}: 2 constant channels into 2 of them" for k in range(2)]


def test_what_stays_for_a_narrow_sum_serves_a_wide_one(cut):
    """The wide one could take a larger constant of the other tensor, which nobody else needs."""
    text = """g (float[N,2,5,5] x) => (float[N,3,5,5] y, float[N,3,5,5] z) {
        a = Conv(x, wa, ba)
        b = Conv(x, wb, bb)
        c = Concat <axis = 1> (a, b)
        y = Conv <pads = [1,1,1,1]> (c, wide)
        z = Conv <pads = [1,1,1,1]> (a, v)}"""
    given = weights([1, 2, 4, 8], [8, 16, 2, 4])
    names = {"w0": "wa", "b0": "ba", "w1": "wb", "b1": "bb", "v": "v"}
    arrays = {names[name]: array for name, array in given.items()}
    arrays["wide"] = np.concatenate([arrays["v"], arrays["v"] + 1], 1)
    done = cut(text, exact=False, **arrays)
    assert (done.array("wa").shape[0], done.array("wb").shape[0]) == (5, 4)


def test_a_bias_of_its_own_takes_each_readers_constants(cut):
    """Nothing is padded: the weights stay one, and no constant stays."""
    biases = [1, 2, 4, 8], [8, 1, 2, 2]
    done = cut(levels(*biases, head="pads = [0,0,0,0]"), exact=False, **weights(*biases))
    assert done.array("v").shape[1] == 4
    assert [len(node.inputs) for node in done.after.graph] == [3, 3, 3, 3]


def test_readers_with_other_strides_and_pads_can_share_too(cut):
    biases = [1, 2, 4, 8], [8, 1, 2, 2]
    text = levels(*biases).replace("y1 = Conv <pads = [1,1,1,1]>", "y1 = Conv <strides = [2,2]>")
    done = cut(text, exact=False, **weights(*biases))
    assert done.array("v").shape[1] == 6


def test_a_level_on_which_a_channel_is_alive_keeps_it(cut):
    biases = [1, 2, 4, 8], [8, 1, 2, 2]
    arrays = weights(*biases)
    arrays["w1"][7, 0] = 1
    done = cut(levels(*biases), exact=False, **arrays)
    assert done.array("v").shape[1] == 7


@pytest.mark.parametrize(
    ("second", "absorb"),
    [
        ("Gemm(z, v, e)", [Absorb.FOLD, Absorb.FOLD]),
        ("Gemm(z, v, c)", [Absorb.MERGE, Absorb.MERGE]),
        ("Gemm <transB = 1> (z, v, e)", [Absorb.NOT, Absorb.NOT]),
        ("MatMul(z, v)", [Absorb.NOT, Absorb.NOT]),
        ("Gemm(v, z, e)", [Absorb.NOT]),
        ("Add(z, v)", [Absorb.NOT]),
    ],
)
def test_a_weight_is_changed_only_if_all_its_readers_sum_alike(parse, flow, second, absorb):
    """A bias of one's own takes all; one that is shared cannot."""
    text = f"""g (float[4,4] x, float[4,4] z) => (float[4,4] y, float[4,4] q) {{
        y = Gemm(x, v, c)
        q = {second}}}"""
    one = np.ones(4, np.float32)
    found = flow(parse(text, v=np.ones((4, 4), np.float32), c=one, e=one))
    assert [sink.absorb for _, sink in found.sinks] == absorb


def test_the_proof_agrees(parse):
    biases = [1.5, -0.3, 0.7, 0.9], [0.8, 1.1, -0.2, 0.4], [0.1, 0.6, 0.9, -1.2]
    model = parse(levels(*biases), **weights(*biases))
    outcome = DropDeadChannels()(model)
    assert outcome.modified and not outcome.refusals
    proof = outcome.evidence[0].certificate["proof"]
    told = [one for one in proof if one["error"] is not None]  # shares are no whole numbers
    assert told and all(one["error"] <= one["limit"] for one in told)
    assert model.graph.initializers["v"].shape == [3, 7, 3, 3]


def test_a_basis_makes_up_all_others_with_small_shares():
    vectors = np.random.default_rng(0).standard_normal((3, 40)) * 10.0 ** np.arange(-2, 2).repeat(
        10
    )
    lost = np.arange(40) > 3
    basis = find_basis(vectors, lost, np.zeros(40, bool), 1e-12)
    index = np.flatnonzero(lost)
    parts = shares(vectors, index, basis)
    assert len(basis) == 3 and lost[basis].all() and np.abs(parts).max() < 3
    np.testing.assert_allclose(vectors[:, basis] @ parts, vectors[:, index], atol=1e-9)


def test_what_stays_anyway_is_taken_first_but_not_if_it_is_too_small():
    vectors = np.array([[5.0, 1, 0.1, 0], [0, 0, 0, 2]])
    lost, stays = np.array([1, 0, 0, 1], bool), np.array([0, 1, 1, 0], bool)
    assert set(find_basis(vectors, lost, stays, 1e-12)) == {1, 3}
    assert set(find_basis(vectors, lost, np.array([0, 0, 1, 0], bool), 1e-12)) == {0, 3}


def test_rounding_is_no_difference():
    vectors = np.array([[1.0, 2, 3], [1, 2, 3 * (1 + 1e-7)]])
    every, none = np.ones(3, bool), np.zeros(3, bool)
    assert len(find_basis(vectors, every, none, 4e-7 * 3)) == 1
    assert len(find_basis(vectors, every, none, 1e-15)) == 2
