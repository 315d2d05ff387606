"""Texts of the command line as values."""

from __future__ import annotations

import pytest

from deploypipe.arguments import budget, points, spec, specs
from deploypipe.core.errors import UserError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bias", [{"bias": {}}]),
        ("bias, clip", [{"bias": {}}, {"clip": {}}]),
        ("a:x=1,y=true,b", [{"a": {"x": 1, "y": True}}, {"b": {}}]),
        ("a,b:x=1e-3,c:y=z", [{"a": {}}, {"b": {"x": 1e-3}}, {"c": {"y": "z"}}]),
        ("a:x=p:q", [{"a": {"x": "p:q"}}]),
        ("none", []),
    ],
)
def test_names_with_options_stand_in_one_text(text, found):
    assert specs(text, "--passes") == found


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "expected names"), (" , ", "expected names"), ("a:x=1,x=2", "'x=2' comes twice")],
)
def test_no_names_and_an_option_that_comes_twice_are_told(text, told):
    with pytest.raises(UserError, match=f"--passes: {told}"):
        specs(text, "--passes")


def test_a_limit_that_comes_twice_is_told():
    assert budget("shrink=1,speedup=2") == {"shrink": 1, "speedup": 2}
    with pytest.raises(UserError, match="--budget: 'shrink' comes twice"):
        budget("shrink=1,shrink=2")


def test_a_percentage_may_have_its_sign():
    assert points("99") == points("99%") == points(" 99.0 %") == 99
    with pytest.raises(UserError, match="--least-agreement: expected a percentage such as 99%"):
        points("most")


@pytest.mark.parametrize("text", ["a:x", "a:x=1,b:y"])
def test_an_option_without_a_value_is_told_with_its_place(text):
    with pytest.raises(
        UserError, match=r"--passes: '[xy]' is no OPTION=VALUE. Write NAME:OPTION=VALUE"
    ):
        specs(text, "--passes")


def test_one_name_has_all_the_options():
    assert spec("weight-only:block=32,zero_points=true", "--method") == {
        "weight-only": {"block": 32, "zero_points": True}
    }


def test_answers_that_are_to_stay_are_given_in_percent(tiny, call, tmp_path):
    words = ["quantize", tiny.model, "-o", tmp_path / "o.onnx", "--data", f"npz:{tiny.samples}"]
    words += ["--everything", "--least-agreement"]
    said = call(*words, "90%", "--json")
    assert said.code == 0
    told = said.json["notes"]["outputs"]
    assert told["agreement"] >= told["least_agreement"] == 90
    said = call(*words, "0.99")
    assert said.code == 2 and "least_agreement is in percent, such as 99" in said.err
    said = call(*words, "99%", "--method", "dynamic")
    assert said.code == 2 and "least_agreement is for static int8" in said.err


def test_a_pass_takes_options(tiny, call, tmp_path):
    words = ["optimize", tiny.model, "-o", tmp_path / "o.onnx", "--passes"]
    assert call(*words, "drop-dead-channels:round_to=8,fuse-batchnorm").code == 0
    said = call(*words, "drop-dead-channels:round=8")
    assert said.code == 2
    assert "did you mean 'round_to'?" in said.err
