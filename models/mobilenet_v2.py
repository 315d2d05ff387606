"""MobileNetV2.

Sandler, Howard, Zhu, Zhmoginov, Chen 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
arXiv:1801.04381, table 2.  Input ``image`` float32 [batch, 3, height, width]; output logits float32
[batch, classes].  ``width`` multiplies every number of channels, rounded to a multiple of 8.

Parameters are called as in torchvision, ``features.{i}.conv.{j}`` and ``classifier.1``.
"""

from __future__ import annotations

from torch import Tensor, nn

ROWS = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
"""Expansion factor, output channels and number of blocks of each row of the paper's table 2."""


def mobilenet_v2(classes: int = 1000, width: float = 1.0, dropout: float = 0.2) -> nn.Module:
    """For 224x224 images: 3.50 M parameters, 301 M multiply-adds."""
    return MobileNetV2(classes, width, dropout, stem=2, strides=(1, 2, 2, 2, 1, 2, 1))


def mobilenet_v2_cifar(classes: int = 10, width: float = 1.0, dropout: float = 0.2) -> nn.Module:
    """For 32x32 images: the first two strides of 2 are 1, so that 4x4 pixels are left at the end.

    2.24 M parameters, 88 M multiply-adds.
    """
    return MobileNetV2(classes, width, dropout, stem=1, strides=(1, 1, 2, 2, 1, 2, 1))


class MobileNetV2(nn.Module):
    """A stem, the rows of inverted residuals, a 1x1 convolution and a linear classifier."""

    def __init__(
        self, classes: int, width: float, dropout: float, stem: int, strides: tuple[int, ...]
    ) -> None:
        super().__init__()
        channels = scaled(32, width)
        layers: list[nn.Module] = [ConvNorm6(3, channels, 3, stem)]
        for (expansion, base, blocks), first in zip(ROWS, strides, strict=True):
            for stride in [first] + [1] * (blocks - 1):
                layers.append(InvertedResidual(channels, scaled(base, width), stride, expansion))
                channels = scaled(base, width)
        # The paper lets only a width above 1 change the last convolution.
        last = scaled(1280, max(1.0, width))
        self.features = nn.Sequential(*layers, ConvNorm6(channels, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))
        self.apply(initialise)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(image).mean((2, 3)))
        return logits


class InvertedResidual(nn.Module):
    """``x -> 1x1 wider -> 3x3 depthwise -> 1x1 narrow, linear -> (+ x) -> y``."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        wider = [ConvNorm6(inputs, hidden, 1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *wider,
            ConvNorm6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class ConvNorm6(nn.Sequential):
    """``x -> convolution -> batch norm -> ReLU6 -> y``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        padding = kernel // 2
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(),
        )


def scaled(channels: int, width: float, step: int = 8) -> int:
    """``channels * width`` to the nearest multiple of ``step``, at most a tenth below."""
    wanted = channels * width
    nearest = max(step, int(wanted + step / 2) // step * step)
    return nearest + step if nearest < 0.9 * wanted else nearest


def initialise(module: nn.Module) -> None:
    """He initialisation for convolutions, a small normal for the classifier."""
    if isinstance(module, nn.Conv2d):
        # By inputs: torch takes a depthwise convolution's outputs for all its fan-out, and with
        # weights that small an untrained model answers 1e-9 whatever the image.
        nn.init.kaiming_normal_(module.weight, mode="fan_in")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
