"""The pieces that a graph can grow by; a piece is a function that the decorator has seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from channel_fuzz.maker import Maker, Piece


@dataclass(frozen=True)
class Entry:
    """How often a piece is drawn, and from which opset on."""

    make: Piece
    weight: float
    since: int


PIECES: list[Entry] = []


F = TypeVar("F", bound=Callable[..., object])


def piece(weight: float = 1.0, since: int = 11) -> Callable[[F], F]:
    """Enter a function; it does nothing where no tensor fits it."""

    def enter(make: F) -> F:
        PIECES.append(Entry(make, weight, since))
        return make

    return enter


def draw(g: Maker) -> Piece:
    """A random piece that the opset allows."""
    allowed = [entry for entry in PIECES if entry.since <= g.opset]
    weights = [entry.weight**0.5 if g.flat else entry.weight for entry in allowed]
    total = sum(weights)
    return allowed[int(g.rng.choice(len(allowed), p=[w / total for w in weights]))].make
