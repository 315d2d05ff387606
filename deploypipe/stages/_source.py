"""The model as it came: the first artifact of every run.  It is no step of a recipe."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from deploypipe.core.artifact import Kind
from deploypipe.data import Data, Split
from deploypipe.runtime import Target
from deploypipe.stages import Stage


class Source(Stage):
    """Where a run starts."""

    @property
    def kind(self) -> Kind:
        """What the run starts from."""
        return self.gives

    def try_out(self, data: Data, target: Target, labelled: bool = True) -> None:
        """Check that the model takes the samples and, where ``labelled``, gives the labels' classes.

        Raises:
            UserError: says what does not fit.
        """
        split = data.split("validation")
        feeds = split.batch(range(self.batch(split, target))).inputs
        shape = self.answer_shape(feeds, target)
        classes = labelled and split.labels is not None and split.labels.dtype.kind == "i"
        if classes and len(shape) == 2:
            data.check_labels(shape[1])

    def batch(self, split: Split, target: Target) -> int:
        """How many samples :meth:`try_out` feeds at once."""
        return min(2, len(split))

    @abstractmethod
    def answer_shape(self, feeds: dict[str, np.ndarray], target: Target) -> tuple[int, ...]:
        """Shape of the first output for ``feeds``."""
