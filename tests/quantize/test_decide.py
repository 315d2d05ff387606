from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from deploypipe.quantize.signal import outputs_of, sqnr_db

X = np.random.default_rng(3).normal(size=(40, 1, 2, 2)).astype(np.float32)


@dataclass
class Told:
    """A race that ends as told; models without a time are the slowest."""

    times: dict[str, float]
    seen: tuple[str, ...] = ()

    def __call__(self, models, feeds):
        self.seen = tuple(models)
        assert feeds
        return {name: self.times.get(name, 9.0) for name in models}


@pytest.fixture
def raced(conv_net, quantize):
    def run(**times: float):
        race = Told({"float": 1.0, **times})
        return quantize(conv_net, X, race=race), race

    return run


def test_the_fastest_placement_ships(raced) -> None:
    done, race = raced(all=0.5)
    assert race.seen[:2] == ("float", "all")
    assert done.modified
    assert done.notes["decision"]["winner"] == "all"
    assert done.notes["decision"]["time_relative_to_float"]["all"] == 0.5
    assert done.notes["fused"] == 4


@pytest.mark.parametrize("time", [0.99, 1.0, 3.0])
def test_float_ships_where_nothing_is_faster(raced, time: float) -> None:
    done, _ = raced(all=time)
    assert not done.modified
    assert next(node.op_type for node in done.model.graph) == "Conv"
    assert f"in 8 bits it takes {time:.2f} of its time" in done.refusals[0]
    assert done.notes["fused"] == 0
    assert done.notes["decision"]["winner"] == "float"


def test_units_that_a_cut_leaves_in_float_say_why(conv_net, quantize, monkeypatch) -> None:
    from deploypipe.quantize.costs import Costs

    monkeypatch.setattr(Costs, "cheapest", lambda self, border=1.0: frozenset({"head"}))
    race = Told({"float": 1.0, "all": 0.9, "cut": 0.3})
    done = quantize(conv_net, X, race=race)
    assert done.notes["decision"]["winner"] == "cut"
    assert [unit.name for unit in done.plan.units] == ["head"]
    told = [line for line in done.refusals if line.startswith("Conv 'conv' stays float")]
    assert "microseconds" in told[0]
    assert {node.op_type for node in done.model.graph} >= {"Conv", "Gemm", "QuantizeLinear"}


def test_a_model_that_is_held_once_is_not_timed(conv_net, quantize, monkeypatch) -> None:
    from deploypipe.graph.files import weight_bytes

    monkeypatch.setattr("deploypipe.quantize.job.HELD_ONCE", weight_bytes(conv_net) - 1)
    race = Told({"float": 1.0, "all": 9.0})
    done = quantize(conv_net, X, race=race)
    assert done.modified and "decision" not in done.notes and not race.seen
    assert any("see with deploypipe bench whether it is faster" in one for one in done.refusals)
    monkeypatch.setattr("deploypipe.quantize.job.HELD_ONCE", weight_bytes(conv_net))
    assert not quantize(conv_net, X, race=race).modified


def test_what_cannot_fuse_keeps_its_own_reason(conv_net, quantize, stubborn, monkeypatch) -> None:
    from deploypipe.quantize.costs import Costs

    monkeypatch.setattr(Costs, "cheapest", lambda self, border=1.0: frozenset({"head", "flat"}))
    done = quantize(conv_net, X, race=Told({"float": 1.0, "all": 0.9, "cut": 0.3}))
    assert "Conv 'conv' stays float: this build does not" in done.refusals
    assert not any("inf" in line for line in done.refusals)


LINEAR = """agraph (float[N,40] x) => (float[N,40] y) {
  [one] t = MatMul(x, w) [bias] u = Add(t, b) [act] r = Relu(u) [two] y = MatMul(r, w) }"""
ROWS = np.random.default_rng(3).normal(size=(40, 40)).astype(np.float32)


@pytest.fixture
def formed(parse, constants, quantize, monkeypatch):
    """A model of linear nodes, where the dynamic form costs a tenth."""
    from deploypipe.quantize.costs import Costs

    model = constants(parse(LINEAR), w=ROWS / 6, b=ROWS[0])
    monkeypatch.setattr(Costs, "forms", property(lambda _: {"one": "dynamic", "two": "dynamic"}))
    chosen = {True: frozenset({"two"}), False: frozenset({"one", "two"})}
    monkeypatch.setattr(Costs, "cheapest", lambda self, border=1.0, forms=False: chosen[forms])

    def run(
        least_sqnr: float | None = None, rows: int = 40, diagnosis: bool = False, **times: float
    ):
        race = Told({"float": 1.0, **times})
        asked = {"least_sqnr": least_sqnr, "diagnosis": diagnosis}
        return quantize(model, ROWS[:rows], race=race, **asked), race

    return run


