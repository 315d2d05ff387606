"""How far the candidate's answers moved from the reference's, labels aside."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from deploypipe.core.errors import UserError
from deploypipe.core.files import Json
from deploypipe.validate.records import Records, check_same_samples

WORST = 20


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
    """Samples with NaN or infinity from the candidate and none from the reference."""
    worst: tuple[str, ...]
    """Ids of the samples that moved most, worst first."""

    def to_json(self) -> dict[str, Json]:
        """The ``drift`` section of a report; infinity is null."""
        told: dict[str, Json] = {**asdict(self), "worst": list(self.worst)}
        return {k: None if _unbounded(value) else value for k, value in told.items()}


def measure_drift(reference: Records, candidate: Records) -> Drift:
    """Compare the raw outputs that both records kept; agreement is over all samples.

    Samples with NaN or infinity on either side are counted and left out of the distances.

    Raises:
        UserError: other samples, or outputs of another shape.
    """
    check_same_samples(reference, candidate)
    theirs, mine = _kept(reference, candidate)
    finite = np.isfinite(theirs).all(axis=1) & np.isfinite(mine).all(axis=1)
    ids = np.array(reference.ids[: len(theirs)], dtype=object)[finite]
    theirs, mine = theirs[finite], mine[finite]
    difference = np.abs(mine - theirs)
    divergence = _kl(theirs, mine) if reference.predictions is not None else None
    moved = difference.max(axis=1) if difference.size else np.zeros(len(difference))
    order = np.argsort(-moved, kind="stable")[:WORST]
    return Drift(
        samples=len(theirs),
        top1_agreement=_agreement(reference, candidate),
        sqnr_db=_sqnr(theirs, difference),
        max_abs_error=float(moved.max()) if len(moved) else None,
        mean_kl=float(divergence.mean()) if divergence is not None and len(divergence) else None,
        p99_kl=_p99(divergence),
        reference_nonfinite=int(reference.nonfinite.sum()),
        candidate_nonfinite=int(candidate.nonfinite.sum()),
        new_nonfinite=int((candidate.nonfinite & ~reference.nonfinite).sum()),
        worst=tuple(str(ids[i]) for i in order if moved[i] > 0),
    )


def _kept(reference: Records, candidate: Records) -> tuple[np.ndarray, np.ndarray]:
    """Raw outputs float64 [samples, values] of the samples that both sides kept."""
    if reference.outputs.shape[1:] != candidate.outputs.shape[1:]:
        raise UserError(
            f"the outputs differ in shape: {list(reference.outputs.shape[1:])} and "
            f"{list(candidate.outputs.shape[1:])} a sample",
            where="drift",
        )
    n = min(len(reference.outputs), len(candidate.outputs))
    both = (reference.outputs[:n], candidate.outputs[:n])
    width = math.prod(reference.outputs.shape[1:])
    theirs, mine = (side.reshape(n, width).astype(np.float64) for side in both)
    return theirs, mine


def _agreement(reference: Records, candidate: Records) -> float | None:
    if reference.predictions is None or candidate.predictions is None:
        return None
    broken = candidate.nonfinite & ~reference.nonfinite  # their largest value means nothing
    return float(((reference.predictions == candidate.predictions) & ~broken).mean())


def _sqnr(signal: np.ndarray, noise: np.ndarray) -> float | None:
    power, error = float((signal**2).sum()), float((noise**2).sum())
    if error == 0:
        return math.inf if len(signal) else None
    return 10 * math.log10(power / error) if power > 0 else -math.inf


def _kl(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """KL(reference || candidate) of the softmax per sample, in nats."""
    p, q = _log_softmax(reference), _log_softmax(candidate)
    return np.asarray(np.maximum((np.exp(p) * (p - q)).sum(axis=1), 0.0))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _p99(values: np.ndarray | None) -> float | None:
    return float(np.percentile(values, 99)) if values is not None and len(values) else None


def _unbounded(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
