"""A fresh process that opens models, times them in turns, writes down what it saw, and ends.

    python -P -m deploypipe.validate.worker TARGET [fork]

It loads what ``TARGET`` (a spec in JSON) needs, says ``ready``, and waits for a line that names a
folder: there lies ``job.json``, and ``answer.json`` comes to lie beside it.  ``doing.txt`` names the
model that is at work, for whoever finds the process dead.

With ``fork`` it says ``ready to fork``, if it can, and stays: each line gets a process of its own,
forked off before anything was opened, and is told how that one ended.

Neither outlives whoever asked: standard input ends with that one, and then so does the work.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np

from deploypipe.core.errors import DeploypipeError, EnvironmentLacks
from deploypipe.core.files import Json
from deploypipe.runtime import TARGETS, Feeds, Target
from deploypipe.validate.interleave import Opener, Pace, Turns, one_round
from deploypipe.validate.round_json import round_to_json
from deploypipe.validate.subject import opener_of

JOB, ANSWER, DOING, LOG = "job.json", "answer.json", "doing.txt", "log.txt"
READY, READY_TO_FORK = "ready", "ready to fork"

_PR_SET_PDEATHSIG = 1
"""Of Linux' prctl: the signal to get when the parent dies."""


def main(folder: Path) -> None:
    """Do the job that lies in ``folder``."""
    try:
        _write(folder, _done(folder))
    except DeploypipeError as error:
        told = {"what": error.what, "where": error.where, "then": error.then}
        _write(folder, {"error": {"kind": type(error).__name__, **told}})


def _done(folder: Path) -> dict[str, Json]:
    """The answer to the job in ``folder``; what is done with it is no model's work any more."""
    job = json.loads((folder / JOB).read_text())
    work = {"describe": _describe, "round": _round}[job["kind"]]
    with _noting(folder / DOING) as at_work:
        answer = work(job, at_work)
        at_work("")
    return answer


def _write(folder: Path, answer: Mapping[str, Json]) -> None:
    text, temporary = json.dumps(answer), folder / f"{ANSWER}.part"
    with _own_files(folder):
        temporary.write_text(text)
        temporary.replace(folder / ANSWER)


@contextmanager
def _own_files(folder: Path) -> Iterator[None]:
    """What goes wrong with files of the measurement is told, and is no model's doing."""
    try:
        yield
    except OSError as error:
        raise EnvironmentLacks(
            f"a measurement cannot keep its files: {error.strerror or error}",
            where=str(folder),
            then="Free space there, or let TMPDIR name another folder",
        ) from error


def save_feeds(feeds: Sequence[Feeds], file: Path) -> list[list[str]]:
    """Write feeds for a worker; the names of each, in their order."""
    arrays = {f"{i}.{j}": a for i, feed in enumerate(feeds) for j, a in enumerate(feed.values())}
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return [list(feed) for feed in feeds]


def _load_feeds(names: Sequence[Sequence[str]], file: Path) -> list[Feeds]:
    with _own_files(file.parent), np.load(file, allow_pickle=False) as held:
        return [
            {name: held[f"{i}.{j}"] for j, name in enumerate(feed)} for i, feed in enumerate(names)
        ]


def _target(spec: Mapping[str, Json]) -> Target:
    """The target of a spec that was checked where it came from: pydantic takes longest to load."""
    ((name, options),) = spec.items()
    return TARGETS.get(name)(**options)


def _openers(job: Mapping[str, Json]) -> dict[str, Opener]:
    """In the order of the job's ``open``."""
    target = _target(job["target"])
    return {label: opener_of(job["models"][label], target) for label in job["open"]}


def _describe(job: Mapping[str, Json], at_work: Callable[[str], object]) -> dict[str, Json]:
    """Inputs and outputs of the models; None for code, which does not tell."""
    found: dict[str, Json] = {}
    for label, opener in _openers(job).items():
        at_work(label)
        with opener() as model:
            found[label] = _signature(model) if hasattr(model, "inputs") else None
    return {"signatures": found}


