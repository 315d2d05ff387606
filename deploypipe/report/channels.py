"""What was removed of every tensor, and the chain of reasons, out of the optimize stage's notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from deploypipe.core.files import Json
from deploypipe.report import words
from deploypipe.report.schema import Report

ROOM = 40_000
"""Characters for all chains together."""


@dataclass(frozen=True)
class TensorWords:
    """One tensor: what went, and per kind of cell why, link by link."""

    name: str
    removed: str
    chains: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class RemovalWords:
    """One removal with its proof; ``left`` tensors are only in the certificate."""

    facts: str
    tensors: tuple[TensorWords, ...]
    left: int
    proof: tuple[tuple[str, str], ...]


def removals(report: Report) -> list[RemovalWords]:
    """Every removal that a stage noted."""
    noted = [
        one
        for stage in report.stages
        for one in stage.notes.get("channels") or []
        if isinstance(one, Mapping) and isinstance(one.get("removed"), list)
    ]
    return [_removal(one, ROOM // len(noted)) for one in noted]


def _removal(noted: Mapping[str, Json], room: int) -> RemovalWords:
    tensors: list[TensorWords] = []
    removed = [one for one in noted["removed"] if isinstance(one, Mapping)]
    for one in removed:
        told = _tensor(one)
        texts = [told.name, told.removed, *(link for chain in told.chains for link in chain)]
        room -= sum(len(escape(text)) + 24 for text in texts) + 80
        if room < 0:
            break
        tensors.append(told)
    left = len(removed) - len(tensors) + _whole(noted.get("left"))
    return RemovalWords(_facts(noted, removed), tuple(tensors), left, _proof(noted))


def _tensor(one: Mapping[str, Json]) -> TensorWords:
    kinds = _kinds(one)
    gone, told = sum(kinds.values()), ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    return TensorWords(
        words.plain(one.get("tensor", ""), 80),
        f"{gone} of {_whole(one.get('size'))}: {told}",
        tuple(
            tuple(words.plain(link, 200) for link in chain)
            for chain in one.get("chains") or []
            if isinstance(chain, list)
        ),
    )


def _facts(noted: Mapping[str, Json], removed: list[Mapping[str, Json]]) -> str:
    cells = sum(sum(_kinds(one).values()) for one in removed)
    tensors = len(removed) + _whole(noted.get("left"))
    told = [f"{words.counted(cells, 'channel')} of {words.counted(tensors, 'computed tensor')}"]
    weights = _whole(noted.get("weights"))
    told += [f"{words.counted(weights, 'weight')} cut"] if weights else []
    for key, what in (("merged", "merged into one"), ("folded", "folded into a bias")):
        told += [f"{_whole(noted[key])} {what}"] if _whole(noted.get(key)) else []
    return ", ".join(told)


def _kinds(one: Mapping[str, Json]) -> dict[str, int]:
    kinds = one.get("is")
    if not isinstance(kinds, Mapping):
        return {}
    return {words.plain(kind, 20): _whole(count) for kind, count in kinds.items()}


def _whole(value: Json) -> int:
    """Notes are free: what is no count counts nothing."""
    return value if isinstance(value, int) else 0


def _proof(noted: Mapping[str, Json]) -> tuple[tuple[str, str], ...]:
    tests = [one for one in noted.get("proof") or [] if isinstance(one, Mapping)]
    return tuple(
        (words.plain(one.get("test", ""), 80), words.plain(one.get("result", ""), 200))
        for one in tests
    )
