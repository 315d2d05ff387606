"""Write the README's tables anew from the last full runs in scripts/results.

python scripts/update_readme.py [--check]
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import bench_calibration
import bench_quantize
import bench_validator
import channel_table
import quantize_big
import quantize_table
from bench_recipes import table
from result_rows import RESULTS, kept

from deploypipe.core.files import write_text

ROOT = Path(__file__).resolve().parent.parent


def block(name: str) -> str:
    """The text between the markers of a block."""
    if name == "recipes":
        return table([*kept("recipes_digits"), *kept("recipes_cifar10")])
    if name == "channels":
        return channel_table.table(kept("channels"))
    if name == "quantize":
        return quantize_table.table(kept("quantize")).strip()
    if name == "quantize_big":
        return quantize_big.sentence(kept("quantize_big"))
    if name == "quantize_real":
        if not (RESULTS / "quantize_real.json").is_file():
            return "Not measured yet: `python scripts/bench_quantize.py --real`."
        return bench_quantize.real_table(kept("quantize_real"))
    if name == "validator":
        if not (RESULTS / "validator.json").is_file():
            return "Not measured yet: `python scripts/bench_validator.py`."
        return bench_validator.table(kept("validator"))
    if name == "calibration":
        return bench_calibration.table(kept("calibration"))
    experiment = {"demo": "digits", "cifar": "cifar10"}[name]
    printed = (RESULTS / f"recipes_{experiment}.txt").read_text()
    lines = [line.rstrip() for line in printed.strip().splitlines()]
    return "\n".join(["```", *lines, "```"])


def updated(text: str) -> str:
    """README text with every block filled from the results."""
    pattern = re.compile(r"(<!-- block: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda m: f"{m[1]}{block(m[2])}\n{m[3]}", text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if it would")
    given = parser.parse_args()
    path = ROOT / "README.md"
    new = updated(path.read_text())
    if given.check:
        sys.exit(0 if new == path.read_text() else "README.md is not what the results say")
    write_text(path, new)
