"""Targets say what they lack and never fall back in silence."""

import importlib.util

import pytest

from deploypipe.core.errors import EnvironmentLacks, UserError
from deploypipe.runtime import TARGETS, onnx_runtime
from deploypipe.runtime.host import usable_cores
from deploypipe.runtime.onnx_runtime import clashing_builds


def test_the_shelf_holds_the_three_targets():
    assert {"cpu", "cuda", "tensorrt"} <= set(TARGETS.names())


def test_the_processor_is_never_missing():
    assert TARGETS.build("cpu").missing() is None


def test_threads_default_to_the_usable_cores_and_at_most_eight(monkeypatch):
    assert TARGETS.build("cpu").threads == min(usable_cores(), 8)
    monkeypatch.setattr(onnx_runtime, "usable_cores", lambda: 64)
    assert TARGETS.build("cpu").threads == 8


def test_options_are_recorded_in_the_spec():
    assert TARGETS.spec(TARGETS.build({"cpu": {"threads": 2}})) == {"cpu": {"threads": 2}}


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_are_refused(threads):
    with pytest.raises(UserError, match=rf"target\.cpu: threads must be at least 1, got {threads}"):
        TARGETS.build({"cpu": {"threads": threads}}, "target")


def test_half_a_thread_is_refused():
    with pytest.raises(UserError, match=r"cpu\.threads: expected int, got 1\.5"):
        TARGETS.build({"cpu": {"threads": 1.5}})


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_build_without_the_provider_is_told_with_what_to_install(name, monkeypatch, model):
    monkeypatch.setattr(onnx_runtime, "_available", lambda: ["CPUExecutionProvider"])
    target = TARGETS.build(name)
    assert f"{target.provider} is not in this build of ONNX Runtime" in target.missing()
    assert "pip install 'deploypipe[gpu]'" in target.missing()
    with pytest.raises(EnvironmentLacks) as error:
        target.open(model)
    assert error.value.exit_code == 4
    assert name in str(error.value)


def test_two_builds_that_overwrite_each_other_are_told(monkeypatch):
    assert clashing_builds() is None
    monkeypatch.setattr(onnx_runtime, "_installed", lambda package: True)
    monkeypatch.setattr(onnx_runtime, "_available", lambda: ["CPUExecutionProvider"])
    assert "overwrite each other" in clashing_builds()
    assert "overwrite each other" in TARGETS.build("cuda").missing()


def test_a_missing_driver_is_told(monkeypatch):
    monkeypatch.setattr(onnx_runtime, "_available", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("deploypipe.runtime.targets.cuda.DRIVER", "libabsent.so.1")
    assert "no NVIDIA driver" in TARGETS.build("cuda").missing()


def test_a_missing_tensorrt_is_told(monkeypatch):
    monkeypatch.setattr(onnx_runtime, "_available", lambda: ["TensorrtExecutionProvider"])
    monkeypatch.setattr("deploypipe.runtime.targets.cuda.loads", lambda library: True)
    monkeypatch.setattr("deploypipe.runtime.targets.tensorrt.LIBRARY", "libabsent.so.10")
    assert "TensorRT is not installed" in TARGETS.build("tensorrt").missing()


def test_no_onnx_runtime_at_all_is_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    missing = TARGETS.build("cpu").missing()
    assert missing == "ONNX Runtime is not installed: pip install onnxruntime"


def test_tensorrt_leans_on_cuda_for_the_rest():
    providers = TARGETS.build({"tensorrt": {"half": True, "device": 1}}).providers()
    assert [name for name, _ in providers] == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
    ]
    assert providers[0][1] == {"device_id": "1", "trt_fp16_enable": "True"}
