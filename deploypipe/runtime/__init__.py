"""ONNX + target -> something that answers, and where each of its nodes really ran.

A new target is one new file in ``targets/`` whose class derives from :class:`Target`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import numpy as np

from deploypipe.core.files import Json
from deploypipe.core.model_parts import ModelParts
from deploypipe.core.shelf import Shelf
from deploypipe.core.tensors import TensorSpec
from deploypipe.runtime.host import host
from deploypipe.runtime.placement import Placement

__all__ = ["TARGETS", "Feeds", "Placement", "Session", "Target", "host"]

Feeds = Mapping[str, np.ndarray]
"""Input name -> array, one batch."""


class Session(ABC):
    """A loaded model that answers.  Use it in a ``with`` block; it holds memory and threads."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    environment: Mapping[str, Json]
    """What the answers and the times depend on: provider, versions, threads, spinning."""

    @abstractmethod
    def __call__(self, feeds: Feeds) -> dict[str, np.ndarray]:
        """Answer one batch: output name -> array.

        Raises:
            UserError: an input is missing, unknown or of another dtype or shape.
        """

    @abstractmethod
    def prepare(self, feeds: Feeds) -> Callable[[], object]:
        """Check ``feeds`` once and return the bare run on them: what a clock should see.

        The run takes its inputs from host memory and is over when its outputs are there.
        """

    def prepare_on_device(self, feeds: Feeds) -> Callable[[], object]:
        """As :meth:`prepare`, with inputs and outputs in the memory of the device that computes.

        The run is over when the device is done; on a processor it is the same as :meth:`prepare`.
        """
        return self.prepare(feeds)

    @abstractmethod
    def placement(self) -> list[Placement]:
        """Where each node ran, in the order of execution.

        Needs a session opened with ``profile=True`` that has answered at least once.  Profiling
        ends here: later runs are not part of it.
        """

    @abstractmethod
    def close(self) -> None:
        """Give memory and threads back; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Target(ABC):
    """A kind of device and the software that drives it.  Options are the constructor's."""

    provider: ClassVar[str] = ""
    """What the software calls itself, such as an execution provider of ONNX Runtime."""
    channel_block: ClassVar[int] = 1
    """Channels that its kernels take at a time: fewer than a full block gain nothing."""
    forkable: ClassVar[bool] = False
    """Whether a process that has loaded the software, and opened nothing, may be forked."""

    @property
    def most_streams(self) -> int:
        """Calls at a time into which its threads can be divided: more is done than in one call, where
        many an operator keeps but one thread busy."""
        return 1

    def divided(self, streams: int) -> Target:
        """This target with a share of its threads, for each of so many calls at a time."""
        assert streams == 1, "it takes one call at a time"
        return self

    @abstractmethod
    def missing(self) -> str | None:
        """None if usable here, else one sentence with what to install."""

    @abstractmethod
    def open(
        self,
        model: Path | bytes | ModelParts,
        *,
        profile: bool = False,
        optimized: Path | None = None,
    ) -> Session:
        """Load a model.

        Args:
            model: An ONNX file (external data beside it), the bytes of one without any, or its
                parts, whose weights are then not copied.
            profile: Note where every node runs, for :meth:`Session.placement`.
            optimized: Where to write the graph that the runtime made of the model; of parts,
                without the large weights.

        Raises:
            EnvironmentLacks: the target is missing, or would have fallen back to another.
            UserError: the model cannot be loaded; tells the runtime's reason.
        """


TARGETS: Shelf[Target] = Shelf("target", "deploypipe.runtime.targets", Target)
