from __future__ import annotations

import json

import pytest

from deploypipe.bundle.manifest import Manifest, json_schema, safe_path
from deploypipe.core.errors import IntegrityError


@pytest.fixture
def text(bundle):
    return (bundle / "manifest.json").read_bytes()


def test_it_reads_what_it_wrote(text):
    manifest = Manifest.parse(text, "b")
    assert manifest.text().encode() == text
    assert manifest.inputs[0].shape == ["batch", 3, 4, 4]
    assert {entry.role for entry in manifest.files} == {"model", "golden", "runner", "extra"}


def test_a_field_changed_by_hand_is_noticed(text):
    changed = json.loads(text)
    changed["classes"][0] = "lion"
    with pytest.raises(IntegrityError, match=r"manifest\.json has been changed"):
        Manifest.parse((json.dumps(changed, indent=1, sort_keys=True) + "\n").encode(), "b")


def test_even_its_blanks_are_sealed(text):
    with pytest.raises(IntegrityError, match="changed or damaged"):
        Manifest.parse(text.replace(b"\n ", b"\n\t", 1), "b")


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"{", b"\xff\xfe", b'{"files": 3}'])
def test_something_else_does_not_follow_the_schema(content):
    with pytest.raises(IntegrityError, match="does not follow its schema") as caught:
        Manifest.parse(content, "b")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_lacks_is_damage(text, number):
    changed = text.replace(b'"cores": 2', f'"cores": {number}'.encode())
    assert changed != text
    with pytest.raises(IntegrityError, match="changed or damaged"):
        Manifest.parse(changed, "b")


def test_a_file_outside_is_no_part_of_a_manifest(text):
    changed = json.loads(text)
    changed["files"][0]["path"] = "../elsewhere"
    with pytest.raises(IntegrityError, match=r"files\.0\.path"):
        Manifest.parse(json.dumps(changed).encode(), "b")


@pytest.mark.parametrize(
    "path", ["", "/a", "a/../b", "..", ".", "a//b", "a\\b", "C:a", "a\nb", "ä", "x" * 101, "a/"]
)
def test_an_unsafe_path_is_refused(path):
    with pytest.raises(ValueError, match="safe"):
        safe_path(path)


@pytest.mark.parametrize("path", ["a", "a/b.c", "model.onnx.data", "..a"])
def test_a_plain_path_is_taken(path):
    assert safe_path(path) == path


def test_the_schema_is_published_as_json():
    schema = json_schema()
    assert json.loads(json.dumps(schema))["properties"]["files"]["type"] == "array"
    assert schema["additionalProperties"] is False
