"""Masks as data, and what they do to a module."""

from __future__ import annotations

import json

import torch
from torch import nn

from deploypipe.compress.masks import (
    Mask,
    apply_masks,
    dense_masks,
    masks_from_json,
    masks_to_json,
)

MASKS = [Mask("weight", 0, (0, 2)), Mask("weight", 1, (1,)), Mask("bias", 0, (0,))]


def test_masks_survive_json():
    assert masks_from_json(json.loads(json.dumps(masks_to_json(MASKS)))) == MASKS


def test_rows_and_columns_become_zero_and_nothing_else():
    module = nn.Linear(2, 3)
    nn.init.ones_(module.weight)
    nn.init.ones_(module.bias)
    apply_masks(module, MASKS)
    assert module.weight.tolist() == [[0, 0], [1, 0], [0, 0]]
    assert module.bias.tolist() == [0, 1, 1]


def test_masks_of_one_parameter_are_one_tensor():
    dense = {tuple(p.shape): mask for p, mask in dense_masks(nn.Linear(2, 3), MASKS)}
    assert dense[3, 2].tolist() == [[0, 0], [1, 0], [0, 0]]
    assert dense[3,].tolist() == [0, 1, 1]
    assert not any(mask.requires_grad for mask in dense.values())


def test_without_masks_a_module_stays_as_it_is():
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    apply_masks(module, [])
    assert torch.equal(module.weight, before)
    assert dense_masks(module, []) == []
