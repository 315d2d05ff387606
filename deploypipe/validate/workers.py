"""Fresh processes, started ahead of their work: they load the runtime at once, and wait.

Starting takes as long as measuring does, but can be done side by side; measuring cannot, so nothing
starts while something measures.  A process that dies, or never ends, says whose turn it was.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploypipe.core.errors import DeploypipeError
from deploypipe.core.files import Json
from deploypipe.validate.worker import ANSWER, DOING, JOB, READY

PATIENCE = 900.0
"""Seconds after which a process counts as hung."""

MOST_WAITING = 10
"""Processes that wait at a time; each takes about 60 MB."""


class Crash(DeploypipeError):  # noqa: N818
    """A model ended its process, or never answered."""

    exit_code = 1

    def __init__(self, label: str, how: str, last: str) -> None:
        self.label, self.how = label, how
        told = f"; its last words: {last}" if last else ""
        super().__init__(f"the process of the {label or 'measurement'} {how}{told}")


@dataclass
class Workers:
    """Processes for a target; each does one job."""

    target: Mapping[str, Any]
    patience: float = PATIENCE
    waiting: list[_Process] = field(default_factory=list)

    def expect(self, count: int) -> None:
        """Have ``count`` processes ready, at most ten; more than that are let go."""
        for one in self.waiting[count:]:
            one.end()
        del self.waiting[count:]
        missing = min(count, MOST_WAITING) - len(self.waiting)
        started = [_Process(self.target) for _ in range(missing)]
        for one in started:
            one.wait_until_ready()
        self.waiting += started

    def ask(self, job: Mapping[str, Json]) -> dict[str, Any]:
        """Have one process do a job.

        Raises:
            Crash: it ended without an answer.
        """
        if not self.waiting:
            self.expect(1)
        return self.waiting.pop().work({**job, "target": dict(self.target)}, self.patience)


class _Process:
    """A worker that loads, waits, works once, and is gone."""

    def __init__(self, target: Mapping[str, Any]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="deploypipe-"))
        # -P: a file of the user's called json.py must not take the place of the real one.
        command = [sys.executable, "-P", "-m", "deploypipe.validate.worker", str(self.folder)]
        with (self.folder / "log.txt").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, json.dumps(dict(target))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
            )
        self._let_go = weakref.finalize(self, _let_go, self.process, self.folder)

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != READY.encode():
            self.process.wait()
            raise self._crash(_how(self.process.returncode))

    def work(self, job: Mapping[str, Json], patience: float) -> dict[str, Any]:
        """Do a job and end."""
        try:
            (self.folder / JOB).write_text(json.dumps(job))
            self.process.communicate(b"go\n", timeout=patience)
            how = _how(self.process.returncode)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise self._crash(f"did not end within {patience:.0f} s") from None
        else:
            if not (self.folder / ANSWER).is_file():
                raise self._crash(how)
            answer: dict[str, Any] = json.loads((self.folder / ANSWER).read_text())
            return answer
        finally:
            self.end()

    def end(self) -> None:
        """Be gone, whatever it is at."""
        self._let_go()

    def _crash(self, how: str) -> Crash:
        at_work, log = self.folder / DOING, self.folder / "log.txt"
        label = at_work.read_text().strip() if at_work.is_file() else ""
        lines = [line.strip() for line in log.read_text(errors="replace").split("\n")]
        return Crash(label, how, next((line[:300] for line in reversed(lines) if line), ""))


def _let_go(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.poll() is None:
        process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None and not pipe.closed:
            pipe.close()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _environment() -> dict[str, str]:
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    quiet = {"OMP_WAIT_POLICY": "PASSIVE"}  # torch's idle threads spin as well
    return {**quiet, **os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
