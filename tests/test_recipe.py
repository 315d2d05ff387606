"""Recipes: every kind of mistake with its path and, for a typo, the nearest name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from deploypipe.core.errors import UserError
from deploypipe.recipe import build_steps, read_recipe, schema

MODELS = Path(__file__).parents[1] / "models"

GOOD = """
name: mine
model: net.py:net
data: digits
steps:
  - train: {epochs: 5}
  - export
  - optimize: {passes: [drop-unused, {drop-dead-channels: {round_to: 4}}]}
  - validate:
"""


@pytest.fixture
def read(tmp_path):
    def run(text=GOOD, *changes):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return read_recipe(path, changes)

    return run


@pytest.fixture
def told(read):
    """The error's text of a recipe that is wrong, in reading or in building its steps."""

    def run(text=GOOD, *changes):
        with pytest.raises(UserError) as caught:
            build_steps(read(text, *changes))
        return str(caught.value)

    return run


def test_a_good_recipe_is_read_and_built(read):
    recipe = read()
    assert recipe.model.build == "net.py:net"
    assert recipe.data.source == "digits"
    steps = build_steps(recipe)
    assert [step.name for step in steps] == ["train", "export", "optimize", "validate"]
    assert [step.where for step in steps][:2] == ["steps[0].train", "steps[1].export"]
    assert steps[0].stage.epochs == 5
    assert steps[2].stage.passes[1].round_to == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("data: digits", "dat: digits", "unknown option 'dat', did you mean 'data'?"),
        ("name: mine\n", "", "name: required, but not given."),
        ("name: mine", "name: 'a b'", "name: string should match pattern"),
        ("name: mine", "name: 3", "name: expected str, got 3."),
        (
            "data: digits",
            "data: digit",
            "data.source: unknown source 'digit', did you mean 'digits'?",
        ),
        (
            "data: digits",
            "data: {source: digits, split: {valid: 3}}",
            "data.split: unknown option 'valid', did you mean 'validation'?",
        ),
        ("  - export", "  - exprt", "steps[1]: unknown stage 'exprt', did you mean 'export'?"),
        (
            "epochs: 5",
            "epoch: 5",
            "steps[0].train: unknown option 'epoch', did you mean 'epochs'?",
        ),
        ("epochs: 5", "epochs: many", "steps[0].train.epochs: expected int, got 'many'."),
        ("epochs: 5", "epochs: 2.5", "steps[0].train.epochs: expected int, got 2.5."),
        ("{epochs: 5}", "5", "steps[0].train: expected a mapping of options, got 5."),
        ("  - export", "  - {export: , train: }", "steps[1]: expected the name of a stage or one"),
        ("  - export", "  - 3", "steps[1]: expected the name of a stage or one name with"),
        (
            "round_to: 4",
            "round_to: -1",
            "steps[2].optimize.passes[1].drop-dead-channels: round_to must not be negative, got -1.",
        ),
        (
            "drop-unused",
            "drop-unusd",
            "steps[2].optimize.passes[0]: unknown pass 'drop-unusd', did you mean 'drop-unused'?",
        ),
        (
            "model: net.py:net",
            "model: {args: {}}",
            "model: give either build (FILE.py:FUNCTION) or onnx (a file)",
        ),
        ("model: net.py:net", "model: {build: a, onnx: b}", "model: give either build (FILE.py"),
        (
            "model: net.py:net",
            "model: {onnx: b.onnx, weights: w.pt}",
            "model: weights and args belong to build, not to onnx",
        ),
        (
            "model: net.py:net",
            "model: {buidl: a}",
            "model: unknown option 'buidl', did you mean 'build'?",
        ),
        ("name: mine", "name: mine\nbudget: {speedup: fast}", "budget.speedup: expected float"),
        ("name: mine", "name: mine\nname: yours", "not YAML: 'name' is given twice"),
        ("name: mine", "name: [", "not YAML: "),
        ("name: mine", "name: " + "[" * 3000, "not YAML: "),
        ("name: mine", "name: 2020-13-45", "not YAML: month must be in 1..12"),
        ("epochs: 5", "rate: .nan", "steps[0].train.rate: input should be a finite number"),
        ("name: mine", "name: mine\nplugins: 3", "plugins: expected list, got 3."),
        ("name: mine", "name: mine\nplugins: [a.py]", "plugins[0]: no such file or folder"),
        (GOOD, "- a\n- b", "a recipe is a mapping with name, model, data and steps"),
        (GOOD, "", "a recipe is a mapping with name, model, data and steps"),
        (GOOD[GOOD.index("steps") :], "steps: []", "steps: list should have at least 1 item"),
    ],
)
def test_a_mistake_is_told_with_its_path(told, old, new, message):
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    assert message in told(text)


