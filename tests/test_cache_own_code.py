"""What a user's own code does is in the key of a finished stage, by the content of its files."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

from deploypipe import cache as caches
from deploypipe.cache import key_of
from deploypipe.core.artifact import Artifact, Kind
from deploypipe.core.progress import Silent
from deploypipe.core.shelf import load_file
from deploypipe.data import Preprocess, Split
from deploypipe.runtime.targets.cpu import Cpu
from deploypipe.stages import Desk
from deploypipe.stages.optimize import Optimize
from deploypipe.validate import METRICS

SOURCE = Artifact(Kind.ONNX, Path("model.onnx"), "source", digest="source")


def data(**splits):
    return SimpleNamespace(digest="data", classes=None, splits=splits)


DESK = Desk(Path(), data(), None, Cpu(2), 0, Silent())


@dataclass(frozen=True)
class Builds(Optimize):
    """Starts from a torch model."""

    build: str = ""

    takes: ClassVar[Kind] = Kind.TORCH


@dataclass(frozen=True)
class Trains(Optimize):
    takes: ClassVar[Kind] = Kind.TORCH


def changed(**changes):
    return key_of(Optimize(), SOURCE, replace(DESK, **changes))


PLUG_IN = """
from deploypipe.runtime import Target

class Elsewhere(Target):
    def missing(self): ...
    def open(self, model, *, profile=False, optimized=None): ...
"""


def test_the_code_of_the_user_s_target_is_in_the_key(tmp_path):
    def key(code):
        (tmp_path / "elsewhere.py").write_text(code)
        module = load_file(tmp_path / "elsewhere.py", "plugins[0]")
        return changed(target=module.Elsewhere())

    assert key(PLUG_IN) == key(PLUG_IN) != key(PLUG_IN + "# edited")


SOURCE_PLUG_IN = """
from deploypipe.data import Source

class Ramp(Source):
    def ids(self): return ["0"]
    def digests(self): return ["0"]
    def read(self, indices): ...
"""


def test_the_code_of_the_user_s_source_is_in_the_key(tmp_path):
    def key(code):
        (tmp_path / "ramp.py").write_text(code)
        source = load_file(tmp_path / "ramp.py", "plugins[0]").Ramp()
        split = Split("validation", source, [0], Preprocess())
        return changed(data=data(validation=split))

    assert key(SOURCE_PLUG_IN) == key(SOURCE_PLUG_IN) != key(SOURCE_PLUG_IN + "# edited")


def test_two_files_of_one_name_are_each_in_the_key(tmp_path):
    modules = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "elsewhere.py").write_text(PLUG_IN)
        modules.append(load_file(tmp_path / name / "elsewhere.py", "plugins[0]"))
    before = changed(target=modules[0].Elsewhere())
    (tmp_path / "one" / "elsewhere.py").write_text(PLUG_IN + "# edited")
    assert changed(target=modules[0].Elsewhere()) != before


def test_what_a_model_s_file_imports_from_beside_it_is_in_the_key_of_every_torch_stage(tmp_path):
    def keys(blocks="a = 1", other=""):
        (tmp_path / "blocks.py").write_text(blocks)
        (tmp_path / "other.py").write_text(other)
        return (
            key_of(Builds(build=place), nothing, DESK),
            key_of(Trains(), made, DESK),
            key_of(Optimize(), made, DESK),
        )

    (tmp_path / "net.py").write_text("from blocks import a")
    place = f"{tmp_path / 'net.py'}:net"
    nothing = Artifact(Kind.TORCH, Path(), "nothing")
    made = Artifact(Kind.TORCH, tmp_path / "made", "source", digest="made")
    made.path.mkdir()
    (made.path / "model.json").write_text(json.dumps({"build": place}))
    first, edited = keys(), keys("a = 2")
    assert keys(other="unrelated") == first
    assert [one == two for one, two in zip(first, edited, strict=True)] == [False, False, True]


def test_a_model_of_an_installed_module_has_no_file_of_its_own_in_the_key():
    nothing = Artifact(Kind.TORCH, Path(), "nothing")
    assert caches._model_code(Builds(build="torch.nn:Linear"), nothing) == []


def test_the_function_of_a_metric_is_part_of_the_key(tmp_path):
    file = tmp_path / "own.py"
    keys = []
    for body in ("return outputs[:, 0]", "return outputs[:, 1]"):
        file.write_text(f"def judge(outputs, labels):\n    {body}\n")
        keys.append(caches._plugins(METRICS.build(f"python:{file}:judge")))
    assert len(keys[0]) == len(keys[1]) == 1
    assert keys[0] != keys[1]
