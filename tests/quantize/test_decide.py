from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from deploypipe.quantize import CALIBRATORS, quantize_model

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
def raced(conv_net, cpu, target):
    def run(**times: float):
        race = Told({"float": 1.0, **times})
        minmax = CALIBRATORS.build("minmax")
        done = quantize_model(
            conv_net, [{"x": X}], target, calibrator=minmax, profile=cpu, race=race
        )
        return done, race

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
    assert f"placements in 8 bits takes {time:.2f} of its time" in done.refusals[0]
    assert done.notes["fused"] == 0
    assert done.notes["decision"]["winner"] == "float"


def test_units_that_a_cut_leaves_in_float_say_why(conv_net, cpu, target, monkeypatch) -> None:
    from deploypipe.quantize.costs import Costs

    monkeypatch.setattr(Costs, "cheapest", lambda self, border=1.0: frozenset({"head"}))
    race = Told({"float": 1.0, "all": 0.9, "cut": 0.3})
    minmax = CALIBRATORS.build("minmax")
    done = quantize_model(conv_net, [{"x": X}], target, calibrator=minmax, profile=cpu, race=race)
    assert done.notes["decision"]["winner"] == "cut"
    assert [unit.name for unit in done.plan.units] == ["head"]
    told = [line for line in done.refusals if line.startswith("Conv 'conv' stays float")]
    assert "microseconds" in told[0]
    assert {node.op_type for node in done.model.graph} >= {"Conv", "Gemm", "QuantizeLinear"}
