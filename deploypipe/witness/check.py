"""Is a channel certificate true?  Every claim is derived again, by executing pieces of both graphs.

A certificate says which cells (one index of one axis of a tensor) of a graph BEFORE are always
zero, one constant, one array or a multiple of another cell, or needed by nothing, and that AFTER is
BEFORE without some of them.
Nothing here knows how such cells are found, or what any op does.  The argument is an induction:

1. A *state* of a tensor is an array in BEFORE's shape: cells of which a content is claimed hold it,
   cells claimed unread hold garbage, all others numbers drawn at random.
2. Each node of BEFORE alone turns states into what is claimed of its outputs: so these claims hold
   whatever the inputs are.  Where only the garbage differs, what is needed does not differ.  (Nodes
   go together where nothing is claimed of the tensor between them and AFTER has none of its name.)
3. For each tensor that both graphs compute, the piece of AFTER between it and the nearest tensors
   of both gives, from states without the removed cells, what the piece of BEFORE gives.  Where both
   pieces are the same and nothing is removed or unread around them, that needs no execution.

Random numbers can be lucky, so this is evidence from several draws, not a proof.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploypipe.core.errors import IntegrityError, UserError, did_you_mean
from deploypipe.witness.certificate import Cell, Certificate, read_certificate
from deploypipe.witness.pieces import (
    Array,
    Graph,
    Piece,
    PieceError,
    dynamic_sizes,
    explained,
    interface,
    open_session,
    random_inputs,
    read_graph,
    run_nodes,
)
from deploypipe.witness.states import (
    LARGE,
    LIKE,
    SMALL,
    VALUES,
    Claims,
    States,
    deviation,
    error_of,
    without,
)
from deploypipe.witness.structure import check_structure

BATCHES = (2, 3)
ROUNDING, HALF_ROUNDING = 1e-5, 2e-3
"""What sums in another order may change, relative to the largest number; where float16 is near."""

WHOLE, COARSE_WHOLE = 1e-4, 2e-2
"""The same for whole models; the second where roundings to float16 or 8 bits may go another way."""


@dataclass(frozen=True)
class Checked:
    """How much was derived again: claimed cells, executed pieces, the largest relative error."""

    claims: int
    pieces: int
    worst_error: float


def check_channels(
    before: Path,
    after: Path,
    certificate: Path,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Checked:
    """Derive every claim of a certificate again and compare both graphs piece by piece.

    ``sizes`` binds names of dynamic sizes; a dynamic batch without one is tried at 2 and 3.

    Raises:
        IntegrityError: a claim does not hold; names the tensor, axis and index, and what was found.
        UserError: a file cannot be read, the certificate is of another format or version, or BEFORE
            does not run at these sizes.
    """
    said, given = read_certificate(Path(certificate)), dict(sizes or {})
    first, second = read_graph(Path(before)), read_graph(Path(after))
    known = dynamic_sizes(first).keys() - {""}
    for name in given.keys() - known:
        raise UserError(f"no size is called '{name}': {did_you_mean(name, known)}", where="--size")
    if interface(first) != interface(second):
        told = f"inputs and outputs are {interface(second)}, BEFORE's {interface(first)}"
        raise IntegrityError(told, where=str(after))
    check = _Check(first, second, said, given, seed)
    check_structure(said, first, check.known, check.after_shapes)
    check.weights()
    check.pieces_of_both()
    check.whole(Path(before), Path(after))
    return Checked(len(said.cells), check.pieces, check.worst_error)


class _Check:
    """Both graphs, what the certificate says of them, and what was found so far.

    ``values`` are BEFORE's tensors of a real run, ``known`` those and weights without their
    content; ``after_values`` AFTER's static ones, which may be shapes that differ from BEFORE's.
    ``relied`` are tensors whose states served both graphs, ``apart`` those that differ, and so must
    not, until a bias behind them is added.
    """

    def __init__(
        self, before: Graph, after: Graph, said: Certificate, sizes: Mapping[str, int], seed: int
    ) -> None:
        self.before, self.after, self.said = before, after, said
        self.sizes, self.seed, self.pieces, self.worst_error = sizes, seed, 0, 0.0
        feeds = self._inputs(BATCHES[0])
        try:
            self.values = run_nodes(before, feeds)
        except PieceError as error:
            then = f"Give its dynamic sizes with --size; now: {_shapes(feeds)}"
            raise UserError(str(error), where="BEFORE", then=then) from error
        self.known = {name: before.like(name) for name in before.initializers} | self.values
        try:
            found = run_nodes(after, feeds)
        except PieceError as error:
            raise IntegrityError(str(error), where="AFTER") from error
        self.relied, self.apart = set[str](), set[str]()
        self.states = States(before, self.values, said.held, said.unread, seed)
        self.after_values = {name: found[name] for name in after.static}
        self.after_shapes = {name: tuple(t.dims) for name, t in after.initializers.items()}
        self.after_shapes |= {name: array.shape for name, array in found.items()}
        claimed = said.held.keys() | said.unread.keys() | before.outputs.keys()
        self.between = before.producer.keys() - before.static - claimed - self.after_shapes.keys()

    def _inputs(self, batch: int) -> dict[str, Array]:
        generator = np.random.default_rng([self.seed, batch])
        return random_inputs(self.before, self.sizes, batch, generator)

    def weights(self) -> None:
        """What is claimed of a weight's content is true."""
        for name, claims in self.said.held.items():
            if name in self.before.initializers:
                self._hold(self.before.array(name), claims, ROUNDING, "the weight has")

    # What pieces of both do to states.

    def pieces_of_both(self) -> None:
        """At each node of BEFORE claims follow, nothing unread is read, AFTER computes the same."""
        stop = self.values.keys() - self.between | self.said.unread.keys()
        computed, done = self.values.keys() - self.before.inputs.keys(), set[str]()
        for node in self.before.nodes:
            outputs = [name for name in node.output if name]
            piece = Piece(
                self.before,
                [name for name in outputs if name not in self.between],
                lambda name: name in stop,
            )
            if self.said.unread.keys() & piece.cuts or self.said.held.keys() & piece.wanted:
                self._node(piece)
            for name in outputs:
                same = name in self.before.static and self.after.constant(name)
                if name in done or name not in self.after_shapes or same:
                    continue
                number = self.after.producer.get(name)
                wanted = [name] if number is None else self.after.nodes[number].output
                done.update(wanted)
                self._segment([name for name in wanted if name in computed], piece)

    def _node(self, piece: Piece) -> None:
        """Claims on outputs follow from those on inputs, and nothing unread is read."""
        unread = [name for name in piece.cuts if name in self.said.unread]
        for draw in (VALUES, LIKE, LARGE):
            first = self._execute(piece, draw)
            if unread and first:
                self._not_read(piece, draw, unread, first, self._execute(piece, draw, None))
        stop = self.values.keys() - self.between - self.before.normalized
        longer = Piece(self.before, piece.wanted, stop.__contains__)
        try:
            self._follow(piece)
        except IntegrityError:
            if not self.before.normalized & {*piece.cuts}:
                raise
            self._follow(longer)  # of rows that sum to 1, which random ones do not

    def _follow(self, piece: Piece) -> None:
        """Claims on outputs follow from states of the inputs."""
        self.pieces += 1
        rounding = self._rounding([*piece.cuts, *piece.wanted])
        by = f"{self.before.node(piece.wanted[0])} gives"
        unread = self.said.unread.keys() & piece.cuts
        for draw in (VALUES, LIKE, LARGE):
            for fresh in ((), None) if unread else ((),):
                for name, array in self._execute(piece, draw, fresh).items():
                    self._hold(array, self.said.held.get(name, {}), rounding, by)

    def _hold(self, array: Array, claims: Claims, rounding: float, by: str) -> None:
        error, wrong = deviation(array, claims, rounding)
        if wrong:
            cell, found = wrong
            what = f"is said to be always {cell.told()}, but {by} {found:.7g}"
            raise IntegrityError(what, where=str(cell))
        self.worst_error = max(self.worst_error, error)

    def _rounding(self, names: Iterable[str]) -> float:
        half = any(self.known[name].dtype == np.float16 for name in names)
        return HALF_ROUNDING if half else ROUNDING

    def _execute(
        self, piece: Piece, draw: int, fresh: Collection[Cell] | None = ()
    ) -> dict[str, Array]:
        """What a piece of BEFORE gives for states; nothing where it cannot run on such numbers.

        Kept in the piece, which a node and the segment behind it may have in common.
        """
        key = (draw, fresh is None)
        if not fresh and key in piece.found:
            return piece.found[key]
        try:
            found = piece({name: self.states.draw(name, draw, fresh) for name in piece.cuts})
            if not fresh:
                piece.found[key] = found
            return found
        except PieceError as error:
            if draw != VALUES:
                return {}
            what = f"cannot be computed where all claims hold: {error}"
            raise IntegrityError(what, where=f"'{piece.wanted[0]}'") from error

    def _not_read(
        self,
        piece: Piece,
        draw: int,
        unread: Iterable[str],
        first: Mapping[str, Array],
        other: Mapping[str, Array],
    ) -> None:
        """Raise if garbage in unread cells changes what is needed; name the cell that does."""
        changed = self._changed(first, other)
        if changed is None:
            return
        cells = [
            c for name in unread for axes in self.said.unread[name].values() for c in axes.values()
        ]
        for cell in cells:
            alone = self._changed(first, self._execute(piece, draw, {cell}))
            if alone is not None:
                raise IntegrityError(f"is said to be unread, but changes {alone}", where=str(cell))
        raise IntegrityError(f"with others it changes {changed}", where=str(cells[0]))

    def _changed(self, first: Mapping[str, Array], other: Mapping[str, Array]) -> str | None:
        """The first needed number that is not the same to the last bit."""
        for name in first.keys() & other.keys():
            if np.array_equal(other[name], first[name]):
                continue
            error = error_of(other[name], first[name])
            for claims in (self.said.unread, self.said.held):
                for axis, cells in claims.get(name, {}).items():
                    np.moveaxis(error, axis, 0)[list(cells)] = 0
            if error.any():
                at = [int(i) for i in np.unravel_index(error.argmax(), error.shape)]
                return f"'{name}' at {at}, which {self.before.node(name)} computes"
        return None

    def _segment(self, wanted: list[str], node: Piece) -> None:
        """These tensors are in AFTER what they are in BEFORE, cells apart."""
        stop = self.values.keys() - self.before.static - self.apart | self.after.static
        after = Piece(self.after, wanted, lambda name: name in stop)
        reached = {*after.cuts} - self.after.static
        settled, static = self.states.settled, self.before.static
        before = Piece(self.before, wanted, lambda n: n in reached or n in static or settled(n))
        self.relied.update(reached)
        if before.same_as(after) and self._untouched([*after.cuts, *wanted]):
            return
        if node.same_as(before) and node.wanted == wanted:
            before = node
        self.pieces += 2
        rounding = self._rounding([*reached, *wanted])
        for draw in (VALUES, LIKE, SMALL):
            expected = self._execute(before, draw)
            if not expected:
                continue
            try:
                found = after({name: self._after_state(name, draw) for name in after.cuts})
            except PieceError as error:
                what = f"AFTER cannot compute it: {error}"
                raise IntegrityError(what, where=f"'{wanted[0]}'") from error
            for name in wanted:
                try:
                    self._agree(name, expected[name], found[name], rounding)
                except IntegrityError:
                    if name not in self.said.shifted - self.relied - self.before.outputs.keys():
                        raise
                    self.apart.add(name)  # a bias behind it makes good for it: look from there

    def _untouched(self, names: Iterable[str]) -> bool:
        """Whether both graphs have the same states of these tensors."""
        return not any(
            name in self.said.removed
            or name in self.said.unread
            or (name in self.after.static) != (name in self.before.static)
            or (name in self.after.static and not _same(self.after_values[name], self.values[name]))
            for name in names
        )

    def _after_state(self, name: str, draw: int) -> Array:
        if name in self.after.static:
            return self.after_values[name]
        state = self.states.draw(name, draw, None, after=True)
        return without(state, self.said.removed.get(name, {}))

    def _agree(self, name: str, expected: Array, found: Array, rounding: float) -> None:
        """Raise where a kept and needed number differs by more than rounding."""
        removed, shape = self.said.removed.get(name, {}), expected.shape
        expected = without(expected, removed)
        if found.shape != expected.shape:
            what = f"is {list(found.shape)} in AFTER, {list(expected.shape)} would be right"
            raise IntegrityError(what, where=f"'{name}'")
        if found.dtype != expected.dtype:
            raise IntegrityError(f"is {found.dtype}, not {expected.dtype}", where=f"'{name}'")
        error, needed = error_of(found, expected), expected
        if name in self.said.unread:
            mask = without(self._needed(name, shape), removed)
            error, needed = np.where(mask, error, 0), expected[mask]
        if needed.size and not np.isfinite(needed).any():
            raise IntegrityError("is nowhere finite, so nothing can be compared", where=f"'{name}'")
        worst = float(error.max(initial=0))
        if not worst:
            return
        size = max(_size(needed), 0.1 * _size(self.values[name]))
        if worst > (allowed := rounding * size if found.dtype.kind == "f" else 0.0):
            at = np.unravel_index(error.argmax(), error.shape)
            number = without(np.arange(math.prod(shape)).reshape(shape), removed)[at]
            where = [int(i) for i in np.unravel_index(number, shape)]
            raise IntegrityError(
                f"is {found[at]:.7g} in AFTER, {expected[at]:.7g} in BEFORE; rounding explains "
                f"{allowed:.1g}",
                where=f"'{name}' at {where} (as BEFORE counts)",
            )
        self.worst_error = max(self.worst_error, worst / size)

    def _needed(self, name: str, shape: tuple[int, ...]) -> Array:
        needed = np.ones(shape, bool)
        for axis, cells in self.said.unread.get(name, {}).items():
            np.moveaxis(needed, axis, 0)[list(cells)] = False
        return needed

    def whole(self, before: Path, after: Path) -> None:
        """Both files give the same on random inputs, at two batch sizes if any will do."""
        kinds = {array.dtype for array in self.values.values()}
        coarse = any(kind in (np.float16, np.int8, np.uint8) for kind in kinds)
        batches = dynamic_sizes(self.before).items()
        free = any(batch and name not in self.sizes for name, batch in batches)
        feeds = [self._inputs(batch) for batch in (BATCHES if free else BATCHES[:1])]
        expected = _run_file(before, feeds)
        for given, want, got in zip(feeds, expected, _run_file(after, feeds), strict=True):
            for name, right in (want or {}).items():  # empty: BEFORE is for other batches
                error = float(error_of(got[name], right).max(initial=0)) if got else np.inf
                if error > (COARSE_WHOLE if coarse else WHOLE) * _size(right):
                    what = f"differs by {error:.3g} in the whole models, for {_shapes(given)}"
                    raise IntegrityError(what, where=f"output '{name}'")


def _run_file(file: Path, feeds: Iterable[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """All outputs of a file for each of some inputs; nothing for those that it does not take."""
    session = open_session(file, optimized=True)
    names = [output.name for output in session.get_outputs()]
    found = []
    for given in feeds:
        try:
            with explained():
                found.append(dict(zip(names, session.run(names, given), strict=True)))
        except PieceError:
            found.append({})
    return found


def _size(array: Array) -> float:
    """The largest finite magnitude."""
    size = np.abs(array).max(initial=0) if array.dtype.kind == "f" else np.inf
    return float(size if np.isfinite(size) else np.abs(array[np.isfinite(array)]).max(initial=0))


def _same(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def _shapes(feeds: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
