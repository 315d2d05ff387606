"""Baselines are models to run again, not milliseconds to remember.

FOLDER/baselines.json             name -> digest, file, the machine, the data, when
FOLDER/objects/DIGEST/model.onnx  with its external data; equal models are kept once
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploypipe.core.errors import IntegrityError, UserError
from deploypipe.core.files import Json, digest_tree, write_text, writing
from deploypipe.graph.files import data_files
from deploypipe.runtime import TARGETS, Target, host
from deploypipe.validate.alone import alone
from deploypipe.validate.judge_latency import differences

INDEX, OBJECTS = "baselines.json", "objects"
MACHINE = ("machine", "cpu", "flags", "usable_cores", "gpus")
"""What of a host decides how fast a model runs; a new kernel or patch level is the same machine."""

RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Baseline:
    """A kept model; ``environment`` is where it was kept, ``data`` the digest of its samples."""

    name: str
    model: Path
    digest: str
    environment: Mapping[str, Any]
    data: str | None = None
    made: str = ""


@dataclass(frozen=True)
class Baselines:
    """The store in a folder, which may be committed beside the tests."""

    folder: Path

    def find(self, name: str) -> Baseline | None:
        """The baseline of a name.

        Raises:
            IntegrityError: its files are not those that were kept.
        """
        entry = self._entries().get(name)
        if entry is None:
            return None
        place = self._place(entry["digest"])
        if not place.is_dir() or digest_tree(place) != entry["digest"]:
            raise IntegrityError(
                f"the files of the baseline '{name}' are not those that were kept",
                where=str(place),
                then="Bring them back, or keep a new baseline with --deploypipe-update",
            )
        kept = {key: entry[key] for key in ("digest", "environment", "data", "made")}
        return Baseline(name, place / entry["file"], **kept)

    def keep(
        self, name: str, model: Path, environment: Mapping[str, Json], data: str | None = None
    ) -> Baseline:
        """Copy a model, with its external data, as the baseline of ``name``.

        Raises:
            UserError: there is no such model, or the folder cannot be written.
        """
        if not Path(model).is_file():
            raise UserError(
                "there is no such model file to keep as a baseline",
                where=str(model),
                then="Give the path of an ONNX file; relative ones start where pytest was called",
            )
        with alone():  # test runners side by side keep one after the other
            digest = self._copy(Path(model))
            made = datetime.now(UTC).isoformat(timespec="seconds")
            entry = {"digest": digest, "file": Path(model).name, "environment": dict(environment)}
            entries = {**self._entries(), name: {**entry, "data": data, "made": made}}
            text = json.dumps(entries, indent=1, sort_keys=True)
            write_text(self.folder / INDEX, f"{text}\n")
            self._drop_unnamed({one["digest"] for one in entries.values()})
        return Baseline(
            name, self._place(digest) / Path(model).name, digest, environment, data, made
        )

    def _copy(self, model: Path) -> str:
        with writing(self.folder / OBJECTS / "arriving") as temporary:
            for name, file in {model.name: model, **data_files(model)}.items():
                place = temporary / name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
        arrived = self.folder / OBJECTS / "arriving"
        digest = digest_tree(arrived)
        if self._place(digest).exists():
            shutil.rmtree(arrived)
        else:
            arrived.rename(self._place(digest))
        return digest

    def _drop_unnamed(self, named: set[str]) -> None:
        for place in (self.folder / OBJECTS).iterdir():
            if place.name not in {digest[:32] for digest in named}:
                shutil.rmtree(place)

    def _place(self, digest: str) -> Path:
        return self.folder / OBJECTS / digest[:32]

    def _entries(self) -> dict[str, Any]:
        file = self.folder / INDEX
        if not file.is_file():
            return {}
        try:
            entries: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            then = "Bring it back, or remove it and keep the baselines again: --deploypipe-update"
            raise IntegrityError(f"it is no JSON: {error}", where=str(file), then=then) from error
        return entries


def machine(target: Target) -> dict[str, Json]:
    """What must be equal for two latencies to be comparable."""
    here = host()
    packages: Mapping[str, str] = here["packages"]
    runtimes = {name: packages[name] for name in RUNTIMES if name in packages}
    told = {key: here[key] for key in MACHINE}
    return {**told, "target": TARGETS.spec(target), "runtime": runtimes}


def changed(
    baseline: Baseline, environment: Mapping[str, Json] | None, data: str | None
) -> str | None:
    """Why a baseline is no match for here and now; what is None is not asked about."""
    if environment is not None:
        told = differences(baseline.environment, environment)
        if told:
            return f"the baseline is from another machine: {'; '.join(told)}"
    if data is not None and baseline.data != data:
        was = "none" if baseline.data is None else baseline.data[:12]
        return f"the samples have changed since the baseline: digest {was}, now {data[:12]}"
    return None
