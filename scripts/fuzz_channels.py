"""Random graphs over all ops of the channel engine: are the answers the same without dead channels?

Every graph is cut twice, with blocks of one and of four, and both are run by ONNX Runtime at batch
1 and 2.  The proof that the pass brings is off, since it would put back what is wrong; every tenth
graph is cut with it too, and should raise no alarm.  The verdicts:

    exact      the same bits
    close      not all of them, where sums of another order may differ: relative error <= 1e-5
    rounding   more, but no more than where the weights themselves move by 1e-7
    wrong      anything else
    broken     an error, another shape, NaN
    discarded  the graph did not run before

    python scripts/fuzz_channels.py [--count 2000] [--seed 0] [--quick] [--save FILE]

Exit code 1 at a wrong or broken graph; it is made as small as can be and written to FILE.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from channel_fuzz.growing import Grown, grow
from channel_fuzz.shrink import shrink
from channel_fuzz.trial import Trial, Verdict, alarm, attempt

from deploypipe.core.files import write_text
from deploypipe.runtime import host

RESULT = Path(__file__).resolve().parent / "results" / "fuzz_channels.json"
QUICK, PROVEN_EVERY = 500, 10


@dataclass
class Tally:
    """What a run has seen."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    ops: Counter[str] = field(default_factory=Counter)
    cut_ops: Counter[str] = field(default_factory=Counter)
    """Graphs with the op, of those that lost channels."""
    opsets: Counter[int] = field(default_factory=Counter)
    cut: int = 0
    demanded: int = 0
    """Graphs of which equal bits are demanded, but for merges."""
    alarms: list[str] = field(default_factory=list)

    def add(self, grown: Grown, trial: Trial) -> None:
        ops = {node.op_type for node in grown.model.graph.node}
        self.verdicts[trial.verdict] += 1
        self.ops.update(ops)
        self.cut_ops.update(ops if trial.cut else ())
        self.opsets[grown.opset] += 1
        self.cut += trial.cut
        self.demanded += grown.exact

    @property
    def tried(self) -> int:
        return sum(self.verdicts.values()) - self.verdicts[Verdict.DISCARDED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000, help="graphs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} graphs, kept nowhere")
    parser.add_argument("--save", default="counterexample.onnx", help="file for a wrong graph")
    given = parser.parse_args()
    tally, start = Tally(), time.monotonic()
    for number in range(QUICK if given.quick else given.count):
        grown = grow(given.seed, number)
        trial = attempt(grown.model, grown.exact, grown.half)
        tally.add(grown, trial)
        if trial.verdict.bad:
            print(f"graph {number} of seed {given.seed} is {trial.verdict}: {trial.why}")
            save(grown, trial.verdict, Path(given.save))
            break
        if number % PROVEN_EVERY == 0 and (why := alarm(grown.model)):
            tally.alarms.append(f"graph {number}: {why}")
    seconds = round(time.monotonic() - start, 1)
    print("\n".join(report(tally, seconds)))
    if any(verdict.bad for verdict in tally.verdicts):
        sys.exit(1)
    if not given.quick:
        command = f"python scripts/fuzz_channels.py --count {given.count} --seed {given.seed}"
        keep(command, list(rows(tally, seconds, given.seed)))


def save(grown: Grown, verdict: Verdict, path: Path) -> None:
    """The smallest graph found that is as bad, as a file and as text."""

    def bad(model: onnx.ModelProto) -> bool:
        return attempt(model, grown.exact, grown.half).verdict is verdict

    small = shrink(grown.model, bad)
    onnx.save(small, path)
    print(onnx.printer.to_text(small))
    print(f"It is written to {path}.")


def report(tally: Tally, seconds: float) -> Iterator[str]:
    yield f"{'op':<30}{'graphs':>8}{'lost channels':>16}"
    for op, count in sorted(tally.ops.items()):
        yield f"{op:<30}{count:>8}{tally.cut_ops[op]:>16}"
    yield f"opsets {min(tally.opsets)} to {max(tally.opsets)}, {seconds:.0f} s"
    yield f"{tally.cut} of {tally.tried} graphs lost channels; {tally.demanded} must be exact"
    for verdict in Verdict:
        count = tally.verdicts[verdict]
        share = "" if verdict is Verdict.DISCARDED else f"  {share_of(count, tally):.2f} %"
        yield f"{verdict:<12}{count:>6}{share}"
    yield f"the proof's alarms: {'; '.join(tally.alarms) or 'none'}"


def share_of(count: int, tally: Tally) -> float:
    """Percent of the graphs that were tried."""
    return 100 * count / max(tally.tried, 1)


def rows(tally: Tally, seconds: float, seed: int) -> Iterator[dict[str, object]]:
    """One row for each figure."""
    figures: dict[str, float] = {
        "graphs": tally.tried,
        "discarded": tally.verdicts[Verdict.DISCARDED],
        "lost_channels": tally.cut,
        "exact_demanded": tally.demanded,
        "proof_alarms": len(tally.alarms),
    }
    for verdict in (verdict for verdict in Verdict if verdict is not Verdict.DISCARDED):
        figures[f"{verdict}_percent"] = share_of(tally.verdicts[verdict], tally)
    figures |= {f"graphs_with_{op}": count for op, count in sorted(tally.ops.items())}
    same = {"experiment": "fuzz_channels", "method": "deploypipe"}
    for metric, value in figures.items():
        yield {**same, "metric": metric, "value": float(value), "seconds": seconds, "seed": seed}


def keep(command: str, found: list[dict[str, object]]) -> None:
    """Keep the figures with the machine that made them."""
    text = {"environment": host(), "command": command, "rows": found}
    write_text(RESULT, json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
