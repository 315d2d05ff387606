"""How often `deploypipe bench` is wrong, how often it finds what is there, and how long it takes.

    same    a model against a copy of itself, half of the decisions beside a busy neighbour process:
            every "slower" is a false alarm
    slower  the same model with extra work, as much as takes 8 % longer by a long measurement of its own
    large   a model of about 5 ms against its copy: how long a decision takes

Beside every decision, in the same run, the naive way: time the baseline, then the candidate, and call
it slower if its median is more than 5 % above.  What is known is written after each decision, so that a
run that is stopped leaves what it found.

    python scripts/bench_validator.py [--quick] [--decisions 200]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deploypipe.core.errors import one_paragraph
from deploypipe.core.files import write_text
from deploypipe.runtime import host
from deploypipe.runtime.targets.cpu import Cpu
from deploypipe.validate.files import compare_file_latency, opener
from deploypipe.validate.interleave import Pace
from deploypipe.validate.judge_latency import decision_of, speedup_check
from deploypipe.validate.latency import time_many

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "scripts" / "results" / "validator.json"
MARGIN, SLOWDOWN = 0.05, 0.08
SMALL, LARGE = 50, 1000
"""Matrix products in a row: about 0.3 and 5 ms."""

NAIVE_CALLS, NAIVE_WARM = 200, 10
BUSY = "import numpy as np\na = np.ones((384, 384))\nwhile True: a @ a"
NAMES = {"PASS": "not slower", "FAIL": "slower", "UNDECIDED": "undecided"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Decided:
    """One decision and the naive one beside it."""

    experiment: str
    seed: int
    answer: str
    seconds: float
    ratio: float
    processes: int
    ms: float
    naive_ratio: float
    naive_seconds: float

    @property
    def naive_answer(self) -> str:
        return "slower" if self.naive_ratio > 1 + MARGIN else "not slower"


def chain(length: int, file: Path, width: int = 0) -> Path:
    """A model of ``length`` products of [32, 64] with [64, 64]: its length is its work.

    ``width`` is of one more product there and back, for less than one more in length.
    """
    sizes = [64] * (length + 1) + ([width, 64] if width else [])
    shapes = list(pairwise(sizes))
    weights = {shape: np.full(shape, 1 / shape[0], np.float32) for shape in shapes}
    names = ["x", *(f"h{i}" for i in range(1, len(shapes))), "y"]
    nodes = [
        helper.make_node("MatMul", [names[i], "w{}_{}".format(*shape)], [names[i + 1]])
        for i, shape in enumerate(shapes)
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [32, 64]) for name in "xy")
    stored = [numpy_helper.from_array(w, "w{}_{}".format(*shape)) for shape, w in weights.items()]
    graph = helper.make_graph(nodes, "chain", [x], [y], stored)
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=opsets), file)
    return file


def slowed(folder: Path, target: Cpu, rounds: int) -> tuple[Path, float]:
    """The model whose extra work takes closest to 8 % longer, and how much longer it takes."""
    extra = [(0, 0), *((n, width) for n in (2, 3, 4, 5) for width in (8, 24, 40))]
    files = {
        f"{n}, {width}": chain(SMALL + n, folder / f"plus_{n}_{width}.onnx", width)
        for n, width in extra
    }
    openers = {label: opener(target, file) for label, file in files.items()}
    pace = Pace(rounds, blocks=12, budget_seconds=6.0 * rounds, slot_seconds=0.004)
    found = time_many(openers, feeds(), pace)
    ratios = {label: timing.ratio.value for label, timing in found.items() if timing.ratio}
    best = min(ratios, key=lambda label: abs(ratios[label] - 1 - SLOWDOWN))
    return files[best], ratios[best]


def feeds() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.standard_normal((32, 64)).astype(np.float32)} for _ in range(4)]


def decide(experiment: str, pair: tuple[Path, Path], target: Cpu, seed: int) -> Decided:
    """Ask both ways whether the second of a pair is slower than the first."""
    baseline, candidate = pair
    began = time.perf_counter()
    limit = 1 / (1 + MARGIN)
    latency = compare_file_latency(baseline, candidate, target, speedups=[limit], seed=seed)
    seconds = time.perf_counter() - began
    check, decision = speedup_check(latency, limit), decision_of(latency, limit)
    assert decision is not None
    began = time.perf_counter()
    naive = naive_ratio(pair, target)
    return Decided(
        experiment,
        seed,
        NAMES[check.outcome],
        seconds,
        decision.ratio.value,
        len(latency.rounds) + len(latency.again),
        latency.reference.p50,
        naive,
        time.perf_counter() - began,
    )


def naive_ratio(pair: tuple[Path, Path], target: Cpu) -> float:
    """Median of the candidate over that of the baseline, one after the other."""
    medians = []
    for file in pair:
        with target.open(file) as session:
            run, times = session.prepare(feeds()[0]), []
            for _ in range(NAIVE_WARM + NAIVE_CALLS):
                began = time.perf_counter_ns()
                run()
                times.append(time.perf_counter_ns() - began)
        medians.append(statistics.median(times[NAIVE_WARM:]))
    return medians[1] / medians[0]


@contextmanager
def neighbour(busy: bool) -> Iterator[subprocess.Popen[bytes] | None]:
    """A process that keeps one core busy, or none."""
    if not busy:
        yield None
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", BUSY], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def rows(decided: list[Decided], facts: list[Row]) -> list[Row]:
    """Rates and seconds of every experiment, by both ways."""
    found = list(facts)
    for name in dict.fromkeys(one.experiment for one in decided):
        mine = [one for one in decided if one.experiment == name]
        for method in ("deploypipe", "naive"):
            ours = method == "deploypipe"
            answers = [one.answer if ours else one.naive_answer for one in mine]
            seconds = [one.seconds if ours else one.naive_seconds for one in mine]
            slower = answers.count("slower")
            figures = {
                "decisions": len(mine),
                "slower": slower,
                "slower_share": slower / len(mine),
                "slower_share_at_most": upper_bound(slower, len(mine)),
                "undecided_share": answers.count("undecided") / len(mine),
                "seconds_median": statistics.median(seconds),
                "seconds_most": max(seconds),
                "p50_ms": statistics.median(one.ms for one in mine),
            }
            found += [row(name, method, key, value, sum(seconds)) for key, value in figures.items()]
    return found


EQUAL = ("same", "same, busy neighbour")


def table(found: list[Row]) -> str:
    """The rates of both ways, for the README."""
    value = {(one["experiment"], one["method"], one["metric"]): one["value"] for one in found}
    extra = value.get(("slower", "long measurement", "ratio"), 1 + SLOWDOWN) - 1
    titles = {
        "same": "its copy",
        "same, busy neighbour": "its copy, beside a busy process",
        "slower": f"{extra:.1%} more work",
        "large": "its copy",
    }
    lines = [
        "| candidate | decisions | found slower, 95 % bound | undecided | seconds, most | naive way |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    present = [name for name in titles if (name, "naive", "slower") in value]
    for name in present:
        ms = value[name, "deploypipe", "p50_ms"]
        lines.append(line(f"{titles[name]} ({ms:.2g} ms)", [name], value))
        if name == EQUAL[1] and EQUAL[0] in present:
            lines.append(line("its copy, both", list(EQUAL), value))
    return "\n".join(lines)


def line(title: str, names: list[str], value: dict[tuple[str, str, str], Any]) -> str:
    """A row of the table over one or more experiments."""

    def ours(metric: str) -> list[Any]:
        return [value[name, "deploypipe", metric] for name in names]

    of, slower = sum(ours("decisions")), sum(ours("slower"))
    unsure = sum(np.multiply(ours("undecided_share"), ours("decisions"))) / of
    naive = sum(value[name, "naive", "slower"] for name in names) / of
    bound = f"at most {upper_bound(slower, of):.1%}"
    if names == ["slower"]:  # where finding is the aim
        bound = f"at least {1 - upper_bound(of - slower, of):.1%}"
    seconds = f"{statistics.median(ours('seconds_median')):.1f}, {max(ours('seconds_most')):.1f}"
    counted = f"{slower} ({slower / of:.1%}), {bound}"
    return f"| {title} | {of} | {counted} | {unsure:.1%} | {seconds} | {naive:.1%} |"


def upper_bound(count: int, of: int, confidence: float = 0.95) -> float:
    """Clopper and Pearson's one-sided upper end of a share (1934), by bisection."""
    low, high = count / of, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        terms = (math.comb(of, i) * middle**i * (1 - middle) ** (of - i) for i in range(count + 1))
        low, high = (middle, high) if sum(terms) > 1 - confidence else (low, middle)
    return high


