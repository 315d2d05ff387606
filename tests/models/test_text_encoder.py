from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(scope="module")
def text(model_file):
    return model_file("text_encoder")


def small(text, **options: object) -> nn.Module:
    return text.text_encoder(vocabulary=50, dimensions=32, layers=2, **options).eval()


def sentences(batch: int, length: int) -> tuple[Tensor, Tensor]:
    """Random tokens; the last two of the first sentence are padding."""
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[0, -2:] = 0
    return torch.randint(50, (batch, length)), mask


def test_parameters_are_as_many_as_a_bert_without_pooler_has(text, parameters):
    pooler = 768 * 768 + 768
    base = parameters(text.text_encoder, dimensions=768, layers=12, heads=12)
    assert base == 109_482_240 - pooler
    assert parameters(text.text_encoder) == 4_369_408


def test_names_are_those_of_a_bert(text):
    with torch.device("meta"):
        names = set(text.text_encoder(layers=1).state_dict())
    linear = ("attention.self.query", "attention.self.key", "attention.self.value")
    linear += ("attention.output.dense", "intermediate.dense", "output.dense")
    norms = ("attention.output.LayerNorm", "output.LayerNorm")
    modules = ["embeddings.LayerNorm", *(f"encoder.layer.0.{name}" for name in linear + norms)]
    tables = {f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type")}
    both = {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}
    assert names == tables | both


def test_an_embedding_has_length_one(text):
    answer = small(text)(*sentences(3, 7))
    assert answer.shape == (3, 32)
    torch.testing.assert_close(answer.norm(dim=1), torch.ones(3))


def test_padding_changes_nothing(text):
    model = small(text)
    ids, mask = sentences(1, 7)
    torch.testing.assert_close(model(ids, mask), model(ids[:, :5], mask[:, :5]))


def test_a_sentence_of_nothing_but_padding_is_finite(text):
    ids, mask = sentences(2, 7)
    assert small(text)(ids, torch.zeros_like(mask)).isfinite().all()


def test_the_order_of_the_words_matters(text):
    model = small(text)
    ids, mask = torch.arange(6)[None], torch.ones(1, 6, dtype=torch.int64)
    assert not torch.allclose(model(ids, mask), model(ids.flip(1), mask), atol=1e-6)


def test_a_layer_equals_torchs_own_encoder_layer(text):
    layer = text.Layer(24, heads=3, hidden=40, dropout=0.1).eval()
    twin = nn.TransformerEncoderLayer(
        24, 3, 40, activation="gelu", layer_norm_eps=1e-12, batch_first=True
    ).eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.25)
    inner, out = layer.attention["self"], layer.attention["output"]
    pairs = {
        "self_attn.out_proj": out.dense,
        "norm1": out.LayerNorm,
        "norm2": layer.output.LayerNorm,
    }
    pairs |= {"linear1": layer.intermediate["dense"], "linear2": layer.output.dense}
    state = {
        f"{k}.{kind}": getattr(v, kind) for k, v in pairs.items() for kind in ("weight", "bias")
    }
    for kind in ("weight", "bias"):
        parts = [getattr(part, kind) for part in (inner.query, inner.key, inner.value)]
        state[f"self_attn.in_proj_{kind}"] = torch.cat(parts)
    twin.load_state_dict(state)
    x, padding = torch.randn(2, 6, 24), sentences(2, 6)[1] == 0
    ours, theirs = layer(x, padding[:, None, None]), twin(x, src_key_padding_mask=padding)
    torch.testing.assert_close(ours[~padding], theirs[~padding], rtol=1e-4, atol=1e-5)


def test_heads_that_do_not_divide_the_dimensions_are_refused(text):
    with pytest.raises(ValueError, match="heads must divide dimensions = 32, got 5"):
        small(text, heads=5)


def test_training_reaches_every_parameter(text, without_gradient):
    # A softmax does not see what is added to all its scores, so a key's bias learns nothing.
    left = without_gradient(small(text), *sentences(4, 9))
    assert [name for name in left if not name.endswith("key.bias")] == []


def test_the_export_answers_alike_at_other_batch_sizes_and_lengths(text, export):
    both = {0: "batch", 1: "length"}
    shapes = {"input_ids": both, "attention_mask": both}
    model = text.text_encoder(vocabulary=50, dimensions=32, layers=1)
    exported = export(model, sentences(2, 8), shapes)
    assert exported.inputs == ["input_ids", "attention_mask"]
    assert exported.lost() == []
    for batch, length in ((1, 5), (3, 13)):
        ours, torchs = exported.both(*sentences(batch, length))
        assert ours.shape == (batch, 32)
        np.testing.assert_allclose(ours, torchs, rtol=1e-4, atol=1e-6)
