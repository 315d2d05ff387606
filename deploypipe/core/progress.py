"""Progress on standard error: bars with an estimate on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol


class Task(Protocol):
    """A running piece of work that can say how far it is."""

    def advance(self, steps: float = 1, note: str = "") -> None: ...


class Progress(ABC):
    """Where stages tell how far they are.  Never writes to standard output."""

    @abstractmethod
    def task(self, label: str, total: float) -> AbstractContextManager[Task]:
        """A context manager giving a :class:`Task`; ``total`` is in the unit of ``advance``."""

    @contextmanager
    def expecting(self, label: str, seconds: float) -> Iterator[None]:
        """Work that cannot tell how far it is: the bar goes by the clock, up to ``seconds``."""
        with self.task(label, seconds) as task, _by_the_clock(task, seconds):
            yield

    def say(self, text: str) -> None:
        """One line for the log."""
        print(text, file=sys.stderr, flush=True)


@contextmanager
def _by_the_clock(task: Task, seconds: float) -> Iterator[None]:
    done = threading.Event()

    def tick() -> None:
        start, told = time.monotonic(), 0.0
        # Never quite full: only the end of the work is the end.
        while not done.wait(0.2) and told < 0.98 * seconds:
            now = min(time.monotonic() - start, 0.98 * seconds)
            task.advance(now - told)
            told = now

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class Silent(Progress):
    """Says nothing."""

    @contextmanager
    def task(self, label: str, total: float) -> Iterator[Task]:
        yield _Nothing()

    def say(self, text: str) -> None:
        pass


class _Nothing:
    def advance(self, steps: float = 1, note: str = "") -> None:
        pass


class Lines(Progress):
    """For logs: a line every ``every`` seconds with the share done and the time left."""

    def __init__(self, every: float = 5.0) -> None:
        self.every = every

    @contextmanager
    def task(self, label: str, total: float) -> Iterator[Task]:
        yield _Line(label, total, self)


class _Line:
    def __init__(self, label: str, total: float, owner: Lines) -> None:
        self.label, self.total, self.owner = label, total, owner
        self.done, self.start = 0.0, time.monotonic()
        self.last = self.start

    def advance(self, steps: float = 1, note: str = "") -> None:
        self.done += steps
        now = time.monotonic()
        if now - self.last < self.owner.every:
            return
        self.last = now
        left = (now - self.start) * (self.total - self.done) / max(self.done, 1e-9)
        share = self.done / self.total if self.total else 1.0
        self.owner.say(f"  {self.label}: {share:4.0%}, about {left:.0f} s left {note}".rstrip())


class Bars(Progress):
    """Bars for a person at a terminal."""

    @contextmanager
    def task(self, label: str, total: float) -> Iterator[Task]:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        whole = Column(no_wrap=True)  # where the line is too narrow, the note gives way
        columns = (
            TextColumn("  {task.description}", table_column=whole),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%", table_column=whole),
            TimeElapsedColumn(table_column=whole),
            TimeRemainingColumn(table_column=whole),
            TextColumn("left", table_column=whole),
            TextColumn("[dim]{task.fields[note]}", table_column=Column(ratio=1, no_wrap=True)),
        )
        console = Console(stderr=True)
        with RichProgress(*columns, console=console, transient=True, expand=True) as rich:
            yield _Bar(rich, rich.add_task(label, total=total, note=""))


class _Bar:
    def __init__(self, rich: Any, task: Any) -> None:
        self.rich, self.task_id = rich, task

    def advance(self, steps: float = 1, note: str = "") -> None:
        update = {"note": note} if note else {}
        self.rich.update(self.task_id, advance=steps, **update)


def for_stderr() -> Progress:
    """Bars on a terminal, lines in a log."""
    return Bars() if sys.stderr.isatty() else Lines()
