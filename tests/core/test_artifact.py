from __future__ import annotations

import dataclasses

import pytest

from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.files import digest_tree


def test_a_file_of_the_users_is_itself_alone(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"123")
    (tmp_path / "other").write_bytes(b"4567")
    artifact = Artifact.of(Kind.ONNX, tmp_path / "model.onnx", "user")
    assert artifact.bytes == 3 and artifact.digest == digest_tree(tmp_path / "model.onnx")


@pytest.mark.parametrize("folder", ["artifact", "mine"])
def test_external_data_count_wherever_they_lie(tmp_path, folder):
    model, data = tmp_path / folder / "model.onnx", tmp_path / folder / "weights.bin"
    model.parent.mkdir()
    model.write_bytes(b"123")
    data.write_bytes(b"4567")
    alone = Artifact.of(Kind.ONNX, model, "export")
    both = Artifact.of(Kind.ONNX, model, "export", data=[data])
    assert (alone.bytes, both.bytes) == (3, 7)
    data.write_bytes(b"4568")
    other = Artifact.of(Kind.ONNX, model, "export", data=[data])
    assert len({alone.digest, both.digest, other.digest}) == 3


def test_the_nearest_note_is_found(tmp_path):
    first = Artifact.of(Kind.TORCH, tmp_path, "user", notes={"a": 1, "b": 1})
    second = Artifact.of(Kind.TORCH, tmp_path, "train", first, {"a": 2})
    assert (second.nearest("a"), second.nearest("b"), second.nearest("c")) == (2, 1, None)


def test_a_directory_is_all_that_lies_below(tmp_path):
    (tmp_path / "model.json").write_bytes(b"{}")
    (tmp_path / "weights.safetensors").write_bytes(b"12")
    assert Artifact.of(Kind.TORCH, tmp_path, "train").bytes == 4


def test_the_nearest_ancestor_of_a_kind_is_found(tmp_path):
    first = Artifact.of(Kind.TORCH, tmp_path, "user")
    second = Artifact.of(Kind.TORCH, tmp_path, "train", first)
    third = Artifact.of(Kind.ONNX, tmp_path, "export", second)
    assert third.ancestor(Kind.TORCH) is second and third.ancestor(Kind.ONNX) is third
    assert third.ancestor(Kind.BUNDLE) is None


def test_notes_are_copied_and_the_artifact_is_frozen(tmp_path):
    notes = {"changes": ["a"]}
    artifact = Artifact.of(Kind.TORCH, tmp_path, "train", notes=notes)
    notes["more"] = []
    assert artifact.notes == {"changes": ["a"]}
    with pytest.raises(dataclasses.FrozenInstanceError):
        artifact.path = tmp_path
