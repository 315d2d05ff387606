"""Words of the command line: what several commands take, and texts as values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from deploypipe.core.errors import UserError
from deploypipe.core.options import given_in

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change the recipe: steps.train.epochs=3"),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="Samples: digits, images:DIR, npz:FILE, ... or a recipe.yaml, which keeps calibration "
        "and validation apart: quantize and validate take the same samples of a source.",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:OPTION=VALUE]", help="Default: static. See: deploypipe list method"
    ),
]
Corrections = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:OPTION=VALUE],...",
        help="Default: the cheap ones. See: deploypipe list correction",
    ),
]
Samples = Annotated[int | None, typer.Option(help="Use only so many samples.")]
Batch = Annotated[int, typer.Option(help="Samples a call.", min=1)]
TargetName = Annotated[str, typer.Option(help="cpu, cuda or tensorrt.")]
Threads = Annotated[int | None, typer.Option(help="Threads of one operator.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Where to write.")]
Recipe = Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML recipe.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL.onnx")]


def two(files: Sequence[Path], wanted: str) -> tuple[Path, Path]:
    """Exactly two files."""
    if len(files) != 2:
        raise UserError(f"expected {wanted}, got {len(files)} files")
    return files[0], files[1]


def shape(text: str) -> tuple[str, list[int]]:
    """``image=3,32,32``."""
    name, _, sizes = text.partition("=")
    try:
        found = [int(size) for size in sizes.split(",")]
    except ValueError:
        found = [0]
    if not name or min(found) < 1:
        raise UserError(f"expected NAME=3,32,32, got {text!r}", where="--input")
    return name, found


def named_size(text: str) -> tuple[str, int]:
    """``N=8``."""
    name, _, size = text.partition("=")
    if not name or not size.isdecimal() or int(size) < 1:
        raise UserError(f"expected NAME=N, got {text!r}", where="--size")
    return name, int(size)


def budget(text: str | None) -> dict[str, float]:
    """``accuracy_drop=1.0,speedup=2``."""
    found: dict[str, float] = {}
    for name, value in map(_limit, text.split(",")) if text else ():
        if name in found:
            raise UserError(f"'{name}' comes twice", where="--budget")
        found[name] = value
    return found


def _limit(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise UserError(f"expected NAME=NUMBER, got {text!r}", where="--budget") from None


def spec(text: str, where: str) -> dict[str, dict[str, Any]]:
    """``weight-only`` or ``weight-only:block=32,zero_points=true``: a name and its options."""
    name, _, options = text.partition(":")
    parts = filter(str.strip, options.split(","))
    return {name.strip(): given_in(parts, where, "Write NAME:OPTION=VALUE,OPTION=VALUE")}


def specs(text: str, where: str) -> list[dict[str, dict[str, Any]]]:
    """``bias,clip:steps=9,share=0.5``; nothing for ``none``."""
    found: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        is_option = "=" in part and ":" not in part.partition("=")[0]
        if is_option and found:
            found[-1] += f",{part}"
        else:
            found.append(part)
    if not found:
        raise UserError("expected names with commas between, or none", where=where)
    return [] if found == ["none"] else [spec(one, where) for one in found]


def percent(text: str) -> float:
    """``5%`` as a share."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise UserError(f"expected a share such as 5%, got {text!r}", where="--margin") from None
    if not 0 <= value < 1:
        raise UserError(f"expected a share from 0% to 100%, got {text!r}", where="--margin")
    return value


def points(text: str) -> float:
    """``99%`` or ``99`` as 99."""
    try:
        return float(text.strip().removesuffix("%"))
    except ValueError:
        told = f"expected a percentage such as 99%, got {text!r}"
        raise UserError(told, where="--least-agreement") from None


def shard(text: str) -> tuple[int, int]:
    """``2/8``: the second of eight parts."""
    number, _, of = text.partition("/")
    if not number.isdecimal() or not of.isdecimal() or not 1 <= int(number) <= int(of):
        raise UserError(f"expected I/N with I from 1 to N, got {text!r}", where="--shard")
    return int(number), int(of)


def needed(path: Path | None, option: str) -> Path:
    """A path that another option cannot do without."""
    if path is None:
        raise UserError("it is needed here", where=option, then=f"Give {option} FILE")
    return path


def settings(data: str | None, samples: int | None, target: str, threads: int | None) -> Any:
    """What most verbs need."""
    from deploypipe.core.progress import for_stderr
    from deploypipe.verbs import Settings

    spec: Any = target if threads is None else {target: {"threads": threads}}
    return Settings(data, samples, spec, for_stderr())
