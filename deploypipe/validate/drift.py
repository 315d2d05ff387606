"""How far the candidate's answers moved from the reference's."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from deploypipe.core.decibel import decibel
from deploypipe.core.files import Json
from deploypipe.validate.pairs import Pairs, pair
from deploypipe.validate.records import Records

WORST = 20


@dataclass(frozen=True)
class Worst:
    """A sample that moved far: its largest absolute ``error``, ``kl`` in nats, and the answers.

    ``error`` is None where the candidate gives new NaN or infinity, which is the worst of all;
    ``kl``, the predicted classes and the ``label`` are None where there are none.
    """

    id: str
    error: float | None
    sqnr_db: float | None
    kl: float | None
    label: float | None
    reference: int | None
    candidate: int | None


@dataclass(frozen=True)
class Drift:
    """Distances over ``samples`` pairs of raw outputs; class-wise ones are None without classes.

    ``top1_agreement`` is a share in 0..1; a sample with new NaN or infinity does not agree.
    ``sqnr_db`` is 10 log10 of signal (the reference) over noise (the difference), in decibel;
    infinite for equal outputs.  KL is of the candidate's softmax from the reference's, in nats.
    """

    samples: int
    top1_agreement: float | None
    sqnr_db: float | None
    max_abs_error: float | None
    mean_kl: float | None
    p99_kl: float | None
    reference_nonfinite: int
    candidate_nonfinite: int
    new_nonfinite: int
    """Samples with NaN or infinity from the candidate where the reference has none."""
    worst: tuple[str, ...]
    """Ids of the samples that moved most, worst first: those whose answer changed before others."""
    new_nonfinite_values: int = 0
    """Single values, over all samples and outputs, that are newly NaN or infinity."""
    first_nonfinite: str | None = None
    """The node of the candidate that makes the first of them."""
    mean_cosine: float | None = None
    least_cosine: float | None = None
    flips_to_wrong: int | None = None
    flips_to_right: int | None = None
    flips_between_wrong: int | None = None
    """Samples that change from one wrong class to another."""
    worst_samples: tuple[Worst, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """The ``drift`` section of a report; infinity is null."""
        told: dict[str, Json] = {**asdict(self), "worst": list(self.worst)}
        told["worst_samples"] = [_plain(asdict(one)) for one in self.worst_samples]
        return _plain(told)


def measure_drift(reference: Records, candidate: Records) -> Drift:
    """Compare two models' records: distances over the raw outputs that both kept.

    Raises:
        UserError: other samples, or outputs of another shape.
    """
    return drift_of(pair(reference, candidate))


def drift_of(pairs: Pairs, first_nonfinite: str | None = None) -> Drift:
    """What the table says of the distances; agreement and NaN are over all samples.

    Samples with NaN or infinity on either side are left out of the distances.
    """
    moved = pairs.moved
    known = np.isfinite(moved.error)
    kl, cosine = moved.kl[known & np.isfinite(moved.kl)], moved.cosine[known]
    worst = _worst(pairs)
    return Drift(
        samples=int(known.sum()),
        top1_agreement=_agreement(pairs),
        sqnr_db=_decibel(moved.signal[known], moved.noise[known]),
        max_abs_error=float(moved.error[known].max()) if known.any() else None,
        mean_kl=float(kl.mean()) if len(kl) else None,
        p99_kl=float(np.percentile(kl, 99)) if len(kl) else None,
        reference_nonfinite=int((pairs.reference_nonfinite > 0).sum()),
        candidate_nonfinite=int((pairs.candidate_nonfinite > 0).sum()),
        new_nonfinite=int((pairs.new_nonfinite > 0).sum()),
        worst=tuple(one.id for one in worst),
        new_nonfinite_values=int(pairs.new_nonfinite.sum()),
        first_nonfinite=first_nonfinite,
        mean_cosine=float(cosine.mean()) if len(cosine) else None,
        least_cosine=float(cosine.min()) if len(cosine) else None,
        **_flips(pairs),
        worst_samples=worst,
    )


def _decibel(signal: np.ndarray, noise: np.ndarray) -> float | None:
    """Of the sums; None without samples."""
    return decibel(float(signal.sum()), float(noise.sum())) if len(signal) else None


def _agreement(pairs: Pairs) -> float | None:
    was, now = pairs.reference_predictions, pairs.candidate_predictions
    if was is None or now is None:
        return None
    broken = pairs.new_nonfinite > 0  # their largest value means nothing
    return float(((was == now) & ~broken).mean())


def _flips(pairs: Pairs) -> dict[str, int]:
    """Changes of the predicted class against the labels; empty without classes or labels."""
    was, now = pairs.reference_predictions, pairs.candidate_predictions
    labels = pairs.labels.reshape(len(pairs), -1)
    if was is None or now is None or labels.shape[1] != 1 or not np.isfinite(labels).all():
        return {}
    right, still = was == labels[:, 0], (now == labels[:, 0]) & ~(pairs.new_nonfinite > 0)
    return {
        "flips_to_wrong": int((right & ~still).sum()),
        "flips_to_right": int((~right & still).sum()),
        "flips_between_wrong": int((~right & ~still & (was != now)).sum()),
    }


def _worst(pairs: Pairs) -> tuple[Worst, ...]:
    """New NaN or infinity first, then other answers than the reference's, then by error."""
    error = np.where(pairs.new_nonfinite > 0, np.inf, np.nan_to_num(pairs.moved.error, nan=0.0))
    was, now = pairs.reference_predictions, pairs.candidate_predictions
    flipped = was != now if was is not None and now is not None else np.zeros(len(pairs), bool)
    broken = np.isinf(error)
    order = np.lexsort((-error, ~(flipped | broken), ~broken))
    return tuple(_told(pairs, int(i)) for i in order[error[order] > 0][:WORST])


def _told(pairs: Pairs, row: int) -> Worst:
    moved, label = pairs.moved, pairs.labels[row]
    was, now = pairs.reference_predictions, pairs.candidate_predictions
    return Worst(
        id=pairs.ids[row],
        error=_finite(moved.error[row]),
        sqnr_db=_finite(_decibel(moved.signal[row : row + 1], moved.noise[row : row + 1])),
        kl=_finite(moved.kl[row]),
        label=float(label.reshape(-1)[0]) if label.size == 1 and np.isfinite(label) else None,
        reference=None if was is None else int(was[row]),
        candidate=None if now is None else int(now[row]),
    )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _plain(told: dict[str, Json]) -> dict[str, Json]:
    return {k: None if _unbounded(value) else value for k, value in told.items()}


def _unbounded(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
