from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from deploypipe.core import files
from deploypipe.core.errors import UserError
from deploypipe.graph.files import data_files, load, save, to_bytes, weight_bytes


@pytest.fixture
def model(parse):
    weight = np.arange(600, dtype=np.float32).reshape(2, 300)
    return parse("g (float[N,2] x) => (float[N,300] y) {y = MatMul(x, w)}", w=weight)


@pytest.fixture
def external(model, tmp_path):
    """A model whose weights lie in m.onnx.data."""
    save(model, tmp_path / "m.onnx", largest_file=100)
    return tmp_path / "m.onnx"


def _relocate(path: Path, **changes: str) -> None:
    proto = onnx.load(str(path), load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        entry.value = changes.get(entry.key, entry.value)
    path.write_bytes(proto.SerializeToString())


def _weight(model):
    return model.graph.initializers["w"].const_value.numpy()


def test_what_is_saved_is_loaded_again(model, tmp_path):
    save(model, tmp_path / "new" / "m.onnx")
    assert os.listdir(tmp_path / "new") == ["m.onnx"]
    assert to_bytes(load(tmp_path / "new" / "m.onnx")) == to_bytes(model)


def test_large_weights_go_beside_the_model(model, external):
    assert sorted(os.listdir(external.parent)) == ["m.onnx", "m.onnx.data"]
    assert (external.parent / "m.onnx.data").stat().st_size == weight_bytes(model) == 2400
    np.testing.assert_array_equal(_weight(load(external)), _weight(model))


def test_saving_leaves_the_model_in_memory_as_it_was(model, external):
    assert _weight(model).sum() == np.arange(600).sum()
    assert to_bytes(load(external)) == to_bytes(model)


def test_a_loaded_model_outlives_its_files(external):
    model = load(external)
    (external.parent / "m.onnx.data").write_bytes(b"")
    external.unlink()
    assert _weight(model)[1, 299] == 599


def test_a_model_may_be_saved_over_its_own_files(external):
    save(load(external), external, largest_file=100)
    assert _weight(load(external))[1, 299] == 599


def test_a_save_that_is_cut_short_leaves_the_model_that_was_there(external, monkeypatch):
    """Whatever of the two files was written last."""
    before, other = load(external), load(external)
    value = other.graph.initializers["w"]
    value.const_value = ir.tensor(value.const_value.numpy() + 1, name="w")
    plain = files._replace

    def stop(temporary, path):
        if path == external:
            raise KeyboardInterrupt
        plain(temporary, path)

    for _ in range(2):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(files, "_replace", stop)
            save(other, external, largest_file=100)
        assert to_bytes(load(external)) == to_bytes(before)
        save(other, external, largest_file=100)
        assert to_bytes(load(external)) == to_bytes(other)
        assert len(os.listdir(external.parent)) == 2
        before, other = other, before


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_weights_are_no_model_and_the_export_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"weights")
    with pytest.raises(UserError, match=rf"not an ONNX file but weights.*--weights .*{name}"):
        load(tmp_path / name)


