"""Static int8 of a file above protobuf's 2 GiB, through the command line: memory, and what it leaves.

A chain of Gemm and Relu of 3 GB with external data (`channel_big`), nothing in it dead.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from channel_big import ENDS, digest, measured, size_of, write_chain
from result_rows import Facts, Row, by_experiment, one_row

LAYERS, WIDTH, SAMPLES = 11, 8192, 16
"""11 layers of 8192 x 8192 in float32 are 3.0 GB."""

EXPERIMENT, OURS = "3 GB", "deploypipe"
MEMORY = 1.5
"""Of the model's size at most."""


def run(folder: Path, layers: int = LAYERS, width: int = WIDTH) -> Facts:
    """Seconds, memory and files of one run of ``deploypipe quantize``, in ``folder``."""
    before, after = folder / "in" / "before.onnx", folder / "out" / "after.onnx"
    before.parent.mkdir()
    write_chain(before, layers, width, share=0.0)
    samples = folder / "samples.npz"
    np.savez(samples, x=np.random.default_rng(1).standard_normal((SAMPLES, ENDS), np.float32))
    given = {file.name: digest(file) for file in before.parent.iterdir()}
    words = [sys.executable, "-m", "deploypipe.cli", "quantize", before, "-o", after, "--json"]
    facts = measured([str(word) for word in [*words, "--data", f"npz:{samples}"]])
    facts |= {"file_bytes": size_of(before)}
    if "reason" in facts:
        return facts
    if given != {file.name: digest(file) for file in before.parent.iterdir()}:
        return {**facts, "reason": "the input's folder is not as it was"}
    return {**facts, "bytes": size_of(after), "memory": facts["peak_bytes"] / size_of(before)}


def bench(cache: Path) -> list[Row]:
    """The rows; the model is made for this and removed afterwards."""
    with tempfile.TemporaryDirectory(dir=cache) as text:
        facts = run(Path(text))
    print(EXPERIMENT, facts, file=sys.stderr, flush=True)
    return [one_row(EXPERIMENT, OURS, key, value, facts["seconds"]) for key, value in facts.items()]


def sentence(rows: list[Row]) -> str:
    """For the README."""
    facts = by_experiment(rows)[EXPERIMENT][OURS]
    if "reason" in facts:
        return f"A 3 GB model: {facts['reason']}."
    return (
        f"A chain of Gemms, {facts['file_bytes'] / 1e9:.2f} GB with external data, through "
        f"`deploypipe quantize`: {facts['bytes'] / 1e9:.2f} GB, {facts['seconds']:.0f} s, "
        f"{facts['peak_bytes'] / 1e9:.2f} GB of memory ({facts['memory']:.2f}x), nothing written "
        "beside the input."
    )


def missed(rows: list[Row]) -> list[str]:
    """The bar, if it is missed."""
    facts = by_experiment(rows)[EXPERIMENT][OURS]
    if facts.get("memory", MEMORY) < MEMORY:
        return []
    return [f"bar missed: {EXPERIMENT}: {facts.get('reason', facts.get('memory'))}"]
