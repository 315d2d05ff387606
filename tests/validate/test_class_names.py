"""Names of classes in a model's metadata."""

import onnx.parser
import onnx_ir as ir
import pytest

from deploypipe.core.errors import UserError
from deploypipe.validate.class_names import check_same_classes, class_names

TEXT = '<ir_version: 10, opset_import: ["" : 20]> m (float[N] x) => (float[N] y) { y = Abs(x) }'


def model(**metadata):
    built = ir.serde.deserialize_model(onnx.parser.parse_model(TEXT))
    built.metadata_props.update(metadata)
    return built


@pytest.mark.parametrize(
    "metadata",
    [
        {"classes": '["cat", "dog"]'},
        {"names": "{0: 'cat', 1: 'dog'}"},
        {"id2label": '{"1": "dog", "0": "cat"}'},
        {"labels": "cat\ndog\n"},
        {"class_names": "cat, dog"},
        {"names": "('cat', 'dog')"},
    ],
)
def test_names_are_read_as_exporters_write_them(metadata):
    assert class_names(model(**metadata)) == ("cat", "dog")


@pytest.mark.parametrize("metadata", [{}, {"author": "a, b"}, {"names": "{}"}, {"labels": "one"}])
def test_a_model_may_carry_none(metadata):
    assert class_names(model(**metadata)) is None


def test_equal_names_fit():
    check_same_classes(model(names="{0: 'a', 1: 'b'}"), model(classes='["a", "b"]'))


def test_a_model_without_names_fits_any():
    check_same_classes(model(classes='["a", "b"]'), model())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ('["a", "c", "b"]', "class 1 is 'b' in the reference, 'c' here, the same names in another"),
        ('["a", "b", "d"]', r"class 2 is 'c' in the reference, 'd' here\."),
        ('["a", "b"]', "3 classes against 2"),
    ],
)
def test_another_order_is_told_with_the_first_class(other, message):
    with pytest.raises(UserError, match=message):
        check_same_classes(model(classes='["a", "b", "c"]'), model(classes=other))
