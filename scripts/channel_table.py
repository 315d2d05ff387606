"""What the channel bench found: verdicts, bars and tables, from its rows alone."""

from __future__ import annotations

import itertools

from result_rows import Facts, Row, by_experiment

MODES = ("zeros", "constants")
OURS, ALONE = "deploypipe", "deploypipe, no proof"
"""The pass as it is, and the cut without the proof of it, which the bars of cost are for."""

TORCH_PRUNING = "torch-pruning"
PEERS = ("onnxsim", "onnxifier", TORCH_PRUNING)
EXACT = 1e-5
"""Relative error of an output that reordered sums explain."""

LARGE = "vgg16_bn"
LARGE_SECONDS, LARGE_TIMES = 20.0, 3.0
"""Read, cut and write of the largest model: seconds, and peak memory in sizes of the file."""

BIG = "above 2 GB"
"""The experiment on a file that is larger than protobuf's limit."""

LINEAR = 2.0
"""A layer of the longest chain may cost this much of one in the chain before."""


def verdict(reason: str | None, error: float, removed: float) -> str:
    """exact, wrong, broken (it raises, or its model does not run), untouched, or absent."""
    if reason:
        return "absent" if reason.startswith("ModuleNotFoundError") else "broken"
    if not error <= EXACT:
        return "wrong"
    return "exact" if removed > 0 else "untouched"


def missed(rows: list[Row]) -> list[str]:
    """A sentence for every bar that deploypipe misses."""
    found = by_experiment(rows)
    lines = []
    for experiment, methods in found.items():
        bar = methods.get("dead", {}).get("bar", 0)
        for method in (OURS, ALONE):
            if "verdict" in (ours := methods.get(method, {})):
                lines += [f"bar missed: {experiment}, {method}: {w}" for w in short(ours, bar)]
        alone = methods.get(ALONE, {})
        if experiment.startswith(f"{LARGE} ") and "seconds" in alone:
            times = alone["peak_bytes"] / methods["dead"]["file_bytes"]
            if alone["seconds"] > LARGE_SECONDS:
                lines.append(f"bar missed: {experiment} took {alone['seconds']:.1f} s")
            if times > LARGE_TIMES:
                lines.append(f"bar missed: {experiment} held {times:.1f}x the file in memory")
    return [*lines, *steep(found)]


def short(ours: Facts, bar: int) -> list[str]:
    """What is wrong with one model of ours."""
    if ours["verdict"] not in ("exact", "untouched"):
        return [f"{ours['verdict']}, {ours.get('reason', ours.get('error'))}"]
    if ours["removed"] < bar:
        return [f"{ours['removed']:,} weights removed, {bar:,} could go"]
    return []


def steep(found: dict[str, dict[str, Facts]]) -> list[str]:
    """Chains that cost more than their length explains."""
    costs = sorted(chain_seconds(found, ALONE).items())[-2:]
    if len(costs) < 2:
        return []
    (few, less), (many, more) = costs
    if more / many <= LINEAR * less / few:
        return []
    return [f"bar missed: {few} layers take {less:.1f} s, {many} take {more:.1f} s"]


def chain_seconds(found: dict[str, dict[str, Facts]], method: str) -> dict[int, float]:
    """Layers -> seconds of the pass."""
    return {
        int(experiment.split()[1]): methods[method]["pass_seconds"]
        for experiment, methods in found.items()
        if experiment.startswith("chain ") and "pass_seconds" in methods.get(method, {})
    }


def table(rows: list[Row]) -> str:
    """Markdown: the tools on the models, sums of that, memory, chains, latency."""
    found = by_experiment(rows)
    parts = [models_table(found), tallies(found), large(found), chains(found)]
    parts += [too_large(found), latencies(found)]
    return "\n\n".join(part for part in parts if part)


