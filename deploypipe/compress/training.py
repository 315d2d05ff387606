"""One training loop for training, and for distillation under masks.

SGD with Nesterov momentum, a cosine schedule after a short warm-up, bf16 autocast with
channels-last where it pays.  Everything random comes from one seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from deploypipe.compress import Loss
from deploypipe.compress.augment import Augment
from deploypipe.compress.masks import Mask, apply_masks, dense_masks
from deploypipe.core.errors import UserError
from deploypipe.core.progress import Progress
from deploypipe.data import Batch, Split


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.  ``rate`` is the peak learning rate."""

    epochs: int
    batch: int
    rate: float
    decay: float
    momentum: float = 0.9
    warmup: float = 0.1

    def rate_at(self, done: float) -> float:
        """Learning rate after the share ``done`` of all steps: warm-up, then half a cosine."""
        if done < self.warmup:
            return self.rate * (done + 1e-3) / self.warmup
        turn = (done - self.warmup) / max(1 - self.warmup, 1e-9)
        return self.rate * 0.5 * (1 + math.cos(math.pi * turn))


@dataclass(frozen=True)
class Trained:
    """Mean loss of every epoch."""

    losses: tuple[float, ...]


def fit(
    module: nn.Module,
    split: Split,
    loss: Loss,
    schedule: Schedule,
    *,
    teacher: nn.Module | None = None,
    masks: tuple[Mask, ...] = (),
    augment: Augment | None = None,
    bf16: bool = False,
    seed: int,
    progress: Progress,
    label: str = "train",
) -> Trained:
    """Train ``module`` in place on all samples of ``split``; masked weights stay zero.

    Raises:
        UserError: the loss becomes NaN or infinite.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    _prepare(module, bf16)
    if teacher is not None:
        _prepare(teacher, bf16)
        teacher.eval().requires_grad_(False)
    optimizer = _optimizer(module, schedule)
    # A last batch of one is left out: batch norm cannot learn from one sample.
    fed = len(split) - (len(split) % schedule.batch == 1)
    steps = math.ceil(fed / schedule.batch)
    losses: list[float] = []
    apply_masks(module, masks)
    held = dense_masks(module, masks)
    module.train()
    with progress.task(label, total=schedule.epochs * steps) as task:
        for epoch in range(schedule.epochs):
            total = 0.0
            for step, batch in enumerate(_shuffled(split, schedule.batch, generator)):
                done = (epoch + step / steps) / schedule.epochs
                for group in optimizer.param_groups:
                    group["lr"] = schedule.rate_at(done)
                inputs, labels = tensors_of(batch, bf16)
                if augment is not None:
                    inputs = {name: augment(value, generator) for name, value in inputs.items()}
                value = _step(module, teacher, loss, inputs, labels, optimizer, bf16)
                with torch.no_grad():
                    for parameter, mask in held:
                        parameter.mul_(mask)
                total += value * len(labels)
                task.advance(1, f"loss {value:.3f}")
            losses.append(total / fed)
            if not math.isfinite(losses[-1]):
                raise UserError(
                    f"the loss is {losses[-1]} after epoch {epoch + 1}",
                    where=label,
                    then="Lower its learning rate (option rate)",
                )
    module.eval()
    return Trained(tuple(losses))


def _prepare(module: nn.Module, bf16: bool) -> None:
    if bf16:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _optimizer(module: nn.Module, schedule: Schedule) -> torch.optim.SGD:
    """Weight decay on weights, none on norms and biases."""
    weights = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": schedule.decay},
        {"params": others},
    ]
    return torch.optim.SGD(groups, lr=schedule.rate, momentum=schedule.momentum, nesterov=True)


def _step(
    module: nn.Module,
    teacher: nn.Module | None,
    loss: Loss,
    inputs: Mapping[str, torch.Tensor],
    labels: torch.Tensor,
    optimizer: torch.optim.SGD,
    bf16: bool,
) -> float:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        outputs = call(module, inputs)
        with torch.no_grad():
            target = call(teacher, inputs).float() if teacher is not None else None
    value = loss(outputs.float(), labels, target)
    optimizer.zero_grad(set_to_none=True)
    value.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(value.detach())


def call(module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The module's first output; inputs go by position, in the order of the data."""
    outputs = module(*inputs.values())
    first: torch.Tensor = outputs[0] if isinstance(outputs, tuple | list) else outputs
    return first


def tensors_of(batch: Batch, bf16: bool = False) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Torch tensors of a batch and its labels (int64 [N], or empty)."""
    inputs = {name: torch.from_numpy(array) for name, array in batch.inputs.items()}
    if bf16:
        inputs = {name: channels_last(value) for name, value in inputs.items()}
    labels = np.zeros(0, np.int64) if batch.labels is None else batch.labels
    return inputs, torch.from_numpy(np.ascontiguousarray(labels.reshape(-1)))


def channels_last(value: torch.Tensor) -> torch.Tensor:
    """Images in the memory order that half-precision kernels want; other tensors as they are."""
    return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value


def _shuffled(split: Split, size: int, generator: torch.Generator) -> Iterator[Batch]:
    order = torch.randperm(len(split), generator=generator).numpy()
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        if len(chosen) > 1:
            yield split.batch([int(i) for i in chosen])


def accuracy(module: nn.Module, split: Split, batch: int = 256) -> float:
    """Top-1 accuracy, a share in 0..1, by labels that name classes."""
    right = 0
    module.eval()
    with torch.no_grad():
        for part in split.batches(batch):
            inputs, labels = tensors_of(part)
            right += int((call(module, inputs).argmax(1) == labels).sum())
    return right / len(split)
