"""Baselines are models to run again, not milliseconds to remember.

FOLDER/baselines.json             name -> digest, file, the machine, the data, when
FOLDER/objects/DIGEST/model.onnx  with its external data; equal models are kept once
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """The store in a folder, which may be committed beside the tests.

    ``kept`` is what was kept by this one: name -> digest.
    """

    folder: Path
    kept: dict[str, str] = field(default_factory=dict)

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
        self,
        name: str,
        model: Path,
        environment: Mapping[str, Json] | None = None,
        data: str | None = None,
    ) -> Baseline:
        """Copy a model, with its external data, as the baseline of ``name``.

        Where ``environment`` or ``data`` is None, what was kept of it stays: claims on latency and
        on accuracy that share a name know one of them each.

        Raises:
            UserError: there is no such model, the folder cannot be written, or another model was
                kept under this name since this store was made.
        """
        if not Path(model).is_file():
            raise UserError(
                "there is no such model file to keep as a baseline",
                where=str(model),
                then="Give the path of an ONNX file; relative ones start where pytest was called",
            )
        with alone():  # test runners side by side keep one after the other
            entries, digest = self._entries(), self._copy(Path(model))
            if self.kept.setdefault(name, digest) != digest:
                self._drop_unnamed(entries)
                raise _two_models(name, model)
            before = entries.get(name, {"environment": {}, "data": None})
            facts: dict[str, Any] = {
                "environment": before["environment"] if environment is None else dict(environment),
                "data": before["data"] if data is None else data,
                "made": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            entries[name] = {"digest": digest, "file": Path(model).name, **facts}
            text = json.dumps(entries, indent=1, sort_keys=True)
            write_text(self.folder / INDEX, f"{text}\n")
            self._drop_unnamed(entries)
        return Baseline(name, self._place(digest) / Path(model).name, digest, **facts)

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

    def _drop_unnamed(self, entries: Mapping[str, Any]) -> None:
        named = {entry["digest"][:32] for entry in entries.values()}
        for place in (self.folder / OBJECTS).iterdir():
            # What somebody else put here, such as .gitattributes, stays.
            if re.fullmatch("[0-9a-f]{32}", place.name) and place.name not in named:
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


def default_name(claim: str, candidate: object, root: Path, claimed: dict[str, Path]) -> str:
    """The name for a claim of a test that gives none: one for each file.

    Of a file outside ``root`` only its own name counts, for its folder may be new each time.
    ``claimed`` are the names that this test has so far, which grow.

    Raises:
        UserError: a file elsewhere has this name already.
    """
    known = isinstance(candidate, str | Path)
    whole = Path(str(candidate) if known else type(candidate).__name__).absolute()
    file = whole.relative_to(root) if whole.is_relative_to(root) else Path(whole.name)
    name = f"{claim} of {file.as_posix()}"
    if claimed.setdefault(name, whole) != whole:
        raise UserError(
            "two models of this test would have the same baseline",
            where=f"{claimed[name]}, {whole}",
            then="Name the baseline of each: compare(..., baseline='NAME')",
        )
    return name


def _two_models(name: str, model: Path) -> UserError:
    return UserError(
        "another model has become the baseline of this name in this run",
        where=f"{model}, the baseline '{name}'",
        then="Give each model a baseline of its own: compare(..., baseline='NAME')",
    )


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
