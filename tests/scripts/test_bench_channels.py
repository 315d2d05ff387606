"""What the channel bench counts must not depend on what the engine removes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import channel_big  # noqa: E402
import channel_table  # noqa: E402
import dead_channels  # noqa: E402
import more_models  # noqa: E402

from deploypipe.graph.channels.dataflow import Dataflow  # noqa: E402
from deploypipe.graph.constants import constant_of  # noqa: E402
from deploypipe.graph.files import to_bytes  # noqa: E402
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels  # noqa: E402
from deploypipe.graph.shapes import infer_shapes  # noqa: E402


def run(model, feeds):
    session = onnxruntime.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(feeds)), strict=True))


def parsed(text, **weights):
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> {text}')
    for name, shape in weights.items():
        array = rng.normal(0, 1, shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return ir.serde.deserialize_model(proto)


def two_convolutions(pads="[1, 1, 1, 1]"):
    text = f"""g (float[1, 3, 8, 8] x) => (float[1, 5, h, w] y) {{
            a = Conv(x, w1, b1)
            r = Abs(a)
            y = Conv<pads = {pads}>(r, w2)
        }}"""
    return parsed(text, w1=(8, 3, 3, 3), b1=(8,), w2=(5, 8, 3, 3))


def grouped():
    text = """g (float[1, 3, 8, 8] x) => (float[1, 6, h, w] y) {
            a = Conv(x, w1, b1)
            y = Conv<pads = [1, 1, 1, 1], group = 2>(a, w2)
        }"""
    return parsed(text, w1=(8, 3, 1, 1), b1=(8,), w2=(6, 4, 3, 3))


def killed(model, mode, share=0.25):
    return dead_channels.kill(model, mode, share, 0, run)


def test_the_masks_cover_what_makes_a_channel_and_what_reads_it():
    found = killed(two_convolutions(), "zeros")
    assert found.weights == 8 * 27 + 5 * 8 * 9
    assert (found.groups, found.channels) == (1, 2)
    assert found.removable == found.target == found.bar == 2 * 27 + 5 * 2 * 9


def test_a_dead_channel_is_zero_for_every_input():
    model = two_convolutions()
    killed(model, "zeros")
    rows = constant_of(model.graph.initializers["w1"]).reshape(8, -1)
    bias = constant_of(model.graph.initializers["b1"])
    dead = ~rows.any(1)
    assert dead.sum() == 2
    assert not bias[dead].any()
    assert bias[~dead].all()


def test_a_constant_channel_has_a_bias_and_no_weights():
    model = two_convolutions()
    killed(model, "constants")
    dead = ~constant_of(model.graph.initializers["w1"]).reshape(8, -1).any(1)
    assert dead.sum() == 2
    assert constant_of(model.graph.initializers["b1"])[dead].all()


def test_one_constant_stays_before_a_padded_sum():
    found = killed(two_convolutions(), "constants")
    assert found.spare_channels == 1
    assert found.spare == found.allowance == 27 + 5 * 9
    assert found.target == found.removable - found.spare


def test_none_stays_where_no_padding_is_seen():
    found = killed(two_convolutions("[0, 0, 0, 0]"), "constants")
    assert found.spare == found.allowance == found.spare_channels == 0


def test_a_grouped_convolution_keeps_one_in_each_group():
    # A class is the same place in both groups, so that one class is a channel of each.
    found = killed(grouped(), "constants")
    assert (found.channels, found.spare_channels) == (1, 1)
    assert found.removable == 2 * 3 + 6 * 1 * 9
    assert found.target == 0


@pytest.mark.parametrize("mode", channel_table.MODES)
@pytest.mark.parametrize("make", [two_convolutions, grouped])
def test_the_pass_removes_what_was_counted(make, mode):
    model = make()
    found = killed(model, mode)
    DropDeadChannels().call(model)
    assert found.weights - dead_channels.count_weights(model) == found.target


def test_what_is_covered_is_not_what_the_engine_finds_dead():
    # The count comes from the chosen classes alone: it is there before anything is killed.
    model = two_convolutions()
    infer_shapes(model)
    flow = Dataflow(model.graph, uniform=True)
    value = model.graph.initializers["w1"]
    classes = flow.classes[flow.cells.ids((value, 0))]
    assert dead_channels.covered(flow, classes[:3]) == 3 * 27 + 5 * 3 * 9
    assert dead_channels.covered(flow, classes[:0]) == 0


def test_few_cheap_channels_serve_all_tensors():
    cost = np.array([9.0, 1.0, 1.0, 5.0])

    def spares(*counts: tuple[set[int], int]) -> list[dead_channels.Spare]:
        return [dead_channels.Spare(frozenset(classes), count) for classes, count in counts]

    assert dead_channels.needed_spares(spares(({0, 1}, 1), ({0, 2}, 1)), cost) == {0}
    assert dead_channels.needed_spares(spares(({0, 1}, 1), ({2, 3}, 1)), cost) == {1, 2}
    assert dead_channels.needed_spares(spares(({0, 1, 3}, 2), ({3}, 1)), cost) == {1, 3}
    found = dead_channels.dearest_spares(spares(({0, 1}, 1), ({0, 3}, 1), ({0}, 1)), cost)
    assert found == {0, 3}
    assert dead_channels.dearest_spares(spares(({0, 1, 3}, 2)), cost) == {0, 3}


def pyramid(levels: int) -> ir.Model:
    """Levels with biases of their own, and one padded head for all of them."""
    heads = "\n".join(
        f"h{k} = Conv(x, w{k}, b{k})\ny{k} = Conv<pads = [1, 1, 1, 1]>(h{k}, v)"
        for k in range(levels)
    )
    outputs = ", ".join(f"float[1, 5, 6, 6] y{k}" for k in range(levels))
    shapes = {f"w{k}": (8, 3, 1, 1) for k in range(levels)} | {f"b{k}": (8,) for k in range(levels)}
    return parsed(f"g (float[1, 3, 6, 6] x) => ({outputs}) {{{heads}}}", v=(5, 8, 3, 3), **shapes)


@pytest.mark.parametrize(("levels", "stay"), [(1, 1), (2, 2), (3, 3), (5, 4)])
def test_a_weight_that_levels_share_keeps_one_for_each_until_nothing_goes(levels, stay):
    model = pyramid(levels)
    found = killed(model, "constants", 0.5)
    assert (found.channels, found.spare_channels) == (4, stay)
    DropDeadChannels().call(model)
    assert found.weights - dead_channels.count_weights(model) == found.target


@pytest.mark.parametrize("mode", channel_table.MODES)
def test_a_constant_beside_computed_channels_is_killed_with_them(mode):
    """One weight reads a computed tensor, and what a step before was folded to."""
    text = """g (float[1, 3, 6, 6] x) => (float[1, 5, 6, 6] y, float[1, 5, 6, 6] z) {
            a = Conv(x, w1, b1)
            c = Concat<axis = 1>(x, a)
            d = Concat<axis = 1>(x, folded)
            y = Conv<pads = [1, 1, 1, 1]>(c, w2)
            z = Conv<pads = [1, 1, 1, 1]>(d, w2)
        }"""
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (5, 11, 3, 3), "folded": (1, 8, 6, 6)}
    model = parsed(text.replace("a = Conv(", "a = Conv<pads = [1, 1, 1, 1]>("), **shapes)
    found = killed(model, mode)
    DropDeadChannels().call(model)
    assert found.weights - dead_channels.count_weights(model) == found.target > 0


def test_a_norm_of_one_channel_is_constant_by_its_shift():
    """Of a constant alone it gives zero, but for rounding."""
    text = """g (float[1, 3, 6, 6] x) => (float[1, 5, 6, 6] y) {
            a = Conv(x, w1, b1)
            n = InstanceNormalization(a, scale, shift)
            y = Conv<pads = [1, 1, 1, 1]>(n, w2)
        }"""
    shapes = {"w1": (8, 3, 1, 1), "b1": (8,), "scale": (8,), "shift": (8,), "w2": (5, 8, 3, 3)}
    model = parsed(text, **shapes)
    found = killed(model, "constants")
    dead = constant_of(model.graph.initializers["scale"]) == 0
    assert dead.sum() == 2 and constant_of(model.graph.initializers["shift"])[dead].all()
    DropDeadChannels().call(model)
    assert found.weights - dead_channels.count_weights(model) == found.target > 0


def test_channels_that_are_multiples_of_each_other_are_not_independent():
    rows = np.array([[1.0, 2, 3], [-2, -4, -6], [1, 2, 3 + 1e-7], [0, 1, 0]])
    assert dead_channels.independent(rows[:3]) == 1
    assert dead_channels.independent(rows) == 2


def test_channels_are_told_from_what_was_computed():
    array = np.zeros((1, 3, 2, 2))
    array[0, 1] = 7
    array[0, 2, 0] = 7
    nonzero, flat = dead_channels.channels_of([array, array])
    assert nonzero.tolist() == [False, True, True]
    assert flat.tolist() == [True, True, False]
    other = array.copy()
    other[0, 1] = 8  # one number for each input is no constant
    assert not dead_channels.channels_of([array, other])[1][1]


@pytest.mark.parametrize(
    ("reason", "error", "removed", "expected"),
    [
        (None, 1e-6, 10, "exact"),
        (None, 1e-6, 0, "untouched"),
        (None, 1e-2, 10, "wrong"),
        (None, 1e-2, 0, "wrong"),
        (None, float("nan"), 10, "wrong"),
        ("Fail: no", 0.0, 10, "broken"),
        ("ModuleNotFoundError: No module named 'onnxifier'", 0.0, 0, "absent"),
    ],
)
def test_a_verdict(reason, error, removed, expected):
    assert channel_table.verdict(reason, error, removed) == expected


def facts(verdict="exact", removed=100, error=1e-7, share=100.0, seconds=1.0, **more):
    same = {"verdict": verdict, "removed": removed, "error": error, "share_percent": share}
    return {**same, "seconds": seconds, "pass_seconds": seconds, "peak_bytes": 2e9, **more}


def rows(experiments):
    return [
        {"experiment": experiment, "method": method, "metric": metric, "value": value}
        for experiment, methods in experiments.items()
        for method, metrics in methods.items()
        for metric, value in metrics.items()
    ]


DEAD = {"removable": 100, "bar": 95, "file_bytes": 1e9}


def test_every_bar_can_be_missed():
    def lines(ours, name="net", **chain):
        alone = channel_table.ALONE
        chains = {f"chain {n[1:]}": {alone: facts(seconds=s)} for n, s in chain.items()}
        both = dict.fromkeys(("deploypipe", alone), ours)
        return channel_table.missed(rows({f"{name} zeros": {"dead": DEAD, **both}} | chains))

    assert lines(facts()) == []
    assert lines(facts(removed=95)) == []
    assert "94 weights removed, 95 could go" in lines(facts(removed=94))[0]
    assert "wrong, 0.1" in lines(facts("wrong", error=0.1))[0]
    assert "broken, no" in lines({"verdict": "broken", "reason": "no"})[0]
    assert lines(facts(seconds=30.0)) == []  # of the largest model alone
    assert "took 30.0 s" in lines(facts(seconds=30.0), "vgg16_bn")[0]
    assert "held 4.0x" in lines(facts(peak_bytes=4e9), "vgg16_bn")[0]
    assert lines(facts(), n100=1.0, n1000=11.0, n5000=60.0) == []
    assert "5000 take 600.0 s" in lines(facts(), n100=1.0, n1000=11.0, n5000=600.0)[0]


def test_a_peer_may_miss_every_bar():
    methods = {"dead": DEAD, "deploypipe": facts(), "onnxsim": facts("wrong", error=3.0, removed=1)}
    assert channel_table.missed(rows({"net zeros": methods})) == []


def test_the_table_tells_wrong_broken_and_absent_apart():
    methods = {"deploypipe": facts(), "onnxsim": facts("wrong", error=0.25)}
    methods |= {"onnxifier": {"verdict": "broken", "reason": "it raises"}}
    methods |= {"torch-pruning": {"verdict": "absent", "reason": "ModuleNotFoundError"}}
    one = {"dead": DEAD, **methods}
    text = channel_table.table(rows({"net zeros": one, "net constants": one}))
    cells = [cell.strip() for cell in text.splitlines()[2].split("|")[3:-1]]
    assert cells == ["100 % / 100 %", "wrong (0.2) / wrong (0.2)", "broken / broken", "- / -"]
    assert "- onnxifier: 2 broken of 2." in text


def test_a_share_is_not_rounded_up_to_all():
    assert channel_table.percent(100.0) == "100 %"
    assert channel_table.percent(99.97) == "99.9 %"
    assert channel_table.percent(54.8) == "54.8 %"


def test_a_model_that_does_not_export_is_a_row():
    found = {"odd": {"torch.onnx.export": {"reason": "no such op"}}}
    found |= {"net zeros": {"dead": DEAD, "deploypipe": facts()}}
    assert "| odd | does not export: no such op |" in channel_table.table(rows(found))


def test_a_job_tells_its_seconds_and_memory(tmp_path):
    model = two_convolutions()
    killed(model, "zeros")
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    before.write_bytes(to_bytes(model))
    words = [
        sys.executable,
        str(SCRIPTS / "channel_jobs.py"),
        "deploypipe",
        str(before),
        str(after),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout.splitlines()[-1])
    assert 0 < told["pass_seconds"] <= told["seconds"]
    assert told["peak_bytes"] > 1e6
    assert dead_channels.count_weights(ir.load(after)) == 6 * 27 + 5 * 6 * 9


def test_the_chain_of_external_data_is_what_is_counted(tmp_path):
    facts = channel_big.run_big(tmp_path, layers=2, width=64)
    assert "reason" not in facts, facts
    assert facts["file_bytes"] > 4 * (2 * 64 * 64 + 2 * 256 * 64)
    assert facts["share_percent"] == pytest.approx(100, abs=12)  # names and nodes weigh here
    assert facts["peak_bytes"] > 1e6
    before = onnx.load(tmp_path / "in" / "before.onnx")
    assert [len(one.dims) for one in before.graph.initializer[:2]] == [2, 1]


def test_the_models_that_torchvision_lacks_have_names_of_their_own():
    assert len(set(more_models.NAMES)) == len(more_models.NAMES) > 30


def test_a_file_above_2_gb_is_told_in_a_sentence():
    big = {**facts(share_percent=99.99, error=1e-7, peak_bytes=5e9), "file_bytes": 2.5e9}
    text = channel_table.table(rows({channel_table.BIG: {"deploypipe": {**big, "layers": 11}}}))
    assert "2.50 GB with external data" in text
    assert "5.00 GB of memory (2.0x)" in text
