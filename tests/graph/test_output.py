from __future__ import annotations

import pytest

from deploypipe.core.errors import UserError
from deploypipe.graph.output import check_output


def test_an_input_is_refused_by_whatever_path(tmp_path):
    model = tmp_path / "a" / "model.onnx"
    with pytest.raises(UserError, match="the output is the input. Give another path with --repair"):
        check_output(model, [tmp_path / "a" / ".." / "a" / "model.onnx"], "--repair")


def test_what_is_no_model_is_refused(tmp_path, tiny):
    (tmp_path / "net.py").write_text("import torch\n")
    with pytest.raises(UserError, match=r"net.py: is there already and is no ONNX model.*-o"):
        check_output(tmp_path / "net.py", [])


def test_one_byte_makes_no_model(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01 and more")
    with pytest.raises(UserError, match="is no ONNX model"):
        check_output(tmp_path / "saved_model.pb", [])


def test_of_a_large_file_the_start_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("deploypipe.graph.output.LARGE", 4)
    (tmp_path / "large.onnx").write_bytes(b"\x08\x0a and more")
    check_output(tmp_path / "large.onnx", [])
    (tmp_path / "net.py").write_text("import torch")
    with pytest.raises(UserError, match="is no ONNX model"):
        check_output(tmp_path / "net.py", [])


def test_a_model_an_empty_file_and_a_free_place_may_be_written(tmp_path, tiny):
    (tmp_path / "empty.onnx").touch()
    for place in (tiny.model, tmp_path / "empty.onnx", tmp_path / "new" / "model.onnx"):
        check_output(place, [])