def test_linear_nodes_that_are_faster_in_another_form_take_it(formed) -> None:
    done, race = formed(**{"all": 0.9, "cut, linear nodes by form": 0.4})
    assert race.seen[:2] == ("float", "all")
    assert done.notes["decision"]["winner"] == "cut, linear nodes by form"
    assert done.notes["decision"]["linear_forms"] == {"one": "dynamic"}
    assert "1 MatMul with int8 weights and dynamic activations" in done.changes
    assert not any("'one' stays float" in line for line in done.refusals)
    assert [unit.name for unit in done.plan.units] == ["two"]
    assert "MatMulInteger" in {node.op_type for node in done.model.graph}


def test_a_model_may_have_nothing_but_other_forms(formed) -> None:
    done, _ = formed(**{"all": 0.9, "all linear nodes dynamic": 0.3})
    assert done.modified
    assert done.changes == ["2 MatMul with int8 weights and dynamic activations"]
    assert [node.op_type for node in done.model.graph].count("MatMulInteger") == 2
    assert "QuantizeLinear" not in {node.op_type for node in done.model.graph}
    assert done.notes["fused"] == 0


FORMED = ["cut, linear nodes by form", "all linear nodes dynamic"]


@pytest.mark.parametrize("winner", FORMED)
def test_what_is_told_is_told_of_what_ships(formed, winner: str, target) -> None:
    done, _ = formed(diagnosis=True, rows=4, **{"all": 0.9, winner: 0.3})
    samples = [{"x": one[None]} for one in ROWS[:4]]
    float_model = formed(all=2.0)[0].model
    expected, given = outputs_of([float_model, done.model], samples, target)
    found = done.notes["diagnosis"]
    assert found["output_db"] == pytest.approx(sqnr_db(expected, given), rel=1e-3)
    assert set(found["units"]) == {unit.name for unit in done.plan.units}
    assert {"DynamicQuantizeMatMul", "MatMulIntegerToFloat"} & set(done.notes["kernels"])
    assert any("only 4 samples were observed" in line for line in done.refusals)
    assert not any("'one' stays float" in line for line in [*done.refusals, *found["causes"]])


@pytest.mark.parametrize("winner", FORMED)
def test_the_floor_holds_for_other_forms_too(formed, winner: str) -> None:
    times = {"all": 0.9, winner: 0.3}
    assert formed(least_sqnr=20, **times)[0].modified
    done, _ = formed(least_sqnr=100, **times)
    assert not done.modified
    assert "100 dB were asked for" in done.refusals[0]


def test_a_form_that_costs_too_much_goes_before_what_costs_little(formed, monkeypatch) -> None:
    """Of a form with weights that are far off, and a static unit."""
    from deploypipe.quantize import dynamic

    true = dynamic.quantized_weight
    coarse = lambda weight, params: (true(weight, params) // 8 * 8).astype(np.int8)  # noqa: E731
    times = {"all": 0.9, "cut, linear nodes by form": 0.3, "repaired": 0.5}
    plain, _ = formed(**times)
    least = plain.notes["decision"]["sqnr_db"]["all"] - 1
    monkeypatch.setattr("deploypipe.quantize.decide._accurate", lambda asked, all_: (all_, {}, {}))
    monkeypatch.setattr(dynamic, "quantized_weight", coarse)
    done, _ = formed(least_sqnr=least, **times)
    assert [unit.name for unit in done.plan.units] == ["two"]
    assert "MatMulInteger" not in {node.op_type for node in done.model.graph}
    assert any("'one' stays float: it alone brings" in line for line in done.refusals)


def test_a_form_that_is_less_accurate_than_static_int8_does_not_race(formed, monkeypatch) -> None:
    from deploypipe.quantize import decide

    told = iter([30.0, 29.9, 31.0, 12.0])
    monkeypatch.setattr(decide, "sqnr_db", lambda *_: next(told))
    done, race = formed(**{"all": 0.9, "all linear nodes dynamic": 0.1})
    notes = done.notes["decision"]
    assert "cut, linear nodes by form" not in race.seen
    assert notes["refused"]["cut, linear nodes by form"] == "29.9 dB, 30.0 in static 8 bits"
    assert notes["winner"] != "cut, linear nodes by form"


def test_the_times_of_all_forms_are_noted(formed) -> None:
    done, _ = formed(all=0.5)
    times = done.notes["decision"]["linear_microseconds"]
    assert set(times) == {"dynamic", "weight-only"}
    assert all(set(one) == {"one", "two"} and min(one.values()) > 0 for one in times.values())