def row(name: str, method: str, metric: str, value: object, seconds: float) -> Row:
    """One figure."""
    same = {"experiment": name, "method": method, "metric": metric, "value": value}
    return {**same, "seconds": round(seconds, 2), "seed": 0}


def jobs(given: argparse.Namespace, folder: Path, slow: Path) -> Iterator[tuple[str, Any, bool]]:
    """Experiment, pair and whether there is a neighbour; interleaved, so that all share the hour."""
    base, large = chain(SMALL, folder / "base.onnx"), chain(LARGE, folder / "large.onnx")
    copies = [Path(shutil.copy(file, folder / f"copy_{file.name}")) for file in (base, large)]
    counts = (given.decisions // 2, given.decisions - given.decisions // 2, given.slower)
    for i in range(max(*counts, given.large)):
        if i < counts[0]:
            yield "same", (base, copies[0]), False
        if i < counts[1]:
            yield "same, busy neighbour", (base, copies[0]), True
        if i < counts[2]:
            yield "slower", (base, slow), False
        if i < given.large:
            yield "large", (large, copies[1]), False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--decisions", type=int, default=200, help="on equal models")
    parser.add_argument("--slower", type=int, default=50, help="decisions on the slower model")
    parser.add_argument("--large", type=int, default=6, help="decisions on the large model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="under two minutes; kept nowhere")
    given = parser.parse_args()
    if given.quick:
        given.decisions, given.slower, given.large = 4, 2, 1
    target, decided = Cpu(given.threads), list[Decided]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slow, ratio = slowed(folder, target, 3 if given.quick else 15)
        facts = [row("slower", "long measurement", "ratio", ratio, 0.0)]
        print(f"slower: the extra work takes {ratio - 1:.1%}", file=sys.stderr, flush=True)
        for seed, (experiment, pair, busy) in enumerate(jobs(given, folder, slow)):
            with neighbour(busy):
                decided.append(decide(experiment, pair, target, seed))
            print(decided[-1], file=sys.stderr, flush=True)
            if not given.quick:
                keep(rows(decided, facts), decided)
    for one in rows(decided, facts):
        print(*(str(one[key]) for key in ("experiment", "method", "metric", "value")), sep="\t")
    print(table(rows(decided, facts)))


def keep(found: list[Row], decided: list[Decided]) -> None:
    """What is known so far, whole."""
    told = {
        "environment": host(),
        "command": " ".join(["python", "scripts/bench_validator.py", *sys.argv[1:]]),
        "rows": found,
        "decisions": [vars(one) for one in decided],
    }
    write_text(RESULTS, json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    with one_paragraph():
        main()
