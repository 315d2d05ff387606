"""The tensors inside a torch module, read by forward hooks: to compare it with an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from deploypipe.export.forward import forward

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ModuleTensor:
    """What a submodule gives, by its path; ``bytes`` are not known before it has run."""

    name: str
    op: str
    node: str
    parents: tuple[str, ...] = ()
    bytes: int | None = None


class TorchInside:
    """The outputs of a module's leaves, by their paths such as ``layer1.0.conv1``."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module.eval()
        self.tensors = tuple(
            ModuleTensor(name, type(one).__name__, name)
            for name, one in module.named_modules()
            if name and not any(True for _ in one.children())
        )

    @contextmanager
    def looking(self, names: Sequence[str]) -> Iterator[Callable[[Arrays], Arrays]]:
        """Within the block, a function from inputs, in the order of ``forward``, to the outputs.

        A module that runs several times gives its first output; one that does not run gives none.
        """
        found: dict[str, np.ndarray] = {}
        modules = dict(self.module.named_modules())

        def look(feeds: Arrays) -> Arrays:
            found.clear()
            forward(self.module, feeds, where="REFERENCE", then=_THEN)
            return {name: found.get(name, _NOTHING) for name in names}

        with ExitStack() as hooks:
            for name in names:
                handle = modules[name].register_forward_hook(_keeping(found, name))
                hooks.callback(handle.remove)
            yield look


_THEN = "Give the samples that the candidate was exported for"

_NOTHING = np.zeros(0, np.int64)
"""What a module gives that does not run: it compares with nothing."""


def _keeping(found: dict[str, np.ndarray], name: str) -> Callable[..., None]:
    def keep(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple | list) else output
        if isinstance(first, torch.Tensor) and name not in found:
            found[name] = first.detach().float().cpu().numpy().copy()

    return keep


def module_names(module: torch.nn.Module, model: ir.Model) -> dict[str, str]:
    """Path of a leaf -> the tensor of its export that it gives, by the notes of torch's exporter.

    Of a module's nodes the last one gives its output.  Only in a file that still has its metadata;
    a module whose last node was fused into another is not in it.
    """
    leaves = {tensor.name for tensor in TorchInside(module).tensors}
    names: dict[str, str] = {}
    for node in model.graph:
        path = _path(node.metadata_props.get("pkg.torch.onnx.name_scopes", ""))
        if path in leaves and node.outputs[0].name:
            names[path] = node.outputs[0].name
    return names


def _path(scopes: str) -> str:
    """``layer1.0.conv1`` of ``['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']``.

    The last entry is the name of the call in torch's graph, not a module.
    """
    inner = [part.strip(" '\"") for part in scopes.strip("[]").split(",")][:-1]
    return inner[-1] if inner else ""
