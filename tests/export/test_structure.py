"""Groups in the names of parameters, against groups by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deploypipe.export.structure import structure_of

IMAGES = {"image": np.zeros((2, 3, 8, 8), np.float32)}

RESIDUAL = {
    ("stem.weight", 0),
    ("norm.weight", 0),
    ("norm.bias", 0),
    ("inner.weight", 1),
    ("outer.weight", 0),
    ("outer_norm.weight", 0),
    ("outer_norm.bias", 0),
    ("head.weight", 1),
}
INSIDE = {
    ("inner.weight", 0),
    ("inner_norm.weight", 0),
    ("inner_norm.bias", 0),
    ("outer.weight", 1),
}


def slices_of(group, module):
    names = dict(module.named_parameters())
    return {(one.parameter, one.axis) for one in group.slices if one.parameter in names}


@pytest.fixture(scope="module")
def found(net_torch):
    from deploypipe.compress.torch_model import TorchModel

    module = TorchModel.load(net_torch.path).module
    return module, {group.name: group for group in structure_of(module, IMAGES).groups}


def test_a_sum_ties_all_its_layers_into_one_group(found):
    module, groups = found
    assert groups["stem.weight"].channels == 8
    assert slices_of(groups["stem.weight"], module) == RESIDUAL


def test_what_lies_between_two_layers_is_a_group_of_its_own(found):
    module, groups = found
    assert groups["inner.weight"].channels == 16
    assert slices_of(groups["inner.weight"], module) == INSIDE


def test_the_classes_and_the_colours_are_no_group(found):
    module, groups = found
    assert len(groups) == 2
    everything = set().union(*(slices_of(group, module) for group in groups.values()))
    assert ("head.weight", 0) not in everything
    assert ("stem.weight", 1) not in everything


def test_every_channel_stands_at_its_own_position(found):
    for group in found[1].values():
        for one in group.slices:
            np.testing.assert_array_equal(one.index, np.arange(group.channels)[:, None])


def test_a_linear_on_3_axes_keeps_the_name_of_its_weight():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(6, 10), nn.Linear(10, 4)

        def forward(self, tokens):
            return self.down(self.up(tokens).relu()).mean(1)

    module = Tokens()
    (group,) = structure_of(module, {"tokens": np.zeros((2, 5, 6), np.float32)}).groups
    assert (group.name, group.channels) == ("up.weight", 10)
    assert slices_of(group, module) == {("up.weight", 0), ("up.bias", 0), ("down.weight", 1)}


def test_a_weight_that_is_also_read_untransposed_is_cut_once_for_both():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Linear(6, 10, bias=False)

        def forward(self, tokens):
            return (self.up(tokens).relu() @ self.up.weight).mean(1)

    module = Tied()
    (group,) = structure_of(module, {"tokens": np.zeros((2, 5, 6), np.float32)}).groups
    assert group.channels == 10
    assert slices_of(group, module) == {("up.weight", 0)}


def test_looking_for_groups_changes_no_weight(net_torch):
    from deploypipe.compress.torch_model import TorchModel

    model, same = TorchModel.load(net_torch.path).module, TorchModel.load(net_torch.path).module
    structure_of(model, IMAGES)
    pairs = zip(model.state_dict().values(), same.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
