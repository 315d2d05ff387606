"""How fast and how large a torch model is here: one batch, forward and backward."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from deploypipe.compress.training import call, channels_last


def measure(
    module: torch.nn.Module, feeds: Mapping[str, np.ndarray], bf16: bool = False
) -> tuple[float, float, int, int]:
    """Seconds a sample with and without gradients, bytes of weights, of activations a sample."""
    inputs = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
    count = len(next(iter(inputs.values())))
    activations = _activation_bytes(module, inputs) // count
    if bf16:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = {name: channels_last(value) for name, value in inputs.items()}
    module.train()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs = call(module, inputs)
        outputs.float().square().mean().backward()  # type: ignore[no-untyped-call]

    train = _fastest(step) / count
    module.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        forward = _fastest(lambda: call(module, inputs)) / count
    weights = sum(value.numel() * value.element_size() for value in module.state_dict().values())
    return train, forward, weights, activations


def _fastest(run: Callable[[], object]) -> float:
    """Best of two after one to warm up."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _activation_bytes(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> int:
    """Bytes of all leaf modules' outputs: what the backward pass keeps, near enough."""
    total = 0

    def add(_: torch.nn.Module, __: object, output: object) -> None:
        nonlocal total
        if isinstance(output, torch.Tensor):
            total += output.numel() * output.element_size()

    leaves = [part for part in module.modules() if not list(part.children())]
    hooks = [leaf.register_forward_hook(add) for leaf in leaves]
    with torch.no_grad():
        call(module.eval(), inputs)
    for hook in hooks:
        hook.remove()
    return total
