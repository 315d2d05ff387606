"""What every step by itself did to the metric, on the same samples and in pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from deploypipe.core.files import Json
from deploypipe.validate.accuracy import accuracy_of
from deploypipe.validate.pairs import Pairs


def drops(pairs: Pairs, rows: Mapping[str, np.ndarray], seed: int) -> dict[str, dict[str, Json]]:
    """Label -> ``drop`` against the first and ``step_drop`` against the step before.

    ``rows`` are the metric's rows of every step, in order; ``pairs`` says of which samples.
    """
    labels = list(rows)
    return {
        label: {
            "drop": _drop(pairs, rows[labels[0]], rows[label], seed),
            "step_drop": _drop(pairs, rows[before], rows[label], seed),
        }
        for before, label in pairwise(labels)
    }


def _drop(pairs: Pairs, before: np.ndarray, after: np.ndarray, seed: int) -> Json:
    table = replace(pairs, reference_rows=before, candidate_rows=after)
    told = accuracy_of(table, seed=seed).to_json()
    return {"value": told["drop_points"], "low": told["low"], "high": told["high"]}
