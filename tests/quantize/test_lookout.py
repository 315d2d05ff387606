from __future__ import annotations

import numpy as np

from deploypipe.quantize.histogram import PICKED, pick
from deploypipe.quantize.lookout import ChannelMean, Lookout, digest, whole

RNG = np.random.default_rng(4)
TENSORS = ("x", "r", "p")
MEANS = [ChannelMean(name, (0, 0, -1), (0, 2)) for name in ("x", "r")]


def image(height: int, width: int) -> dict[str, np.ndarray]:
    return {"x": RNG.normal(size=(1, 1, height, width)).astype(np.float32)}


def tell(lookout: Lookout, sample: dict[str, np.ndarray]) -> dict[str, tuple]:
    return {
        s.name: (s.picked.tobytes(), s.low, s.high, s.size, [m.tobytes() for m in s.means.values()])
        for s in lookout(sample, digest(sample))
    }


def test_what_is_picked_in_the_graph_is_what_is_picked_outside(any_size_net, target) -> None:
    """The first sample is read whole, the second inside, the third has another shape."""
    large, again, small = image(190, 210), image(190, 210), image(150, 131)
    with Lookout(any_size_net, TENSORS, target, MEANS) as lookout:
        tell(lookout, large)
        inside, other = tell(lookout, again), tell(lookout, small)
    with Lookout(any_size_net, TENSORS, target, MEANS) as lookout:
        assert tell(lookout, again) == inside
    with Lookout(any_size_net, TENSORS, target, MEANS) as lookout:
        assert tell(lookout, small) == other
    assert inside["r"][3] == 2 * 190 * 210
    assert len(inside["r"][0]) < 4 * 2 * PICKED < 4 * inside["r"][3]


def test_which_values_are_picked_depends_on_the_sample_alone() -> None:
    one, two = image(9, 9), image(9, 9)
    assert digest(one) == digest({"x": one["x"].copy()}) != digest(two)
    values = np.arange(5 * PICKED, dtype=np.float32)
    np.testing.assert_array_equal(pick(values, 7), values[2::5])


def test_an_input_is_no_output_and_the_model_stays(any_size_net) -> None:
    outputs = whole(any_size_net, ["r"]).graph.outputs
    assert [value.name for value in outputs] == ["r"]
    assert [value.name for value in any_size_net.graph.outputs] == ["y"]


def test_a_model_of_which_only_the_input_is_watched_runs(any_size_net, target) -> None:
    with Lookout(any_size_net, ["x"], target) as lookout:
        for _ in range(2):
            assert [seen.name for seen in lookout(image(3, 3), 1)] == ["x"]


def test_means_are_of_every_channel(any_size_net, target) -> None:
    sample = image(5, 4)
    with Lookout(any_size_net, TENSORS, target, MEANS) as lookout:
        for _ in range(2):
            seen = {one.name: [*one.means.values()] for one in lookout(sample, 5)}
            hidden = np.maximum(sample["x"] * [[[[2]], [[-1]]]] + [[[[0.5]], [[1]]]], 0)
            np.testing.assert_allclose(seen["r"], [hidden.mean((0, 2, 3))], rtol=1e-5)
            np.testing.assert_allclose(seen["x"], [[sample["x"].mean()]], rtol=1e-5)
            assert seen["p"] == []


def test_a_tensor_may_have_several_means(any_size_net, target) -> None:
    rows, columns = ChannelMean("x", (0, 0, -1), (0, 2)), ChannelMean("x", (-1, 4), (0,))
    sample = image(5, 4)
    with Lookout(any_size_net, ["x"], target, [rows, columns]) as lookout:
        (seen,) = lookout(sample, 5)
    assert {mean: array.shape for mean, array in seen.means.items()} == {rows: (1,), columns: (4,)}
    np.testing.assert_allclose(seen.means[columns], sample["x"].mean((0, 1, 2)), rtol=1e-5)


def test_what_is_never_below_zero_is_not_searched_for_its_minimum(any_size_net, target) -> None:
    sample = {"x": np.abs(image(150, 160)["x"]) + 1}
    with Lookout(any_size_net, ["x", "r"], target, floored=["r"]) as lookout:
        first, second = (tell(lookout, sample) for _ in range(2))
    assert first == second
    assert first["r"][1] == 0
