from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def resnet(model_file):
    return model_file("resnet_cifar")


def weights(data: Path, name: str) -> dict[str, torch.Tensor]:
    path = data / "models" / f"cifar10_{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"no checkpoint at {path}")
    return pytest.importorskip("safetensors.torch").load_file(path)


def photographs(data: Path, count: int) -> tuple[torch.Tensor, np.ndarray]:
    path = data / "cifar10" / "validation.parquet"
    if not path.is_file():
        pytest.skip(f"no images at {path}")
    image = pytest.importorskip("PIL.Image")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = next(parquet.ParquetFile(path).iter_batches(count)).to_pydict()
    pixels = np.stack([np.asarray(image.open(io.BytesIO(b)).convert("RGB")) for b in rows["image"]])
    scaled = ((pixels / 255 - MEAN) / STD).astype(np.float32)
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy()), np.array(rows["label"])


@pytest.mark.parametrize(
    ("name", "millions"),
    [("resnet20", 0.27), ("resnet32", 0.46), ("resnet44", 0.66), ("resnet56", 0.85)],
)
def test_parameters_are_as_many_as_in_the_paper(resnet, parameters, name, millions):
    assert parameters(getattr(resnet, name)) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("name", ["resnet20", "resnet32", "resnet56", "resnet56_tuned"])
def test_names_and_shapes_are_those_of_the_checkpoint(resnet, data, name):
    saved = {k: v.shape for k, v in weights(data, name).items()}
    with torch.device("meta"):
        model = getattr(resnet, name.removesuffix("_tuned"))()
    counters = {k for k in model.state_dict() if k.endswith("num_batches_tracked")} - set(saved)
    built = {k: v.shape for k, v in model.state_dict().items() if k not in counters}
    assert built == saved


def test_the_tuned_checkpoint_recognises_real_images(resnet, data):
    model = resnet.resnet56().eval()
    model.load_state_dict(weights(data, "resnet56_tuned"), strict=True)
    images, labels = photographs(data, 100)
    with torch.inference_mode():
        answers = model(images).argmax(1).numpy()
    assert (answers == labels).mean() >= 0.88


def test_a_shortcut_takes_every_second_pixel_and_has_no_parameters(resnet):
    shortcut = resnet.Subsample(4)
    x = torch.randn(2, 3, 6, 6)
    y = shortcut(x)
    assert not list(shortcut.parameters())
    assert y.shape == (2, 7, 3, 3)
    assert torch.equal(y[:, 2:5], x[:, :, ::2, ::2])
    assert not y[:, :2].any()
    assert not y[:, 5:].any()


def test_the_number_of_classes_is_the_width_of_the_answer(resnet):
    assert resnet.resnet20(classes=3).eval()(torch.randn(2, 3, 32, 32)).shape == (2, 3)


def test_training_reaches_every_parameter(resnet, without_gradient):
    assert without_gradient(resnet.resnet20(), torch.randn(4, 3, 16, 16)) == []


def test_the_export_answers_alike_at_another_batch_size(resnet, export):
    small = resnet.ResNet(blocks=1, classes=10)
    exported = export(small, (torch.randn(2, 3, 32, 32),), {"image": {0: "batch"}})
    assert exported.inputs == ["image"]
    assert exported.lost() == []
    ours, torchs = exported.both(torch.randn(5, 3, 32, 32))
    np.testing.assert_allclose(ours, torchs, rtol=1e-4, atol=1e-4 * np.abs(torchs).max())
