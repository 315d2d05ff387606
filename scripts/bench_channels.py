"""Dead channels: what deploypipe removes of what can go, and what others make of the same files.

A quarter of every channel group of torchvision's models is killed, once as zeros and once as other
constants.  Then each tool gets the file, in a process of its own, and its model is compared with
ONNX Runtime:

    deploypipe       the pass drop-dead-channels, which proves every removal
    onnxsim          simplify, then apply_structured_pruning with the share that is dead
    onnxifier        remove_zero_channels
    torch-pruning    the same weights in torch, every filter of zeros named to its dependency graph

Also the cost on chains of Conv-Relu, with and without the proof, the latency of the demo's
ResNet-20 and the CIFAR recipe's ResNet-56 against the share removed and the rounding, and with
``--big`` a file above 2 GB.  Exit code 1 if deploypipe misses a bar.

    python scripts/bench_channels.py [--quick] [--big] [--models NAME ...]
        [--peers-python PYTHON] [--models-python PYTHON]

The peers are looked for in the first Python given: pip install onnxsim onnxifier torch-pruning;
the models that torchvision does not have in the second: pip install transformers timm
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from channel_big import full_size, run_big
from channel_table import (
    ALONE,
    BIG,
    LARGE,
    MODES,
    OURS,
    PEERS,
    TORCH_PRUNING,
    missed,
    table,
    verdict,
)
from dead_channels import ZEROS, Killed, count_weights, kill
from more_models import NAMES
from onnx import helper, numpy_helper
from result_rows import SEED, Facts, Row, keep, kept, one_row

from deploypipe.core.errors import one_paragraph
from deploypipe.core.files import writing
from deploypipe.graph.check import random_feeds, relative_error
from deploypipe.graph.files import load, save, to_bytes
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels
from deploypipe.graph.passes.fold_constants import FoldConstants
from deploypipe.runtime.targets.cpu import Cpu
from deploypipe.validate.alone import alone
from deploypipe.validate.files import opener
from deploypipe.validate.interleave import Pace
from deploypipe.validate.latency import time_many

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "python scripts/bench_channels.py"
CLASSIFIERS = (
    "alexnet",
    "vgg16_bn",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "densenet121",
    "googlenet",
    "inception_v3",
    "squeezenet1_1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "mnasnet1_0",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "regnet_y_400mf",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
)
OTHERS = (
    "ssdlite320_mobilenet_v3_large",
    "ssd300_vgg16",
    "retinanet_resnet50_fpn",
    "fcn_resnet50",
    "deeplabv3_resnet50",
    "raft_small",
    "fcos_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "lraspp_mobilenet_v3_large",
)
QUICK = ("squeezenet1_1", "resnet18", "shufflenet_v2_x1_0")
TIMED = ("resnet20", "resnet56")
"""The demo's and the CIFAR recipe's."""
SHARE = 0.25
CHAINS, QUICK_CHAINS = (100, 1000, 5000), (50, 150)
SHARES, ROUNDINGS = (0.25, 0.5, 0.75), (1, 4, 8, 16)
QUICK_SHARES, QUICK_ROUNDINGS = (0.5,), (1, 8)

Outputs = dict[str, np.ndarray]


def exported(name: str, path: Path, limit: float, models_python: str = sys.executable) -> str:
    """Write a model if it is not there yet; why that failed, or nothing.

    Those of ``NAMES`` are built in ``models_python``; ``limit`` is in seconds.
    """
    if path.exists():
        return ""
    more = name in NAMES
    script = "bench_more_models.py" if more else "bench_models.py"
    python = models_python if more else sys.executable
    with writing(path) as temporary:
        done = call([python, ROOT / "scripts" / script, name, temporary], limit)
        if not temporary.exists():
            temporary.touch()
    if done.get("reason"):
        path.unlink()
    return str(done.get("reason", ""))


def call(words: Sequence[object], limit: float) -> Facts:
    """The JSON that a process prints last, or {"reason": why there is none}."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            [str(word) for word in words],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"reason": f"not done after {limit:.0f} s"}
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line and not line[0].isspace()]
        why = next((line for line in reversed(lines) if "Error" in line), f"exit {done.returncode}")
        return {"reason": why.strip()[:200]}
    last = (done.stdout.strip().splitlines() or [""])[-1]
    return dict(json.loads(last)) if last.startswith("{") else {}


