"""AlexNet: few convolutions, and nearly all weights in the fully connected layers.

Krizhevsky, Sutskever, Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks",
in the one-tower form of Krizhevsky 2014, "One weird trick for parallelizing convolutional neural
networks", arXiv:1404.5997, which has no local response normalisation.  Input ``image`` float32
[batch, 3, height, width] of one fixed size; output logits float32 [batch, classes].

Parameters are called as in torchvision, ``features.{i}`` and ``classifier.{1,4,6}``.
"""

from __future__ import annotations

from torch import Tensor, nn


def alexnet(classes: int = 1000, hidden: int = 4096, dropout: float = 0.5) -> nn.Module:
    """For 224x224 images: 61.1 M parameters, 714 M multiply-adds."""
    first = [nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    second = [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    features = nn.Sequential(*first, *second, *trunk(), nn.MaxPool2d(3, 2))
    return AlexNet(features, classifier(256 * 6 * 6, hidden, classes, dropout))


def alexnet_cifar(classes: int = 10, hidden: int = 4096, dropout: float = 0.5) -> nn.Module:
    """For 32x32 images, with 3x3 kernels and 2x2 pools: 23.3 M parameters, 63 M multiply-adds."""
    first = [nn.Conv2d(3, 64, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(64, 192, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    features = nn.Sequential(*first, *second, *trunk(), nn.MaxPool2d(2))
    return AlexNet(features, classifier(256 * 2 * 2, hidden, classes, dropout))


class AlexNet(nn.Module):
    """Convolutions, then fully connected layers on the flattened channels and pixels."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(image).flatten(1))
        return logits


def trunk() -> list[nn.Module]:
    """The three convolutions between the second pool and the last: 192 -> 384 -> 256 -> 256."""
    sizes = ((192, 384), (384, 256), (256, 256))
    return [layer for i, o in sizes for layer in (nn.Conv2d(i, o, 3, padding=1), nn.ReLU())]


def classifier(inputs: int, hidden: int, classes: int, dropout: float) -> nn.Sequential:
    """Three fully connected layers, with dropout before the first two."""
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )
