"""The recipe's verbs, one file each: the only code that reads and writes artifacts.

A new verb is one new file whose class derives from :class:`Stage`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.progress import Progress
from deploypipe.core.shelf import Shelf
from deploypipe.data import Data
from deploypipe.runtime import Target


@dataclass(frozen=True)
class Desk:
    """All that a stage may lean on; nothing is global.

    ``out`` is an empty directory of the stage's own.  ``reference`` is the model as it came,
    exported and otherwise untouched; its nearest torch ancestor is the teacher.
    """

    out: Path
    data: Data
    reference: Artifact | None
    target: Target
    seed: int
    progress: Progress


@dataclass(frozen=True)
class Estimate:
    """What a stage expects to cost: seconds, bytes of memory and the samples it reads."""

    seconds: float
    memory: int
    samples: Mapping[str, int]
    why: str = ""


class Stage(ABC):
    """A verb of the recipe.  Its options are its constructor's parameters."""

    takes: ClassVar[Kind]
    gives: ClassVar[Kind]
    needs: ClassVar[tuple[str, ...]] = ()
    """Modules of optional extras, checked when the recipe is planned."""
    version: ClassVar[int] = 1
    """Raised when the same options give another result, so that old cache entries are left."""

    @abstractmethod
    def run(self, source: Artifact, desk: Desk) -> Artifact:
        """Read ``source``, write below ``desk.out``, return the new artifact."""

    def reads(self) -> Mapping[str, int | None]:
        """Split name -> how many of its samples the stage reads; None is all of them."""
        return {}


STAGES: Shelf[Stage] = Shelf("stage", "deploypipe.stages", Stage)
