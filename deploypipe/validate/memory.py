"""How far this process's memory grows while something happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


@contextmanager
def peak_growth() -> Iterator[Callable[[], int | None]]:
    """Give a function: bytes between resident memory at the start and its peak in the block.

    None where the system does not let a process reset its peak (Linux does).  Memory that was freed
    before the block and is used again in it counts as nothing, so ask early in a fresh process.
    """
    before = resident("VmRSS") if _reset() else None

    def growth() -> int | None:
        after = resident("VmHWM")
        return None if before is None or after is None else max(0, after - before)

    yield growth


def _reset() -> bool:
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def resident(key: str) -> int | None:
    """Bytes that this process holds now (``VmRSS``) or held at most (``VmHWM``); None if unknown."""
    try:
        text = _STATUS.read_text()
    except OSError:
        return None
    lines = (line.split() for line in text.splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == f"{key}:"), None)
