"""Sessions answer, run where they were told to, and leave nothing behind."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

from deploypipe.core.errors import EnvironmentLacks, UserError
from deploypipe.runtime import TARGETS, Session
from deploypipe.runtime.session import OrtSession

CPU = [("CPUExecutionProvider", {})]


def test_a_session_answers_by_output_name(model, feeds):
    with TARGETS.build("cpu").open(model) as session:
        answer = session(feeds)
    assert set(answer) == {"y"}
    np.testing.assert_array_equal(answer["y"], [[4, 5], [0, 1]])


def test_inputs_and_outputs_are_told_with_their_dynamic_dimensions(model):
    with TARGETS.build("cpu").open(model) as session:
        assert [str(spec) for spec in session.inputs] == ["x: float32[N, 3]"]
        assert [str(spec) for spec in session.outputs] == ["y: float32[N, 2]"]


def test_a_prepared_run_gives_the_same_answer_again(model, feeds):
    with TARGETS.build("cpu").open(model) as session:
        run = session.prepare(feeds)
        np.testing.assert_array_equal(run()[0], session(feeds)["y"])


def test_on_a_processor_a_run_on_the_device_is_a_prepared_run(model, feeds):
    with TARGETS.build("cpu").open(model) as session:
        np.testing.assert_array_equal(session.prepare_on_device(feeds)()[0], session(feeds)["y"])


def test_a_bound_run_answers_where_it_was_bound(model, feeds):
    # With the processor as the device: on a GPU it is the same calls with another name.
    with TARGETS.build("cpu").open(model) as session:
        binding = session._session.io_binding()
        session._session = Bindable(session._session, binding)
        session._bound(feeds, "cpu", 0)()
        (found,) = binding.copy_outputs_to_cpu()
        np.testing.assert_array_equal(found, session(feeds)["y"])


class Bindable:
    """A session that gives one binding, so that its outputs can be looked at."""

    def __init__(self, session, binding):
        self.session, self.binding = session, binding

    def io_binding(self):
        return self.binding

    def __getattr__(self, name):
        return getattr(self.session, name)


@pytest.mark.parametrize(
    ("provider", "device"),
    [
        (("CPUExecutionProvider", {}), None),
        (("CUDAExecutionProvider", {"device_id": "1"}), ("cuda", 1)),
        (("TensorrtExecutionProvider", {}), ("cuda", 0)),
    ],
)
def test_a_provider_computes_on_its_device(provider, device):
    from deploypipe.runtime.session import _device

    assert _device(provider) == device


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "the samples lack the model's input 'x'"),
        ({"x": np.ones((2, 3))}, "the model takes x: float32[N, 3], the samples are float64[2, 3]"),
        ({"x": np.ones((2, 4), np.float32)}, "the samples are float32[2, 4]"),
        ({"z": np.ones((2, 3), np.float32)}, "'z', which is no input of the model"),
    ],
)
def test_feeds_that_do_not_fit_are_named(model, feeds, message):
    with TARGETS.build("cpu").open(model) as session:
        with pytest.raises(UserError) as error:
            session(feeds)
        with pytest.raises(UserError):
            session.prepare(feeds)
    assert message in str(error.value)


def test_the_environment_tells_provider_threads_and_spinning(model):
    with TARGETS.build({"cpu": {"threads": 2}}).open(model) as session:
        environment = session.environment
    assert environment["provider"] == "CPUExecutionProvider"
    assert environment["threads"] == 2
    assert environment["spinning"] is False
    assert environment["runtime"].startswith("onnxruntime 1.")


def test_threads_and_spinning_reach_onnx_runtime(model):
    session = OrtSession(model, CPU, threads=3)
    options = session._session.get_session_options()
    assert options.intra_op_num_threads == 3
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    session.close()


def test_garbage_is_told_in_one_line(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"this is no model")
    with pytest.raises(UserError) as error:
        TARGETS.build("cpu").open(path)
    assert str(error.value).startswith(f"{path}: ONNX Runtime ")
    assert "protobuf parsing failed" in str(error.value).lower()
    assert "\n" not in str(error.value)
    assert "[ONNXRuntimeError]" not in str(error.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="there is no such model file"):
        TARGETS.build("cpu").open(tmp_path / "absent.onnx")


def test_an_unknown_operator_is_named():
    text = '<ir_version: 10, opset_import: ["" : 20, "shop": 1]> g (float[N] x) => (float[N] y)'
    model = onnx.parser.parse_model(text + "{ y = shop.Polish(x) }").SerializeToString()
    with pytest.raises(UserError, match="Polish"):
        TARGETS.build("cpu").open(model)


def test_a_model_that_fails_while_running_is_the_users_error():
    text = """<ir_version: 10, opset_import: ["" : 20]>
    g (float[N] x, int64[K] shape) => (float[A, B] y) { y = Reshape(x, shape) }"""
    model = onnx.parser.parse_model(text).SerializeToString()
    feeds = {"x": np.ones(6, np.float32), "shape": np.array([4, 2])}
    with (
        TARGETS.build("cpu").open(model) as session,
        pytest.raises(UserError, match="cannot run this model"),
    ):
        session(feeds)


def test_another_provider_than_asked_for_is_refused(model):
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(EnvironmentLacks, match="CUDAExecutionProvider could not start"),
    ):
        OrtSession(model, [("CUDAExecutionProvider", {}), *CPU], threads=1)


def test_the_optimized_graph_is_written_where_it_was_asked_for(model, tmp_path):
    TARGETS.build("cpu").open(model, optimized=tmp_path / "optimized.onnx").close()
    assert [p.name for p in tmp_path.iterdir()] == ["optimized.onnx"]
    onnx.load(tmp_path / "optimized.onnx")


def test_a_model_that_does_not_load_leaves_no_optimized_graph(tmp_path):
    with pytest.raises(UserError):
        TARGETS.build("cpu").open(b"garbage", optimized=tmp_path / "optimized.onnx")
    assert list(tmp_path.iterdir()) == []


def test_profiles_leave_no_file_behind(model, feeds, tmp_path, monkeypatch):
    path = tmp_path / "models" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(model)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    with TARGETS.build("cpu").open(path, profile=True) as session:
        session(feeds)
        assert session.placement()
    with TARGETS.build("cpu").open(path, profile=True) as session:
        session(feeds)  # and nobody asks
    del session
    gc.collect()
    files = [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()]
    assert files == ["models/model.onnx"]


def test_a_closed_session_may_be_closed_again(model):
    session = TARGETS.build("cpu").open(model)
    session.close()
    session.close()


def test_the_room_imports_without_onnx_runtime_and_torch():
    code = (
        "import sys, deploypipe.runtime, deploypipe.validate;"
        "deploypipe.runtime.TARGETS.build('cpu');"
        "print([m for m in ('onnxruntime', 'torch') if m in sys.modules])"
    )
    folder = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "[]"


def test_a_session_is_a_context_manager_of_its_own_type(model):
    with TARGETS.build("cpu").open(model) as session:
        assert isinstance(session, Session)


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_a_lean_session_holds_no_copy_of_the_weights_it_was_lent():
    import onnx_ir as ir

    from deploypipe.graph.parts import parts_of
    from deploypipe.validate.memory import resident

    weight = np.ones((4096, 4096), np.float32)
    model = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["": 17]>'
        "g (float[N,4096] x) => (float[N,4096] y) { y = MatMul(x, w) }",
        initializers=[ir.tensor(weight, name="w")],
    )
    x = np.ones((1, 4096), np.float32)
    before = resident("VmRSS")
    with TARGETS.build({"cpu": {"threads": 1}}).open(parts_of(model, lean=True)) as session:
        assert session({"x": x})["y"][0, 0] == 4096
        assert resident("VmRSS") - before < weight.nbytes / 2
