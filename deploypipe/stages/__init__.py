"""The recipe's verbs, one file each: the only code that reads and writes artifacts.

A new verb is one new file whose class derives from :class:`Stage`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.files import Json
from deploypipe.core.progress import Progress
from deploypipe.core.shelf import Shelf
from deploypipe.data import Data
from deploypipe.runtime import Target


@dataclass(frozen=True)
class Desk:
    """All that a stage may lean on; nothing is global.

    ``out`` is an empty directory of the stage's own.  ``reference`` is the model as it came,
    exported and otherwise untouched; its nearest torch ancestor is the teacher.  ``budget`` is the
    recipe's, as plain JSON.  What may serve again for other options lies in ``kept``.
    """

    out: Path
    data: Data
    reference: Artifact | None
    target: Target
    seed: int
    progress: Progress
    name: str = "model"
    kept: Path | None = None
    budget: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """What a stage will do, for the plan: counts, not seconds.

    ``samples``: split -> samples read.  ``trained`` and ``forwarded`` count samples through the
    torch model with and without gradients, ``answered`` samples through ONNX sessions; ``seconds``
    is for what does not grow with samples.
    """

    samples: Mapping[str, int] = field(default_factory=dict)
    trained: int = 0
    forwarded: int = 0
    answered: int = 0
    seconds: float = 1.0


class Stage(ABC):
    """A verb of the recipe.  Its options are its constructor's parameters."""

    takes: ClassVar[Kind]
    gives: ClassVar[Kind]
    needs: ClassVar[tuple[str, ...]] = ()
    """Optional packages, checked when the recipe is planned."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Packages whose version changes the result: part of the cache key."""
    version: ClassVar[int] = 1
    """Raised when the same options give another result, so that old cache entries are left."""
    measures: ClassVar[bool] = False
    """Whether the result holds times of this machine: then the machine is part of the cache key."""

    judges: ClassVar[bool] = False
    """Whether the result depends on the recipe's budget: then that is part of the cache key."""

    @abstractmethod
    def run(self, source: Artifact, desk: Desk) -> Artifact:
        """Read ``source``, write below ``desk.out``, return the new artifact."""

    def work(self, data: Data) -> Work:
        """What there is to do.

        Raises:
            UserError: the data lack a split, or samples, that the stage needs.
        """
        return Work()

    def scores_labels(self) -> bool | None:
        """Whether answers are held against labels, so that those have to be classes of the model;
        None if there are no answers here."""
        return None


STAGES: Shelf[Stage] = Shelf("stage", "deploypipe.stages", Stage)
