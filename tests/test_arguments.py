"""Texts of the command line as values."""

from __future__ import annotations

import pytest

from deploypipe.arguments import spec, specs
from deploypipe.core.errors import UserError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bias", [{"bias": {}}]),
        ("bias, clip", [{"bias": {}}, {"clip": {}}]),
        ("a:x=1,y=true,b", [{"a": {"x": 1, "y": True}}, {"b": {}}]),
        ("a,b:x=1e-3,c:y=z", [{"a": {}}, {"b": {"x": 1e-3}}, {"c": {"y": "z"}}]),
        ("a:x=p:q", [{"a": {"x": "p:q"}}]),
        ("", []),
        ("none", []),
    ],
)
def test_names_with_options_stand_in_one_text(text, found):
    assert specs(text, "--passes") == found


@pytest.mark.parametrize("text", ["a:x", "a:x=1,b:y"])
def test_an_option_without_a_value_is_told_with_its_place(text):
    with pytest.raises(UserError, match=r"--passes: expected NAME:OPTION=VALUE, got '[xy]'"):
        specs(text, "--passes")


def test_one_name_has_all_the_options():
    assert spec("weight-only:block=32,zero_points=true", "--method") == {
        "weight-only": {"block": 32, "zero_points": True}
    }


def test_a_pass_takes_options(tiny, call, tmp_path):
    words = ["optimize", tiny.model, "-o", tmp_path / "o.onnx", "--passes"]
    assert call(*words, "drop-dead-channels:round_to=8,fuse-batchnorm").code == 0
    said = call(*words, "drop-dead-channels:round=8")
    assert said.code == 2
    assert "did you mean 'round_to'?" in said.err
