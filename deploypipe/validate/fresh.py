"""Rounds in fresh processes: where memory lies, and what ran before, is new for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploypipe.core import errors
from deploypipe.core.errors import DeploypipeError
from deploypipe.core.files import Json
from deploypipe.core.tensors import TensorSpec
from deploypipe.runtime import TARGETS, Feeds, Target
from deploypipe.validate.interleave import Pace, Round, Turns
from deploypipe.validate.round_json import round_from_json
from deploypipe.validate.signature import Signature
from deploypipe.validate.subject import is_code
from deploypipe.validate.worker import save_feeds
from deploypipe.validate.workers import Workers


@dataclass(frozen=True)
class Fresh:
    """A fresh process for each round over ``models``: label -> file or ``FILE.py:FUNCTION``."""

    models: Mapping[str, str]
    workers: Workers

    def signatures(self) -> dict[str, Signature | None]:
        """What each model takes and gives; None for code, which does not tell.

        Raises:
            Crash: one ends the process that opens it.
            UserError, EnvironmentLacks: as opening it here would.
        """
        found = self._ask({"kind": "describe", "open": list(self.models)})["signatures"]
        return {label: None if told is None else _signature(told) for label, told in found.items()}

    def round(
        self,
        opened: Sequence[str],
        feeds: tuple[Path, list[list[str]]],
        groups: Sequence[Turns],
        pace: Pace,
        seed: str,
    ) -> Round:
        """One round; ``feeds`` are a file and its names, as :func:`saved` gives them.

        Raises:
            Crash: a model ends the process.
        """
        file, names = feeds
        job = {
            "kind": "round",
            "open": list(opened),
            "feeds": names,
            "feeds_file": str(file),
            "groups": [[list(turns.labels), turns.share] for turns in groups],
            "pace": asdict(pace),
            "seed": seed,
        }
        return round_from_json(self._ask(job)["round"])

    def _ask(self, job: Mapping[str, Json]) -> dict[str, Any]:
        answer = self.workers.ask({**job, "models": dict(self.models)})
        if "error" in answer:
            raise _error(**answer["error"])
        return answer


def fresh_on(target: Target, models: Mapping[str, object]) -> Fresh | None:
    """Fresh processes for models on a target; None where only this process knows the target."""
    spec = fresh_target(target)
    if spec is None:
        return None
    names = {label: str(model) for label, model in models.items()}
    fork = target.forkable and not any(is_code(name) for name in names.values())
    return Fresh(names, Workers(spec, fork=fork))


def fresh_target(target: Target) -> dict[str, Any] | None:
    """The spec that rebuilds a target in another process; None where only this one knows it."""
    known = type(target).__module__.startswith(f"{TARGETS.package}.")
    return TARGETS.spec(target) if known else None


def saved(feeds: Sequence[Feeds], folder: Path) -> tuple[Path, list[list[str]]]:
    """Feeds as a file in ``folder``, with the names of each."""
    file = folder / "feeds.npz"
    return file, save_feeds(feeds, file)


def _signature(told: Mapping[str, Json]) -> Signature:
    sides = (
        tuple(TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in told[side])
        for side in ("inputs", "outputs")
    )
    return Signature(*sides)


def _error(kind: str, what: str, where: str | None, then: str | None) -> DeploypipeError:
    known: type[DeploypipeError] = getattr(errors, kind, errors.UserError)
    return known(what, where=where, then=then)
