from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deploypipe.core.errors import UserError
from deploypipe.data import Source, open_samples, source_of


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Source]:
    """A source over a function ``make`` with this body."""

    def make(body: str) -> Source:
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        (tmp_path / "mine.py").write_text(f"import numpy as np\n\ndef make():\n{lines}")
        return source_of("python:mine.py:make", folder=tmp_path)

    return make


ARRAYS = [
    "return {'x': [[1.0], [2.0], [3.0]], 'label': [0, 1, 2]}",
    "return {'x': np.array([[1.0], [2.0], [3.0]])}, [0, 1, 2]",
    "for i in range(3): yield {'x': [i + 1.0], 'label': i}",
    "return (({'x': np.array([i + 1.0])}, i) for i in range(3))",
]


@pytest.mark.parametrize("body", ARRAYS)
def test_mappings_pairs_and_iterables_of_samples_give_the_same(
    body: str, made: Callable[[str], Source]
) -> None:
    source = made(body)
    inputs = source.read([2, 0]).inputs
    assert inputs is not None
    assert inputs["x"].tolist() == [[3.0], [1.0]]
    assert source.ids() == ("make#000000", "make#000001", "make#000002")
    labels = source.labels()
    assert labels is not None
    assert labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "body",
    [
        "return np.zeros((3, 4, 4, 1), np.uint8)",
        "return np.zeros((3, 4, 4, 1), np.uint8), [0, 1, 2]",
        "return ((np.zeros((4, 4, 1), np.uint8), i) for i in range(3))",
        "return (np.zeros((4, 4, 1), np.uint8) for i in range(3)), [0, 1, 2]",
    ],
)
def test_bytes_of_images_are_preprocessed_as_images(
    body: str, made: Callable[[str], Source]
) -> None:
    split = open_samples(made(body)).split("validation")
    assert split.batch([0, 1, 2]).inputs["image"].shape == (3, 1, 4, 4)
    assert split.batch([0]).inputs["image"].dtype == np.float32


def test_two_mappings_are_two_samples(made: Callable[[str], Source]) -> None:
    assert len(made("return {'x': 1.0}, {'x': 2.0}")) == 2


def test_a_module_is_found_by_its_name() -> None:
    with pytest.raises(UserError, match=r"the function returns float"):
        len(source_of("python:time:time"))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise KeyError('gone')", "python:mine.py:make raises KeyError: 'gone'. See line 4 of"),
        ("yield {'x': 1}\nraise OSError('late')", "raises OSError: late. See line 5 of"),
        ("return None", "the function returns NoneType. Return a mapping of arrays"),
        ("return 'text'", "the function returns str"),
        ("return []", "there are no samples"),
        ("return {'x': [1, 2]}, [1]", "number of samples: 'x' has 2, 'label' has 1"),
        ("return {'x': [[1], [2, 3]]}", "'x' is no array"),
        ("return {'x': ['a']}", "'x' holds <U1, expected numbers"),
        ("return {'x': [1.0, np.nan]}", "'x' holds NaN or infinity, first in sample make#000001"),
        ("return [{'x': [1]}, {'x': [1, 2]}]", "'x' of sample 1 has shape [2], of the first [1]"),
        ("return [{'x': 1}, {'y': 1}]", "sample 1 has other inputs than the first: ['x']"),
        ("return [{'x': 1, 'label': 1}, {'x': 1}, {'x': 2}]", "1 of 3 samples have a label"),
        ("return np.zeros((3, 4))", "sample 0 is float64[4] and has no name"),
        ("return np.zeros((3, 4, 4, 1), np.uint8), [1]", "labels of shape [1] for 3 images"),
    ],
)
def test_what_a_function_does_wrong_is_explained(
    body: str, says: str, made: Callable[[str], Source]
) -> None:
    with pytest.raises(UserError) as caught:
        open_samples(made(body))
    assert says in str(caught.value).replace("mine.py:make: raises", "python:mine.py:make raises")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("python:mine.py", "expected FILE.py:FUNCTION or MODULE:FUNCTION, got 'mine.py'"),
        ("python:none.py:make", "no such file or folder"),
        ("python:mine.py:mke", "mine.py has no function 'mke', did you mean 'make'"),
        ("python:no_such_module:make", "no module 'no_such_module'. For a file, write no_such"),
        ("python:broken.py:make", "broken.py raises ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_found_is_explained(
    spec: str, says: str, made: Callable[[str], Source], tmp_path: Path
) -> None:
    made("return []")
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(UserError) as caught:
        open_samples(spec, folder=tmp_path)
    assert says in str(caught.value)


def test_our_own_errors_pass_unchanged(made: Callable[[str], Source]) -> None:
    body = "from deploypipe.core.errors import UserError\nraise UserError('mine', where='here')"
    with pytest.raises(UserError, match=r"^here: mine\.$"):
        len(made(body))
