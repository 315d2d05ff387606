from __future__ import annotations

import builtins
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploypipe.core.errors import EnvironmentLacks, UserError
from deploypipe.core.options import check
from deploypipe.data import Preprocess


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_the_default_maps_0_to_255_onto_0_to_1_in_nchw() -> None:
    pixels = images(2, 3, 4, 3)
    out = Preprocess()(pixels)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    np.testing.assert_allclose(out, pixels.transpose(0, 3, 1, 2) / 255, atol=1e-7)


def test_mean_and_std_apply_per_channel_after_the_scale() -> None:
    pixels = images(2, 3, 4, 3)
    out = Preprocess(mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.4])(pixels)
    want = (pixels / 255 - [0.5, 0.4, 0.3]) / [0.1, 0.2, 0.4]
    np.testing.assert_allclose(out, want.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


def test_a_grey_image_is_repeated_for_three_channels() -> None:
    pixels = images(1, 2, 2, 1)
    fitted = Preprocess(channels=3).fit(pixels, ["a"])
    assert fitted.shape == (1, 2, 2, 3)
    assert (fitted == pixels).all()


def test_three_channels_become_pillows_luminance() -> None:
    pixels = images(1, 16, 16, 3)
    fitted = Preprocess(channels=1).fit(pixels, ["a"])
    assert (fitted[0, ..., 0] == np.asarray(Image.fromarray(pixels[0]).convert("L"))).all()


@pytest.mark.parametrize(("size", "shape"), [(6, (6, 6)), ([5, 7], (5, 7))])
def test_images_of_different_sizes_are_resized_to_one(size: Any, shape: tuple[int, int]) -> None:
    out = Preprocess(size=size)([images(4, 4, 1), images(9, 3, 1)])
    assert out.shape == (2, 1, *shape)


def test_nearest_keeps_the_pixel_values_and_bilinear_mixes_them() -> None:
    board = (np.indices((4, 4)).sum(0) % 2 * 255).astype(np.uint8)[None, ..., None]
    assert set(Preprocess(size=8, resize="nearest").fit(board, ["a"]).ravel()) == {0, 255}
    assert len(set(Preprocess(size=8).fit(board, ["a"]).ravel())) > 2


def test_images_of_the_right_size_are_left_alone_without_pillow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "deploypipe.data.pixels", raising=False)
    import deploypipe.data

    monkeypatch.delattr(deploypipe.data, "pixels", raising=False)
    real = builtins.__import__

    def no_pillow(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "PIL":
            raise ModuleNotFoundError("No module named 'PIL'", name="PIL")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", no_pillow)
    pixels = images(1, 4, 4, 3)
    assert (Preprocess(size=4).fit(pixels, ["a"]) == pixels).all()
    with pytest.raises(EnvironmentLacks, match=r"preprocess.size needs 'PIL'.*\[images\]"):
        Preprocess(size=5).fit(pixels, ["a"])


def test_different_sizes_without_size_name_both_samples() -> None:
    with pytest.raises(
        UserError, match=r"\[4, 4, 1\] \(a\) and \[5, 4, 1\] \(b\).*preprocess.size"
    ):
        Preprocess().fit([images(4, 4, 1), images(5, 4, 1)], ["a", "b"])


def test_grey_among_colour_images_asks_for_channels() -> None:
    with pytest.raises(UserError, match=r"Set preprocess\.channels"):
        Preprocess().fit([images(4, 4, 1), images(4, 4, 3)], ["a", "b"])


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8),
                                 np.zeros((4, 4, 4), np.uint8)])  # fmt: skip
def test_what_is_no_uint8_image_is_refused_by_name(bad: np.ndarray) -> None:
    with pytest.raises(UserError, match="sample-7: expected an image of uint8"):
        Preprocess().fit([bad], ["sample-7"])


def test_a_mean_per_colour_does_not_fit_grey_images() -> None:
    with pytest.raises(UserError, match="preprocess.mean: needs 1 or 1 values, it has 3"):
        Preprocess(mean=[0.1, 0.2, 0.3])(images(1, 2, 2, 1))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"std": [0.0]}, "preprocess.std[0]"),
        ({"std": [-1.0]}, "preprocess.std[0]"),
        ({"mean": [float("nan")]}, "preprocess.mean[0]"),
        ({"mean": []}, "preprocess.mean"),
        ({"scale": 0}, "preprocess.scale"),
        ({"channels": 2}, "preprocess.channels"),
        ({"channels": 1, "mean": [0.1, 0.2, 0.3]}, "mean needs 1 or 1 values, it has 3"),
        ({"size": 0}, "preprocess.size"),
        ({"size": [3]}, "preprocess.size"),
        ({"resize": "bilinaer"}, "did you mean 'bilinear'"),
        ({"means": [0.5]}, "unknown option 'means', did you mean 'mean'"),
    ],
)
def test_a_wrong_option_is_explained_with_its_path(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        check(Preprocess, given, "preprocess")
    assert says in str(caught.value)


def test_it_travels_as_json() -> None:
    one = Preprocess(size=[3, 4], channels=3, mean=[0.1, 0.2, 0.3], scale=0.5)
    assert Preprocess.model_validate_json(one.model_dump_json()) == one
