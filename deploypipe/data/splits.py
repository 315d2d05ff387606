"""Which sample belongs to which split: fixed by the seed and by the samples' content alone.

Samples are ordered by ``sha256(seed:content)``, and samples of equal content move together, so that
neither the order of a file nor its duplicates can put one sample into two splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

from deploypipe.core.errors import UserError

Group = list[int]
"""Rows of equal content, ascending."""


def ordered(digests: Sequence[str], seed: int) -> list[Group]:
    """All rows, grouped by content, the groups in an order that looks random and is fixed."""
    groups: dict[str, Group] = {}
    for row, digest in enumerate(digests):
        groups.setdefault(digest, []).append(row)
    return [groups[digest] for digest in sorted(groups, key=lambda d: _key(seed, d))]


def _key(seed: int, digest: str) -> str:
    return hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest()


def take(
    groups: Sequence[Group], count: int, total: int, where: str
) -> tuple[list[int], list[Group]]:
    """The first ``count`` rows that whole groups give, and the groups that are left.

    A group too large for the places that are left is passed over, so that the count is met exactly.
    ``total`` is the number of rows of the source, for the error.

    Raises:
        UserError: there are not so many rows; says how many there are.
    """
    taken: list[int] = []
    rest: list[Group] = []
    for group in groups:
        if len(taken) + len(group) <= count:
            taken += group
        else:
            rest.append(group)
    if len(taken) < count:
        raise _too_many(count, len(taken), bool(rest), total, where)
    return taken, rest


def _too_many(count: int, taken: int, parted: bool, total: int, where: str) -> UserError:
    why = f"{count} samples were asked for, "
    if parted:
        why += f"{taken} can be taken without parting samples of equal content"
    elif taken == total:
        why += f"only {total} exist"
    else:
        why += f"only {taken} of the {total} that exist are free"
    return UserError(why, where=where, then=f"Ask for {taken} or fewer")


def without(
    groups: Sequence[Group], digests: Sequence[str], barred: Collection[str]
) -> tuple[list[Group], int]:
    """The groups whose content is not in ``barred``, and how many rows that left out."""
    kept = [group for group in groups if digests[group[0]] not in barred]
    return kept, sum(map(len, groups)) - sum(map(len, kept))
