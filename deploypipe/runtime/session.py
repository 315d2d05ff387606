"""A session of ONNX Runtime that runs where it was told to, and nowhere else."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as states

from deploypipe.core.errors import EnvironmentLacks, UserError
from deploypipe.core.files import Json, writing
from deploypipe.core.heap import give_back
from deploypipe.core.mapped import let_go
from deploypipe.core.model_parts import ModelParts
from deploypipe.core.tensors import TensorSpec, check_feeds
from deploypipe.runtime import Feeds, Session
from deploypipe.runtime.placement import Placement, read_profile

Provider = tuple[str, Mapping[str, str]]
"""An execution provider and its options."""

ORT_ERRORS: tuple[type[Exception], ...] = tuple(
    value
    for value in vars(states).values()
    if isinstance(value, type) and issubclass(value, Exception)
)
"""What ONNX Runtime raises of itself; they have no common base."""

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "object",
    "tensor(bfloat16)": "bfloat16",
}

MANY = 100_000_000
"""Bytes of lent weights from which it pays to give back what the runtime held of them meanwhile."""


class OrtSession(Session):
    """A model in ONNX Runtime: sequential, ``threads`` intra-op threads that do not spin.

    ``providers`` come in the order of preference; the first one must take part, else
    :class:`EnvironmentLacks` is raised instead of a slow run on the CPU.
    """

    def __init__(
        self,
        model: Path | bytes | ModelParts,
        providers: Sequence[Provider],
        threads: int,
        *,
        profile: bool = False,
        optimized: Path | None = None,
    ) -> None:
        self._where = str(model) if isinstance(model, Path) else "the model"
        self._resources = ExitStack()
        self._placement: list[Placement] | None = None
        self._profiling = profile
        self._weights: list[Any] | None = None
        with ExitStack() as on_failure:
            on_failure.callback(self._resources.close)
            options = _options(threads)
            if profile:
                self._write_profile_aside(options)
            lent = 0
            if isinstance(model, ModelParts):
                lent = sum(array.nbytes for array in model.weights.values())
                # The runtime reads the arrays where they lie, as long as the session lives.
                self._weights = _lend(model, options, providers, optimized)
                model = model.graph
            self._session: Any = _create(model, options, providers, optimized, self._where)
            if lent > MANY:
                give_back()  # what the runtime held of them while it read the graph
            _insist_on(providers[0][0], self._session.get_providers())
            on_failure.pop_all()
        self.inputs = tuple(_spec(value) for value in self._session.get_inputs())
        self.outputs = tuple(_spec(value) for value in self._session.get_outputs())
        self._names = [spec.name for spec in self.outputs]
        self._device = _device(providers[0])
        self.environment = _environment(providers, threads)

    def __call__(self, feeds: Feeds) -> dict[str, np.ndarray]:
        check_feeds(feeds, self.inputs, self._where)
        try:
            return dict(zip(self._names, self._session.run(self._names, feeds), strict=True))
        except ORT_ERRORS as error:
            raise _cannot("run", error, self._where) from error

    def prepare(self, feeds: Feeds) -> Callable[[], object]:
        self(feeds)
        return functools.partial(self._session.run, self._names, dict(feeds))

    def prepare_on_device(self, feeds: Feeds) -> Callable[[], object]:
        if self._device is None:
            return self.prepare(feeds)
        self(feeds)
        return self._bound(feeds, *self._device)

    def _bound(self, feeds: Feeds, device: str, number: int) -> Callable[[], object]:
        """A run on arrays that lie on a device already, with one wait for it at the end."""
        session, binding, options = self._session, self._session.io_binding(), ort.RunOptions()
        for name, array in feeds.items():
            held = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), device, number)
            binding.bind_ortvalue_input(name, held)
        for name in self._names:
            binding.bind_output(name, device, number)
        # Else the providers wait by themselves as well, and every call pays for two.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")

        def run() -> None:
            session.run_with_iobinding(binding, options)
            binding.synchronize_outputs()

        return run

    def placement(self) -> list[Placement]:
        if not self._profiling:
            raise ValueError("placement() needs a session opened with profile=True")
        if self._placement is None:
            self._placement = read_profile(Path(self._session.end_profiling()))
        if not self._placement:
            raise ValueError("placement() needs a session that has answered at least once")
        return list(self._placement)

    def close(self) -> None:
        if self._session is None:
            return
        if self._profiling and self._placement is None:
            self._session.end_profiling()  # else its file stays open, and Windows keeps it
        self._session = self._weights = None
        self._resources.close()

    def _write_profile_aside(self, options: ort.SessionOptions) -> None:
        folder = self._resources.enter_context(tempfile.TemporaryDirectory(prefix="deploypipe-"))
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Idle workers that spin slow every other session of the process (onnxruntime issue 17011).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _lend(
    model: ModelParts,
    options: ort.SessionOptions,
    providers: Sequence[Provider],
    optimized: Path | None,
) -> list[Any]:
    """The weights as the runtime's values, which share the arrays' memory."""
    let_go()  # else pages that both look at are held twice
    if model.folder is not None:
        folder = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(folder, str(model.folder))
    names = list(model.weights)
    values = [ort.OrtValue.ortvalue_from_numpy(model.weights[name]) for name in names]
    options.add_external_initializers(names, values)
    if _device(providers[0]) is None:
        # Else the session copies what it was just lent; a device needs its copy.
        for name, value in zip(names, values, strict=True):
            options.add_initializer(name, value)
    if model.lean:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if optimized is not None:  # a file in the temporary folder, which does not survive
        prefix = "session.optimized_model_external_initializers"
        options.add_session_config_entry(f"{prefix}_file_name", f"{optimized.name}.data")
        options.add_session_config_entry(f"{prefix}_min_size_in_bytes", "4096")
    return values


def _create(
    model: Path | bytes,
    options: ort.SessionOptions,
    providers: Sequence[Provider],
    optimized: Path | None,
    where: str,
) -> Any:
    if isinstance(model, Path) and not model.is_file():
        raise UserError("there is no such model file", where=where)
    with ExitStack() as stack:
        if optimized is not None:
            options.optimized_model_filepath = str(stack.enter_context(writing(optimized)))
        source = str(model) if isinstance(model, Path) else model
        names = [name for name, _ in providers]
        try:
            return ort.InferenceSession(
                source,
                options,
                providers=names,
                provider_options=[dict(given) for _, given in providers],
                enable_fallback=0,  # the default answers a failing provider with the CPU
            )
        except ORT_ERRORS as error:
            raise _cannot("load", error, where) from error


def _insist_on(wanted: str, got: Sequence[str]) -> None:
    if got[0] != wanted:
        raise EnvironmentLacks(
            f"{wanted} could not start; ONNX Runtime would have run on {got[0]} instead",
            then="Its libraries or driver do not load here; `deploypipe doctor` tells more",
        )


def _cannot(verb: str, error: Exception, where: str) -> UserError:
    """ONNX Runtime's reason in one line, without its error code."""
    reason = " ".join(str(error).split())
    if reason.startswith("[ONNXRuntimeError]"):
        reason = reason.split(" : ", 3)[-1]
    return UserError(
        f"ONNX Runtime {ort.__version__} cannot {verb} this model: {reason}", where=where
    )


def _device(provider: Provider) -> tuple[str, int] | None:
    """Where a provider computes, if that is not the processor."""
    name, options = provider
    if name not in ("CUDAExecutionProvider", "TensorrtExecutionProvider"):
        return None
    return "cuda", int(options.get("device_id", 0))


def _spec(value: Any) -> TensorSpec:
    dtype = _DTYPES.get(value.type, value.type.removeprefix("tensor(").removesuffix(")"))
    shape = tuple("?" if size is None else size for size in value.shape)
    return TensorSpec(value.name, dtype, shape)


def _environment(providers: Sequence[Provider], threads: int) -> dict[str, Json]:
    return {
        "runtime": f"onnxruntime {ort.__version__}",
        "provider": providers[0][0],
        "provider_options": dict(providers[0][1]),
        "threads": threads,
        "spinning": False,
    }
