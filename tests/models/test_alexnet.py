from __future__ import annotations

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def alexnet(model_file):
    return model_file("alexnet")


def test_parameters_are_as_many_as_published(alexnet, parameters):
    assert parameters(alexnet.alexnet) == 61_100_840


def test_nearly_all_parameters_are_in_the_fully_connected_layers(alexnet, parameters):
    with torch.device("meta"):
        features = sum(p.numel() for p in alexnet.alexnet_cifar().features.parameters())
    assert parameters(alexnet.alexnet_cifar) == 23_272_266
    assert features < 0.1 * 23_272_266


def test_names_are_those_of_torchvision(alexnet):
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in alexnet.alexnet().state_dict().items()}
    assert [k for k in shapes if k.endswith("weight")] == [
        *(f"features.{i}.weight" for i in (0, 3, 6, 8, 10)),
        *(f"classifier.{i}.weight" for i in (1, 4, 6)),
    ]
    assert shapes["features.0.weight"] == (64, 3, 11, 11)
    assert shapes["classifier.1.weight"] == (4096, 9216)


@pytest.mark.parametrize(("build", "size"), [("alexnet", 224), ("alexnet_cifar", 32)])
def test_the_number_of_classes_is_the_width_of_the_answer(alexnet, build, size):
    with torch.device("meta"):
        model = getattr(alexnet, build)(classes=7, hidden=32)
        assert model(torch.empty(2, 3, size, size)).shape == (2, 7)


def test_an_image_of_another_size_is_refused(alexnet):
    with torch.device("meta"), pytest.raises(RuntimeError, match="1024"):
        alexnet.alexnet_cifar(hidden=32)(torch.empty(2, 3, 64, 64))


def test_training_reaches_every_parameter(alexnet, without_gradient):
    assert without_gradient(alexnet.alexnet_cifar(hidden=64), torch.randn(4, 3, 32, 32)) == []


def test_the_export_answers_alike_at_another_batch_size(alexnet, export):
    small = alexnet.alexnet_cifar(hidden=32)
    exported = export(small, (torch.randn(2, 3, 32, 32),), {"image": {0: "batch"}})
    assert exported.inputs == ["image"]
    assert exported.lost() == []
    ours, torchs = exported.both(torch.randn(5, 3, 32, 32))
    np.testing.assert_allclose(ours, torchs, rtol=1e-4, atol=1e-6)
