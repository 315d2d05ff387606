"""Torch models by name, their checkpoints, and the directory that a torch artifact is.

A model is ``file.py:function`` or ``package.module:function``; the function's result is an
``nn.Module``.  Checkpoints are safetensors, or what ``torch.load(weights_only=True)`` reads: a
pickle that needs code to load is refused.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from deploypipe.compress.masks import Mask, apply_masks, masks_from_json, masks_to_json
from deploypipe.core.errors import UserError, did_you_mean
from deploypipe.core.files import sha256_file
from deploypipe.core.shelf import load_file as load_python


@dataclass(frozen=True)
class Builder:
    """How to make a model: ``place`` is ``/abs/file.py:function`` or ``module:function``."""

    place: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self, where: str = "model.build") -> nn.Module:
        """Call the function.

        Raises:
            UserError: no such file, module or function; it raises; it gives no ``nn.Module``.
        """
        function = self._function(where)
        try:
            module = function(**self.arguments)
        except Exception as error:
            raise UserError(
                f"{self.place} raises {type(error).__name__}: {error}", where=where
            ) from error
        if not isinstance(module, nn.Module):
            raise UserError(
                f"{self.place} returns {type(module).__name__}, not a torch.nn.Module", where=where
            )
        return module

    def _function(self, where: str) -> Any:
        holder, _, name = self.place.rpartition(":")
        if not holder:
            raise UserError(
                f"expected FILE.py:FUNCTION or MODULE:FUNCTION, got {self.place!r}", where=where
            )
        module = _holder(holder, where)
        if not callable(getattr(module, name, None)):
            known = [key for key, value in vars(module).items() if callable(value)]
            hint = did_you_mean(name, [key for key in known if not key.startswith("_")])
            raise UserError(f"{holder} has no function '{name}', {hint}", where=where)
        return getattr(module, name)

    @property
    def code(self) -> str:
        """Hex sha256 of the file that the function stands in; empty where there is none.

        What that file imports is not in it: which of those files matter is only known by running
        it.  Whoever edits one of them gives the run another output folder, or edits this file too.
        """
        holder = self.place.rpartition(":")[0]
        if not holder.endswith(".py"):
            try:
                spec = importlib.util.find_spec(holder) if holder else None
            except Exception:  # build() tells what is wrong with it
                spec = None
            holder = (spec.origin if spec else None) or ""
        return sha256_file(Path(holder)) if Path(holder).is_file() else ""


def _holder(holder: str, where: str) -> Any:
    if holder.endswith(".py"):
        return load_python(Path(holder), where)
    try:
        return importlib.import_module(holder)
    except Exception as error:  # whatever the user's module raises
        raise UserError(
            f"cannot import {holder}: {type(error).__name__}: {error}", where=where
        ) from error


@dataclass(frozen=True)
class TorchModel:
    """A model in memory with what is needed to make it again."""

    module: nn.Module
    builder: Builder
    masks: tuple[Mask, ...] = ()

    def save(self, folder: Path) -> None:
        """Write model.json, weights.safetensors and, if pruned, masks.json.

        The code's digest is written as well: equal weights under another ``forward`` are another
        model, whose folder must not have the same digest.
        """
        folder.mkdir(parents=True, exist_ok=True)
        builder = self.builder
        text = {"build": builder.place, "args": dict(builder.arguments), "code": builder.code}
        (folder / "model.json").write_text(json.dumps(text, indent=1))
        state = {key: value.contiguous().clone() for key, value in self.module.state_dict().items()}
        save_file(state, folder / "weights.safetensors")
        if self.masks:
            (folder / "masks.json").write_text(json.dumps(masks_to_json(self.masks)))

    @classmethod
    def load(cls, folder: Path) -> TorchModel:
        """Read a folder that :meth:`save` wrote; masked weights are zero."""
        text = json.loads((folder / "model.json").read_text())
        builder = Builder(text["build"], text["args"])
        module = builder.build()
        load_weights(module, folder / "weights.safetensors", str(folder))
        masks: Sequence[Mask] = ()
        if (folder / "masks.json").is_file():
            masks = masks_from_json(json.loads((folder / "masks.json").read_text()))
            apply_masks(module, masks)
        return cls(module.eval(), builder, tuple(masks))


def load_weights(module: nn.Module, path: Path, where: str = "model.weights") -> None:
    """Load a checkpoint whose names and shapes are exactly the module's.

    Raises:
        UserError: the file is missing, damaged, needs code to load, or does not fit; says which.
    """
    own = module.state_dict()
    state = _without_prefix(_read_state(path, where), own)
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    # Old checkpoints lack this counter, which inference does not use.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    wrong = [
        f"{name} is {list(state[name].shape)}, the model has {list(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if state[name].shape != own[name].shape
    ]
    complaints = [
        *([f"missing: {_some(missing)}"] if missing else []),
        *([f"unexpected: {_some(unexpected)}"] if unexpected else []),
        *([f"other shapes: {_some(wrong)}"] if wrong else []),
    ]
    if complaints:
        raise UserError(
            f"{path} does not fit the model; {'; '.join(complaints)}",
            where=where,
            then="Build the model with the arguments that the checkpoint was trained with",
        )
    module.load_state_dict(state, strict=False)


def _without_prefix(
    state: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """``nn.DataParallel`` puts ``module.`` before every name."""
    if all(name.startswith("module.") for name in state) and not own.keys() & state.keys():
        return {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _read_state(path: Path, where: str) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise UserError(f"no such checkpoint: {path}", where=where)
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} needs code to be loaded, or is damaged; refused",
            where=where,
            then="Save model.state_dict() alone, best as safetensors",
        ) from error
    except Exception as error:  # whatever a damaged file provokes in the reader
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} cannot be read as a checkpoint: {reason}", where=where) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise UserError(f"{path} holds no state dict (names and tensors)", where=where)
    return state
