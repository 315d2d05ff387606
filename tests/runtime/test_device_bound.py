"""Timing on a GPU, as far as a machine without one can tell: a stand-in notes what it is told."""

from __future__ import annotations

import random
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from deploypipe.runtime import session as session_file
from deploypipe.runtime.host import gpu_clocks
from deploypipe.runtime.targets.cpu import Cpu
from deploypipe.runtime.targets.cuda import Cuda
from deploypipe.runtime.targets.tensorrt import Tensorrt
from deploypipe.validate.interleave import Pace, Turns, one_round

FEED = {"x": np.ones((2, 3), np.float32)}


class Device:
    """ONNX Runtime's session, its binding and its values on a device: all calls, in order."""

    def __init__(self, provider):
        self.provider, self.calls = provider, []

    def note(self, *words):
        self.calls.append(words)

    def get_inputs(self):
        return [SimpleNamespace(name="x", type="tensor(float)", shape=["N", 3])]

    def get_outputs(self):
        return [SimpleNamespace(name="y", type="tensor(float)", shape=["N", 3])]

    def get_providers(self):
        return [self.provider, "CPUExecutionProvider"]

    def run(self, names, feeds):
        self.note("run")
        return [feeds["x"]]

    def io_binding(self):
        return self

    def bind_ortvalue_input(self, name, value):
        self.note("input", name, value)

    def bind_output(self, name, device, number):
        self.note("output", name, device, number)

    def run_with_iobinding(self, binding, options):
        entry = options.get_run_config_entry("disable_synchronize_execution_providers")
        self.note("run on device", entry)

    def synchronize_outputs(self):
        self.note("synchronize")

    def counts(self):
        words = [call[0] for call in self.calls]
        return {word: words.count(word) for word in words}


@pytest.fixture
def device(monkeypatch):
    """Opens a session of a target over a stand-in, and gives both."""

    def opened(target):
        there = Device(target.provider)
        monkeypatch.setattr(type(target), "missing", lambda self: None)
        monkeypatch.setattr(type(target), "load_libraries", lambda self: None)
        monkeypatch.setattr(session_file, "_create", lambda *words: there)
        monkeypatch.setattr(
            session_file.ort.OrtValue,
            "ortvalue_from_numpy",
            lambda array, name, number: (name, number, array.tolist()),
        )
        return target.open(b"any"), there

    return opened


@pytest.mark.parametrize("target", [Cuda(1, device=1), Tensorrt(1, device=1)])
def test_inputs_lie_on_the_device_before_the_clock_starts(device, target):
    session, there = device(target)
    run = session.prepare_on_device(FEED)
    assert ("input", "x", ("cuda", 1, FEED["x"].tolist())) in there.calls
    assert ("output", "y", "cuda", 1) in there.calls
    there.calls.clear()
    run()
    assert there.calls == [("run on device", "1"), ("synchronize",)]


def test_the_processor_needs_no_binding(device):
    session, there = device(Cpu(1))
    session.prepare_on_device(FEED)()
    assert there.counts() == {"run": 2}  # the check of the feed, and the call


def test_a_round_on_a_gpu_waits_once_a_call_and_copies_each_feed_once(device):
    session, there = device(Cuda(1))
    pace = Pace(rounds=1, budget_seconds=0.05, warm_seconds=0.0, slot_calls=3)
    feeds = [{"x": np.full((2, 3), i, np.float32)} for i in range(4)]
    done = one_round({"a": lambda: session}, feeds, [Turns(("a",))], pace, random.Random(0))
    counts = there.counts()
    assert counts["input"] == counts["output"] == 4
    assert counts["run on device"] == counts["synchronize"] > len(list(done.times("a")))
    assert counts["run"] == 5  # the first answer; then each feed is checked on its way there
    assert done.environments["a"]["provider"] == "CUDAExecutionProvider"


def test_a_module_of_torch_on_a_gpu_is_waited_for_once_a_call(monkeypatch):
    torch = pytest.importorskip("torch")
    from deploypipe.validate.subject import opener_of

    waited, there = [], torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)

    class Module(torch.nn.Module):
        def parameters(self, recurse=True):
            yield SimpleNamespace(device=there)

        def forward(self, x):
            assert len(waited) == self.before
            return x

    module = Module()
    with opener_of(module, Cpu(1))() as model:
        monkeypatch.setattr(model, "_tensors", lambda feed: [torch.ones(1)])
        run = model.prepare(FEED)
        for module.before in range(3):
            run()
    assert waited == [there] * 3


def test_clocks_are_read_and_left_alone(tmp_path, monkeypatch):
    words = tmp_path / "words"
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "$@" >>{words}\necho 1980 MHz, 2619 MHz, 350 W, 41, P0\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert gpu_clocks() == ["1980 MHz, 2619 MHz, 350 W, 41, P0"]
    (line,) = words.read_text().splitlines()
    assert {word.partition("=")[0] for word in line.split()} == {"--query-gpu", "--format"}


def test_without_a_gpu_there_are_no_clocks(monkeypatch):
    def gone(*words, **how):
        raise subprocess.TimeoutExpired("nvidia-smi", 10)

    monkeypatch.setattr(subprocess, "run", gone)
    assert gpu_clocks() == []
