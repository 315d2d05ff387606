from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from deploypipe.bundle.manifest import Manifest
from deploypipe.bundle.pack import pack
from deploypipe.bundle.verify import verify
from deploypipe.core.errors import IntegrityError, UserError
from deploypipe.graph.files import save


@pytest.fixture
def tar(model, content, tmp_path) -> Path:
    return pack(model, tmp_path / "b.tar", content)


def _reseal(bundle: Path, **changes: object) -> None:
    """Forge the manifest, digest included."""
    fields = json.loads((bundle / "manifest.json").read_text()) | changes
    fields.pop("digest")
    fields.pop("schema_version")
    (bundle / "manifest.json").write_text(Manifest.seal(**fields).text())


def _tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_a_fresh_bundle_is_whole_and_answers_as_recorded(bundle, tar, open_session):
    for path in (bundle, tar):
        findings = verify(path, open_session)
        assert findings[0].startswith("4 files, ")
        assert "output 'logits' of 6 golden samples differs by 0 of its range" in findings[1]


def test_without_a_runtime_it_says_that_goldens_were_not_tried(bundle):
    assert "not tried" in verify(bundle)[1]


def test_one_flipped_byte_of_any_file_is_found_and_named(bundle):
    for file in sorted(p for p in bundle.rglob("*") if p.is_file()):
        whole = file.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            broken = bytearray(whole)
            broken[place] ^= 1
            file.write_bytes(broken)
            with pytest.raises(IntegrityError, match=file.name):
                verify(bundle)
        file.write_bytes(whole)
    verify(bundle)


def test_one_flipped_byte_of_any_file_in_a_tar_is_found_and_named(tar):
    whole = tar.read_bytes()
    with tarfile.open(tar, "r:") as opened:
        members = opened.getmembers()
    for member in members:
        broken = bytearray(whole)
        broken[member.offset_data + member.size // 2] ^= 1
        tar.write_bytes(broken)
        with pytest.raises(IntegrityError, match=member.name):
            verify(tar)


def test_a_tar_damaged_anywhere_is_refused_or_whole_but_never_a_traceback(tar):
    whole = tar.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(whole)
        broken[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        tar.write_bytes(broken)
        try:
            verify(tar)
        except IntegrityError as error:
            assert "\n" not in str(error)
    for length in range(0, len(whole), 1500):
        tar.write_bytes(whole[:length])
        try:
            verify(tar)
            assert length > len(whole) - 10240  # only the padding at the end is missing
        except IntegrityError:
            pass


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "manifest.json", "run.py"])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(IntegrityError, match=f"{name}.* is missing"):
        verify(bundle)


def test_a_file_cut_short_is_named(bundle):
    file = bundle / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"'model.onnx' has \d+ bytes"):
        verify(bundle)


@pytest.mark.parametrize("name", ["extra.txt", ".hidden", "sub/extra.py"])
def test_an_unlisted_file_is_named(bundle, name):
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_text("x")
    with pytest.raises(IntegrityError, match=f"'{name}' is not listed"):
        verify(bundle)


def test_a_link_to_the_right_content_is_still_refused(bundle, tmp_path):
    (bundle / "run.py").rename(tmp_path / "run.py")
    (bundle / "run.py").symlink_to(tmp_path / "run.py")
    with pytest.raises(IntegrityError, match="'run.py' is a link"):
        verify(bundle)


def test_an_unlisted_link_to_a_folder_is_refused(bundle, tmp_path):
    (bundle / "more").symlink_to(tmp_path)
    with pytest.raises(IntegrityError, match="'more' is not listed"):
        verify(bundle)


def test_no_bundle_at_all_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="no such bundle"):
        verify(tmp_path / "nothing")


@pytest.mark.parametrize("content", [b"", b"no tar", bytes(1024), b"\x1f\x8b\x08" + bytes(99)])
def test_a_file_that_is_no_tar_is_refused(tmp_path, content):
    (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"b\.tar"):
        verify(tmp_path / "b.tar")


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil"])
def test_a_member_that_would_leave_the_folder_is_never_written(bundle, tmp_path, name):
    manifest = (bundle / "manifest.json").read_bytes()
    path = _tar_of(
        tmp_path / "b.tar",
        (tarfile.TarInfo("manifest.json"), manifest),
        (tarfile.TarInfo(name), b"x"),
    )
    with pytest.raises(IntegrityError, match="is not listed"):
        verify(path)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_a_member_that_is_no_plain_file_is_refused(tmp_path, kind):
    member = tarfile.TarInfo("model.onnx")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(IntegrityError, match="'model.onnx' is no plain file"):
        verify(_tar_of(tmp_path / "b.tar", (member, b"")))


