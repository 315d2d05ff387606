"""Fresh processes, started ahead of their work: they load the runtime at once, and wait.

Starting takes as long as measuring does, but can be done side by side, or once for all where a
loaded process can be forked; measuring cannot, so nothing starts while something measures.  A process
that dies, or never ends, says whose turn it was.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploypipe.core.errors import DeploypipeError
from deploypipe.core.files import Json
from deploypipe.validate.worker import ANSWER, DOING, JOB, LOG, READY, READY_TO_FORK

PATIENCE = 900.0
"""Seconds without a turn of a model after which a process counts as hung."""

LOADING = 300.0
"""Seconds after which a process that is not ready counts as hung."""

MOST_WAITING = 10
"""Processes that wait at a time; each takes about 60 MB."""


class Crash(DeploypipeError):  # noqa: N818
    """A model ended its process, or never answered: then it has ``hung``, or is only slow."""

    exit_code = 1

    def __init__(self, label: str, how: str, last: str, hung: bool = False) -> None:
        self.label, self.how, self.hung = label, how, hung
        told = f"; its last words: {last}" if last else ""
        super().__init__(f"the process of the {label or 'measurement'} {how}{told}")


@dataclass
class Workers:
    """Processes for a target.

    Each does one job, unless ``fork`` is wanted and can be had: then one stays, and forks off a
    process for each, which takes a hundredth of the time.
    """

    target: Mapping[str, Any]
    patience: float = PATIENCE
    fork: bool = False
    waiting: list[_Process] = field(default_factory=list)

    def expect(self, count: int) -> None:
        """Have processes ready for ``count`` jobs, at most ten; more than that are let go."""
        needed = min(count, 1 if self.fork else MOST_WAITING)
        for one in self.waiting[needed:]:
            one.end()
        del self.waiting[needed:]
        started = list[_Process]()
        try:
            started += (_Process(self.target, self.fork) for _ in range(needed - len(self.waiting)))
            for one in started:
                one.wait_until_ready()
        except BaseException:
            for one in started:
                one.end()
            raise
        self.waiting += started
        if self.fork and not all(one.forks for one in started):
            self.fork = False
            self.expect(count)

    def ask(self, job: Mapping[str, Json]) -> dict[str, Any]:
        """Have one process do a job.

        Raises:
            Crash: it ended without an answer.
        """
        if not self.waiting:
            self.expect(1)
        one = self.waiting.pop()
        try:
            return one.work({**job, "target": dict(self.target)}, self.patience)
        finally:
            if one.ready:
                self.waiting.append(one)


class _Process:
    """A worker that loads, waits, and works: itself, once, or in a fork of it each time.

    It is ``ready`` while it waits; whatever interrupts its work leaves it busy, and of no more use.
    """

    def __init__(self, target: Mapping[str, Any], fork: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="deploypipe-"))
        # -P: a file of the user's called json.py must not take the place of the real one.
        command = [sys.executable, "-P", "-m", "deploypipe.validate.worker"]
        with (self.folder / LOG).open("wb") as log:
            self.process = subprocess.Popen(
                [*command, json.dumps(dict(target)), *(["fork"] if fork else [])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,  # a buffer could hold the line that one waits for
                env=_environment(fork),
            )
        self.ready, self.forks, self._jobs = False, False, 0
        self._let_go = weakref.finalize(self, _let_go, self.process, self.folder)

    def wait_until_ready(self) -> None:
        try:
            told = self._line(LOADING)
        except TimeoutError:
            how = f"was not ready within {LOADING:g} s"
            raise self._crash(self.folder, how, hung=True) from None
        if told not in (READY, READY_TO_FORK):
            raise self._crash(self.folder, _how(self.process.wait()))
        self.ready, self.forks = True, told == READY_TO_FORK

    def work(self, job: Mapping[str, Json], patience: float) -> dict[str, Any]:
        """Do a job, and end unless it was done by a fork."""
        self.ready = False
        self._jobs += 1
        folder = self.folder / str(self._jobs)
        folder.mkdir()
        try:
            (folder / JOB).write_text(json.dumps(job))
            how = _how(self._ended(folder, patience))
            if not (folder / ANSWER).is_file():
                raise self._crash(folder, how)
            answer: dict[str, Any] = json.loads((folder / ANSWER).read_text())
        except TimeoutError:
            how = f"gave no answer for {patience:g} s"
            raise self._crash(folder, how, hung=True) from None
        finally:
            if not self.ready:
                self.end()
            shutil.rmtree(folder, ignore_errors=True)
        return answer

    def end(self) -> None:
        """Be gone, whatever it is at."""
        self._let_go()

    def _ended(self, folder: Path, patience: float) -> int:
        """The exit code of whoever does the job in ``folder``.

        Raises:
            TimeoutError: no model's turn began for ``patience`` seconds.
        """
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it is dead, which is told below
            self.process.stdin.write(f"{folder}\n".encode())
            self.process.stdin.flush()
        while True:
            turn = _turn(folder)
            try:
                return self._exit_code(patience)
            except TimeoutError:
                if _turn(folder) == turn:
                    raise

    def _exit_code(self, patience: float) -> int:
        if not self.forks:
            try:
                return self.process.wait(patience)
            except subprocess.TimeoutExpired:
                raise TimeoutError from None
        told = self._line(patience)
        if not told:  # whose turn it was does not matter: this was not the model's process
            raise self._crash(self.folder, _how(self.process.wait()))
        self.ready = True
        return int(told)

    def _line(self, patience: float) -> str:
        """What the process says next; nothing if it has ended.

        Raises:
            TimeoutError: it says nothing for ``patience`` seconds.
        """
        assert self.process.stdout is not None
        waits = hasattr(select, "poll")  # Windows waits for sockets only
        if waits and not select.select([self.process.stdout], [], [], patience)[0]:
            raise TimeoutError
        return self.process.stdout.readline().decode().strip()

    def _crash(self, folder: Path, how: str, hung: bool = False) -> Crash:
        at_work = folder / DOING
        label = at_work.read_text().strip() if at_work.is_file() else ""
        logs = [folder / LOG, self.folder / LOG]
        text = "\n".join(log.read_text(errors="replace") for log in logs if log.is_file())
        lines = [line.strip() for line in text.split("\n")]
        last = next((line[:300] for line in reversed(lines) if line), "")
        return Crash(label, how, last, hung)


def _turn(folder: Path) -> int:
    """When a model's turn last began, in nanoseconds; 0 before the first."""
    try:
        return (folder / DOING).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _let_go(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.poll() is None:
        process.kill()  # its fork ends with it
    for pipe in (process.stdin, process.stdout):
        if pipe is not None and not pipe.closed:
            pipe.close()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _environment(fork: bool) -> dict[str, str]:
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    quiet = {"OMP_WAIT_POLICY": "PASSIVE"}  # torch's idle threads spin as well
    alone = {"OPENBLAS_NUM_THREADS": "1"} if fork else {}  # numpy's threads would forbid a fork
    return {**quiet, **os.environ, **alone, "PYTHONPATH": os.pathsep.join(paths)}


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
