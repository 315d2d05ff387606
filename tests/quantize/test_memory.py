from __future__ import annotations

import os
import time

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.files import to_bytes
from deploypipe.quantize.lookout import ChannelMean
from deploypipe.quantize.margins import Margins
from deploypipe.quantize.memory import ABANDONED, Memory, digest, read, write
from deploypipe.quantize.observe import Observation

RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 1, 2, 2)).astype(np.float32)


MEAN = ChannelMean("a", (0, 0, -1), (0, 2))


def never() -> Observation:
    raise AssertionError("it was observed again")


def test_what_is_read_is_what_was_written(count, tmp_path) -> None:
    seen = Observation(
        {"a": count(X), "b/c:0": count([-1.0, 0, 5])},
        40,
        ({"x": X[:1], "ids": np.arange(3)}, {"x": X[1:2], "ids": np.arange(3)}),
        {MEAN: np.arange(4, dtype=np.float32)},
        Margins(np.float32([[2, 1]])),
    )
    write(seen, tmp_path / "one.npz")
    again = read(tmp_path / "one.npz")
    assert again is not None and again.samples == 40
    for name, histogram in seen.histograms.items():
        other = again.histograms[name]
        assert np.array_equal(histogram.counts, other.counts)
        assert (histogram.low, histogram.high, histogram.elements) == (
            other.low,
            other.high,
            other.elements,
        )
    assert [set(one) for one in again.kept] == [{"x", "ids"}] * 2
    assert np.array_equal(again.kept[1]["x"], X[1:2]) and list(again.means) == [MEAN]
    assert np.array_equal(again.means[MEAN], range(4))
    assert again.margins is not None and again.margins.leads.tolist() == [[2, 1]]


def test_other_options_need_no_inference(conv_net, quantize, tmp_path, monkeypatch) -> None:
    memory = Memory(tmp_path, "samples-1")
    first = quantize(conv_net, X, memory=memory)
    monkeypatch.setattr("deploypipe.quantize.story.observe", lambda *_: never())
    again = quantize(conv_net, X, memory=memory)
    assert to_bytes(first.model) == to_bytes(again.model)
    kept_float = {"conv": "asked"}
    assert quantize(conv_net, X, memory=Memory(tmp_path, "samples-1")).modified
    with pytest.raises(AssertionError, match="observed again"):
        quantize(conv_net, X, memory=Memory(tmp_path, "samples-2"))
    with pytest.raises(AssertionError, match="observed again"):  # fewer tensors
        quantize(conv_net, X, memory=memory, keep_float=kept_float)
    monkeypatch.setattr("deploypipe.quantize.memory.package_version", lambda _: "0.9")
    with pytest.raises(AssertionError, match="observed again"):
        quantize(conv_net, X, memory=memory)


def test_another_weight_is_another_model(conv_net) -> None:
    other = conv_net.clone(deep_copy=True)
    assert digest(other) == digest(conv_net)
    value = other.graph.initializers["b"]
    value.const_value = ir.Tensor(value.const_value.numpy() + 1, name="b")
    assert digest(other) != digest(conv_net)


def test_a_damaged_file_is_written_anew(conv_net, quantize, tmp_path) -> None:
    memory = Memory(tmp_path, "samples-1")
    first = quantize(conv_net, X, memory=memory)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert read(file) is None
    assert to_bytes(quantize(conv_net, X, memory=memory).model) == to_bytes(first.model)
    assert read(file) is not None


def test_whatever_byte_is_damaged_it_is_written_anew_or_read_as_it_was(count, tmp_path) -> None:
    file, rng = tmp_path / "one.npz", np.random.default_rng(0)
    write(Observation({"a": count(X)}, 40, (), {MEAN: np.arange(4, dtype=np.float32)}), file)
    whole = file.read_bytes()
    compression = whole.index(b"PK\x01\x02") + 10  # in the archive's list of contents
    for place in (compression, *rng.integers(len(whole), size=200)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        file.write_bytes(damaged)
        found = read(file)
        assert found is None or found.samples == 40


def test_what_others_are_writing_is_left_alone(conv_net, quantize, tmp_path) -> None:
    live, left = tmp_path / ".one.npz.abc", tmp_path / ".two.npz.abc"
    live.mkdir()
    left.mkdir()
    long_ago = time.time() - 2 * ABANDONED
    os.utime(left, (long_ago, long_ago))
    quantize(conv_net, X, memory=Memory(tmp_path, "samples-1"))
    assert live.exists() and not left.exists()


def test_the_oldest_goes(conv_net, quantize, tmp_path) -> None:
    for number in range(6):
        quantize(conv_net, X, memory=Memory(tmp_path, f"samples-{number}"))
    assert len(list(tmp_path.iterdir())) == 4
