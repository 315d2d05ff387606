"""How good a model's answers are, as one number: to tell which of its variants is better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from deploypipe.runtime import Feeds, Target
from deploypipe.validate import Metric
from deploypipe.validate.inside import opened
from deploypipe.validate.records import Samples, record
from deploypipe.validate.restore import Quality


def by_metric(
    target: Target, samples: Samples, metric: Metric, output: str | None = None
) -> Quality:
    """The metric on labelled samples, with its sign turned where less is better."""
    sign = 1 if metric.higher_is_better else -1

    def score(model: ir.Model) -> float:
        with opened(model, target) as session:
            found = record(session, samples, metric=metric, output=output, keep_bytes=0)
        return sign * found.value

    return score


def by_nearness(target: Target, reference: ir.Model, batches: Sequence[Feeds]) -> Quality:
    """Minus the sum of squared differences of the float outputs from the reference's."""
    expected = _outputs(target, reference, batches)

    def nearness(model: ir.Model) -> float:
        return -sum(
            float(np.square(given[name].astype(np.float64) - value).sum())
            for wanted, given in zip(expected, _outputs(target, model, batches), strict=True)
            for name, value in wanted.items()
            if value.dtype.kind == "f"
        )

    return nearness


def _outputs(
    target: Target, model: ir.Model, batches: Sequence[Feeds]
) -> list[dict[str, np.ndarray]]:
    with opened(model, target) as session:
        return [session(feeds) for feeds in batches]
