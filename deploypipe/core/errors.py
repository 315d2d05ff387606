"""Errors that tell the user what is wrong, where, and what to do next.

Every class carries the exit code of the command line: 2 the user's mistake, 4 the environment
lacks something, 5 integrity.  Anything else that escapes is our bug and shows its traceback.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar


class DeploypipeError(Exception):
    """Base of all errors that are explained in one paragraph: ``where: what. then``."""

    exit_code: ClassVar[int] = 2

    def __init__(self, what: str, *, where: str | None = None, then: str | None = None) -> None:
        self.what, self.where, self.then = what, where, then
        super().__init__(self._paragraph())

    def _paragraph(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{_sentence(text)} {_sentence(self.then)}" if self.then else _sentence(text)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


class UserError(DeploypipeError):
    """The input is wrong: a recipe, a file, a model, a sample."""


class EnvironmentLacks(DeploypipeError):  # noqa: N818
    """Something is not installed or not present on this machine."""

    exit_code = 4


class IntegrityError(DeploypipeError):
    """A file is not what its manifest says."""

    exit_code = 5


@contextmanager
def one_paragraph() -> Iterator[None]:
    """For scripts: an explained error ends the process with its paragraph and its exit code."""
    try:
        yield
    except DeploypipeError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for a close match, else the list of what is known.

    Both for three letters, which say little: ``gpu`` is not ``cpu`` mistyped.
    """
    names = sorted(known)
    close = difflib.get_close_matches(word.replace("_", "-"), names, n=1, cutoff=0.6)
    close = close or difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    told = f"known: {', '.join(names)}" if names else "nothing is known here"
    if not close:
        return told
    guess = f"did you mean '{close[0]}'?"
    return guess if len(word) > 3 else f"{guess} {told[0].upper()}{told[1:]}"


def needs_extra(who: str, module: str, extra: str) -> EnvironmentLacks:
    """The error for a missing optional package, naming the extra that brings it."""
    return EnvironmentLacks(
        f"{who} needs '{module}', which is not installed",
        then=f"Install it with: pip install 'deploypipe[{extra}]'",
    )
