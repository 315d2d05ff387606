from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deploypipe.compress.depth import least_missed, whole_masks
from deploypipe.compress.masks import apply_masks
from deploypipe.core.progress import Silent
from deploypipe.data import Batch


class Sum(nn.Module):
    """x + a x + b x + c x, with weights of three sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(3, 3, bias=False) for _ in range(3))
        for layer, size in ((self.a, 0.5), (self.b, 0.01), (self.c, 0.1)):
            nn.init.eye_(layer.weight)
            layer.weight.data *= size

    def forward(self, x):
        return x + self.a(x) + self.b(x) + self.c(x)


class Few:
    """Eight samples."""

    def __len__(self) -> int:
        return 8

    def batch(self, indices):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(8, 3)).astype(np.float32)[list(indices)]
        return Batch(tuple(map(str, indices)), {"x": x}, None)


BRANCHES = {"a": ["a.weight"], "b": ["b.weight"], "c": ["c.weight"]}


def test_the_branch_that_matters_least_goes_first():
    module = Sum()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = least_missed(module, BRANCHES, Few(), 2, Silent())
    assert [one.name for one in found] == ["b", "c"]
    assert 0 < found[0].divergence < found[1].divergence
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_the_second_is_judged_without_the_first():
    module = Sum()
    module.b.weight.data *= -1  # b and c undo each other in part
    found = least_missed(module, BRANCHES, Few(), 2, Silent())
    alone = least_missed(module, {"c": BRANCHES["c"]}, Few(), 1, Silent())
    assert found[1].name == "c" and found[1].divergence != alone[0].divergence


def test_a_whole_mask_covers_all_rows():
    (mask,) = whole_masks(Sum(), ["a.weight"])
    assert mask.dead == (0, 1, 2) and mask.axis == 0


def test_a_scalar_is_one_row():
    module = Sum()
    module.scale = nn.Parameter(torch.tensor(2.0))
    masks = whole_masks(module, ["scale"])
    assert masks[0].dead == (0,)
    apply_masks(module, masks)
    assert module.scale == 0


@pytest.mark.parametrize("count", [0, 3])
def test_none_or_all_may_go(count):
    assert len(least_missed(Sum(), BRANCHES, Few(), count, Silent())) == count
