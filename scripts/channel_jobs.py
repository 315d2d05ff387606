"""One tool on one model in a process of its own, so that a crash is a row of the bench.

python scripts/channel_jobs.py METHOD before.onnx after.onnx [--share S] [--model NAME] [--feeds F]

Prints one line of JSON: seconds (reading, pass and writing; no imports), pass_seconds, peak_bytes of
this process.  The peers need no deploypipe, only what they are called after.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Facts = dict[str, Any]


def deploypipe(given: argparse.Namespace, prove: bool = True) -> Facts:
    """Our pass as it is, with the proof of every removal."""
    from deploypipe.graph.files import load, save
    from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels

    began = time.perf_counter()
    model = load(given.before)
    started = time.perf_counter()
    outcome = DropDeadChannels(prove=prove).call(model)
    passed = time.perf_counter() - started
    outcome.evidence.clear()  # who keeps it writes it before the model, not beside it
    del model
    save(outcome.model, given.after)
    return {"seconds": time.perf_counter() - began, "pass_seconds": passed}


def unproven(given: argparse.Namespace) -> Facts:
    """Our pass without the proof."""
    return deploypipe(given, prove=False)


def onnxsim(given: argparse.Namespace) -> Facts:
    """Its own simplifier, as its documents ask, then the structured pruning by weight norms."""
    import onnx
    from onnxsim import apply_structured_pruning, simplify

    began = time.perf_counter()
    simple, _ = simplify(onnx.load(given.before))
    started = time.perf_counter()
    pruned = apply_structured_pruning(simple, sparsity=given.share)
    passed = time.perf_counter() - started
    onnx.save(pruned, given.after)
    return {"seconds": time.perf_counter() - began, "pass_seconds": passed}


def onnxifier(given: argparse.Namespace) -> Facts:
    """Its command line with the one pass, which brings onnxsim along."""
    import onnx
    from onnxifier.__main__ import main

    opset = next(o.version for o in onnx.load(given.before).opset_import if not o.domain)
    files = [str(given.before), str(given.after)]
    sys.argv = ["onnxify", *files, "-a", "remove_zero_channels", "-v", str(opset)]
    began = time.perf_counter()
    main()
    return {"seconds": time.perf_counter() - began}


def torch_pruning(given: argparse.Namespace) -> Facts:
    """Every filter of zeros is named to its dependency graph; compared in torch."""
    import torch_weights  # torch only here

    return torch_weights.prune(given.model, given.before, given.feeds)


METHODS: dict[str, Callable[[argparse.Namespace], Facts]] = {
    "deploypipe": deploypipe,
    "deploypipe, no proof": unproven,
    "onnxsim": onnxsim,
    "onnxifier": onnxifier,
    "torch-pruning": torch_pruning,
}


def peak_bytes() -> int:
    """Most memory that this process has held; the parent's is not in it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) << 10
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--model", help="the name of torchvision's model, for torch-pruning")
    parser.add_argument("--feeds", type=Path, help="inputs and outputs in an .npz")
    given = parser.parse_args()
    facts = METHODS[given.method](given)
    print(json.dumps({**facts, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