def test_no_such_recipe(tmp_path):
    with pytest.raises(UserError) as caught:
        read_recipe(tmp_path / "none.yaml")
    path = tmp_path / "none.yaml"
    assert str(caught.value) == f"{path}: no such recipe. Give the path of a YAML file."


def test_bytes_that_are_no_text_are_no_recipe(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(UserError, match="not YAML"):
        read_recipe(tmp_path / "r.yaml")


def test_yaml_cannot_run_code(read, tmp_path):
    with pytest.raises(UserError, match="not YAML"):
        read(f"name: !!python/object/apply:os.mkdir ['{tmp_path}/ran']")
    assert not (tmp_path / "ran").exists()


def test_a_number_in_powers_of_ten_is_a_number(read):
    text = GOOD.replace("epochs: 5", "epochs: 5, rate: 1e-3, decay: 5E-4")
    assert build_steps(read(text))[0].stage.rate == 1e-3
    assert build_steps(read(text))[0].stage.decay == 5e-4


def test_keys_may_be_merged_from_an_anchor(read):
    text = GOOD.replace("{epochs: 5}", "&t {epochs: 5}").replace(
        "- export", "- train: {<<: *t, batch: 4}\n  - export"
    )
    stage = build_steps(read(text))[1].stage
    assert (stage.epochs, stage.batch) == (5, 4)


@pytest.mark.parametrize(
    "change",
    [
        "steps.train.epochs=3",
        "steps.0.train.epochs=3",
        "steps.0.epochs=3",
        "steps.0={train: {epochs: 3}}",
    ],
)
def test_set_reaches_the_option_of_a_step(read, change):
    steps = build_steps(read(GOOD, change))
    assert steps[0].stage.epochs == 3
    assert len(steps) == 4


@pytest.mark.parametrize("step", ["export", "1.export", "1"])
def test_set_gives_options_to_a_bare_step(read, step):
    stage = build_steps(read(GOOD, f"steps.{step}.tolerance=1e-3"))[1].stage
    assert stage.tolerance == 1e-3


def test_set_gives_options_to_a_step_without_any(read):
    assert build_steps(read(GOOD, "steps.validate.rounds=9"))[3].stage.rounds == 9


def test_set_makes_mappings_on_the_way(read):
    assert read(GOOD, "budget.speedup=2").budget.speedup == 2
    assert read(GOOD, "target.cpu.threads=3").target == {"cpu": {"threads": 3}}
    assert read(GOOD, "data.split.validation=9").data.split.validation == 9
    recipe = read(GOOD, "model.args.classes=3")
    assert recipe.model.build == "net.py:net"
    assert recipe.model.args == {"classes": 3}


def test_set_changes_a_bare_target_in_place(read):
    recipe = read(GOOD + "target: cpu\n", "target.cpu.threads=2")
    assert recipe.target == {"cpu": {"threads": 2}}


def test_set_goes_inside_nested_lists(read):
    change = "steps.optimize.passes.drop-dead-channels.round_to=8"
    assert build_steps(read(GOOD, change))[2].stage.passes[1].round_to == 8


def test_later_changes_win_and_values_are_yaml(read):
    assert read(GOOD, "seed=1", "seed=2").seed == 2
    mean = read(GOOD, "data.preprocess.mean=[0.5, 1]").data.preprocess.mean
    assert mean == [0.5, 1]
    assert read(GOOD, "name=a=b".replace("=b", "-b")).name == "a-b"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "--set: expected a.b=value, got 'seed'."),
        ("=3", "--set: expected a.b=value, got '=3'."),
        ("seed=[", "--set seed: '[' is not a YAML value."),
        ("seed=2020-13-45", "--set seed: '2020-13-45' is not a YAML value."),
        (
            "steps.prune.amount=1",
            "--set steps.prune.amount: no entry 'prune'; there are: train, export, optimize, "
            "validate.",
        ),
        ("steps.9.x=1", "--set steps.9.x: no entry '9'; there are: train, export, optimize"),
        ("steps.train.epoch=3", "steps[0].train: unknown option 'epoch', did you mean 'epochs'?"),
        ("seed.x=3", "seed: expected int, got {'x': 3}."),
        ("sead=3", "--set sead: a recipe has no 'sead', did you mean 'seed'?"),
        (
            "train.epochs=3",
            "--set train.epochs: a recipe has no 'train', did you mean 'steps.train.epochs'?",
        ),
        ("name.x.y=3", "name: expected str, got"),
        ("steps.0=5", "steps[0]: expected the name of a stage"),
    ],
)
def test_a_change_that_leads_nowhere_is_told(told, change, message):
    assert told(GOOD, change).startswith(message)


