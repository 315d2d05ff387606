"""Placement: which kernel ran where, read from the runtime's profile."""

import pytest

from deploypipe.runtime import TARGETS
from deploypipe.runtime.placement import Placement, placements


def event(name, op, index="0", cat="Node", dur=5):
    arguments = {"op_name": op, "provider": "CPUExecutionProvider", "node_index": index}
    return {"cat": cat, "name": name, "dur": dur, "args": arguments}


def test_every_node_of_a_real_run_is_placed(model, feeds):
    with TARGETS.build("cpu").open(model, profile=True) as session:
        session(feeds)
        placed = session.placement()
    assert [p.op for p in placed] == ["MatMul", "Relu"]
    assert {p.provider for p in placed} == {"CPUExecutionProvider"}


def test_asking_twice_gives_the_same_placement(model, feeds):
    with TARGETS.build("cpu").open(model, profile=True) as session:
        session(feeds)
        assert session.placement() == session.placement()


def test_a_node_that_ran_thrice_is_one_node_and_takes_the_median():
    events = [event("a_kernel_time", "Conv", dur=dur) for dur in (90, 7, 8)]
    assert placements(events) == [Placement("a", "Conv", "CPUExecutionProvider", 8.0)]


def test_equal_names_in_a_subgraph_stay_two_nodes():
    events = [event("a_kernel_time", "Add", "0"), event("a_kernel_time", "Mul", "7")]
    assert [p.op for p in placements(events)] == ["Add", "Mul"]


def test_session_and_fence_events_are_left_out():
    events = [event("model_run", "", cat="Session"), event("a_fence_before", "Conv")]
    assert placements(events) == []


def test_placement_without_a_profile_is_a_mistake_of_the_caller(model, feeds):
    with TARGETS.build("cpu").open(model) as session:
        session(feeds)
        with pytest.raises(ValueError, match="profile=True"):
            session.placement()


def test_placement_without_a_run_is_a_mistake_of_the_caller(model):
    with (
        TARGETS.build("cpu").open(model, profile=True) as session,
        pytest.raises(ValueError, match="at least once"),
    ):
        session.placement()
