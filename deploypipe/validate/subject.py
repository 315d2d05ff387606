"""Whatever can be called can be timed: an ONNX file, a torch module, a Python function."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from deploypipe.core.errors import UserError
from deploypipe.core.shelf import load_file
from deploypipe.runtime import Feeds, Target
from deploypipe.validate.interleave import Opener

CODE = ".py:"
"""Stands in ``FILE.py:FUNCTION``, which names a function that builds what is timed."""


def is_code(name: str | Path) -> bool:
    """Whether a name is ``FILE.py:FUNCTION``."""
    return CODE in str(name)


def opener_of(subject: object, target: Target) -> Opener:
    """A fresh model each time, from:

    * an ONNX file's path, which the target opens;
    * ``FILE.py:FUNCTION``: what the function, called without arguments, returns;
    * a torch module, called in inference mode with the inputs in their order;
    * anything else that can be called: with the feed, or with nothing where it takes nothing.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(subject, str | Path):
        if is_code(subject):
            return lambda: _holding(_built(str(subject)))
        return lambda: target.open(Path(subject))
    if not callable(subject):
        raise UserError(
            f"{type(subject).__name__} can not be called, so that it can not be timed",
            then="Give an ONNX file, FILE.py:FUNCTION, a torch module or a function",
        )
    return lambda: _holding(subject)


@contextmanager
def _holding(subject: Any) -> Iterator[_Called]:
    yield _Called(subject)


class _Called:
    """A callable as a model: it answers a feed, and says what it is."""

    def __init__(self, subject: Any) -> None:
        self._torch = _torch_of(subject)
        self._subject = subject.eval() if self._torch else subject
        self._bare = not self._torch and _takes_nothing(subject)
        self.environment: dict[str, Any] = {"runtime": "python", "provider": "python"}
        if self._torch:
            self.environment = {
                "runtime": f"torch {self._torch.__version__}",
                "provider": "torch",
                "threads": self._torch.get_num_threads(),
            }

    def __call__(self, feed: Feeds) -> Any:
        return self.prepare(feed)()

    def prepare(self, feed: Feeds) -> Callable[[], object]:
        """The bare call on one feed."""
        subject = self._subject
        if self._bare:
            return lambda: subject()
        if self._torch is None:
            return lambda: subject(feed)
        inference, tensors, wait = self._torch.inference_mode, self._tensors(feed), self._wait()

        def run() -> object:
            with inference():
                answer = subject(*tensors)
            if wait is not None:
                wait()
            return answer

        return run

    def _wait(self) -> Callable[[], object] | None:
        """A GPU answers before it is done: one wait for all of it, once a call."""
        device = self._device()
        cuda = getattr(device, "type", "cpu") == "cuda"
        return partial(self._torch.cuda.synchronize, device) if cuda else None

    def _device(self) -> Any:
        place = next(iter(self._subject.parameters()), None)
        return "cpu" if place is None else place.device

    def _tensors(self, feed: Feeds) -> list[Any]:
        device = self._device()
        return [self._torch.from_numpy(array).to(device) for array in feed.values()]


def _torch_of(subject: object) -> Any:
    """The module torch if ``subject`` is one of its modules; then somebody has loaded it."""
    torch = sys.modules.get("torch")
    module = getattr(getattr(torch, "nn", None), "Module", ())
    return torch if isinstance(subject, module) else None


def _takes_nothing(subject: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(subject).parameters.values()
    except (TypeError, ValueError):  # many builtins do not tell
        return False
    return not any(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters)


def _built(name: str) -> object:
    file, _, function = name.rpartition(":")
    build = getattr(load_file(Path(file), name), function, None)
    if not callable(build):
        then = "Name a function that stands in the file and builds what is to be timed"
        raise UserError(f"there is no function '{function}' in it", where=file, then=then)
    if not _takes_nothing(build):
        raise UserError(
            "the function that builds a model takes no argument",
            where=name,
            then="Write one around it that calls it with its arguments",
        )
    made = build()
    if not callable(made):
        raise UserError(
            f"it returned {type(made).__name__}, which cannot be called",
            where=name,
            then="Let it return a torch module or a function, which is then timed",
        )
    return made
