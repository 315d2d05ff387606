"""The checker as a whole: what is no certificate, sizes, seeds, and the command."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest

import deploypipe
from deploypipe.core.errors import IntegrityError, UserError

pytest.importorskip("onnxruntime")

from certified import kept, taken
from certified_layouts import reshaped_by_shape, residual
from certified_sums import conv_relu_conv, folded, merged

from deploypipe.witness.check import check_channels


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda said: said.update(format="other"), "no channel certificate"),
        (lambda said: said.update(version=2), "version 2"),
        (lambda said: said.pop("unread"), "unread"),
        (lambda said: said["removed"][0]["cells"][0].update({"is": "cut"}), "'cut'"),
        (lambda said: said["removed"][0]["cells"][0].update(value=1.0), "a zero of value 1.0"),
        (lambda said: said["removed"][0]["cells"][0].update(index=1.0), "no whole number"),
        (lambda said: said["removed"][0].update(axis=True), "no whole number"),
        (lambda said: said["removed"][0].update(kind="both"), "both"),
        (lambda said: said["removed"][0]["cells"].append(3), "not laid out"),
        (lambda said: said.update(removed={"a": 1}), "not laid out"),
        (lambda said: said["compensations"].append(taken("y", "r1", "luck", None)), "luck"),
        (lambda said: said["removed"][0]["cells"][0].update({"is": "multiple"}), "of"),
        (lambda said: said["removed"][0]["cells"][0].update({"is": "fixed"}), "axes"),
        (
            lambda said: said["removed"][0]["cells"][0].update(
                {"is": "fixed", "axes": [2, 3], "value": [["a"]]}
            ),
            "no array of numbers",
        ),
        (lambda said: said["constants"].append(kept("r1", i0="a")), "no number"),
        (lambda said: said["compensations"].append(taken("y", "r1", "merge", None)), "whole"),
    ],
)
def test_what_is_no_certificate_is_a_mistake_of_the_user(spoil, told, tmp_path):
    files = conv_relu_conv().write(tmp_path)
    said = json.loads(files[2].read_text())
    spoil(said)
    files[2].write_text(json.dumps(said))
    with pytest.raises(UserError, match="channels.json") as error:
        check_channels(*files)
    assert told in str(error.value)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_file_that_cannot_be_read_is_named(number, tmp_path):
    files = conv_relu_conv().write(tmp_path)
    files[number].write_bytes(b"\xff\x00 nothing")
    with pytest.raises(UserError, match=files[number].name):
        check_channels(*files)
    files[number].unlink()
    with pytest.raises(UserError, match=files[number].name):
        check_channels(*files)


def test_a_batch_size_that_is_written_into_the_graph_is_found(tmp_path):
    case = reshaped_by_shape()
    case.after = case.after.replace(
        "shape = Shape<end=2>(c)  wanted = Concat<axis=0>(shape, rest)", ""
    )
    case.after_weights = {**case.after_weights, "wanted": np.array([2, 3, -1])}
    with pytest.raises(IntegrityError, match=r"output 'y': differs .* for x \[3, 2, 3, 3\]"):
        case.check(tmp_path)


def test_nothing_removed_is_true_of_a_copy_and_of_no_other_model(tmp_path):
    case = residual()
    case.removed, case.after_weights = [], dict(case.before_weights)
    assert case.check(tmp_path).claims == 0
    case.after_weights["w3"] = 1.01 * case.before_weights["w3"]
    with pytest.raises(IntegrityError, match="'y' at"):
        case.check(tmp_path)


def test_dynamic_sizes_can_be_given(tmp_path):
    case = reshaped_by_shape()
    for name in ("before", "after"):
        text = getattr(case, name).replace("N,2,3,3", "N,2,side,side").replace("N,2,9", "N,2,area")
        setattr(case, name, text)
    assert case.check(tmp_path, sizes={"side": 5, "N": 1}).pieces
    with pytest.raises(UserError, match=r"--size: no size is called 'sides': did you mean 'side'"):
        case.check(tmp_path, sizes={"sides": 5})


def test_a_model_that_does_not_run_at_these_sizes_asks_for_others(tmp_path):
    case = conv_relu_conv("pads=[0,0,0,0]")
    for name in ("before", "after"):
        setattr(case, name, getattr(case, name).replace("N,2,8,8", "N,2,side,side"))
    assert case.check(tmp_path).pieces
    with pytest.raises(UserError, match="--size") as error:
        case.check(tmp_path, sizes={"side": 2})
    assert "[2, 2, 2, 2]" in str(error.value)


def test_another_seed_draws_other_numbers_and_finds_the_same(tmp_path):
    files = merged().write(tmp_path)
    first, same, other = (check_channels(*files, seed=seed) for seed in (0, 0, 1))
    assert first == same
    assert (other.claims, other.pieces) == (first.claims, first.pieces)
    assert other.worst_error != first.worst_error


def test_the_command_counts_what_it_derived_and_ends_with_5_for_a_lie(call, tmp_path):
    case = folded()
    files = case.write(tmp_path)
    said = call("verify-channels", *files, "--json", "--size", "N=1")
    assert (said.code, said.json["claims"]) == (0, 5)
    assert "pieces" in call("verify-channels", *files).out
    case.after_weights["b2"] += 1e-3
    said = call("verify-channels", *case.write(tmp_path), "--json")
    assert said.code == said.json["exit_code"] == 5
    assert "'y' at" in said.json["error"]


def test_it_shares_no_code_with_what_it_checks():
    files = list((Path(deploypipe.__file__).parent / "witness").glob("*.py"))
    assert len(files) > 3
    for file in files:
        names = {
            name
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.ImportFrom | ast.Import)
            for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
            if name and name.startswith("deploypipe")
        }
        allowed = ("deploypipe.core.errors", "deploypipe.core.files", "deploypipe.witness")
        assert all(name.startswith(allowed) for name in names), file
