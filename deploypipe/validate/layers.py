"""Two models layer by layer: where the difference comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from deploypipe.core.decibel import decibel
from deploypipe.core.errors import UserError, did_you_mean
from deploypipe.core.files import Json
from deploypipe.runtime import Feeds
from deploypipe.validate.inside import CHUNK_BYTES, Inner, Inside, chunks

CLIFF_DB = 6.0
"""A layer is a cliff where it has so much less SQNR than what it reads: twice the noise."""

CLEAN_DB = 40.0
"""What it reads counts as no better than this: the first rounding to 8 bits is no cliff."""


@dataclass(frozen=True)
class Layer:
    """A tensor of both models.  ``sqnr_db`` is 10 log10 of signal (the reference) over noise (the
    difference), in decibel; infinite where they are equal, None where the shapes differ (then
    ``fits`` is False) or a value is NaN.  ``drop_db`` is what is lost from the worst of the layers
    that it reads.
    """

    name: str
    candidate: str
    op: str
    node: str
    sqnr_db: float | None
    max_abs_error: float | None
    cosine: float | None
    drop_db: float | None = None
    fits: bool = True

    def to_json(self) -> dict[str, Json]:
        """Infinity is null, and ``equal`` says so."""
        told = {k: None if _unbounded(v) else v for k, v in asdict(self).items()}
        return {**told, "equal": self.sqnr_db == math.inf}


@dataclass(frozen=True)
class LayerComparison:
    """All layers in the order of the candidate's computing, over ``samples`` samples.

    ``of`` is how many tensors the reference has: those without a counterpart are not compared.
    """

    layers: tuple[Layer, ...]
    samples: int
    of: int

    @property
    def worst(self) -> tuple[Layer, ...]:
        """By SQNR, the lowest first; those of other shapes last."""
        return tuple(sorted(self.layers, key=_sqnr))

    @property
    def cliff(self) -> Layer | None:
        """The first layer that loses ``CLIFF_DB`` or more."""
        lost = (layer for layer in self.layers if (layer.drop_db or 0.0) >= CLIFF_DB)
        return next(lost, None)

    def to_json(self) -> dict[str, Json]:
        """The ``layers`` section of a report: rows by SQNR, ``place`` is the order of computing."""
        places = {layer.candidate: place for place, layer in enumerate(self.layers)}
        cliff = self.cliff
        return {
            "samples": self.samples,
            "of": self.of,
            "rows": [{**one.to_json(), "place": places[one.candidate]} for one in self.worst],
            "cliff": None if cliff is None else cliff.to_json(),
            "cliff_db": CLIFF_DB,
        }


def compare_layers(
    reference: Inside,
    candidate: Inside,
    batches: Sequence[Feeds],
    names: Mapping[str, str] | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> LayerComparison:
    """Compare the tensors that ``names`` (reference -> candidate) pairs, default those of equal name.

    Both models are run again and again with other tensors as outputs, so that no more than
    ``chunk_bytes`` of them is held.

    Raises:
        UserError: no tensor has a counterpart, or ``names`` holds one that there is not.
    """
    counterpart = _counterparts(reference, candidate, names)
    paired = [tensor for tensor in candidate.tensors if tensor.name in counterpart]
    rows: list[Layer] = []
    for part in chunks(paired, chunk_bytes):
        rows += _measured(reference, candidate, part, counterpart, batches)
    samples = sum(len(next(iter(feeds.values()))) for feeds in batches)
    compared = tuple(_with_drops(rows, candidate))
    return LayerComparison(compared, samples, len(reference.tensors))


def _counterparts(
    reference: Inside, candidate: Inside, names: Mapping[str, str] | None
) -> dict[str, str]:
    """Tensor of the candidate -> tensor of the reference."""
    theirs = {tensor.name for tensor in reference.tensors}
    mine = {tensor.name for tensor in candidate.tensors}
    for here, there in (names or {}).items():
        for name, known, side in ((here, theirs, "reference"), (there, mine, "candidate")):
            if name not in known:
                hint = did_you_mean(name, list(known)[:20])
                raise UserError(f"the {side} has no tensor '{name}', {hint}", where="names")
    if names:
        return {there: here for here, there in names.items()}
    shared = shared_names(reference, candidate)
    if not shared:
        raise UserError(
            "no tensor inside the two models has the same name",
            where="layers",
            then="Give a map of names, or compare with the file that the candidate was made from",
        )
    return {name: name for name in shared}


def shared_names(reference: Inside, candidate: Inside) -> set[str]:
    """Names that tensors inside both models have."""
    return {one.name for one in reference.tensors} & {one.name for one in candidate.tensors}


class _Sums:
    """Sums over batches for one pair of tensors."""

    def __init__(self) -> None:
        self.signal = self.noise = self.power = self.product = self.error = 0.0
        self.fits = True

    def add(self, reference: np.ndarray, candidate: np.ndarray) -> None:
        if reference.shape != candidate.shape or reference.dtype.kind != "f":
            self.fits = False
            return
        a, b = (side.ravel().astype(np.float64) for side in (reference, candidate))
        difference = b - a
        self.signal += float(a @ a)
        self.noise += float(difference @ difference)
        self.power += float(b @ b)
        self.product += float(a @ b)
        self.error = max(self.error, float(np.abs(difference).max(initial=0.0)))

    def layer(self, tensor: Inner, reference: str) -> Layer:
        names = reference, tensor.name, tensor.op, tensor.node
        bare = Layer(*names, None, None, None, fits=self.fits)
        if not self.fits or not math.isfinite(self.noise):
            return bare
        length = math.sqrt(self.signal * self.power)
        cosine = self.product / length if length > 0 else float(self.signal == self.power)
        return replace(
            bare,
            sqnr_db=decibel(self.signal, self.noise),
            max_abs_error=self.error,
            cosine=cosine,
        )


def _measured(
    reference: Inside,
    candidate: Inside,
    part: Sequence[Inner],
    counterpart: Mapping[str, str],
    batches: Sequence[Feeds],
) -> Iterator[Layer]:
    sums = [_Sums() for _ in part]
    theirs = list(dict.fromkeys(counterpart[tensor.name] for tensor in part))
    with (
        reference.looking(theirs) as there,
        candidate.looking([tensor.name for tensor in part]) as here,
    ):
        for feeds in batches:
            expected, found = there(feeds), here(feeds)
            for one, tensor in zip(sums, part, strict=True):
                one.add(expected[counterpart[tensor.name]], found[tensor.name])
    for one, tensor in zip(sums, part, strict=True):
        yield one.layer(tensor, counterpart[tensor.name])


def _with_drops(rows: Sequence[Layer], candidate: Inside) -> Iterator[Layer]:
    """Each layer with what it loses from the nearest compared tensors before it."""
    found = {row.candidate: row for row in rows}
    before: dict[str, float] = {}  # tensor -> least SQNR of it or of the nearest before it
    for tensor in candidate.tensors:
        reads = min((before.get(name, math.inf) for name in tensor.parents), default=math.inf)
        row = found.get(tensor.name)
        if row is None or row.sqnr_db is None:
            before[tensor.name] = reads
            continue
        before[tensor.name] = row.sqnr_db
        drop = min(reads, CLEAN_DB) - min(row.sqnr_db, CLEAN_DB)
        found[tensor.name] = replace(row, drop_db=drop)
    return iter(found.values())


def _sqnr(layer: Layer) -> tuple[bool, float]:
    return not layer.fits, -math.inf if layer.sqnr_db is None else layer.sqnr_db


def _unbounded(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