def models_table(found: dict[str, dict[str, Facts]]) -> str:
    """A row per model; a cell is the share removed of what can go, zeros first."""
    methods = (OURS, *PEERS)
    present = [m for m in methods if any(m in one for one in found.values())]
    lines = [
        "| a quarter dead, as zeros / constants | weights that can go "
        + "".join(f"| {method} " for method in present)
        + "|",
        "|---" * (2 + len(present)) + "|",
    ]
    for name in model_names(found):
        modes = [found[f"{name} {mode}"] for mode in MODES if f"{name} {mode}" in found]
        modes = [one for one in modes if "dead" in one]
        if not modes:
            why = found[name]["torch.onnx.export"]["reason"]
            lines.append(f"| {name} | does not export: {why} " + "| " * len(present) + "|")
            continue
        if not any(one["dead"]["removable"] for one in modes):
            lines.append(f"| {name} | none " + "| " * len(present) + "|")
            continue
        goes = " / ".join(f"{one['dead']['removable'] / 1e6:.2f} M" for one in modes)
        cells = [" / ".join(cell(one.get(method)) for one in modes) for method in present]
        lines.append(f"| {name} | {goes} | {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def model_names(found: dict[str, dict[str, Facts]]) -> list[str]:
    """The models, in their order."""
    dead = [
        experiment.rpartition(" ")[0] if "dead" in methods else experiment
        for experiment, methods in found.items()
        if "removable" in methods.get("dead", {}) or "torch.onnx.export" in methods
    ]
    return list(dict.fromkeys(dead))


def cell(facts: Facts | None) -> str:
    """One tool on one model."""
    if facts is None or facts["verdict"] == "absent":
        return "-"
    if facts["verdict"] == "wrong":
        return f"wrong ({float(facts['error']):.1g})"
    if facts["verdict"] == "broken":
        return "broken"
    return percent(facts["share_percent"])


def percent(share: float) -> str:
    """Never 100 % of something that is not whole."""
    text = f"{share:.1f}"
    return "99.9 %" if text == "100.0" and share < 99.995 else f"{text.removesuffix('.0')} %"


def tallies(found: dict[str, dict[str, Facts]]) -> str:
    """Verdicts counted, and the range of seconds and errors."""
    lines = []
    for method in (OURS, *PEERS):
        mine = [
            one[method]
            for one in found.values()
            if "removable" in one.get("dead", {}) and method in one
        ]
        if not mine:
            continue
        kinds = ("exact", "untouched", "wrong", "broken", "absent")
        count = {kind: sum(one["verdict"] == kind for one in mine) for kind in kinds}
        counted = ", ".join(f"{number} {kind}" for kind, number in count.items() if number)
        exact = [float(one["error"]) for one in mine if one["verdict"] == "exact"]
        times = [one["seconds"] for one in mine if "seconds" in one]
        text = f"- {method}: {counted} of {len(mine)}"
        text += f"; errors of the exact up to {max(exact):.1e}" if exact else ""
        text += f"; {min(times):.1f} to {max(times):.1f} s" if times else ""
        lines.append(f"{text}.")
    return "\n".join(lines)


def large(found: dict[str, dict[str, Facts]]) -> str:
    """Time and memory on the largest model."""
    told = []
    for mode, method in itertools.product(MODES, (ALONE, OURS)):
        one = found.get(f"{LARGE} {mode}", {})
        ours = one.get(method, {})
        if "seconds" in ours:
            size, peak = one["dead"]["file_bytes"], ours["peak_bytes"]
            proof = "with" if method == OURS else "without"
            told.append(
                f"{mode} {proof} proof {ours['seconds']:.1f} s and {peak / 1e9:.2f} GB "
                f"({peak / size:.1f}x its {size / 1e6:.0f} MB)"
            )
    return f"{LARGE} in a fresh process, read, pass and write: {'; '.join(told)}." if told else ""


def chains(found: dict[str, dict[str, Facts]]) -> str:
    """Seconds by length."""
    alone, whole = chain_seconds(found, ALONE), chain_seconds(found, OURS)
    told = [
        f"{layers:,} layers {seconds:.2f} s"
        + (f" ({whole[layers]:.1f} s with the proof)" if layers in whole else "")
        for layers, seconds in sorted(alone.items())
    ]
    return f"The pass on chains of Conv-Relu: {', '.join(told)}." if told else ""


def too_large(found: dict[str, dict[str, Facts]]) -> str:
    """Time and memory on the file above 2 GB."""
    one = found.get(BIG, {}).get(OURS, {})
    if "seconds" not in one:
        return f"{BIG}: {one['reason']}." if one else ""
    size, peak = one["file_bytes"], one["peak_bytes"]
    return (
        f"A chain of {one['layers']} Gemms, {size / 1e9:.2f} GB with external data, through "
        f"`deploypipe optimize` with the proof: {one['share_percent']:.2f} % of what can go went, "
        f"error {float(one['error']):.1e}, {one['seconds']:.0f} s, {peak / 1e9:.2f} GB of memory "
        f"({peak / size:.1f}x)."
    )


def latencies(found: dict[str, dict[str, Facts]]) -> str:
    """Latency against the share removed and the rounding."""
    lines = [
        "| at 32x32, channels dead | weights removed | p50 ms | faster (99 % interval) |",
        "|---|---|---|---|",
    ]
    for experiment, methods in found.items():
        one = methods.get(OURS, {})
        if "p50_ms" in one:
            faster = (
                f"{one['speedup']:.2f}x ({one['speedup_low']:.2f} to {one['speedup_high']:.2f})"
                if "speedup" in one
                else ""
            )
            share = one["weights_percent"]
            lines.append(f"| {experiment} | {share:.0f} % | {one['p50_ms']:.3f} | {faster} |")
    return "\n".join(lines) if len(lines) > 2 else ""
