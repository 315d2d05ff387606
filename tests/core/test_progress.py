from __future__ import annotations

import sys
import time

import pytest

from deploypipe.core import progress
from deploypipe.core.progress import Bars, Lines, Progress, Silent


@pytest.mark.parametrize("made", [Silent(), Lines(every=0), Bars()], ids=lambda p: type(p).__name__)
def test_nothing_is_ever_written_to_standard_output(capsys, made):
    made.say("hello")
    with made.task("train", total=2) as task:
        task.advance(1, "loss 0.1")
        task.advance()
    out, err = capsys.readouterr()
    assert out == "" and ("hello" in err) is not isinstance(made, Silent)


def test_a_line_tells_the_share_and_the_time_left(capsys, monkeypatch):
    times = iter([0.0, 1.0, 6.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    with Lines(every=5).task("train", total=4) as task:
        task.advance()
        task.advance(note="loss 0.1")
    assert capsys.readouterr().err == "  train:  50%, about 6 s left loss 0.1\n"


def test_a_task_without_a_total_is_done(capsys):
    with Lines(every=0).task("look", total=0) as task:
        task.advance(0)
    assert "100%" in capsys.readouterr().err


def test_an_error_inside_a_task_is_not_swallowed():
    for made in (Silent(), Lines(), Bars()):
        with pytest.raises(ZeroDivisionError), made.task("x", 1):
            raise ZeroDivisionError


@pytest.mark.parametrize(("terminal", "kind"), [(True, Bars), (False, Lines)])
def test_bars_are_for_a_terminal_and_lines_for_a_log(monkeypatch, terminal, kind):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert type(progress.for_stderr()) is kind and issubclass(kind, Progress)


def test_work_that_cannot_tell_how_far_it_is_goes_by_the_clock(capsys):
    with Lines(every=0).expecting("export", seconds=1.0):
        time.sleep(0.7)
    told = [line for line in capsys.readouterr().err.splitlines() if "export:" in line]
    shares = [int(line.partition("%")[0].rpartition(" ")[2]) for line in told]
    assert len(told) >= 2 and shares == sorted(shares) and shares[-1] < 100
    assert "s left" in told[0]


def test_work_that_takes_longer_than_expected_is_never_called_done(capsys):
    with Lines(every=0).expecting("export", seconds=0.1):
        time.sleep(0.6)
    assert "100%" not in capsys.readouterr().err
