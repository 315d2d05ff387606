from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.core.progress import Silent
from deploypipe.quantize.observe import KEPT, PROBES, Observation, observe
from deploypipe.runtime.targets.cpu import Cpu

TENSORS = ("x", "r", "p")
SAMPLES = np.random.default_rng(1).normal(size=(23, 1, 2, 2)).astype(np.float32)


def batched(array: np.ndarray, size: int) -> Iterator[dict[str, np.ndarray]]:
    for i in range(0, len(array), size):
        yield {"x": array[i : i + size]}


def same(a: Observation, b: Observation) -> bool:
    pairs = [(a.histograms[name], b.histograms[name]) for name in TENSORS]
    return all(
        (x.low, x.high) == (y.low, y.high) and np.array_equal(x.counts, y.counts) for x, y in pairs
    )


@pytest.mark.parametrize("size", [1, 4, 23])
def test_batch_size_does_not_matter_to_the_last_bit(conv_net, target, size: int) -> None:
    one = observe(conv_net, TENSORS, batched(SAMPLES, 5), target)
    assert same(one, observe(conv_net, TENSORS, batched(SAMPLES, size), target))
    assert one.samples == 23


def test_order_does_not_matter_to_the_last_bit(conv_net, target) -> None:
    one = observe(conv_net, TENSORS, batched(SAMPLES, 5), target)
    shuffled = np.random.default_rng(2).permutation(SAMPLES)
    assert same(one, observe(conv_net, TENSORS, batched(shuffled, 7), target))


def test_the_probes_are_the_same_in_any_order(conv_net, target) -> None:
    one = observe(conv_net, TENSORS, batched(SAMPLES, 5), target).probes
    two = observe(conv_net, TENSORS, batched(SAMPLES[::-1], 7), target).probes
    assert len(one) == PROBES
    np.testing.assert_array_equal([p["x"] for p in one], [p["x"] for p in two])


def test_what_is_kept_is_bounded_and_the_same_in_any_order(conv_net, target, monkeypatch) -> None:
    many = np.random.default_rng(4).normal(size=(80, 1, 2, 2)).astype(np.float32)
    assert len(observe(conv_net, TENSORS, batched(many, 7), target).kept) == KEPT
    monkeypatch.setattr("deploypipe.quantize.observe.KEPT_BYTES", 20 * many[0].nbytes)
    one = observe(conv_net, TENSORS, batched(many, 7), target).kept
    two = observe(conv_net, TENSORS, batched(many[::-1], 1), target).kept
    assert len(one) == 20
    np.testing.assert_array_equal([p["x"] for p in one], [p["x"] for p in two])
    monkeypatch.setattr("deploypipe.quantize.observe.KEPT_BYTES", 0)
    assert len(observe(conv_net, TENSORS, batched(many, 7), target).kept) == PROBES


def test_of_a_batch_no_more_is_held_than_the_samples_that_are_kept(conv_net, target) -> None:
    kept = observe(conv_net, TENSORS, batched(SAMPLES, 23), target).kept
    assert all(one["x"].base is None for one in kept)


def test_the_float_values_are_counted(conv_net, target) -> None:
    x = np.float32([[[[1, 2], [3, 4]]]])
    seen = observe(conv_net, TENSORS, [{"x": x}], target).histograms
    assert (seen["x"].low, seen["x"].high, seen["x"].total) == (1, 4, 4)
    assert (seen["r"].low, seen["r"].high, seen["r"].total) == (0, 8.5, 8)  # 2x + 0.5, relu(1 - x)
    assert (seen["p"].low, seen["p"].high, seen["p"].total) == (0, 5.5, 2)


def test_a_model_with_a_fixed_batch_runs_as_fed(parse, target) -> None:
    text = "agraph (float[2,1] x) => (float[2,1] y) { y = Relu(x) }"
    seen = observe(parse(text), ["y"], [{"x": np.float32([[-1], [2]])}], target)
    assert (seen.samples, seen.histograms["y"].high) == (2, 2)


def test_a_nan_is_traced_to_its_node_and_sample(parse, target) -> None:
    model = parse("agraph (float[N,1] x) => (float[N,1] y) { [root] r = Sqrt(x) y = Relu(r) }")
    feeds = [{"x": np.float32([[1], [4]])}, {"x": np.float32([[9], [-1]])}]
    with pytest.raises(UserError, match="tensor 'r', from Sqrt 'root', holds NaN at sample 3"):
        observe(model, ["r"], feeds, target)


def test_a_nan_in_a_later_sample_is_traced_too(parse, target) -> None:
    """Then tensors are looked at in the graph, where a maximum passes over a NaN."""
    model = parse("""agraph (float[N,64] x) => (float[N,64] y)
      { [root] r = Sqrt(x) [next] y = Neg(r) }""")
    good, bad = np.ones((1, 64), np.float32), np.ones((1, 64), np.float32)
    good[0, 3], bad[0, 40] = 2, -1
    with pytest.raises(UserError, match="tensor 'r', from Sqrt 'root', holds NaN at sample 2"):
        observe(model, ["r"], [{"x": good}, {"x": good}, {"x": bad}], target)


