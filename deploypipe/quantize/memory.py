"""What was observed, kept on disk: quantizing again with other options needs no inference."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from deploypipe.core.files import writing
from deploypipe.graph.parts import parts_of
from deploypipe.quantize.histogram import CODES, Histogram
from deploypipe.quantize.lookout import Arrays, ChannelMean
from deploypipe.quantize.margins import Margins
from deploypipe.quantize.observe import Observation
from deploypipe.runtime.host import package_version
from deploypipe.runtime.onnx_runtime import BUILDS

MOST = 4
"""Observations that a folder keeps."""
ABANDONED = 3600.0
"""Seconds after which nobody is still writing a file."""
_FORM = 5
"""Raised when the same samples would be counted, or what was counted be written, otherwise."""


@dataclass(frozen=True)
class Memory:
    """A folder of observations; ``samples`` is a digest of the feeds that will be given."""

    folder: Path
    samples: str

    def observed(
        self,
        model: ir.Model,
        tensors: Sequence[str],
        means: Collection[ChannelMean],
        target: str,
        observe: Callable[[], Observation],
    ) -> Observation:
        """What is kept of this model, these tensors and samples; else ``observe`` and keep it.

        Another version of the runtime may round otherwise, and observes anew.  A file that is damaged
        is written anew.
        """
        spec = [asdict(mean) for mean in sorted(means, key=astuple)]
        runtime = [package_version(build) for build in BUILDS]
        told = json.dumps([_FORM, target, runtime, self.samples, sorted(tensors), spec])
        key = hashlib.sha256((digest(model) + told).encode()).hexdigest()[:24]
        file = self.folder / f"{key}.npz"
        found = read(file) if file.is_file() else None
        if found is None:
            found = observe()
            self._make_room()
            write(found, file)
        return found

    def _make_room(self) -> None:
        """Let the oldest go; a run that was stopped may have left something half-written too.

        Other processes may be writing and making room just now.
        """
        files = sorted(self.folder.glob("*.npz"), key=_age, reverse=True)
        for old in files[: max(0, len(files) - MOST + 1)]:
            old.unlink(missing_ok=True)
        for left in self.folder.glob(".*.npz.*"):
            if _age(left) > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


def _age(path: Path) -> float:
    """Seconds since it was written; of what has just gone, none."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def digest(model: ir.Model) -> str:
    """Of the graph and all its weights."""
    parts = parts_of(model)
    told = hashlib.sha256(parts.graph)
    for name in sorted(parts.weights):
        told.update(name.encode())
        told.update(parts.weights[name].data)
    return told.hexdigest()


def write(observation: Observation, file: Path) -> None:
    """As arrays without pickle: of each histogram the bins that hold something."""
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, Any] = {"samples": observation.samples, "histograms": {}, "means": []}
    facts["kept"] = [sorted(sample) for sample in observation.kept]
    for i, (name, one) in enumerate(observation.histograms.items()):
        filled = np.flatnonzero(one.counts)
        arrays[f"h{i}.codes"] = filled.astype(np.uint16)
        arrays[f"h{i}.counts"] = one.counts[filled]
        facts["histograms"][name] = [one.low, one.high, one.mean_low, one.mean_high, one.elements]
    for i, (mean, array) in enumerate(observation.means.items()):
        arrays[f"m{i}"] = array
        facts["means"].append(astuple(mean))
    if observation.margins is not None:
        arrays["leads"] = observation.margins.leads
    for i, sample in enumerate(observation.kept):
        for name, array in sample.items():
            arrays[f"k{i}.{sorted(sample).index(name)}"] = array
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    with writing(file) as temporary, temporary.open("wb") as handle:
        np.savez(handle, allow_pickle=False, **arrays)


def read(file: Path) -> Observation | None:
    """What :func:`write` wrote; None if the file is damaged."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return _observation({name: arrays[name] for name in arrays.files})
    except Exception:  # whatever a damaged archive provokes in its readers
        return None


def _observation(arrays: Mapping[str, np.ndarray]) -> Observation:
    facts = json.loads(arrays["facts"].tobytes())
    histograms = {}
    for i, (name, numbers) in enumerate(facts["histograms"].items()):
        counts = np.zeros(CODES, np.int64)
        counts[arrays[f"h{i}.codes"]] = arrays[f"h{i}.counts"]
        histograms[name] = Histogram(counts, *numbers)
    means = {
        ChannelMean(tensor, tuple(shape), tuple(axes)): arrays[f"m{i}"]
        for i, (tensor, shape, axes) in enumerate(facts["means"])
    }
    kept: list[Arrays] = [
        {name: arrays[f"k{i}.{j}"] for j, name in enumerate(names)}
        for i, names in enumerate(facts["kept"])
    ]
    margins = Margins(arrays["leads"]) if "leads" in arrays else None
    return Observation(histograms, facts["samples"], tuple(kept), means, margins)
