"""One process that has loaded the runtime, and a fork of it for every job."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deploypipe.core.errors import EnvironmentLacks
from deploypipe.runtime import TARGETS
from deploypipe.validate import workers as processes
from deploypipe.validate.fresh import Fresh, fresh_on, fresh_target, saved
from deploypipe.validate.interleave import Pace, Turns
from deploypipe.validate.workers import Crash, Workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of threads")

CODE = """
import os, sys, time
from pathlib import Path

import numpy as np

def note(*words):
    with Path(__file__).with_name("notes.txt").open("a") as file:
        print(*words, file=file)

def notes():
    note(os.getpid(), os.getppid(), np.empty(5000).ctypes.data)
    return lambda: time.sleep(0.0005)

def aborts():
    return lambda feed: os.abort()

def hangs():
    note(os.getpid())
    return lambda: time.sleep(60)

def hangs_at_once():
    note(os.getpid(), os.getppid() if "fork" in sys.argv else os.getpid())
    time.sleep(60)

def prints():
    print("a line for whoever waits")
    return lambda: time.sleep(0.0005)

def kills_its_parent():
    note(os.getpid())
    os.kill(os.getppid(), 9)
    return lambda: time.sleep(60)

def fills_the_disk():
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
    return lambda: None

def slow():
    return lambda: time.sleep(0.3)

def reads():
    assert not os.read(0, 1)
    return lambda: time.sleep(0.0005)
"""

ONCE = Pace(rounds=1, blocks=1, budget_seconds=0.05, warm_seconds=0.0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "made.py").write_text(CODE)
    return tmp_path


@pytest.fixture
def workers(cpu):
    made = Workers(fresh_target(cpu), patience=20.0, fork=True)
    yield made
    made.expect(0)


@pytest.fixture
def work(folder, workers):
    """A round on one function of the file."""

    def run(name, models=None):
        fresh = Fresh(models or {"reference": f"{folder / 'made.py'}:{name}"}, workers)
        return fresh.round(["reference"], saved([{}], folder), [Turns(("reference",))], ONCE, "0")

    return run


def noted(folder):
    file = folder / "notes.txt"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [tuple(map(int, line.split())) for line in lines]


def alive(number):
    """Whether there is such a process, and not only a note that somebody should take of its end."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def gone(number):
    """Whether it ends soon: a signal takes a moment."""
    until = time.monotonic() + 10
    while alive(number) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(number)


def test_each_job_has_a_process_of_its_own_off_the_same_one(folder, workers, work):
    for _ in range(3):
        assert work("notes").median("reference") > 0
    numbers, parents, _ = zip(*noted(folder), strict=True)
    assert len(set(numbers)) == 3
    assert set(parents) == {workers.waiting[0].process.pid}
    assert len(workers.waiting) == 1


def test_memory_lies_elsewhere_in_each(folder, work):
    for _ in range(4):
        work("notes")
    assert len({address for *_, address in noted(folder)}) > 1


def test_a_crash_is_named_and_takes_no_other_with_it(work, workers):
    work("notes")
    first = workers.waiting[0].process.pid
    with pytest.raises(Crash, match="the process of the reference was killed by SIGABRT") as caught:
        work("aborts")
    assert caught.value.label == "reference"
    assert work("notes").median("reference") > 0
    assert workers.waiting[0].process.pid == first


def test_a_job_that_never_ends_is_ended_with_its_fork(folder, work, workers):
    workers.patience = 1.0
    with pytest.raises(Crash, match="gave no answer for 1 s"):
        work("hangs")
    ((number,),) = noted(folder)
    assert not workers.waiting
    assert gone(number)
    assert work("notes").median("reference") > 0


def test_a_slow_job_that_goes_on_is_waited_for(work, workers):
    workers.patience = 1.0
    began = time.monotonic()
    assert work("slow").median("reference") > 250
    assert time.monotonic() - began > workers.patience


def test_a_fork_ends_with_what_it_came_from_which_is_no_model_s_doing(folder, work, workers):
    with pytest.raises(Crash, match="process of the measurement was killed by SIGKILL") as caught:
        work("kills_its_parent")
    assert caught.value.label == ""
    ((number,),) = noted(folder)
    assert gone(number)
    assert work("notes").median("reference") > 0