def test_an_infinite_sample_is_named(conv_net, target) -> None:
    with pytest.raises(UserError, match="input 'x' holds infinity at sample 0"):
        observe(conv_net, TENSORS, [{"x": np.full((1, 1, 2, 2), np.inf, np.float32)}], target)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"image": SAMPLES}, "'image', which is no input of the model"),
        ({}, "lack the model's input 'x'"),
        ({"x": SAMPLES.astype(np.float64)}, "the samples are float64"),
        ({"x": SAMPLES[:, 0]}, "the model takes x: float32"),
        ({"x": SAMPLES[..., :1]}, "the model takes x: float32"),
    ],
)
def test_samples_that_do_not_fit_are_refused(conv_net, target, feeds, message: str) -> None:
    with pytest.raises(UserError, match=message):
        observe(conv_net, TENSORS, [feeds], target)


def test_inputs_of_different_lengths_are_refused(parse, target) -> None:
    model = parse("agraph (float[N] a, float[N] b) => (float[N] y) { y = Add(a, b) }")
    feeds = [{"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)}]
    with pytest.raises(UserError, match=r"one batch have \[2, 3\] samples"):
        observe(model, ["y"], feeds, target)


def test_no_samples_is_an_error(conv_net, target) -> None:
    with pytest.raises(UserError, match="there are none"):
        observe(conv_net, TENSORS, [], target)


def test_progress_ends_where_it_was_said_to(conv_net, target) -> None:
    told: list[float] = []

    class Told(Silent):
        @contextmanager
        def task(self, label: str, total: float) -> Iterator[Told]:
            told.append(total)
            yield self

        def advance(self, steps: float = 1, note: str = "") -> None:
            told.append(-steps)

    feeds = batched(SAMPLES, 5)
    observe(conv_net, TENSORS, feeds, target, Told(), expected=len(SAMPLES))
    assert told[0] == 23
    assert sum(told) == 0


def test_memory_does_not_grow_with_the_number_of_samples(any_size_net, target) -> None:
    image = np.linspace(-1, 1, 150 * 150, dtype=np.float32).reshape(1, 1, 150, 150)

    def peak(samples: int) -> int:
        tracemalloc.start()
        observe(any_size_net, TENSORS, ({"x": image} for _ in range(samples)), target)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(4 * KEPT) < 1.3 * peak(KEPT)


def test_samples_that_are_all_one_number_are_refused(any_size_net, target) -> None:
    grey = [{"x": np.full((1, 1, 9, 9), 0.5, np.float32)}] * 3
    with pytest.raises(UserError, match=r"every value of input 'x' is 0\.5\. Give real samples"):
        observe(any_size_net, TENSORS, grey, target)
    bright = {"x": np.full((1, 1, 9, 9), 0.75, np.float32)}
    assert observe(any_size_net, TENSORS, [*grey, bright], target).samples == 4


def test_samples_that_run_at_a_time_give_the_same_counts(conv_net) -> None:
    one, three = (
        observe(conv_net, TENSORS, batched(SAMPLES, 5), Cpu(threads=count)) for count in (1, 3)
    )
    assert same(one, three)
    for name in TENSORS:
        assert one.histograms[name].mean_high == three.histograms[name].mean_high


def test_the_first_sample_that_goes_wrong_is_named_however_many_run(conv_net) -> None:
    broken = SAMPLES.copy()
    broken[[7, 9]] = np.nan
    with pytest.raises(UserError, match="at sample 7"):
        observe(conv_net, TENSORS, batched(broken, 1), Cpu(threads=4))


def test_large_tensors_run_alone(conv_net, monkeypatch) -> None:
    from deploypipe.quantize import lookout

    sample = {"x": SAMPLES[:1]}
    with lookout.Lookout(conv_net, ["r"], Cpu(threads=4)) as one:
        assert one.divide(sample) == 4
    monkeypatch.setattr(lookout, "STREAMS_BYTES", 1)
    with lookout.Lookout(conv_net, ["r"], Cpu(threads=4)) as one:
        assert one.divide(sample) == 1


@pytest.mark.parametrize("threads", [1, 4])
def test_a_source_may_fill_one_array_again_and_again(conv_net, threads: int) -> None:
    def reused() -> Iterator[dict[str, np.ndarray]]:
        held = np.empty_like(SAMPLES[:1])
        for row in SAMPLES:
            held[:] = row
            yield {"x": held}

    target = Cpu(threads=threads)
    one = observe(conv_net, TENSORS, batched(SAMPLES, 1), target)
    assert same(one, observe(conv_net, TENSORS, reused(), target))


def test_of_samples_of_other_shapes_one_is_held_at_a_time(any_size_net, monkeypatch) -> None:
    from deploypipe.quantize.lookout import Lookout

    held = most = 0
    real = Lookout._answer

    def answer(self, sample):
        nonlocal held, most
        held += 1
        most = max(most, held)
        made = real(self, sample)
        weakref.finalize(made["r"], let_go)
        return made

    def let_go():
        nonlocal held
        held -= 1

    monkeypatch.setattr(Lookout, "_answer", answer)
    sizes = np.random.default_rng(0).normal(size=(12, 1, 300, 300)).astype(np.float32)
    feeds = [{"x": SAMPLES[:1]}, *({"x": sizes[i : i + 1, :, : 290 + i % 2]} for i in range(12))]
    observe(any_size_net, TENSORS, feeds, Cpu(threads=4))
    assert most == 1 and held == 0