def answers(model: Path | bytes, feeds: Outputs) -> Outputs:
    """ONNX Runtime's outputs by name."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    given = str(model) if isinstance(model, Path) else model
    session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def bench_model(name: str, given: argparse.Namespace) -> list[Row]:
    """All tools on one model, both ways."""
    path = given.cache / f"{name.replace('/', '_')}.onnx"
    reason = exported(name, path, given.limit, given.models_python)
    if reason:
        return [one_row(name, "torch.onnx.export", "reason", reason, 0.0)]
    rows: list[Row] = []
    for mode in MODES:
        try:
            with tempfile.TemporaryDirectory(dir=given.cache) as text:
                rows += bench_dead(name, mode, path, Path(text), given)
        except Exception as error:  # one model must not cost the others
            traceback.print_exc()
            facts = {"verdict": "broken", "reason": f"{type(error).__name__}: {error}"[:200]}
            rows += [one_row(f"{name} {mode}", OURS, k, v, 0.0) for k, v in facts.items()]
    return rows


def bench_dead(
    name: str, mode: str, path: Path, folder: Path, given: argparse.Namespace
) -> list[Row]:
    """All tools on one model with dead channels."""
    before, feeds_file = folder / "before.onnx", folder / "feeds.npz"
    killed = kill_file(path, before, mode)
    feeds = random_feeds(load(before), SEED + 1)
    expected = answers(before, feeds)
    inputs = {f"in{i}": array for i, array in enumerate(feeds.values())}
    np.savez(feeds_file, **inputs, **{f"out{i}": a for i, a in enumerate(expected.values())})
    experiment = f"{name} {mode}"
    size = {"file_bytes": before.stat().st_size, "weights": killed.weights}
    facts = {**size, "removable": killed.target, "bar": killed.bar, "dead": killed.channels}
    facts |= {"groups": killed.groups, "spare_channels": killed.spare_channels}
    rows = [one_row(experiment, "dead", key, value, 0.0) for key, value in facts.items()]

    def cells(method: str) -> list[Row]:
        after = folder / f"{method}.onnx"
        python = sys.executable if method in (OURS, ALONE) else given.peers_python
        words = [python, ROOT / "scripts" / "channel_jobs.py", method, before, after]
        words += ["--share", SHARE, "--model", name, "--feeds", feeds_file]
        done = judged(call(words, given.limit), after, killed, feeds, expected)
        print(experiment, method, told(done), file=sys.stderr, flush=True)
        after.unlink(missing_ok=True)
        seconds = done.get("seconds", given.limit)
        return [one_row(experiment, method, key, value, seconds) for key, value in done.items()]

    # Two at a time is quick, but then their seconds say little.
    with ThreadPoolExecutor(2 if given.quick else 1) as pool:
        peers = [one for one in given.peers if one != TORCH_PRUNING or name not in NAMES]
        found = pool.map(cells, (OURS, *([ALONE] if name == LARGE else []), *peers))
        return [*rows, *itertools.chain.from_iterable(found)]


def kill_file(path: Path, before: Path, mode: str, share: float = SHARE) -> Killed:
    """Write a copy of a model with dead channels."""
    model = load(path)
    FoldConstants().call(model)
    killed = kill(model, mode, share, SEED, lambda m, feeds: answers(to_bytes(m), dict(feeds)))
    save(model, before)
    return killed


def judged(facts: Facts, after: Path, killed: Killed, feeds: Outputs, expected: Outputs) -> Facts:
    """What a tool reported and what its file is: error, weights removed, share of them, verdict."""
    facts = dict(facts)
    if "reason" not in facts and "error" not in facts:
        try:
            facts["removed"] = killed.weights - count_weights(ir.load(after))
            facts["error"] = error_of(expected, answers(after, feeds))
        except Exception as error:  # whatever a damaged file provokes in a reader or runtime
            facts["reason"] = f"{type(error).__name__}: {error}".replace("\n", " ")[:200]
    if "removed" in facts:
        facts["share_percent"] = 100 * facts["removed"] / max(killed.target, 1)
    reason, error = facts.get("reason"), facts.get("error", math.inf)
    facts["verdict"] = verdict(reason, error, facts.get("removed", 0))
    return facts


def error_of(expected: Outputs, given: Outputs) -> float:
    """Largest relative error of any output; tools may rename outputs but not reorder them."""
    if len(expected) != len(given):
        return math.inf
    pairs = zip(expected.values(), given.values(), strict=True)
    return max(relative_error(a, b) for a, b in pairs)


def told(facts: Facts) -> str:
    """One cell in words."""
    figures = [
        text.format(facts[key])
        for key, text in {
            "share_percent": "{:.2f} %",
            "error": "error {:.1e}",
            "seconds": "{:.1f} s",
            "reason": "{}",
        }.items()
        if key in facts
    ]
    return f"{facts['verdict']}: {', '.join(figures)}"


def chain(layers: int, channels: int = 8) -> onnx.ModelProto:
    """Conv-Relu, 3x3 and padded, ``layers`` times on 8x8 pixels."""
    rng = np.random.default_rng(SEED)
    nodes, weights, x = [], [], "x"
    shape = [1, channels, 8, 8]
    for i in range(layers):
        w = rng.normal(0, math.sqrt(1 / 9 / channels), (channels, channels, 3, 3))
        b = rng.normal(0, 1, channels)  # keeps a long chain from fading out
        weights.append(numpy_helper.from_array(w.astype(np.float32), f"w{i}"))
        weights.append(numpy_helper.from_array(b.astype(np.float32), f"b{i}"))
        nodes.append(helper.make_node("Conv", [x, f"w{i}", f"b{i}"], [f"c{i}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [x := f"r{i}"]))
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in ("x", x)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def bench_chains(lengths: Iterable[int], given: argparse.Namespace) -> list[Row]:
    """Our pass on chains of Conv-Relu."""
    rows: list[Row] = []
    for layers in lengths:
        with tempfile.TemporaryDirectory(dir=given.cache) as text:
            path, before, after = (Path(text) / f"{one}.onnx" for one in ("all", "before", "after"))
            onnx.save(chain(layers), path)
            killed = kill_file(path, before, ZEROS)
            feeds = random_feeds(load(before), SEED + 1)
            expected = answers(before, feeds)
            rows.append(one_row(f"chain {layers}", "dead", "bar", killed.bar, 0.0))
            for method in (ALONE, OURS):
                job = [sys.executable, ROOT / "scripts" / "channel_jobs.py", method, before, after]
                done = judged(call(job, given.limit), after, killed, feeds, expected)
                print(f"chain {layers}", method, told(done), file=sys.stderr, flush=True)
                seconds = done.get("seconds", given.limit)
                rows += [one_row(f"chain {layers}", method, k, v, seconds) for k, v in done.items()]
    return rows


def bench_big(given: argparse.Namespace) -> list[Row]:
    """A file above 2 GB through the command line; it is made for this and removed afterwards."""
    with tempfile.TemporaryDirectory(dir=given.cache) as text:
        folder = Path(text)
        facts = run_big(folder)
        if "reason" not in facts:
            before, after = folder / "in" / "before.onnx", folder / "out" / "after.onnx"
            feeds = {"x": np.random.default_rng(SEED).standard_normal((3, 256), np.float32)}
            facts["error"] = error_of(answers(before, feeds), answers(after, feeds))
        reason, error = facts.get("reason"), facts.get("error", math.inf)
        facts["verdict"] = verdict(reason, error, facts.get("removed", 0))
    print(BIG, told(facts), file=sys.stderr, flush=True)
    bar = one_row(BIG, "dead", "bar", int(0.999 * full_size()), 0.0)
    return [bar] + [
        one_row(BIG, OURS, key, value, facts["seconds"]) for key, value in facts.items()
    ]


def bench_latency(name: str, given: argparse.Namespace) -> list[Row]:
    """A network for CIFAR without a share of its channels, all variants timed in turns."""
    path = given.cache / f"{name}.onnx"
    reason = exported(name, path, given.limit, given.models_python)
    if reason:
        return [one_row(name, "torch.onnx.export", "reason", reason, 0.0)]
    shares, roundings = (QUICK_SHARES, QUICK_ROUNDINGS) if given.quick else (SHARES, ROUNDINGS)
    models, facts = {}, {}
    for share, round_to in [(0.0, 1), *itertools.product(shares, roundings)]:
        blocks = f", blocks of {round_to}" if share else ""
        label = f"{name} {100 * share:.0f} %{blocks}"
        models[label], facts[label] = narrowed(path, share, round_to)
    feeds = [random_feeds(load(path), SEED + 1)]
    target = Cpu()
    openers = {label: opener(target, content) for label, content in models.items()}
    rounds, seconds = (3, 6) if given.quick else (9, 120)
    with alone():
        timings = time_many(openers, feeds, Pace(rounds, budget_seconds=seconds))
    rows = []
    for label, timing in timings.items():
        found = {**facts[label], "p50_ms": timing.measurement.p50}
        if timing.ratio:
            found["speedup"] = 1 / timing.ratio.value
            found |= {"speedup_low": 1 / timing.ratio.high, "speedup_high": 1 / timing.ratio.low}
        rows += [one_row(label, OURS, key, v, seconds) for key, v in found.items()]
    return rows


def narrowed(path: Path, share: float, round_to: int) -> tuple[bytes, Facts]:
    """A model whose dead channels are gone, and how much of it that was."""
    model = load(path)
    FoldConstants().call(model)
    if share:
        kill(model, ZEROS, share, SEED, lambda m, feeds: answers(to_bytes(m), dict(feeds)))
    weights = count_weights(model)
    after = DropDeadChannels(round_to, prove=False).call(model).model
    removed = weights - count_weights(after)
    content = to_bytes(after)
    return content, {"bytes": len(content), "weights_percent": 100 * removed / weights}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--models",
        nargs="*",
        metavar="NAME",
        help=" ".join([*CLASSIFIERS, *OTHERS, *NAMES, *TIMED]),
    )
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK)}; kept nowhere")
    parser.add_argument("--big", action="store_true", help="a file above 2 GB as well")
    parser.add_argument("--update", action="store_true", help="keep the last run's other rows")
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "bench_channels")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--peers-python", default=sys.executable, help="where they are installed")
    parser.add_argument("--models-python", default=sys.executable, help="with transformers, timm")
    parser.add_argument("--limit", type=float, default=600, help="seconds for a tool on a model")
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    whole = not (given.quick or given.models is not None)
    rows = kept_but(given.models or ()) if given.update else []
    if not given.update:
        rows += [row for name in TIMED for row in bench_latency(name, given)]
        rows += bench_chains(QUICK_CHAINS if given.quick else CHAINS, given)
    if given.big:
        rows = [row for row in rows if row["experiment"] != BIG] + bench_big(given)
    names = QUICK if given.quick else (*CLASSIFIERS, *OTHERS, *NAMES)
    for name in names if given.models is None else given.models:
        rows += bench_latency(name, given) if name in TIMED else bench_model(name, given)
        if whole or given.update:
            # It takes hours: what is done stays, should it be stopped.
            keep("channels", COMMAND, rows)
    if given.update:
        keep("channels", COMMAND, rows)
    print(table(rows))
    short = missed(rows)
    print("\n".join(["", *short]) if short else "\nEvery bar is met.")
    sys.exit(bool(short))


def kept_but(names: Sequence[str]) -> list[Row]:
    """The last full run's rows without those of some models."""
    return [row for row in kept("channels") if row["experiment"].partition(" ")[0] not in names]


if __name__ == "__main__":
    with one_paragraph():
        main()