def _signature(model: Any) -> dict[str, Json]:
    return {
        side: [[spec.name, spec.dtype, list(spec.shape)] for spec in getattr(model, side)]
        for side in ("inputs", "outputs")
    }


def _round(job: Mapping[str, Json], at_work: Callable[[str], object]) -> dict[str, Json]:
    found = one_round(
        _openers(job),
        _load_feeds(job["feeds"], Path(job["feeds_file"])),
        [Turns(tuple(labels), share) for labels, share in job["groups"]],
        Pace(**job["pace"]),
        random.Random(job["seed"]),
        at_work=at_work,
    )
    return {"round": round_to_json(found)}


@contextmanager
def _noting(file: Path) -> Iterator[Callable[[str], object]]:
    """Keep the file open: a note between two slots must cost next to nothing."""
    with file.open("wb", buffering=0) as raw:

        def at_work(label: str) -> object:
            with _own_files(file.parent):
                raw.seek(0)
                return raw.write(label.encode().ljust(32))

        yield at_work


def serve(target: str, fork: bool) -> None:
    """Load the runtime, say so, and do what the lines on standard input ask for.

    What libraries print goes to standard error from now on, and they have nothing to read: standard
    output and input are for whoever asks.
    """
    told, asked = os.dup(1), os.fdopen(os.dup(0))
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _target(json.loads(target)).missing()  # it loads the runtime
    fork = fork and can_fork()
    os.write(told, f"{READY_TO_FORK if fork else READY}\n".encode())
    if not fork:
        os.close(told)
        if line := asked.readline():
            threading.Thread(target=_end_with, args=(asked,), daemon=True).start()
            main(Path(line.strip()))
        return
    gc.freeze()  # nobody's garbage, so that no collection writes to what forks share
    while line := asked.readline():
        code = _forked(Path(line.strip()), asked, told)
        os.write(told, f"{code}\n".encode())


def _end_with(asked: TextIO) -> None:
    """End this process when whoever asked is gone: nothing more is said before."""
    os.read(asked.fileno(), 1)
    os._exit(1)


def _forked(folder: Path, asked: TextIO, told: int) -> int:
    """The exit code of a fork that does the job in ``folder``."""
    loaded, (ended, lives) = os.getpid(), os.pipe()
    number = os.fork()
    if number == 0:
        os.close(told)
        _end_with_parent(loaded)
        _as_new(folder)
    os.close(lives)
    wait = select.poll()
    wait.register(ended, select.POLLHUP)  # the fork's end of the pipe closes with it
    wait.register(asked, select.POLLHUP)
    if asked.fileno() in dict(wait.poll()):
        end(1)
    os.close(ended)
    _, status = os.waitpid(number, 0)
    return os.waitstatus_to_exitcode(status)


def _end_with_parent(parent: int) -> None:
    """Have the kernel end this fork as soon as its parent, which has no other thread, is dead."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was faster
        end(1)


def can_fork() -> bool:
    """Whether this is the only thread: a fork has no other, but the locks that they held."""
    try:
        return len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:  # there is none but on Linux
        return False


def _as_new(folder: Path) -> NoReturn:
    """What a fork does, on a heap that lies elsewhere in each: it ends when it is done.

    Code does not move then, but rounds of one such process have differed no less than rounds of
    many: what differs is where a model's memory lies, which is the fork's own.
    """
    code = 1
    try:
        log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        apart = random.SystemRandom()
        small = [bytearray(apart.randrange(1 << 9, 1 << 17)) for _ in range(apart.randrange(40))]
        large = np.empty(apart.randrange(1 << 18, 1 << 23), np.uint8)
        main(folder)
        del small, large
        code = 0
    except BaseException:
        traceback.print_exc()
    end(code)


def end(code: int = 0) -> NoReturn:
    """Taking sessions apart takes time, and nobody needs it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1], "fork" in sys.argv[2:])
    end()
