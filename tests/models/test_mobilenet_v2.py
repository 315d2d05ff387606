from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn


@pytest.fixture(scope="module")
def mobilenet(model_file):
    return model_file("mobilenet_v2")


@pytest.mark.parametrize(("width", "count"), [(0.5, 1_968_680), (1.0, 3_504_872), (1.4, 6_108_776)])
def test_parameters_are_as_many_as_published(mobilenet, parameters, width, count):
    assert parameters(mobilenet.mobilenet_v2, width=width) == count


def test_a_width_rounds_to_the_nearest_multiple_of_8_but_never_loses_a_tenth(mobilenet):
    assert [mobilenet.scaled(32, w) for w in (1.0, 0.75, 0.35, 0.01)] == [32, 24, 16, 8]
    assert mobilenet.scaled(24, 0.8) == 24


def test_names_are_those_of_torchvision(mobilenet):
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in mobilenet.mobilenet_v2().state_dict().items()}
    assert shapes["features.0.0.weight"] == (32, 3, 3, 3)
    assert shapes["features.1.conv.0.0.weight"] == (32, 1, 3, 3)
    assert shapes["features.1.conv.1.weight"] == (16, 32, 1, 1)
    assert shapes["features.17.conv.1.0.weight"] == (960, 1, 3, 3)
    assert shapes["features.17.conv.3.running_var"] == (320,)
    assert shapes["features.18.0.weight"] == (1280, 320, 1, 1)
    assert shapes["classifier.1.weight"] == (1000, 1280)


@pytest.mark.parametrize(("build", "size"), [("mobilenet_v2", 224), ("mobilenet_v2_cifar", 32)])
def test_the_last_map_keeps_enough_pixels(mobilenet, build, size):
    with torch.device("meta"):
        model = getattr(mobilenet, build)(classes=7)
        image = torch.empty(2, 3, size, size)
        assert model.features(image).shape[2:] == {224: (7, 7), 32: (4, 4)}[size]
        assert model(image).shape == (2, 7)


def test_every_activation_is_relu6_and_none_follows_a_bottleneck(mobilenet):
    block = mobilenet.InvertedResidual(8, 8, 1, 6)
    clipped = [isinstance(layer, mobilenet.ConvNorm6) for layer in block.conv]
    assert clipped == [True, True, False, False]
    assert block.conv[0](torch.full((1, 8, 4, 4), 1e6)).max() == 6
    assert not any(isinstance(layer, nn.ReLU) for layer in block.modules())


@pytest.mark.parametrize(("outputs", "stride"), [(8, 2), (16, 1)])
def test_a_block_that_changes_the_shape_adds_nothing(mobilenet, outputs, stride):
    block = mobilenet.InvertedResidual(8, outputs, stride, 6).eval()
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(block(x), block.conv(x))


def test_a_block_that_keeps_the_shape_adds_its_input(mobilenet):
    block = mobilenet.InvertedResidual(8, 8, 1, 6).eval()
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(block(x), x + block.conv(x))


def test_an_untrained_model_tells_images_apart(mobilenet):
    model = mobilenet.mobilenet_v2_cifar(width=0.35).eval()
    with torch.inference_mode():
        assert model(torch.randn(4, 3, 32, 32)).std(0).min() > 1e-3


def test_training_reaches_every_parameter(mobilenet, without_gradient):
    model = mobilenet.mobilenet_v2_cifar(width=0.35)
    assert without_gradient(model, torch.randn(4, 3, 32, 32)) == []


def test_the_export_answers_alike_at_another_batch_size(mobilenet, export, monkeypatch):
    monkeypatch.setattr(mobilenet, "ROWS", ((1, 16, 1), (6, 24, 2)))
    small = mobilenet.MobileNetV2(10, 0.5, 0.2, stem=1, strides=(1, 2))
    exported = export(small, (torch.randn(2, 3, 32, 32),), {"image": {0: "batch"}})
    assert exported.inputs == ["image"]
    assert exported.lost() == []
    ours, torchs = exported.both(torch.randn(5, 3, 32, 32))
    np.testing.assert_allclose(ours, torchs, rtol=1e-4, atol=1e-5)
