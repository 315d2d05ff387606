from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.files import to_bytes
from deploypipe.graph.passes.strip_metadata import StripMetadata

TRACE = 'File "/home/somebody/secret.py", line 7'


@pytest.fixture
def model(parse):
    model = parse(
        """g (float[N,2] x) => (float[N,2] y) {
        h = Add(x, w)
        y = Relu(h)}""",
        w=np.ones(2, np.float32),
    )
    value = model.graph[0].outputs[0]
    value.shape, value.dtype = ir.Shape(["N", 2]), ir.DataType.FLOAT
    return model


def test_notes_with_paths_leave_the_file(model, same):
    plain = to_bytes(model)
    for thing in [model.graph, *model.graph, *model.graph.inputs, *model.graph[0].outputs]:
        thing.metadata_props["pkg.torch.onnx.stack_trace"] = TRACE
    weight = model.graph.initializers["w"]
    weight.metadata_props["note"] = TRACE
    for thing in [model.graph, model.graph[0], model.graph.inputs[0]]:
        thing.doc_string = TRACE
    weight.const_value = ir.tensor(weight.const_value.numpy(), name="w", doc_string=TRACE)
    before, model = model, ir.serde.deserialize_model(ir.serde.serialize_model(model))
    assert to_bytes(model).count(b"secret") == 10
    outcome = StripMetadata(shapes=False)(model)
    assert outcome.changes == ["removed 10 notes and 0 noted shapes"]
    assert to_bytes(model) == plain
    same(before, model)


def test_noted_shapes_go_but_the_interface_keeps_its_own(model):
    assert b"N" in to_bytes(model)
    StripMetadata()(model)
    assert model.graph[0].outputs[0].shape is None
    assert list(model.graph.inputs[0].shape)[1] == 2
    assert model.graph.outputs[0].shape is not None


def test_what_the_user_wrote_on_the_model_stays(model):
    model.doc_string = "the cat detector"
    model.metadata_props["author"] = "Ada"
    model.metadata_props["pkg.torch.export.trace"] = TRACE
    StripMetadata()(model)
    assert model.doc_string == "the cat detector"
    assert dict(model.metadata_props) == {"author": "Ada"}


def test_words_survive_the_loss_of_their_notes(parse):
    model = parse("g (string[1] x) => (string[1] y) {y = StringConcat(x, w)}", w=np.array(["a"]))
    model.graph.initializers["w"].const_value.doc_string = TRACE
    assert StripMetadata()(model).modified
    assert b"secret" not in to_bytes(model)
    assert model.graph.initializers["w"].const_value.numpy().tolist() == [b"a"]


def test_a_clean_model_is_left_alone(parse):
    outcome = StripMetadata()(parse("g (float[2] x) => (float[2] y) {y = Relu(x)}"))
    assert not outcome.modified and not outcome.changes