def test_set_asks_which_of_two_steps_of_one_name_is_meant(read, told):
    twice = GOOD + "  - train: {epochs: 1}\n"
    message = "--set steps.train.epochs: 'train' is there more than once. Give its number instead, "
    assert told(twice, "steps.train.epochs=3") == f"{message}one of 0, 4."
    assert build_steps(read(twice, "steps.4.epochs=3"))


SOURCE = """
from dataclasses import dataclass

import numpy as np
from deploypipe.data import Raw, Source


@dataclass(frozen=True)
class Ramp(Source):
    count: int = 3

    def ids(self):
        return [f"ramp/{row}" for row in range(self.count)]

    def digests(self):
        return self.ids()

    def read(self, indices):
        rows = np.asarray(indices, np.float32)
        return Raw(inputs={"x": np.repeat(rows[:, None], 8, 1)})

    def labels(self):
        return np.arange(self.count) % 3
"""


@pytest.mark.parametrize("spec", [{"ramp": {"count": 60}}, "ramp"])
def test_data_may_name_a_source_of_the_recipe_s_own_plug_ins(tiny, call, tmp_path, spec):
    tiny.say("ramp.py", SOURCE.replace("= 3", "= 60"))
    tiny.recipe["plugins"] = ["ramp.py"]
    tiny.recipe["data"] = {"source": spec, "split": {"calibration": 20, "validation": 30}}
    ran = call("run", tiny.file, "-o", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["data"]["source"] == spec
    assert ran.json["data"]["splits"]["validation"]["samples"] == 30


def test_a_typo_in_the_name_of_a_plug_in_s_source_is_told(tiny, call):
    tiny.say("ramp.py", SOURCE)
    tiny.recipe |= {"plugins": ["ramp.py"], "data": "rampe"}
    assert "unknown source 'rampe', did you mean 'ramp'?" in call("plan", tiny.file).err


def test_set_on_an_empty_or_odd_entry_is_told(told):
    empty = GOOD.replace("train: {epochs: 5}", "{}")
    assert "steps[0]: expected the name" in told(empty, "seed=1")
    odd = GOOD.replace("- train: {epochs: 5}", "- {}")
    assert "no entry 'prune'" in told(odd, "steps.prune.x=1")
    number = GOOD.replace("train: {epochs: 5}", "7")
    assert "steps[0].x: expected a mapping of options" in told(number, "steps.0.x=1")


@pytest.fixture(scope="module")
def validator():
    jsonschema = pytest.importorskip("jsonschema")
    text = schema()
    jsonschema.Draft202012Validator.check_schema(text)
    return jsonschema.Draft202012Validator(text)


@pytest.mark.parametrize("file", sorted(MODELS.glob("*.yaml")), ids=lambda path: path.stem)
def test_our_recipes_are_good_by_the_schema_and_by_us(validator, file, monkeypatch):
    monkeypatch.setitem(os.environ, "DEPLOYPIPE_DATA", "/nowhere")
    validator.validate(yaml.safe_load(file.read_text()))
    assert build_steps(read_recipe(file))


@pytest.mark.parametrize("model", ["net.py:net", "net.onnx", {"onnx": "net.onnx"}])
def test_the_schema_takes_the_short_forms(validator, model):
    validator.validate({**yaml.safe_load(GOOD), "model": model})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("data:", "dat:"),
        ("epochs", "epoch"),
        ("- export", "- exprt"),
        ("epochs: 5", "epochs: x"),
        ("drop-unused", "drop-unusd"),
        ("data: digits", "data: {surce: digits}"),
        ("net.py:net", "{buidl: a}"),
    ],
)
def test_the_schema_refuses_a_typo(validator, old, new):
    assert not validator.is_valid(yaml.safe_load(GOOD.replace(old, new, 1)))


def test_every_reference_in_the_schema_leads_somewhere():
    text = schema()

    def references(node):
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            node = list(node.values())
        for one in node if isinstance(node, list) else []:
            yield from references(one)

    for reference in references(text):
        place = text
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_a_metric_of_one_s_own_lies_beside_the_recipe(tmp_path, monkeypatch):
    folder, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    for one, sign in ((folder, ""), (elsewhere, "-")):
        one.mkdir()
        (one / "own.py").write_text(f"def judge(outputs, labels):\n    return {sign}labels\n")
    monkeypatch.chdir(elsewhere)
    file = folder / "recipe.yaml"
    file.write_text(GOOD.replace("validate:", "validate: {metric: 'python:own.py:judge'}"))
    (metric,) = (
        step.stage.metric
        for step in build_steps(read_recipe(file), folder)
        if step.name == "validate"
    )
    assert metric.score(np.zeros((2, 1)), np.array([1.0, 2.0])).tolist() == [1, 2]
    assert metric.files() == [folder / "own.py"]
    assert metric.function == "own.py:judge"
