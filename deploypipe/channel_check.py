"""Is a channel certificate true?  Every claim is derived again, by executing pieces of both graphs.

A certificate says which cells (one index of one axis of a tensor) of a graph BEFORE are always
zero, always one constant, or needed by nothing, and that AFTER is BEFORE without some of them.
Nothing here knows how such cells are found, or what any op does.  The argument is an induction:

1. A *state* of a tensor is an array in BEFORE's shape: cells claimed zero or constant hold their
   value, cells claimed unread hold garbage, all others numbers drawn at random.
2. Each node of BEFORE alone turns states into what is claimed of its outputs: so the constants hold
   whatever the inputs are.  Where only the garbage differs, what is needed does not differ.  (Nodes
   go together where nothing is claimed of the tensor between them and AFTER has none of its name.)
3. For each tensor that both graphs compute, the piece of AFTER between it and the nearest tensors
   of both gives, from states without the removed cells, what the piece of BEFORE gives.

Random numbers can be lucky, so this is evidence from several draws, not a proof.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploypipe.channel_certificate import (
    Cell,
    Certificate,
    States,
    by_tensor,
    constants,
    error_of,
    off,
    read_certificate,
    without,
)
from deploypipe.channel_pieces import (
    LARGE,
    LIKE,
    SMALL,
    VALUES,
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
from deploypipe.core.errors import IntegrityError, UserError, did_you_mean

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

    ``sizes`` binds names of dynamic sizes; a dynamic batch that it does not name is tried at 2 and 3.

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
    check.structure()
    check.nodes()
    check.segments()
    check.whole(Path(before), Path(after))
    return Checked(len(said.removed) + len(said.unread), check.pieces, check.worst_error)


class _Check:
    """Both graphs, what the certificate says of them, and what was found so far.

    ``values`` are BEFORE's tensors of a real run; ``after_values`` AFTER's static ones, which may be
    shapes that differ from BEFORE's.
    """

    def __init__(
        self, before: Graph, after: Graph, said: Certificate, sizes: Mapping[str, int], seed: int
    ) -> None:
        self.before, self.after, self.said = before, after, said
        self.sizes, self.seed, self.pieces, self.worst_error = sizes, seed, 0, 0.0
        cells = [*said.removed, *said.unread]
        by_tensor(cells)  # raises if one is listed twice
        self.removed = by_tensor(said.removed)
        self.fixed = by_tensor(cell for cell in cells if cell.what in ("zero", "constant"))
        self.unread = by_tensor(cell for cell in cells if cell.what == "unread")
        feeds = self._inputs(BATCHES[0])
        try:
            self.values = run_nodes(before, feeds)
        except PieceError as error:
            then = f"Give its dynamic sizes with --size; now: {_shapes(feeds)}"
            raise UserError(str(error), where="BEFORE", then=then) from error
        try:
            found = run_nodes(after, feeds)
        except PieceError as error:
            raise IntegrityError(str(error), where="AFTER") from error
        self.states = States(before, self.values, self.fixed, self.unread, seed)
        self.after_values = {name: found[name] for name in after.static}
        self.after_shapes = {name: tuple(t.dims) for name, t in after.initializers.items()}
        self.after_shapes |= {name: array.shape for name, array in found.items()}
        claimed = self.fixed.keys() | self.unread.keys() | before.outputs.keys()
        self.between = before.producer.keys() - before.static - claimed - self.after_shapes.keys()

    def _inputs(self, batch: int) -> dict[str, Array]:
        generator = np.random.default_rng([self.seed, batch])
        return random_inputs(self.before, self.sizes, batch, generator)

    # What can be seen without states.

    def structure(self) -> None:
        """Claims are about cells that there are, and AFTER has the others."""
        for name, axis, size in self.said.sizes:
            shape = self._like(name).shape
            if (size,) != shape[axis : axis + 1]:
                raise IntegrityError(
                    f"is said to have {size} cells, of {list(shape)}", where=f"'{name}' axis {axis}"
                )
        for cell in (*self.said.removed, *self.said.unread):
            wrong = self._wrong(cell, self._like(cell.tensor))
            if wrong:
                raise IntegrityError(wrong, where=str(cell))
        for name, axes in self.fixed.items():
            if name in self.before.initializers:
                self._hold(self.before.array(name), axes, ROUNDING, "the weight has")
        for name in self.said.replaced:
            self._like(name)
        for cell in self.said.compensated:
            claim = cell.among(self.fixed)
            if claim is None or claim.value != cell.value:
                raise IntegrityError(
                    f"is compensated as {cell.value}, not claimed", where=str(cell)
                )
        for name, shape in self.after_shapes.items():
            if name in self.values or name in self.before.initializers:
                self._same_shape(name, self._like(name), shape)

    def _like(self, name: str) -> Array:
        """An array of the shape and dtype of a tensor of BEFORE, of whatever content."""
        if name not in self.values and name not in self.before.initializers:
            raise IntegrityError("BEFORE has no such tensor", where=f"'{name}'")
        return self.values[name] if name in self.values else self.before.like(name)

    def _wrong(self, cell: Cell, like: Array) -> str | None:
        """Why a claim cannot be true, as far as that can be seen without data."""
        name, constant = cell.tensor, self.before.constant(cell.tensor)
        if not (0 <= cell.axis < like.ndim and 0 <= cell.index < like.shape[cell.axis]):
            return f"is outside of the shape {list(like.shape)}"
        if name in self.before.outputs:
            return "belongs to an output, of which everything is needed"
        if cell.what == "cut" and not constant:
            return "is computed from the inputs: 'cut' is no reason to remove it"
        if cell.what in ("zero", "constant") and name in self.before.inputs:
            return "belongs to an input, which can be anything"
        limits = np.iinfo(like.dtype) if like.dtype.kind in "iu" else None
        if limits and not (limits.min <= cell.value <= limits.max and cell.value % 1 == 0):
            return f"is {like.dtype}, which cannot be {cell.value}"
        return None

    def _same_shape(self, name: str, like: Array, after: tuple[int, ...]) -> None:
        removed, constant = self.removed.get(name, {}), self.before.constant(name)
        if constant and like.dtype == np.int64 and not removed:
            return  # a shape or indices, of which AFTER may need others
        if like.ndim != len(after):
            raise IntegrityError(f"is {list(after)}, BEFORE {list(like.shape)}", where=f"'{name}'")
        for axis, (old, new) in enumerate(zip(like.shape, after, strict=True)):
            cells = len(removed.get(axis, {}))
            grouped = constant and axis == 1 and not cells and new < old
            if new != old - cells and not (grouped and self._in_groups(name)):
                raise IntegrityError(
                    f"has {old} cells before and {new} after; {cells} are listed as removed",
                    where=f"'{name}' axis {axis}",
                )

    def _in_groups(self, name: str) -> bool:
        """Whether a weight goes to a node with groups, which counts axis 1 within a group."""
        pairs = zip(self.before.nodes, self.before.reads, strict=True)
        nodes = [node for node, reads in pairs if name in reads]
        outputs = [out for node in nodes for out in node.output if out in self.before.static]
        return any(a.name == "group" and a.i > 1 for node in nodes for a in node.attribute) or any(
            map(self._in_groups, outputs)
        )

    # What the nodes of BEFORE do to states.

    def nodes(self) -> None:
        """At each node of BEFORE zeros and constants follow, and nothing unread is read."""
        stop = self.values.keys() - self.between | self.unread.keys()
        guesses = self._guesses([cell.tensor for cell in self.said.takers])
        for node in self.before.nodes:
            outputs = [name for name in node.output if name and name not in self.between]
            hopes = [cell for name in outputs for cell in guesses.get(name, ())]
            piece = Piece(self.before, outputs, lambda name: name in stop)
            if hopes or self.unread.keys() & piece.cuts or self.fixed.keys() & outputs:
                self._node(piece, hopes)
        for cell in self.said.takers:
            if cell.among(self.removed) or not cell.among(self.fixed):
                what = "takes over constants, but is removed or not always a constant itself"
                raise IntegrityError(what, where=str(cell))

    def _guesses(self, names: Iterable[str]) -> dict[str, list[Cell]]:
        """Kept cells that are constant in one run, of these tensors and of those before them.

        The certificate does not list them, but a kept constant that takes over others rests on them.
        """
        found: dict[str, list[Cell]] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in found or name not in self.before.producer or name in self.before.static:
                continue
            value = self.values[name]
            found[name] = [c for axis in range(value.ndim) for c in constants(name, value, axis)]
            found[name] = [
                c for c in found[name] if not c.among(self.fixed) and not c.among(self.unread)
            ]
            if found[name] or name in self.between:
                waiting += self.before.reads[self.before.producer[name]]
        return found

    def _node(self, piece: Piece, hopes: list[Cell]) -> None:
        self.pieces += 1
        unread = [name for name in piece.cuts if name in self.unread]
        rounding = self._rounding([*piece.cuts, *piece.wanted])
        by = f"{self.before.node(piece.wanted[0])} gives"
        for draw in (VALUES, LIKE, LARGE):
            first = self._execute(piece, draw)
            for name, array in first.items():
                self._hold(array, self.fixed.get(name, {}), rounding, by)
            hopes = [c for c in hopes if not first or off(first[c.tensor], c, rounding)[1] is None]
            if unread and first:
                other = self._execute(piece, draw, None)
                for name, array in other.items():
                    self._hold(array, self.fixed.get(name, {}), rounding, by)
                self._not_read(piece, draw, unread, first, other)
        for cell in hopes:
            self.fixed.setdefault(cell.tensor, {}).setdefault(cell.axis, {})[cell.index] = cell

    def _hold(
        self, array: Array, axes: Mapping[int, Mapping[int, Cell]], rounding: float, by: str
    ) -> None:
        for cell in (cell for cells in axes.values() for cell in cells.values()):
            error, found = off(array, cell, rounding)
            if found is not None:
                raise IntegrityError(
                    f"is said to be always {cell.value}, but {by} {found:.7g}", where=str(cell)
                )
            self.worst_error = max(self.worst_error, error)

    def _rounding(self, names: Iterable[str]) -> float:
        half = any(self._like(name).dtype == np.float16 for name in names)
        return HALF_ROUNDING if half else ROUNDING

    def _execute(
        self, piece: Piece, draw: int, fresh: Collection[Cell] | None = ()
    ) -> dict[str, Array]:
        """What a piece of BEFORE gives for states; nothing where it cannot run on such numbers."""
        try:
            return piece({name: self.states.draw(name, draw, fresh) for name in piece.cuts})
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
        cells = [c for name in unread for axes in self.unread[name].values() for c in axes.values()]
        for cell in cells:
            alone = self._changed(first, self._execute(piece, draw, {cell}))
            if alone is not None:
                raise IntegrityError(f"is said to be unread, but changes {alone}", where=str(cell))
        raise IntegrityError(f"with others it changes {changed}", where=str(cells[0]))

    def _changed(self, first: Mapping[str, Array], other: Mapping[str, Array]) -> str | None:
        """The first needed number that is not the same to the last bit."""
        for name in first.keys() & other.keys():
            error = error_of(other[name], first[name])
            for claims in (self.unread, self.fixed):
                for axis, cells in claims.get(name, {}).items():
                    np.moveaxis(error, axis, 0)[list(cells)] = 0
            if error.any():
                at = [int(i) for i in np.unravel_index(error.argmax(), error.shape)]
                return f"'{name}' at {at}, which {self.before.node(name)} computes"
        return None

    # What the pieces of AFTER do to states without the removed cells.

    def segments(self) -> None:
        """Each tensor that both graphs compute is in AFTER what it is in BEFORE, cells apart."""
        computed, done = self.values.keys() - self.before.inputs.keys(), set[str]()
        for name in [*self.after.initializers, *self.after.producer]:
            same = name in self.before.static and self.after.constant(name)
            if name in done or name not in computed or same:
                continue
            number = self.after.producer.get(name)
            outputs = [name] if number is None else self.after.nodes[number].output
            done.update(outputs)
            self._segment([output for output in outputs if output in computed])

    def _segment(self, wanted: list[str]) -> None:
        stop = self.values.keys() - self.before.static | self.after.static
        after = Piece(self.after, wanted, lambda name: name in stop)
        reached = {*after.cuts} - self.after.static
        settled, static = self.states.settled, self.before.static
        before = Piece(self.before, wanted, lambda n: n in reached or n in static or settled(n))
        self.pieces += 2
        for draw in (VALUES, LIKE, SMALL):
            expected = self._execute(before, draw)
            if not expected:
                continue
            try:
                found = after({name: self._after_state(name, draw) for name in after.cuts})
            except PieceError as error:
                what = f"AFTER cannot compute it: {error}"
                raise IntegrityError(what, where=f"'{wanted[0]}'") from error
            rounding = self._rounding([*reached, *wanted])
            for name in wanted:
                self._agree(name, expected[name], found[name], rounding)

    def _after_state(self, name: str, draw: int) -> Array:
        if name in self.after.static:
            return self.after_values[name]
        return without(self.states.draw(name, draw, None), self.removed.get(name, {}))

    def _agree(self, name: str, expected: Array, found: Array, rounding: float) -> None:
        """Raise where a kept and needed number differs by more than rounding."""
        removed, real = self.removed.get(name, {}), self.values[name]
        needed = np.ones(expected.shape, bool)
        for axis, cells in self.unread.get(name, {}).items():
            np.moveaxis(needed, axis, 0)[list(cells)] = False
        needed = without(needed, removed)
        shape, expected = expected.shape, without(expected, removed)
        if found.shape != expected.shape:
            what = f"is {list(found.shape)} in AFTER, {list(expected.shape)} would be right"
            raise IntegrityError(what, where=f"'{name}'")
        if found.dtype != expected.dtype:
            raise IntegrityError(f"is {found.dtype}, not {expected.dtype}", where=f"'{name}'")
        if needed.any() and not np.isfinite(expected[needed]).any():
            raise IntegrityError("is nowhere finite, so nothing can be compared", where=f"'{name}'")
        error = np.where(needed, error_of(found, expected), 0)
        size = max(_size(expected[needed]), 0.1 * _size(real))
        worst = float(error.max(initial=0))
        if worst > (allowed := rounding * size if found.dtype.kind == "f" else 0.0):
            at = np.unravel_index(error.argmax(), error.shape)
            number = without(np.arange(math.prod(shape)).reshape(shape), removed)[at]
            where = [int(i) for i in np.unravel_index(number, shape)]
            raise IntegrityError(
                f"is {found[at]:.7g} in AFTER, {expected[at]:.7g} in BEFORE; rounding explains "
                f"{allowed:.1g}",
                where=f"'{name}' at {where} (as BEFORE counts)",
            )
        self.worst_error = max(self.worst_error, worst / size if size else 0.0)

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
    return float(np.abs(array[np.isfinite(array)]).max(initial=0))


def _shapes(feeds: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
