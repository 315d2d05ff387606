from __future__ import annotations

import importlib.metadata
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploypipe.core import options, shelf
from deploypipe.core.errors import EnvironmentLacks, UserError
from deploypipe.core.shelf import ALL, Shelf, camel, kebab, load_file, load_plugins


class Animal:
    """What lies on the shelf of these tests."""


HERE = "steps[1].feed"


@pytest.fixture
def animals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf[Animal]]:
    """A package with two animals, one of which needs torch."""
    package = f"zoo_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    cat = '''from dataclasses import dataclass
@dataclass(frozen=True)
class HouseCat:
    """Sleeps.

    And eats."""
    lives: int = 9
    def __post_init__(self):
        if self.lives < 1:
            raise ValueError(f"lives must be at least 1, got {self.lives}")
'''
    (folder / "house_cat.py").write_text(cat)
    (folder / "_hidden.py").write_text("")
    (folder / "eel.py").write_text("import tokenizers.absent_part\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    made: Shelf[Animal] = Shelf("animal", package, Animal)
    names = dict(options.NAMES)
    yield made
    ALL.pop("animal")
    options.NAMES.clear()
    options.NAMES.update(names)
    shelf._entry_points_of.cache_clear()


def test_a_name_is_that_of_its_file():
    assert kebab("drop_dead_channels") == "drop-dead-channels"
    assert camel("drop_dead_channels") == "DropDeadChannels" and camel("top1") == "Top1"


def test_names_are_read_without_importing_anything(animals):
    assert animals.names() == ["eel", "house-cat"]
    assert f"{animals.package}.house_cat" not in sys.modules


def test_the_names_of_all_rooms_load_neither_torch_nor_a_plugin():
    code = """
import sys
from deploypipe.graph import PASSES
from deploypipe.runtime import TARGETS
print(PASSES.names(), TARGETS.names())
bad = [m for m in sys.modules if m.startswith(("torch", "onnxruntime", "deploypipe.graph.passes."))]
sys.exit(f"loaded {bad}" if bad else 0)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "drop-dead-channels" in done.stdout and "cpu" in done.stdout


def test_a_thing_is_built_from_its_name_alone_or_with_options(animals):
    assert animals.build("house-cat").lives == 9
    assert animals.build({"house-cat": {"lives": 3}}).lives == 3
    assert animals.build({"house-cat": None}).lives == 9
    ready = Animal()
    assert animals.build(ready) is ready


def test_the_spec_of_a_thing_rebuilds_it(animals):
    cat = animals.build({"house-cat": {"lives": 3}})
    assert animals.spec(cat) == {"house-cat": {"lives": 3}}
    assert animals.build(animals.spec(cat)) == cat


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("house_cat", f"{HERE}: unknown animal 'house_cat', did you mean 'house-cat'?"),
        ("zebra", f"{HERE}: unknown animal 'zebra', known: eel, house-cat."),
        ({"house-cat": 3}, f"{HERE}.house-cat: expected a mapping of options, got 3."),
        (
            {"house-cat": {"life": 1}},
            f"{HERE}.house-cat: unknown option 'life', did you mean 'lives'?",
        ),
        ({"house-cat": {"lives": "x"}}, f"{HERE}.house-cat.lives: expected int, got 'x'."),
        ({"house-cat": {"lives": 0}}, f"{HERE}.house-cat: lives must be at least 1, got 0."),
        (
            ["house-cat"],
            f"{HERE}: expected the name of a animal or one name with its options, "
            "got ['house-cat']. Known: eel, house-cat.",
        ),
        (
            {"a": {}, "b": {}},
            f"{HERE}: expected the name of a animal or one name with its options, "
            "got {'a': {}, 'b': {}}. Known: eel, house-cat.",
        ),
    ],
)
def test_a_spec_that_is_wrong_is_explained(animals, spec, message):
    with pytest.raises(UserError) as raised:
        animals.build(spec, HERE)
    assert str(raised.value) == message


def test_a_missing_extra_names_the_line_that_installs_it(animals):
    with pytest.raises(EnvironmentLacks) as raised:
        animals.get("eel")
    assert str(raised.value) == (
        "animal 'eel' needs 'tokenizers', which is not installed. "
        "Install it with: pip install 'deploypipe[text]'."
    )


def test_a_module_that_no_extra_brings_is_our_bug(animals, tmp_path):
    folder = tmp_path / animals.package
    (folder / "house_cat.py").write_text("import no_such_module_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        animals.get("house-cat")


def test_the_summary_is_the_first_line_of_the_docstring(animals):
    assert animals.summary("house-cat") == "Sleeps."


def test_entry_points_are_on_the_shelf(animals, monkeypatch):
    class Point:
        name = "cow"

        def load(self) -> type:
            return Animal

    def found(group: str) -> list[Any]:
        return [Point()] if group == "deploypipe.animal" else []

    monkeypatch.setattr(importlib.metadata, "entry_points", found)
    shelf._entry_points_of.cache_clear()
    assert animals.names() == ["cow", "eel", "house-cat"]
    cow = animals.build("cow")
    assert type(cow) is Animal and animals.name_of(cow) == "cow"


ONE = """
from dataclasses import dataclass
from abc import ABC, abstractmethod
from deploypipe.core.shelf import ALL
Base = ALL["animal"].base
class Loud(Base, ABC):
    @abstractmethod
    def say(self): ...
@dataclass(frozen=True)
class Dog(Loud):
    age: int = 1
    def say(self): return "woof"
Alias = Dog
"""


def test_one_class_in_a_users_file_gets_the_files_name(animals, tmp_path):
    (tmp_path / "old_dog.py").write_text(ONE)
    assert load_plugins(tmp_path / "old_dog.py", "plugins[0]") == ["old-dog"]
    dog = animals.build({"old-dog": {"age": 5}})
    assert dog.age == 5 and animals.spec(dog) == {"old-dog": {"age": 5}}


def test_several_classes_are_called_after_themselves(animals, tmp_path):
    (tmp_path / "pets.py").write_text(ONE + "class GoldFish(Base): pass\n")
    assert load_plugins(tmp_path / "pets.py", "plugins[0]") == ["dog", "gold-fish"]
    assert {"dog", "gold-fish"} <= set(animals.names())


def test_a_plugin_inside_another_things_options_keeps_its_name(tmp_path):
    """What the cache key and the report say of a user's pass rebuilds it."""
    from deploypipe.graph import PASSES
    from deploypipe.stages.optimize import Optimize

    text = """
from dataclasses import dataclass
from deploypipe.graph import GraphPass, Outcome
@dataclass(frozen=True)
class Mine(GraphPass):
    size: int = 1
    def call(self, model): return Outcome(model, False)
"""
    (tmp_path / "my_pass.py").write_text(text)
    try:
        load_plugins(tmp_path / "my_pass.py", "plugins[0]")
        stage = options.build(Optimize, {"also": [{"my-pass": {"size": 2}}]}, "optimize")
        values = options.values_of(stage)
        assert values["also"] == [{"my-pass": {"size": 2}}]
        assert options.build(Optimize, values, "optimize") == stage
    finally:
        options.NAMES.pop(PASSES.added.pop("my-pass"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "plugins[0]: no such file: {path}."),
        ("1 / 0", "plugins[0]: {path} raises ZeroDivisionError: division by zero."),
        ("raise SystemExit(0)", "plugins[0]: {path} raises SystemExit: 0."),
        ("def (", "plugins[0]: {path} raises SyntaxError: invalid syntax (file.py, line 1)."),
    ],
)
def test_a_users_file_that_cannot_be_loaded_is_explained(tmp_path, text, message):
    path = tmp_path / "file.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as raised:
        load_file(path, "plugins[0]")
    assert str(raised.value) == message.format(path=path)
    assert "deploypipe_user_file" not in sys.modules


def test_two_users_files_of_one_name_are_two_modules(tmp_path):
    files = [tmp_path / folder / "same.py" for folder in ("a", "b")]
    for number, file in enumerate(files):
        file.parent.mkdir()
        file.write_text(f"class Same:\n    number = {number}\n")
    first, second = (load_file(file, "plugins[0]") for file in files)
    assert [inspect.getsourcefile(module.Same) for module in (first, second)] == list(
        map(str, files)
    )
    assert sys.modules[first.__name__] is first
    again = load_file(files[0], "plugins[0]")
    assert again.__name__ == first.__name__ == "deploypipe_user_same"


def test_a_users_file_without_a_plugin_is_explained(animals, tmp_path):
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(UserError) as raised:
        load_plugins(tmp_path / "empty.py", "plugins[0]")
    text = str(raised.value)
    assert text.startswith(
        f"plugins[0]: {tmp_path / 'empty.py'} defines no plug-in. Derive from one of: "
    )
    assert "Animal" in text


def test_the_schema_is_json_schema_and_takes_what_the_shelf_takes():
    jsonschema = pytest.importorskip("jsonschema")
    from deploypipe.graph import PASSES

    schema = json.loads(json.dumps(PASSES.schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    valid = jsonschema.Draft202012Validator(schema).is_valid
    assert valid("drop-unused") and valid({"drop-dead-channels": {"round_to": 4}})
    assert valid({"drop-dead-channels": None})
    assert not valid("no-such-pass") and not valid({"drop-dead-channels": {"round": 4}})
    assert not valid({"drop-dead-channels": {"round_to": "x"}})


def test_the_schema_names_every_thing_and_refers_to_nothing_outside():
    import deploypipe.stages

    schema = deploypipe.stages.STAGES.schema()
    assert schema["anyOf"][0] == {"enum": deploypipe.stages.STAGES.names()}
    assert len(schema["anyOf"]) == 1 + len(deploypipe.stages.STAGES.names())
    assert "$ref" not in json.dumps(schema)


def test_the_schema_is_there_without_the_packages_of_a_thing(monkeypatch):
    """After an install without extras too; what cannot be loaded takes any options."""
    from deploypipe.core.shelf import Shelf
    from deploypipe.graph import PASSES

    name, *others = PASSES.names()
    true = Shelf.get

    def get(self, wanted, where=""):
        if wanted == name:
            raise EnvironmentLacks("it needs 'nothing', which is not installed")
        return true(self, wanted, where)

    monkeypatch.setattr(Shelf, "get", get)
    _, first, *rest = PASSES.schema()["anyOf"]
    assert first["properties"][name]["anyOf"][0] == {"type": "object"}
    assert "is not installed" in first["description"]
    assert [next(iter(one["properties"])) for one in rest] == others
