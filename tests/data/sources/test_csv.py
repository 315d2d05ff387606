from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from deploypipe.core.errors import UserError
from deploypipe.data import Source, open_samples, source_of

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "dog", "runs"]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Source]:
    """A source over a CSV file with this text, a word tokenizer beside it."""
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    def make(content: str, /, **options: Any) -> Source:
        (tmp_path / "a.csv").write_bytes(content.encode())
        return source_of({"csv": {"file": "a.csv", "length": 6, **options}}, folder=tmp_path)

    return make


def inputs_of(source: Source, rows: list[int]) -> dict[str, np.ndarray]:
    inputs = source.read(rows).inputs
    assert inputs is not None
    return dict(inputs)


def labels_in(source: Source) -> list[Any]:
    labels = source.labels()
    assert labels is not None
    return labels.tolist()


def test_one_text_column_is_padded_and_cut(made: Callable[..., Source]) -> None:
    source = made("a cat\na dog runs a dog runs\n")
    inputs = inputs_of(source, [0, 1])
    assert inputs["input_ids"].dtype == np.int64
    assert inputs["input_ids"].tolist() == [[2, 4, 5, 3, 0, 0], [2, 4, 6, 7, 4, 3]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert source.ids() == ("a.csv#000000", "a.csv#000001")
    assert source.labels() is None


def test_a_label_of_twenty_digits_is_named(made: Callable[..., Source]) -> None:
    source = made("a,1\ncat,12345678901234567890\n", label=1)
    with pytest.raises(
        UserError, match=r"a\.csv#000001: the label '12345678901234567890' is larger"
    ):
        source.labels()


def test_two_text_columns_are_one_sample_with_one_score(made: Callable[..., Source]) -> None:
    source = made("a cat,a dog,5.0\ncat,dog,2.5\n", text=[0, 1], label=2)
    inputs = inputs_of(source, [1, 0])
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (2, 2, 6)
    assert inputs["input_ids"][0].tolist() == [[2, 5, 3, 0, 0, 0], [2, 6, 3, 0, 0, 0]]
    assert labels_in(source) == [5.0, 2.5]


def test_two_columns_can_be_joined_into_one_sequence(made: Callable[..., Source]) -> None:
    source = made("cat,dog\n", text=[0, 1], join=True, type_ids=True)
    inputs = inputs_of(source, [0])
    assert inputs["input_ids"].tolist() == [[2, 5, 3, 6, 3, 0]]
    assert inputs["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 0]]


def test_named_columns_imply_a_header(made: Callable[..., Source]) -> None:
    source = made("\ufefftext,y\ncat,1\ndog,0\n", text="text", label="y")
    assert len(source) == 2
    assert labels_in(source) == [1, 0]
    assert source.labels().dtype == np.int64  # type: ignore[union-attr]


def test_a_header_is_seen_where_the_first_label_is_no_number(made: Callable[..., Source]) -> None:
    assert len(made("text,y\ncat,1\n", label=1)) == 1
    assert len(made("cat,1\ndog,2\n", label=1)) == 2
    assert len(made("text\ncat\n", header=True)) == 1


def test_class_names_become_their_numbers(made: Callable[..., Source]) -> None:
    source = made("cat,bad\ndog,good\n", label=1, classes=["bad", "good"])
    assert labels_in(source) == [0, 1]
    assert source.classes == ("bad", "good")


def test_quoted_commas_and_line_breaks_are_text(made: Callable[..., Source]) -> None:
    source = made('"cat, a\ncat",1\n\ndog,2\n', label=1)
    assert len(source) == 2
    assert inputs_of(source, [0])["input_ids"].tolist() == [[2, 5, 1, 4, 5, 3]]


def test_digests_are_of_the_text_and_the_tokenizer_counts_in_the_settings(
    made: Callable[..., Source],
) -> None:
    source = made("cat,1\ndog,1\ncat,2\n", label=1)
    digests = source.digests()
    assert digests[0] == digests[2] != digests[1]
    assert source.settings() != made("cat,1\n", label=1, length=7).settings()


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("", {}, "there are no samples"),
        ("cat,1\ndog\n", {"label": 1}, "a.csv#000001: has 1 columns, at least 2 are needed"),
        ("cat,1\ndog,x\n", {"label": 1}, "a.csv#000001: the label 'x' is no number"),
        ("cat,1\ndog,nan\n", {"label": 1}, "the label 'nan' is no number"),
        ("text,y\ncat,1\n", {"text": "texd"}, "there is no column 'texd', did you mean 'text'"),
        ("cat\n", {"text": -1}, "columns count from 0, got -1"),
        ("cat,no\ncat,goood\n", {"label": 1, "classes": ["no", "good"]}, "did you mean 'good'"),
        ("cat\n", {"length": 0}, "length must be at least 1, got 0"),
        ("cat\n", {"text": []}, "text must name at least one column"),
        ("cat\n", {"join": True}, "join takes two text columns, got 1"),
        ("cat\n", {"delimiter": ";;"}, "delimiter must be one character"),
        ("cat\n", {"tokenizer": "none.json"}, "csv.tokenizer: no such file"),
        ("cat\n", {"header": "yes"}, "header"),
    ],
)
def test_wrong_text_and_options_are_explained(
    text: str, options: dict[str, Any], says: str, made: Callable[..., Source]
) -> None:
    with pytest.raises(UserError) as caught:
        open_samples(made(text, **options)).split("validation").labels  # noqa: B018
    assert says in str(caught.value)


def test_a_missing_and_a_broken_tokenizer_are_named(
    made: Callable[..., Source], tmp_path: Path
) -> None:
    source = made("cat\n")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="tokenizer.json: cannot be read as a tokenizer"):
        source.read([0])
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no tokenizer at .*Set the option 'tokenizer'"):
        made("cat\n").read([0])


def test_bytes_that_are_no_text_are_refused(made: Callable[..., Source], tmp_path: Path) -> None:
    source = made("cat\n")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00cat")
    with pytest.raises(UserError, match="a.csv: cannot be read as CSV"):
        source.ids()


def test_the_real_sentence_pairs_are_read_whole(
    made: Callable[..., Source], tmp_path: Path, real_data: Path
) -> None:
    made("")
    options = {"text": [0, 1], "label": 2, "tokenizer": str(tmp_path / "tokenizer.json")}
    source = source_of({"csv": {"file": "stsb/validation.csv", **options}}, folder=real_data)
    assert len(source) == 1500
    labels = np.array(labels_in(source))
    assert labels.min() == 0
    assert labels.max() == 5
