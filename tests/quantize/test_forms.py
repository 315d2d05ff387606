from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.files import to_bytes
from deploypipe.quantize.forms import NAMES, adopted, counted, eligible, in_forms
from deploypipe.quantize.kernels import numbering, time_kernels
from deploypipe.quantize.units import find_units

RNG = np.random.default_rng(0)
TEXT = """agraph (float[N,40] x) => (float[N,40] y) {
  [one] t = MatMul(x, w) [bias] u = Add(t, b) [act] r = Relu(u) [two] y = MatMul(r, w) }"""


@pytest.fixture
def model(filled):
    return filled(TEXT, {"w": (40, 40), "b": (40,)})


@pytest.mark.parametrize("form", NAMES)
def test_a_node_in_another_form_answers_alike_and_others_stay(model, cpu, target, form):
    units = find_units(model, cpu.resolve()).units
    changed = in_forms(model, units, {"one": form}, cpu.resolve())
    feeds = {"x": RNG.normal(size=(6, 40)).astype(np.float32)}
    answers = []
    for one in (model, changed):
        with target.open(to_bytes(one)) as session:
            answers.append(session(feeds)["y"])
    assert np.abs(answers[0] - answers[1]).max() < 0.03 * np.abs(answers[0]).max()
    assert [node.op_type for node in changed.graph].count("MatMul") == 1
    assert "MatMul" in {node.op_type for node in model.graph}


@pytest.mark.parametrize("form", NAMES)
def test_what_a_form_adds_is_timed_with_its_unit(model, cpu, target, form):
    units = find_units(model, cpu.resolve()).units
    numbers = numbering(model)
    changed = in_forms(model, units, {"one": form, "two": form}, cpu.resolve())
    models = [(model, numbers), (changed, adopted(changed, numbers))]
    x = {"x": np.ones((4, 40), np.float32)}
    _, kernels = time_kernels(models, [x], target, runs=2)
    covered = set().union(*(kernel.nodes for kernel in kernels))
    assert {numbers["u"], numbers["y"]} <= covered
    assert all(kernel.nodes for kernel in kernels)


def test_only_large_linear_nodes_of_the_processor_have_other_forms(model, conv_net, cpu):
    units = find_units(model, cpu.resolve()).units
    names = [unit.name for unit in eligible(model, units, "CPUExecutionProvider")]
    assert names == ["one", "two"]
    assert eligible(model, units, "TensorrtExecutionProvider") == []
    small = find_units(conv_net, cpu.resolve()).units
    assert eligible(conv_net, small, "CPUExecutionProvider") == []


def test_forms_are_told(model, cpu):
    units = find_units(model, cpu.resolve()).units
    assert counted({"one": "dynamic", "two": "weight-only"}, units) == [
        "1 MatMul with int8 weights and dynamic activations",
        "1 MatMul with int8 weights in blocks",
    ]
    assert counted({}, units) == []
