"""What training and distillation share: their options and how they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deploypipe.compress import Loss
from deploypipe.compress.augment import Augment
from deploypipe.compress.torch_model import TorchModel
from deploypipe.compress.training import Schedule, accuracy, fit
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.errors import UserError
from deploypipe.data import Data, Split
from deploypipe.data.dataset import names_classes
from deploypipe.runtime import host
from deploypipe.stages import Desk, Stage, Work


@dataclass(frozen=True)
class Learning(Stage):
    """SGD with a cosine schedule over the train split."""

    epochs: int = 30
    batch: int = 128
    rate: float = 0.1
    decay: float = 5e-4
    shift: int = 0
    mirror: bool = False
    bf16: bool | None = None

    takes: ClassVar[Kind] = Kind.TORCH
    gives: ClassVar[Kind] = Kind.TORCH
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    packages: ClassVar[tuple[str, ...]] = ("torch", "numpy")

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2:
            raise ValueError("epochs must be at least 1 and batch at least 2")
        if not self.rate > 0:
            raise ValueError(f"rate must be positive, got {self.rate}")
        if not self.decay >= 0 or self.shift < 0:
            raise ValueError("decay and shift must not be negative")

    def scores_labels(self) -> bool:
        return True

    def work(self, data: Data) -> Work:
        for name in ("train", "validation"):
            _check(data.split(name), augmented=bool(self.shift or self.mirror))
        train, validation = len(data.split("train")), len(data.split("validation"))
        samples = {"train": train, "validation": validation}
        return Work(samples, trained=self.epochs * train, forwarded=validation)

    def learn(
        self, source: Artifact, desk: Desk, label: str, loss: Loss, teacher: TorchModel | None
    ) -> Artifact:
        """Train the source's model and write it."""
        model = TorchModel.load(source.path)
        bf16 = self.half
        trained = fit(
            model.module,
            desk.data.split("train"),
            loss,
            Schedule(self.epochs, self.batch, self.rate, self.decay),
            teacher=teacher.module if teacher else None,
            masks=model.masks,
            augment=Augment(self.shift, self.mirror),
            bf16=bf16,
            seed=desk.seed,
            progress=desk.progress,
            label=label,
        )
        model.save(desk.out)
        score = accuracy(model.module, desk.data.split("validation"))
        first, last = trained.losses[0], trained.losses[-1]
        notes = {
            "accuracy": score,
            "losses": list(trained.losses),
            "bf16": bf16,
            "changes": [f"{self.epochs} epochs, loss {first:.3f} -> {last:.3f}"],
        }
        return Artifact.of(Kind.TORCH, desk.out, label, source, notes)

    @property
    def half(self) -> bool:
        """Half precision pays only where the processor multiplies it natively."""
        fast = {"amx_bf16", "avx512_bf16", "bf16"} & set(host()["flags"])
        return bool(fast) if self.bf16 is None else self.bf16


def _check(split: Split, augmented: bool) -> None:
    """Learning needs two samples with class labels, and images for an augmentation of images."""
    if not names_classes(split.labels):
        raise UserError(
            f"the samples of {split.name} have no class labels, and learning needs them",
            where="data",
            then="Give each sample one whole number, the class it is of",
        )
    if len(split) < 2 and split.name == "train":
        raise UserError("learning needs at least 2 samples", where="data.split.train")
    if augmented and not split.gives_images:
        raise UserError(
            "shift and mirror are for images, and the samples are arrays", where="data.source"
        )
