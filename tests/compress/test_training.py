"""The training loop: repeatable, under masks, and honest about failure."""

from __future__ import annotations

import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from deploypipe.compress.augment import Augment
from deploypipe.compress.losses.cross_entropy import CrossEntropy
from deploypipe.compress.losses.knowledge import Knowledge
from deploypipe.compress.masks import Mask
from deploypipe.compress.training import (
    Schedule,
    accuracy,
    call,
    channels_last,
    fit,
)
from deploypipe.core.errors import UserError
from deploypipe.core.progress import Silent
from deploypipe.data import open_samples

SCHEDULE = Schedule(epochs=3, batch=16, rate=0.05, decay=1e-4)
MASKS = (
    Mask("stem.weight", 0, (1, 5)),
    Mask("norm.weight", 0, (1, 5)),
    Mask("norm.bias", 0, (1, 5)),
    Mask("inner.weight", 1, (1, 5)),
    Mask("head.weight", 1, (1, 5)),
)


@pytest.fixture
def train(net_data, new_net):
    def run(loss=None, schedule=SCHEDULE, seed=0, module=None, split=None, **options):
        module = module if module is not None else new_net().module
        split = split or net_data.split("train")
        fitted = fit(
            module,
            split,
            loss or CrossEntropy(),
            schedule,
            seed=seed,
            progress=Silent(),
            label="train",
            **options,
        )
        return module, fitted

    return run


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(weights(a).values(), weights(b).values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_the_loss_falls_and_the_classes_are_learnt(train, net_data, new_net):
    before = accuracy(new_net().module, net_data.split("validation"))
    module, fitted = train(schedule=Schedule(6, 16, 0.05, 1e-4))
    assert fitted.losses[-1] < 0.5 * fitted.losses[0]
    assert accuracy(module, net_data.split("validation")) > before + 0.4
    assert not module.training


def test_the_same_seed_gives_the_same_weights_bit_for_bit(train):
    augment = Augment(1, True)
    first, again = train(augment=augment)[0], train(augment=augment)[0]
    assert same(first, again)


def test_another_seed_gives_other_weights(train):
    assert not same(train()[0], train(seed=1)[0])


def test_augmentation_changes_what_is_learnt(train):
    assert not same(train()[0], train(augment=Augment(shift=2))[0])


def test_masked_weights_stay_exactly_zero(train, new_net):
    teacher = new_net().module
    module, _ = train(Knowledge(), masks=MASKS, teacher=teacher)
    state = dict(module.named_parameters())
    for mask in MASKS:
        dead = state[mask.parameter].index_select(mask.axis, torch.tensor(mask.dead))
        assert (dead == 0).all()
        assert (state[mask.parameter] != 0).any()


def test_the_teacher_learns_nothing(train, new_net):
    teacher = new_net().module
    before = weights(teacher)
    train(Knowledge(), teacher=teacher)
    assert all(torch.equal(value, before[name]) for name, value in weights(teacher).items())


def test_a_loss_that_is_no_number_says_what_to_lower(train):
    with pytest.raises(UserError, match=r"train: the loss is \w+ after epoch 1. Lower its .*rate"):
        train(schedule=Schedule(3, 16, 1e30, 0))


def test_norms_are_never_fed_a_batch_of_one(train, net_data):
    split = net_data.split("train")  # 56 samples: 11 * 5 + 1
    assert len(split) % 11 == 1
    sizes = []

    class Spy(nn.Linear):
        def forward(self, image):
            sizes.append(len(image))
            return super().forward(image.flatten(1))

    train(module=Spy(192, 4), schedule=Schedule(1, 11, 0.01, 0))
    assert sizes == [11] * 5


def test_the_loss_is_the_mean_over_the_samples_that_were_fed(train, net_data):
    def always_two(outputs, labels, teacher):
        return 0 * outputs.sum() + 2

    assert len(net_data.split("train")) % 11 == 1  # the last one is left out
    _, fitted = train(always_two, Schedule(1, 11, 0.01, 0))
    assert fitted.losses == (2.0,)


def test_progress_ends_where_it_was_said_to(train, monkeypatch):
    told = []

    class Told(Silent):
        @contextmanager
        def task(self, label, total):
            told.append(total)
            yield self

        def advance(self, steps=1, note=""):
            told.append(-steps)

    monkeypatch.setitem(globals(), "Silent", Told)
    train(schedule=Schedule(2, 11, 0.01, 0))
    assert told[0] == 10
    assert sum(told) == 0


def test_weights_decay_but_norms_and_biases_do_not(train):
    def still(outputs, labels, teacher):
        return 0 * outputs.sum()

    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    before = weights(module)
    train(still, Schedule(1, 16, 0.1, 0.1), module=module)
    after = weights(module)
    assert after["1.weight"].norm() < before["1.weight"].norm()
    assert torch.equal(after["1.bias"], before["1.bias"])


def test_half_precision_learns_too(train, net_data):
    module, fitted = train(bf16=True)
    assert fitted.losses[-1] < fitted.losses[0]
    assert all(value.dtype == torch.float32 for value in module.parameters())


def test_the_rate_warms_up_and_then_falls_to_zero():
    rates = [SCHEDULE.rate_at(i / 100) for i in range(101)]
    assert 0 < rates[0] < 0.01 * SCHEDULE.rate + 1e-3
    assert rates[:11] == sorted(rates[:11])
    assert max(rates) == pytest.approx(SCHEDULE.rate, rel=0.02)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert rates[55] == pytest.approx(SCHEDULE.rate * 0.5 * (1 + math.cos(math.pi / 2)), abs=1e-9)


def test_accuracy_is_the_share_of_right_answers(net_data):
    class Always(nn.Module):
        def forward(self, image):
            return nn.functional.one_hot(torch.full((len(image),), 2), 4).float()

    split = net_data.split("validation")
    assert accuracy(Always(), split, batch=7) == pytest.approx((split.labels == 2).mean())


def test_of_several_outputs_the_first_counts():
    class Two(nn.Module):
        def forward(self, x):
            return x + 1, x + 2

    assert call(Two(), {"x": torch.zeros(1)}).item() == 1


def test_only_images_change_their_memory_order():
    assert channels_last(torch.zeros(2, 3, 4, 4)).is_contiguous(memory_format=torch.channels_last)
    assert channels_last(torch.zeros(2, 3)).is_contiguous()


def test_a_column_of_classes_is_no_table(net_samples, new_net, tmp_path):
    arrays = dict(np.load(net_samples))
    np.savez(tmp_path / "column.npz", **{**arrays, "label": arrays["label"][:, None]})
    files, module = (net_samples, tmp_path / "column.npz"), new_net().module
    found = [accuracy(module, open_samples(f"npz:{file}").split("validation")) for file in files]
    assert found[0] == found[1]
