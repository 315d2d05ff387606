"""Where a model may be written: over no input, and over nothing that is no model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from deploypipe.core.errors import UserError
from deploypipe.core.files import explained_os_errors
from deploypipe.graph.files import LARGE, read_graph

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
    if out.is_file() and not _may_go(out):
        raise UserError("is there already and is no ONNX model", where=str(out), then=then)


def _may_go(out: Path) -> bool:
    """Whether a file is empty or a model; of a large one only the start is looked at."""
    with explained_os_errors(out):
        if out.stat().st_size == 0:
            return True
        with out.open("rb") as file:
            start = file.read(1)
        if out.stat().st_size > LARGE:
            return start == _START
        try:
            read_graph(out)
        except UserError:
            return False
        return True