def test_a_member_larger_than_declared_is_not_unpacked(bundle, tmp_path):
    members = [(tarfile.TarInfo("manifest.json"), (bundle / "manifest.json").read_bytes())]
    path = _tar_of(tmp_path / "b.tar", *members, (tarfile.TarInfo("model.onnx"), bytes(10**6)))
    with pytest.raises(IntegrityError, match="'model.onnx' has 1000000 bytes"):
        verify(path)


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b/c", "a"), ("manifest.json/b",)])
def test_a_member_below_another_one_is_refused(tmp_path, bundle, names):
    manifest = tarfile.TarInfo("manifest.json"), (bundle / "manifest.json").read_bytes()
    members = [(tarfile.TarInfo(name), b"x") for name in names]
    with pytest.raises(IntegrityError, match="lies below"):
        verify(_tar_of(tmp_path / "b.tar", manifest, *members))


def test_a_member_that_comes_twice_is_refused(tmp_path):
    twice = [(tarfile.TarInfo("run.py"), b"a"), (tarfile.TarInfo("run.py"), b"b")]
    with pytest.raises(IntegrityError, match="'run.py' is there twice"):
        verify(_tar_of(tmp_path / "b.tar", *twice))


def test_answers_that_changed_are_told_with_their_size(model, content, tmp_path, open_session):
    moved = content.golden_outputs["logits"] + np.float32(0.5)
    wrong = dataclasses.replace(content, golden_outputs={"logits": moved})
    bundle = pack(model, tmp_path / "b", wrong)
    with pytest.raises(IntegrityError, match=r"'model.onnx': output 'logits' .* differs by 0\.0"):
        verify(bundle, open_session)


def test_a_moved_largest_value_counts_even_within_the_tolerance(
    model, content, tmp_path, open_session
):
    answers = content.golden_outputs["logits"].copy()
    first, second = np.argsort(-answers[0])[:2]
    answers[0, second] = answers[0, first] + 1e-3
    generous = dataclasses.replace(content, golden_outputs={"logits": answers}, tolerance=10.0)
    with pytest.raises(IntegrityError, match="1 largest values moved"):
        verify(pack(model, tmp_path / "b", generous), open_session)
    unnamed = dataclasses.replace(generous, classes=None)  # scores of no classes have no winner
    verify(pack(model, tmp_path / "c", unnamed), open_session)


def test_goldens_of_a_fixed_batch_are_fed_in_steps(classifier, content, tmp_path, open_session):
    for value in (*classifier.graph.inputs, *classifier.graph.outputs):
        value.shape = type(value.shape)([2, *list(value.shape)[1:]])
    save(classifier, tmp_path / "two.onnx")
    assert len(verify(pack(tmp_path / "two.onnx", tmp_path / "b", content), open_session)) == 2
    feeds = {"image": content.golden_inputs["image"][:5]}
    answers = {"logits": content.golden_outputs["logits"][:5]}
    five = dataclasses.replace(content, golden_inputs=feeds, golden_outputs=answers)
    with pytest.raises(UserError, match="batches of 2"):
        pack(tmp_path / "two.onnx", tmp_path / "c", five)


def _forge_goldens(bundle: Path, **arrays: np.ndarray) -> None:
    with (bundle / "golden.npz").open("wb") as file:
        np.savez(file, **arrays)
    content = (bundle / "golden.npz").read_bytes()
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    for entry in files:
        if entry["path"] == "golden.npz":
            entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    _reseal(bundle, files=files)


@pytest.mark.parametrize("rows", [0, 5])
def test_goldens_of_another_number_of_rows_do_not_fit(bundle, content, open_session, rows):
    images, logits = content.golden_inputs["image"], content.golden_outputs["logits"]
    _forge_goldens(bundle, **{"input.image": images[:rows], "output.logits": logits[:rows]})
    with pytest.raises(IntegrityError, match=r"'golden\.npz' does not fit the model"):
        verify(bundle, open_session)


def test_a_golden_file_with_pickles_is_never_opened(bundle, open_session):
    _forge_goldens(bundle, **{"input.image": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(IntegrityError, match="not a golden file"):
        verify(bundle, open_session)


def test_a_bundle_without_goldens_says_so(model, content, tmp_path, open_session):
    bare = dataclasses.replace(content, golden_inputs={}, golden_outputs={})
    assert verify(pack(model, tmp_path / "b", bare), open_session)[1] == (
        "no golden answers are recorded"
    )
