"""Residual networks for CIFAR-10.

He, Zhang, Ren, Sun 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, section
4.2: three stages of 16, 32 and 64 channels on 32x32, 16x16 and 8x8, and shortcuts without parameters
(option A).  Input ``image`` float32 [batch, 3, height, width], usually 32x32; output logits float32
[batch, classes].

Parameters are called ``conv1 bn1 layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2} linear``, as in the
checkpoints published by Y. Idelbayev (github.com/akamaster/pytorch_resnet_cifar10).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def resnet20(classes: int = 10) -> nn.Module:
    """0.27 M parameters, 41 M multiply-adds at 32x32."""
    return ResNet(3, classes)


def resnet32(classes: int = 10) -> nn.Module:
    """0.46 M parameters, 69 M multiply-adds at 32x32."""
    return ResNet(5, classes)


def resnet44(classes: int = 10) -> nn.Module:
    """0.66 M parameters, 97 M multiply-adds at 32x32."""
    return ResNet(7, classes)


def resnet56(classes: int = 10) -> nn.Module:
    """0.85 M parameters, 125 M multiply-adds at 32x32."""
    return ResNet(9, classes)


class ResNet(nn.Module):
    """``6 * blocks + 2`` layers: a stem, three stages of ``blocks`` blocks, a linear classifier."""

    def __init__(self, blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1 = convolution(3, 16)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = stage(16, 16, 1, blocks)
        self.layer2 = stage(16, 32, 2, blocks)
        self.layer3 = stage(32, 64, 2, blocks)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(image)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class Block(nn.Module):
    """``x -> 3x3 -> 3x3 -> + shortcut(x) -> y``, with a norm after each convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else Subsample(outputs - inputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Subsample(nn.Module):
    """Option A: every second pixel, and ``more`` channels of zeros, half of them on either side."""

    def __init__(self, more: int) -> None:
        super().__init__()
        self.padding = (0, 0, 0, 0, more // 2, more - more // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], self.padding)


def stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    """``blocks`` blocks, the first of which changes channels and resolution."""
    later = [Block(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Block(inputs, outputs, stride), *later)


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3x3, keeping the resolution at stride 1; the norm behind it brings the bias."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
