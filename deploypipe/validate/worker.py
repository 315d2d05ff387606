"""A fresh process that opens models, times them in turns, writes down what it saw, and ends.

    python -P -m deploypipe.validate.worker FOLDER TARGET

It loads what ``TARGET`` (a spec in JSON) needs, says ``ready``, and waits for a line: then ``job.json``
lies in ``FOLDER``, where ``answer.json`` comes to lie beside it.  ``doing.txt`` names the model that is
at work, for whoever finds the process dead.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deploypipe.core.errors import DeploypipeError
from deploypipe.core.files import Json
from deploypipe.runtime import TARGETS, Feeds, Target
from deploypipe.validate.interleave import Opener, Pace, Turns, one_round
from deploypipe.validate.round_json import round_to_json
from deploypipe.validate.subject import opener_of

JOB, ANSWER, DOING, READY = "job.json", "answer.json", "doing.txt", "ready"


def main(folder: Path) -> None:
    """Do the job that lies in ``folder``."""
    job = json.loads((folder / JOB).read_text())
    work = {"describe": _describe, "round": _round}[job["kind"]]
    try:
        with _noting(folder / DOING) as at_work:
            answer = work(job, at_work)
    except DeploypipeError as error:
        told = {"what": error.what, "where": error.where, "then": error.then}
        answer = {"error": {"kind": type(error).__name__, **told}}
    temporary = folder / f"{ANSWER}.part"
    temporary.write_text(json.dumps(answer))
    temporary.replace(folder / ANSWER)


def save_feeds(feeds: Sequence[Feeds], file: Path) -> list[list[str]]:
    """Write feeds for a worker; the names of each, in their order."""
    arrays = {f"{i}.{j}": a for i, feed in enumerate(feeds) for j, a in enumerate(feed.values())}
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return [list(feed) for feed in feeds]


def _load_feeds(names: Sequence[Sequence[str]], file: Path) -> list[Feeds]:
    with np.load(file, allow_pickle=False) as held:
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
            raw.seek(0)
            return raw.write(label.encode().ljust(32))

        yield at_work


def wait_for_job(target: str) -> bool:
    """Load the runtime, say so, and wait; whether there is a job at all.

    What libraries print goes to standard error from now on: standard output is for whoever waits.
    """
    private = os.dup(1)
    os.dup2(2, 1)
    _target(json.loads(target)).missing()  # it loads the runtime
    os.write(private, f"{READY}\n".encode())
    os.close(private)
    return bool(sys.stdin.readline())


if __name__ == "__main__":
    if wait_for_job(sys.argv[2]):
        main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # taking sessions apart takes time, and nobody needs it
