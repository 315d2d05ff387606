"""Short names: a name is stored at its definition and each time it is used."""

from __future__ import annotations

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def base_36(number: int) -> str:
    """``0``, ``1`` ... ``z``, ``10``: the shortest text for each number from 0 on."""
    head = base_36(number // 36) if number >= 36 else ""
    return head + _DIGITS[number % 36]
