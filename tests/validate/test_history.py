"""A line for each claim, and the alarm over forty of them."""

import json

import pytest

from deploypipe.core.errors import UserError
from deploypipe.validate.history import append, drift_alarm, past

STEADY = [1.0 + 0.01 * (-1) ** i for i in range(40)]


def test_lines_are_added_and_read_back(tmp_path):
    file = tmp_path / "deep" / "history.jsonl"
    for value in (1.0, 2.0):
        append(file, {"test": "a", "name": "speedup", "measured": value})
    append(file, {"test": "b", "name": "speedup", "measured": 9.0})
    assert past(file, test="a", name="speedup") == [1.0, 2.0]
    assert [json.loads(line)["measured"] for line in file.read_text().splitlines()] == [1, 2, 9]


def test_a_torn_line_and_a_row_without_a_value_are_passed_over(tmp_path):
    file = tmp_path / "history.jsonl"
    append(file, {"test": "a", "measured": None})
    append(file, {"test": "a", "measured": 1.0})
    with file.open("a") as raw:
        raw.write('{"test": "a", "meas\n[1]\n')
    assert past(file, test="a") == [1.0]


def test_there_is_no_past_without_a_file(tmp_path):
    assert past(tmp_path / "none") == []


def test_a_value_within_its_past_is_no_alarm():
    assert drift_alarm(STEADY, 1.03) is None


@pytest.mark.parametrize("now", [1.06, 0.94])
def test_a_value_beyond_four_sigma_is_one_on_either_side(now):
    assert "beyond 4 sigma of the last 40 runs" in drift_alarm(STEADY, now)


def test_a_short_past_has_no_sigma():
    assert drift_alarm(STEADY[:9], 100.0) is None


def test_only_the_last_forty_count():
    assert drift_alarm([5.0] * 100 + STEADY, 1.0) is None
    assert drift_alarm([5.0] * 100 + STEADY, 5.0) is not None


def test_a_folder_that_cannot_be_is_the_user_s_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        append(tmp_path / "file" / "history.jsonl", {})
