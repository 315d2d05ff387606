from __future__ import annotations

import pytest

from deploypipe.core.errors import (
    DeploypipeError,
    EnvironmentLacks,
    IntegrityError,
    UserError,
    did_you_mean,
    needs_extra,
    one_paragraph,
)


@pytest.mark.parametrize(
    ("error", "paragraph"),
    [
        (UserError("no such file"), "no such file."),
        (UserError("no such file", where="data"), "data: no such file."),
        (
            UserError("no such file.", where="data", then="Give one."),
            "data: no such file. Give one.",
        ),
        (UserError("what is 'x'?"), "what is 'x'?"),
        (UserError("what is 'x'?", then="Look"), "what is 'x'? Look."),
    ],
)
def test_an_error_is_one_paragraph_of_what_where_and_what_next(error, paragraph):
    assert str(error) == paragraph


def test_every_kind_has_its_exit_code():
    codes = {cls: cls.exit_code for cls in (UserError, EnvironmentLacks, IntegrityError)}
    assert codes == {UserError: 2, EnvironmentLacks: 4, IntegrityError: 5}
    assert all(issubclass(cls, DeploypipeError) for cls in codes)


def test_a_close_name_is_offered():
    assert did_you_mean("drop_unusd", ["drop-unused", "fold"]) == "did you mean 'drop-unused'?"
    assert did_you_mean("round_t", ["round_to", "x"]) == "did you mean 'round_to'?"


def test_without_a_close_name_all_are_listed():
    assert did_you_mean("zebra", ["fold", "drop"]) == "known: drop, fold"
    assert did_you_mean("zebra", []) == "nothing is known here"


def test_a_missing_package_names_the_line_that_installs_it():
    error = needs_extra("step 'prune'", "torch", "torch")
    assert error.exit_code == 4
    assert str(error) == (
        "step 'prune' needs 'torch', which is not installed. "
        "Install it with: pip install 'deploypipe[torch]'."
    )


def test_a_script_ends_with_the_paragraph_and_its_code(capsys):
    with pytest.raises(SystemExit) as caught, one_paragraph():
        raise IntegrityError("it was changed", where="model.onnx")
    assert caught.value.code == 5
    assert capsys.readouterr().err == "model.onnx: it was changed.\n"


def test_a_bug_in_a_script_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), one_paragraph():
        raise ZeroDivisionError


def test_three_letters_say_too_little_to_guess_from_alone():
    told = did_you_mean("gpu", ["cpu", "cuda"])
    assert told == "did you mean 'cpu'? Known: cpu, cuda"