def test_a_torch_model_has_to_be_exported_first(tmp_path):
    with pytest.raises(UserError, match=r"Export it first: deploypipe export .*net.py:build"):
        load(tmp_path / "net.py:build")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nothing.onnx: no such file"):
        load(tmp_path / "nothing.onnx")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(UserError, match="is a directory"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello, world", b"\x00" * 64, b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_onnx_is_refused(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(UserError, match="not an ONNX file, or cut short"):
        load(tmp_path / "m.onnx")


def test_a_file_cut_short_anywhere_is_refused_in_one_paragraph(model, tmp_path):
    whole = to_bytes(model)
    for length in range(0, len(whole) - 1, 97):
        (tmp_path / "m.onnx").write_bytes(whole[:length])
        with pytest.raises(UserError) as caught:
            load(tmp_path / "m.onnx")
        assert "\n" not in str(caught.value)


def test_damaged_bytes_never_give_a_traceback(model, tmp_path):
    whole = to_bytes(model)
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(whole)
        broken[rng.integers(200)] = rng.integers(256)
        (tmp_path / "m.onnx").write_bytes(broken)
        try:
            load(tmp_path / "m.onnx")
        except UserError as error:
            assert "\n" not in str(error)


def test_the_checkers_reason_is_told_in_one_line(parse, tmp_path):
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[1] x) => (float[1] y) {y = Rule(x)}'
    )
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(UserError, match="fails onnx.checker: No Op registered for Rule") as caught:
        load(tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("location", ["../secret", "a/../../secret", "/etc/hostname", ""])
def test_data_outside_the_models_folder_are_not_read(external, location):
    (external.parent.parent / "secret").write_bytes(bytes(2400))
    _relocate(external, location=location)
    with pytest.raises(UserError, match="outside the model's folder"):
        load(external)


def test_a_link_that_leads_outside_is_not_followed(external, tmp_path_factory):
    data = external.parent / "m.onnx.data"
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret"
    elsewhere.write_bytes(data.read_bytes())
    data.unlink()
    data.symlink_to(elsewhere)
    with pytest.raises(UserError, match="outside the model's folder"):
        load(external)


def test_a_folder_that_is_itself_a_link_is_fine(external, tmp_path_factory):
    link = tmp_path_factory.mktemp("links") / "link"
    link.symlink_to(external.parent)
    assert _weight(load(link / "m.onnx"))[0, 1] == 1


def test_the_files_of_external_data_are_listed_by_location(external, parse, tmp_path):
    assert data_files(external) == {"m.onnx.data": (tmp_path / "m.onnx.data").resolve()}
    save(parse("g (float[2] x) => (float[2] y) {y = Relu(x)}"), tmp_path / "plain.onnx")
    assert data_files(tmp_path / "plain.onnx") == {}


def test_missing_data_are_named(external):
    (external.parent / "m.onnx.data").unlink()
    with pytest.raises(UserError, match=r"tensor 'w': its data file 'm.onnx.data' is missing"):
        load(external)


def test_data_cut_short_are_named(external):
    data = external.parent / "m.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(UserError, match="too short"):
        load(external)


@pytest.mark.parametrize(
    "changes",
    [
        {"length": "2401"},
        {"length": "99999999999"},
        {"offset": "-4"},
        {"offset": "x"},
        {"offset": str(2**63)},
        {"offset": str(10**30)},
    ],
)
def test_a_lying_offset_or_length_is_refused(external, changes):
    _relocate(external, **changes)
    with pytest.raises(UserError):
        load(external)


@pytest.mark.parametrize("dtype", [onnx.TensorProto.STRING, 99])
def test_data_of_a_type_that_has_no_size_are_refused(external, dtype):
    proto = onnx.load(str(external), load_external_data=False)
    proto.graph.initializer[0].data_type = dtype
    external.write_bytes(proto.SerializeToString())
    with pytest.raises(UserError, match="tensor 'w'"):
        load(external)


def test_sparse_weights_are_refused_and_not_lost(parse, tmp_path):
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> '
        "g (float[2,3] x) => (float[2,2] y) {y = MatMul(x, w)}"
    )
    values = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    places = onnx.helper.make_tensor("places", onnx.TensorProto.INT64, [2], [0, 3])
    sparse = onnx.helper.make_sparse_tensor(values, places, [3, 2])
    proto.graph.sparse_initializer.append(sparse)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(UserError, match="its weight 'w' is sparse"):
        load(tmp_path / "m.onnx")


def test_weights_may_be_strings(tmp_path):
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> '
        "g (string[2] x) => (string[2] y) {y = StringConcat(x, w)}"
    )
    words = onnx.helper.make_tensor("w", onnx.TensorProto.STRING, [2], [b"one", b"three"])
    proto.graph.initializer.append(words)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    model = load(tmp_path / "m.onnx")
    assert weight_bytes(model) == 8
    save(model, tmp_path / "again.onnx")
    assert _weight(load(tmp_path / "again.onnx")).tolist() == [b"one", b"three"]


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16", "INT8", "INT4", "FLOAT8E4M3FN"])
def test_external_data_of_every_width_are_read(tmp_path, kind):
    dtype = getattr(onnx.TensorProto, kind)
    array = np.arange(600).reshape(3, 200) % 7
    node = onnx.helper.make_node("Identity", ["w"], ["y"])
    made = onnx.helper.make_tensor("w", dtype, [3, 200], array.ravel().tolist())
    ends = [onnx.helper.make_tensor_value_info("y", dtype, [3, 200])]
    graph = onnx.helper.make_graph([node], "g", [], ends, [made])
    opsets = [onnx.helper.make_opsetid("", 21)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        size_threshold=0,
    )
    model = load(tmp_path / "m.onnx")
    for file in tmp_path.iterdir():
        file.unlink()
    np.testing.assert_array_equal(_weight(model).astype(np.int64), array)