def test_an_interrupted_job_is_ended_and_the_next_one_gets_its_own_answer(folder, work, workers):
    def interrupt(*_):
        raise InterruptedError

    workers.expect(1)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 2.0)
    try:
        with pytest.raises(InterruptedError):
            work("hangs")
    finally:
        signal.signal(signal.SIGALRM, before)
    ((number,),) = noted(folder)
    assert not workers.waiting
    assert gone(number)
    assert work("slow").median("reference") > 250
    assert work("prints").median("reference") < 250


ASKS = """
import sys
from pathlib import Path
from deploypipe.runtime import TARGETS
from deploypipe.validate.fresh import Fresh, fresh_target
from deploypipe.validate.workers import Workers

workers = Workers(fresh_target(TARGETS.build("cpu")), fork=sys.argv[2] == "fork")
Fresh({"reference": sys.argv[1]}, workers).signatures()
"""


@pytest.mark.parametrize("how", ["fork", "alone"])
def test_no_process_outlives_whoever_asked(folder, how):
    words = [sys.executable, "-c", ASKS, f"{folder / 'made.py'}:hangs_at_once", how]
    root = Path(processes.__file__).parents[2]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(words, cwd=root, env=environment) as asker:
        until = time.monotonic() + 60
        while not noted(folder) and time.monotonic() < until:
            time.sleep(0.01)
        asker.kill()
    for number in noted(folder)[0]:
        assert gone(number)


def test_a_full_disk_is_no_model_s_doing(work):
    with pytest.raises(EnvironmentLacks, match="a measurement cannot keep its files: File too la"):
        work("fills_the_disk")


def test_a_process_that_never_gets_ready_is_ended(folder, workers, monkeypatch):
    (folder / "sitecustomize.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(processes, "LOADING", 0.2)
    with pytest.raises(Crash, match="the process of the measurement was not ready within 0.2 s"):
        workers.expect(1)
    assert not workers.waiting


@pytest.mark.parametrize("name", ["prints", "reads"])
def test_what_a_job_prints_or_reads_is_no_message(work, name):
    assert work(name).median("reference") > 0
    assert work(name).median("reference") > 0


def test_the_one_that_forks_is_gone_afterwards(work, workers):
    work("notes")
    one = workers.waiting[0]
    workers.expect(0)
    assert one.process.poll() is not None
    assert not one.folder.exists()


def test_a_process_that_dies_while_it_waits_is_a_crash_and_is_replaced(work, workers):
    workers.expect(1)
    workers.waiting[0].process.kill()
    with pytest.raises(Crash, match="the process of the measurement was killed by SIGKILL"):
        work("notes")
    assert work("notes").median("reference") > 0


def test_with_a_second_thread_every_job_gets_a_process_from_the_start(
    folder, workers, work, monkeypatch
):
    """A fork would have none of it, but its locks."""
    (folder / "sitecustomize.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    workers.expect(2)
    assert [one.forks for one in workers.waiting] == [False, False]
    assert work("notes").median("reference") > 0
    assert len(workers.waiting) == 1
    assert noted(folder)[0][1] == os.getpid()


def test_only_files_on_the_processor_are_forked_for(cpu):
    """Code may start threads of its own, and computes with numpy, whose threads a fork does without."""
    assert fresh_on(cpu, {"reference": "a.onnx", "candidate": "b.onnx"}).workers.fork
    assert not fresh_on(cpu, {"reference": "a.onnx", "candidate": "b.py:built"}).workers.fork
    cuda = TARGETS.build({"cuda": {"device": 0}})
    assert not fresh_on(cuda, {"reference": "a.onnx"}).workers.fork


def test_a_file_answers_in_a_fork_as_it_does_here(folder, workers, cpu, chain):
    (folder / "chain.onnx").write_bytes(chain(3))
    fresh = Fresh({"reference": str(folder / "chain.onnx")}, workers)
    assert [spec.name for spec in fresh.signatures()["reference"].inputs] == ["h0"]
    feeds = saved([{"h0": np.ones((1, 64), np.float32)}], folder)
    two = type(cpu)(threads=2)
    threaded = Fresh(fresh.models, Workers(fresh_target(two), fork=True))
    for one in (fresh, threaded):
        told = one.round(["reference"], feeds, [Turns(("reference",))], ONCE, "0")
        assert told.environments["reference"]["provider"] == "CPUExecutionProvider"
        assert told.environments["reference"]["threads"] in (1, 2)
    threaded.workers.expect(0)
