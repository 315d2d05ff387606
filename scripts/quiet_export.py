"""A torch module as an ONNX file, without what the exporter has to say on the way."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


def quiet_export(model: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    """Write it; whatever the exporter cannot do is raised as it comes."""
    logging.disable(logging.WARNING)
    talk = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(talk),
        contextlib.redirect_stderr(talk),
    ):
        warnings.simplefilter("ignore")
        torch.onnx.export(model, inputs, path, dynamo=True, external_data=False, verbose=False)
