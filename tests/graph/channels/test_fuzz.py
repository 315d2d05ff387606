"""Random small graphs over the engine's ops: whatever it cuts, the answers stay."""

from __future__ import annotations

import time

import numpy as np
import pytest

from deploypipe.graph.check import compare, random_feeds
from deploypipe.graph.files import to_bytes
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels
from deploypipe.graph.shapes import infer_shapes

onnxruntime = pytest.importorskip("onnxruntime")

SECONDS = 6
GRAPHS = 150


class Maker:
    """Grows a graph on [2, C, 4, 4] tensors: text, weights, and what can be read so far."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.lines: list[str] = []
        self.weights: dict[str, np.ndarray] = {}
        self.open: list[tuple[str, int]] = [("x", 3)]

    def grow(self, steps: int) -> str:
        for _ in range(steps):
            kinds = [self.conv, self.conv, self.norm, self.unary, self.add, self.mul, self.concat]
            kinds += [self.depthwise, self.grouped, self.pad, self.pool, self.gate, self.turn]
            kinds[self.rng.integers(len(kinds))]()
        name, channels = self.open[-1]
        if self.rng.random() < 0.5:
            flat = self.emit(f"Flatten({name})", channels)
            self.lines.append(f"y = Gemm({flat}, {self.weight(channels * 16, 3, read=0)})")
            return self.text("float[2,3]")
        self.lines.append(f"y = Conv({name}, {self.weight(2, channels, 1, 1, read=1)})")
        return self.text("float[2,2,4,4]")

    def text(self, kind: str) -> str:
        body = "\n".join(self.lines)
        return f"g (float[2,3,4,4] x) => ({kind} y) {{\n{body}}}"

    def emit(self, call: str, channels: int) -> str:
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {call}")
        self.open.append((name, channels))
        return name

    def weight(self, *shape: int, made: int | None = None, read: int | None = None) -> str:
        """Random numbers; a random part of what is made or read is dead."""
        array = self.rng.standard_normal(shape).astype(np.float32)
        for axis in (a for a in (made, read) if a is not None):
            np.moveaxis(array, axis, 0)[self.rng.random(shape[axis]) < 0.4] = 0
        name = f"w{len(self.weights)}"
        self.weights[name] = array
        return name

    def pick(self) -> tuple[str, int]:
        recent = self.open[-4:]
        return recent[self.rng.integers(len(recent))]

    def conv(self) -> None:
        name, channels = self.pick()
        outputs = int(self.rng.integers(2, 7))
        kernel = self.weight(outputs, channels, 3, 3, made=0, read=1)
        bias = f", {self.weight(outputs, made=0)}" if self.rng.random() < 0.5 else ""
        self.emit(f"Conv <pads = [1,1,1,1]> ({name}, {kernel}{bias})", outputs)

    def depthwise(self) -> None:
        name, channels = self.pick()
        times = int(self.rng.integers(1, 3))
        kernel = self.weight(channels * times, 1, 1, 1, made=0)
        self.emit(f"Conv <group = {channels}> ({name}, {kernel})", channels * times)

    def grouped(self) -> None:
        name, channels = self.pick()
        if channels % 2 == 0 and channels > 2:
            kernel = self.weight(6, channels // 2, 1, 1, made=0, read=1)
            self.emit(f"Conv <group = 2> ({name}, {kernel})", 6)

    def norm(self) -> None:
        name, channels = self.pick()
        scale, shift = self.weight(channels, made=0), self.weight(channels, made=0)
        mean, var = self.weight(channels, made=0), self.weight(channels)
        self.weights[var] = np.abs(self.weights[var]) + 1
        self.emit(f"BatchNormalization({name}, {scale}, {shift}, {mean}, {var})", channels)

    def unary(self) -> None:
        name, channels = self.pick()
        ops = ["Relu", "Relu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "Neg", "Abs"]
        self.emit(f"{ops[self.rng.integers(len(ops))]}({name})", channels)

    def pair(self) -> tuple[str, str, int] | None:
        name, channels = self.pick()
        others = [other for other, size in self.open if size == channels]
        return name, others[self.rng.integers(len(others))], channels

    def add(self) -> None:
        a, b, channels = self.pair()
        self.emit(f"{'Add' if self.rng.random() < 0.7 else 'Sub'}({a}, {b})", channels)

    def mul(self) -> None:
        a, b, channels = self.pair()
        b = b if self.rng.random() < 0.5 else self.weight(channels, 1, 1, made=0)
        self.emit(f"Mul({a}, {b})", channels)

    def concat(self) -> None:
        (a, i), (b, j) = self.pick(), self.pick()
        if i + j < 14:
            self.emit(f"Concat <axis = 1> ({a}, {b})", i + j)

    def pad(self) -> None:
        name, channels = self.pick()
        if channels < 8:
            place = f"w{len(self.weights)}"
            self.weights[place] = np.array([0, 1, 0, 0, 0, 2, 0, 0])
            self.emit(f"Pad({name}, {place})", channels + 3)

    def pool(self) -> None:
        name, channels = self.pick()
        op = ["MaxPool", "AveragePool"][self.rng.integers(2)]
        count = ", count_include_pad = 1" if op == "AveragePool" else ""
        self.emit(f"{op} <kernel_shape = [3,3], pads = [1,1,1,1]{count}> ({name})", channels)

    def gate(self) -> None:
        name, channels = self.pick()
        pooled = f"p{len(self.lines)}"
        self.lines.append(f"{pooled} = GlobalAveragePool({name})")
        gate = f"q{len(self.lines)}"
        kernel = self.weight(channels, channels, 1, 1, made=0, read=1)
        self.lines.append(f"{gate} = Conv({pooled}, {kernel})")
        self.emit(f"Mul({name}, {gate})", channels)

    def turn(self) -> None:
        name, channels = self.pick()
        turned = f"u{len(self.lines)}"
        self.lines.append(f"{turned} = Transpose <perm = [0, 2, 3, 1]> ({name})")
        made = f"m{len(self.lines)}"
        self.lines.append(f"{made} = MatMul({turned}, {self.weight(channels, 5, made=1, read=0)})")
        self.emit(f"Transpose <perm = [0, 3, 1, 2]> ({made})", 5)


def run(model, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(to_bytes(model), options, ["CPUExecutionProvider"])
    return {"y": session.run(None, dict(feeds))[0]}


def test_random_graphs_answer_as_before(parse):
    stop = time.monotonic() + SECONDS
    cut = made = 0
    for seed in range(GRAPHS):
        maker = Maker(seed)
        text = maker.grow(steps=4 + seed % 9)
        before, after = (parse(text, **maker.weights) for _ in range(2))
        infer_shapes(before)
        outcome = DropDeadChannels(round_to=1 + seed % 3)(after)
        error = compare(before, after, random_feeds(before, seed), run)
        assert error <= 1e-5, f"seed {seed}: {error}\n{text}"
        cut, made = cut + outcome.modified, made + 1
        if time.monotonic() > stop:
            break
    assert made > 20 and cut > made / 3
