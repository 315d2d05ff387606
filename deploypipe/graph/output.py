"""Where a model may be written: over no input, and over nothing that is no model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from deploypipe.core.errors import UserError

_START = b"\x08"
"""ONNX writers put the first field, the version of the format, first."""


def check_output(out: Path, inputs: Iterable[Path], option: str = "-o") -> None:
    """Refuse a place that ``inputs`` have, or a file that is not a model.

    Raises:
        UserError: what is there would be lost; asks for another ``option``.
    """
    then = f"Give another path with {option}"
    if out.resolve() in (path.resolve() for path in inputs):
        raise UserError("the output is the input", where=str(out), then=then)
    if not out.is_file():
        return
    with out.open("rb") as file:
        start = file.read(1)
    if start not in (b"", _START):
        raise UserError("is there already and is no ONNX model", where=str(out), then=then)
