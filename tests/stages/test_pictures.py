"""The samples that moved most, as pictures in the report."""

from __future__ import annotations

import numpy as np
import pytest

from deploypipe.data import DataRecipe, open_data
from deploypipe.report.png import is_picture
from deploypipe.stages._pictures import pictures


@pytest.fixture
def split(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            shade = np.full((9, 12, 3), 20 * number + (name == "dog"), np.uint8)
            image.fromarray(shade).save(tmp_path / "images" / name / f"{number}.png")
    recipe = {"source": f"images:{tmp_path / 'images'}", "preprocess": {"size": 8, "channels": 3}}
    recipe["split"] = {"calibration": 2, "validation": 5}
    return open_data(DataRecipe.model_validate(recipe)).split("validation")


def test_each_asked_sample_is_shown_as_it_came(split):
    found = pictures(split, split.ids[1:4])
    assert list(found) == list(split.ids[1:4])
    assert all(map(is_picture, found.values()))


def test_samples_of_nobody_are_left_out(split):
    assert pictures(split, ["absent"]) == {}
    assert pictures(split, []) == {}


def test_samples_that_are_no_images_have_no_picture(net_data):
    split = net_data.split("validation")
    assert pictures(split, split.ids[:3]) == {}
