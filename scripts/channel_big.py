"""Dead channels in a file above protobuf's 2 GiB, through the command line.

The model is a chain of Gemm and Relu, written weight by weight as external data, so that making it
takes the memory of one weight.  A tenth of the channels between the layers is dead, so that what is
left is too large for one file as well: their weights are zero, and half of them have a bias, so they
are constant.
"""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

Facts = dict[str, Any]

LAYERS, WIDTH, SHARE, SEED = 9, 8192, 0.1, 0
"""9 layers of 8192 x 8192 in float32 are 2.4 GB."""

ENDS = 256
"""Inputs and outputs."""


def write_chain(path: Path, layers: int = LAYERS, width: int = WIDTH, share: float = SHARE) -> None:
    """``path`` and ``path.data``; layer k's weights are ``w{k}`` [outputs, inputs] and ``b{k}``.

    A ``share`` of the outputs of all layers but the last is dead.
    """
    rng = np.random.default_rng(SEED)
    sizes = [ENDS, *[width] * (layers + 1), ENDS]
    nodes, weights, x = [], [], "x"
    with path.with_name(f"{path.name}.data").open("wb") as data:
        for k, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            w = rng.standard_normal((outputs, inputs), np.float32) * np.sqrt(2 / inputs)
            b = rng.standard_normal(outputs, np.float32)
            if k <= layers:
                dead = rng.permutation(outputs)[: dead_of(outputs, share)]
                w[dead], b[dead[::2]] = 0, 0
            weights += [_outside(f"w{k}", w.astype(np.float32), data, path)]
            weights += [_outside(f"b{k}", b, data, path)]
            last = k == len(sizes) - 2
            nodes.append(
                helper.make_node(
                    "Gemm", [x, f"w{k}", f"b{k}"], ["y" if last else f"g{k}"], transB=1
                )
            )
            if not last:
                nodes.append(helper.make_node("Relu", [f"g{k}"], [x := f"r{k}"]))
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", ENDS]) for name in "xy"
    ]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def _outside(name: str, array: np.ndarray, data: Any, path: Path) -> onnx.TensorProto:
    found = onnx.TensorProto(name=name, dims=array.shape, data_type=onnx.TensorProto.FLOAT)
    found.data_location = onnx.TensorProto.EXTERNAL
    told = {"location": f"{path.name}.data", "offset": data.tell(), "length": array.nbytes}
    for key, value in told.items():
        found.external_data.add(key=key, value=str(value))
    array.tofile(data)
    return found


def run_big(folder: Path, layers: int = LAYERS, width: int = WIDTH) -> Facts:
    """Seconds, memory, error and share of one run of ``deploypipe optimize``, in ``folder``."""
    before, after = folder / "in" / "before.onnx", folder / "out" / "after.onnx"
    before.parent.mkdir()
    write_chain(before, layers, width)
    given = {file.name: digest(file) for file in before.parent.iterdir()}
    words = [sys.executable, "-m", "deploypipe.cli", "optimize", before, "-o", after]
    words += ["--passes", "drop-dead-channels", "--json"]
    facts = measured([str(word) for word in words])
    facts |= {"layers": layers + 2, "file_bytes": size_of(before)}
    if "reason" in facts:
        return facts
    if given != {file.name: digest(file) for file in before.parent.iterdir()}:
        return {**facts, "reason": "the input's folder is not as it was"}
    lost, full = size_of(before) - size_of(after), full_size(layers, width)
    shared = {"removed": lost, "share_percent": 100 * lost / full}
    return {**facts, **shared, "output_files": len(list(after.parent.iterdir()))}


def dead_of(width: int, share: float = SHARE) -> int:
    """How many channels are dead: whole blocks of four, as the processor has them."""
    return int(width * share) // 4 * 4


def full_size(layers: int = LAYERS, width: int = WIDTH) -> int:
    """Bytes of weights and biases in rows and columns of dead channels."""
    dead = dead_of(width)
    live = width - dead
    inner = layers * (width * width - live * live)
    return 4 * (inner + 2 * ENDS * dead + (layers + 1) * dead)


def measured(words: list[str]) -> Facts:
    """Seconds and most memory of a process, or the reason why it failed."""
    began, peak = time.perf_counter(), [0]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], _resident(process.pid))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    watcher.join()
    facts = {"seconds": time.perf_counter() - began, "peak_bytes": peak[0]}
    if process.returncode:
        reason = (errors.strip().splitlines() or [f"exit {process.returncode}"])[-1]
        return {**facts, "reason": reason[:300]}
    return facts


def _resident(number: int) -> int:
    """Bytes that a process holds, pages of files that it has mapped included."""
    try:
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
    except OSError:
        return 0
    line = next((one for one in lines if one.startswith("VmRSS")), "VmRSS: 0 kB")
    return int(line.split()[1]) << 10


def digest(file: Path) -> str:
    """sha256 of a file."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a model and its data."""
    return sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*"))
