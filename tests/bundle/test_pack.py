from __future__ import annotations

import dataclasses
import os
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from deploypipe.bundle.pack import pack
from deploypipe.bundle.verify import read_manifest, verify
from deploypipe.core.errors import UserError
from deploypipe.graph.files import load, save


def _files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_bundle_holds_model_goldens_runner_report_and_manifest(bundle, model):
    files = _files(bundle)
    names = {"manifest.json", "model.onnx", "golden.npz", "run.py", "report.html"}
    assert set(files) == names
    assert files["model.onnx"] == model.read_bytes()


def test_equal_inputs_give_equal_bytes(model, content, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    pack(model, one / "b.tar", content)
    pack(model, one / "b", content)
    later = time.time() + 9999
    os.utime(model, (later, later))
    pack(model, two / "b.tar", content)
    pack(model, two / "b", content)
    assert (one / "b.tar").read_bytes() == (two / "b.tar").read_bytes()
    assert _files(one / "b") == _files(two / "b")


def test_a_tar_says_nothing_about_the_machine_that_packed(model, content, tmp_path):
    pack(model, tmp_path / "b.tar", content)
    with tarfile.open(tmp_path / "b.tar", "r:") as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == sorted(m.name for m in members)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}


def test_external_weights_travel_too(classifier, content, tmp_path, open_session):
    save(classifier, tmp_path / "big" / "m.onnx", largest_file=10)
    bundle = pack(tmp_path / "big" / "m.onnx", tmp_path / "b", content)
    entry = read_manifest(bundle).entry("m.onnx.data")
    assert entry is not None and entry.role == "weights"
    assert len(verify(bundle, open_session)) == 2
    assert load(bundle / "model.onnx").graph.initializers["w"].const_value.numpy().size == 240


def test_an_older_bundle_is_replaced(bundle, model, content):
    pack(model, bundle, dataclasses.replace(content, extra={}))
    assert "report.html" not in _files(bundle)
    verify(bundle)


@pytest.mark.parametrize("left", [0, 8000, None])
def test_an_older_tar_is_replaced_even_if_it_is_damaged(model, content, tmp_path, left):
    path = pack(model, tmp_path / "b.tar", content)
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    pack(model, path, content)
    assert path.read_bytes() == whole


def test_anything_else_that_is_in_the_way_is_left_alone(model, content, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "text.tar").write_bytes(b"no tar")
    with tarfile.open(tmp_path / "photos.tar", "w:") as tar:
        tar.add(tmp_path / "photos" / "cat.jpg", "cat.jpg")
    before = _files(tmp_path)
    for name in ("photos", "file", "folder.tar", "text.tar", "photos.tar"):
        with pytest.raises(UserError, match="no bundle"):
            pack(model, tmp_path / name, content)
    assert _files(tmp_path) == before


def test_a_folder_that_holds_the_model_is_not_replaced(bundle, content):
    with pytest.raises(UserError, match="holds files that are to be packed"):
        pack(bundle / "model.onnx", bundle, content)
    verify(bundle)


def test_a_compressed_bundle_is_refused(model, content, tmp_path):
    with pytest.raises(UserError, match="uncompressed"):
        pack(model, tmp_path / "b.tar.gz", content)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "manifest.json", "model.onnx", "run.py"])
def test_extra_files_take_no_unsafe_or_taken_name(model, content, tmp_path, name):
    bad = dataclasses.replace(content, extra={name: model})
    with pytest.raises(UserError):
        pack(model, tmp_path / "b", bad)
    assert not (tmp_path / "b").exists() and not list(tmp_path.glob(".b*"))


def test_goldens_that_do_not_fit_the_model_are_refused(model, content, tmp_path):
    answers = content.golden_outputs["logits"]
    for change in (
        {"golden_outputs": {"scores": answers}},
        {"golden_outputs": {"logits": answers[:-1]}},
        {"golden_outputs": {"logits": answers * np.nan}},
        {"golden_inputs": {"image": content.golden_inputs["image"][:, :1]}},
        {"golden_inputs": {"other": content.golden_inputs["image"]}},
        {"golden_inputs": {}},
    ):
        with pytest.raises(UserError):
            pack(model, tmp_path / "b", dataclasses.replace(content, **change))


def test_a_model_that_is_none_leaves_nothing_behind(content, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match="not an ONNX file"):
        pack(tmp_path / "m.onnx", tmp_path / "b", content)
    assert not (tmp_path / "b").exists()
