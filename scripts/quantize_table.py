"""What the quantization bench found: bars and tables, from its rows alone."""

from __future__ import annotations

import math
import statistics

from result_rows import Facts, Row, by_experiment

OURS, PEER, ADVISED, FLOAT = "deploypipe", "onnxruntime", "onnxruntime, U8S8", "float"
NEVER_SLOWER, MEAN_SPEED, MEAN_DB = 0.98, 1.25, 3.0
"""Of the float model's speed; the geometric mean over the peer's; SQNR above the peer's in dB."""


def ratios(found: dict[str, dict[str, Facts]], peer: str) -> list[float]:
    """Our speed over the peer's, on every model that both made."""
    return [
        one[OURS]["speedup"] / one[peer]["speedup"]
        for one in found.values()
        if "speedup" in one.get(OURS, {}) and "speedup" in one.get(peer, {})
    ]


def gains(found: dict[str, dict[str, Facts]], peer: str) -> list[float]:
    """Our SQNR less the peer's in dB, where both are finite; a float model's is infinite."""
    pairs = [
        (float(one[OURS]["sqnr_db"]), float(one[peer]["sqnr_db"]))
        for one in found.values()
        if "sqnr_db" in one.get(OURS, {}) and "sqnr_db" in one.get(peer, {})
    ]
    return [ours - theirs for ours, theirs in pairs if math.isfinite(ours - theirs)]


def missed(rows: list[Row]) -> list[str]:
    """A sentence for every bar that deploypipe misses."""
    found, lines = by_experiment(rows), list[str]()
    for model, one in found.items():
        ours = one.get(OURS, {})
        if "reason" in ours:
            lines.append(f"bar missed: {model}: {ours['reason']}")
        elif "speedup" in ours and ours["speedup"] < NEVER_SLOWER:
            lines.append(f"bar missed: {model}: {ours['speedup']:.2f} of the float model's speed")
        theirs = one.get(PEER, {})
        if ours.get("speedup", 9) < theirs.get("speedup", 0):
            lines.append(
                f"bar missed: {model}: {ours['speedup']:.2f}x, {PEER} {theirs['speedup']:.2f}x"
            )
        for peer in (PEER, ADVISED):
            theirs = one.get(peer, {})
            if float(ours.get("sqnr_db", math.inf)) < float(theirs.get("sqnr_db", -math.inf)):
                lines.append(
                    f"bar missed: {model}: {float(ours['sqnr_db']):.1f} dB, "
                    f"{peer} {float(theirs['sqnr_db']):.1f} dB"
                )
    speeds, decibels = ratios(found, PEER), gains(found, PEER)
    if speeds and statistics.geometric_mean(speeds) < MEAN_SPEED:
        lines.append(f"bar missed: {statistics.geometric_mean(speeds):.2f}x {PEER} in the mean")
    if decibels and statistics.fmean(decibels) < MEAN_DB:
        lines.append(f"bar missed: {statistics.fmean(decibels):+.1f} dB over {PEER} in the mean")
    return lines


def table(rows: list[Row]) -> str:
    """Markdown: the models, and what they come to."""
    found = by_experiment(rows)
    lines = [
        f"| faster than float; SQNR | {OURS} | quantize_static, its defaults | as advised, U8S8 |",
        "|---|---|---|---|",
    ]
    for model, one in found.items():
        cells = (cell(one.get(method, {})) for method in (OURS, PEER, ADVISED))
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *means(found)])


def cell(facts: Facts) -> str:
    """One quantizer on one model."""
    if "speedup" not in facts:
        return "broken" if "reason" in facts else "-"
    if facts.get("winner") == FLOAT:
        return f"{facts['speedup']:.2f}x; stays float"
    return f"{facts['speedup']:.2f}x; {float(facts['sqnr_db']):.1f} dB"


def means(found: dict[str, dict[str, Facts]]) -> list[str]:
    """A line for each of the peer's settings."""
    lines = []
    for peer, told in ((PEER, "its defaults"), (ADVISED, "U8S8 as advised")):
        speeds, decibels = ratios(found, peer), gains(found, peer)
        if speeds and decibels:
            lines.append(
                f"Against quantize_static with {told}: {statistics.geometric_mean(speeds):.2f}x its "
                f"speed (geometric mean; {min(speeds):.2f} to {max(speeds):.2f}) and "
                f"{statistics.fmean(decibels):+.1f} dB ({min(decibels):+.1f} to "
                f"{max(decibels):+.1f}).\n"
            )
    return lines
