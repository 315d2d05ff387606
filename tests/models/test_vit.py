from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn


@pytest.fixture(scope="module")
def vit(model_file):
    return model_file("vit")


def test_parameters_are_as_many_as_published(vit, parameters):
    assert parameters(vit.vit_tiny) == 5_717_416


def test_names_are_those_of_timm(vit):
    with torch.device("meta"):
        names = set(vit.vit_tiny(layers=1).state_dict())
    layers = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    modules = ["patch_embed.proj", *(f"blocks.0.{layer}" for layer in layers), "norm", "head"]
    both = {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}
    assert names == {"cls_token", "pos_embed"} | both


@pytest.mark.parametrize(("build", "size"), [("vit_tiny", 224), ("vit_tiny_cifar", 32)])
def test_the_number_of_classes_is_the_width_of_the_answer(vit, build, size):
    with torch.device("meta"):
        model = getattr(vit, build)(classes=7)
        assert model(torch.empty(2, 3, size, size)).shape == (2, 7)


def test_a_block_equals_torchs_own_encoder_layer(vit):
    block = vit.Block(24, heads=3).eval()
    twin = nn.TransformerEncoderLayer(
        24, 3, 96, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    ).eval()
    theirs = ("norm1.weight", "norm1.bias", "self_attn.in_proj_weight", "self_attn.in_proj_bias")
    theirs += ("self_attn.out_proj.weight", "self_attn.out_proj.bias", "norm2.weight", "norm2.bias")
    theirs += ("linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias")
    state = {k: torch.randn_like(v) / 4 for k, v in block.state_dict().items()}
    block.load_state_dict(state)
    twin.load_state_dict(dict(zip(theirs, state.values(), strict=True)))
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(block(x), twin(x), rtol=1e-4, atol=1e-5)


def test_the_answer_depends_on_where_a_patch_is(vit):
    model = vit.vit_tiny_cifar(dimensions=24, layers=1).eval()
    image = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(model(image), model(image.roll(4, 2)), atol=1e-6)


def test_heads_that_do_not_divide_the_dimensions_are_refused(vit):
    with pytest.raises(ValueError, match="heads must divide dimensions = 64, got 3"):
        vit.vit_tiny_cifar(dimensions=64)


def test_training_reaches_every_parameter(vit, without_gradient):
    model = vit.vit_tiny_cifar(dimensions=24, layers=2)
    assert without_gradient(model, torch.randn(4, 3, 32, 32)) == []


def test_the_export_answers_alike_at_another_batch_size(vit, export):
    small = vit.vit_tiny_cifar(dimensions=24, layers=1)
    exported = export(small, (torch.randn(2, 3, 32, 32),), {"image": {0: "batch"}})
    assert exported.inputs == ["image"]
    assert exported.lost() == []
    assert not {op for op in exported.ops if "Sequence" in op}
    ours, torchs = exported.both(torch.randn(5, 3, 32, 32))
    np.testing.assert_allclose(ours, torchs, rtol=1e-4, atol=1e-5)
