"""The only registry: a shelf is a folder, and the name of a thing is the name of its file.

``deploypipe/graph/passes/drop_dead_channels.py`` holds ``class DropDeadChannels(GraphPass)`` and is
``drop-dead-channels`` in the recipe.  Names are read without importing anything.  Things from
outside the package arrive by an entry point (group ``deploypipe.<kind>``) or by a file named under
``plugins:`` in the recipe.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from deploypipe.core import options
from deploypipe.core.errors import EnvironmentLacks, UserError, did_you_mean, needs_extra

if TYPE_CHECKING:  # see options: a process must start fast
    import importlib.metadata

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

T = TypeVar("T")

EXTRA_OF = {
    "torch": "torch",
    "PIL": "images",
    "pyarrow": "images",
    "tokenizers": "text",
    "sklearn": "demo",
}
"""Module -> the extra of this package that installs it."""

ALL: dict[str, Shelf[Any]] = {}
"""Every shelf whose room has been imported, by kind."""


def kebab(name: str) -> str:
    """``drop_dead_channels`` -> ``drop-dead-channels``."""
    return name.replace("_", "-")


def camel(name: str) -> str:
    """``drop_dead_channels`` -> ``DropDeadChannels``."""
    return "".join(part.capitalize() for part in name.split("_"))


@dataclass
class Shelf(Generic[T]):
    """The things of one kind: those in ``package``, those of entry points, those added by hand."""

    kind: str
    package: str
    base: type[T]
    added: dict[str, type[T]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ALL[self.kind] = self

    def names(self) -> list[str]:
        """All names, sorted; imports no plug-in."""
        return sorted({*self._files(), *self._entry_points(), *self.added})

    def get(self, name: str, where: str = "") -> type[T]:
        """The class called ``name``.

        Raises:
            UserError: no such name.
            EnvironmentLacks: the file needs a package that is not installed.
        """
        if name in self.added:
            return self.added[name]
        try:
            if name in self._files():
                module = importlib.import_module(f"{self.package}.{self._files()[name]}")
                return cast(type[T], getattr(module, camel(self._files()[name])))
            if name in self._entry_points():
                cls = cast(type[T], self._entry_points()[name].load())
                options.NAMES[cls] = name
                return cls
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in EXTRA_OF:
                raise
            raise needs_extra(f"{self.kind} '{name}'", missing, EXTRA_OF[missing]) from error
        raise UserError(
            f"unknown {self.kind} '{name}', {did_you_mean(name, self.names())}", where=where or None
        )

    def build(self, spec: object, where: str = "") -> T:
        """Make a thing from ``"name"``, ``{"name": {option: value}}`` or a thing already made."""
        if isinstance(spec, self.base):
            return spec
        name, given = self.split(spec, where)
        cls = self.get(name, where)
        return options.build(cls, given, f"{where}.{name}" if where else name)

    def split(self, spec: object, where: str = "") -> tuple[str, Mapping[str, Any]]:
        """``spec`` as a name and its options."""
        if isinstance(spec, str):
            return spec, {}
        if isinstance(spec, Mapping) and len(spec) == 1:
            name, given = next(iter(spec.items()))
            if given is None or isinstance(given, Mapping):
                return str(name), given or {}
            where = f"{where}.{name}" if where else str(name)
            raise UserError(f"expected a mapping of options, got {given!r}", where=where)
        raise UserError(
            f"expected the name of a {self.kind} or one name with its options, got {spec!r}",
            where=where or None,
            then=f"Known: {', '.join(self.names())}",
        )

    def name_of(self, thing: T | type[T]) -> str:
        """The name that the user types for a thing or its class."""
        return options.name_of(thing if isinstance(thing, type) else type(thing))

    def spec(self, thing: T) -> dict[str, Any]:
        """The spec that rebuilds ``thing``: its name and all its options, as plain JSON."""
        return {self.name_of(thing): options.values_of(thing)}

    def add(self, cls: type[T], name: str | None = None) -> None:
        """Put a class from outside the package on the shelf."""
        name = name or kebab(_snake(cls.__name__))
        self.added[name] = cls
        options.NAMES[cls] = name

    def summary(self, name: str) -> str:
        """First line of the class's docstring."""
        return (inspect.getdoc(self.get(name)) or "").partition("\n")[0]

    def schema(self) -> dict[str, Any]:
        """JSON Schema of a spec: a name, or a name with options.

        Any options for what needs a package that is not installed: nobody can tell them.
        """
        variants: list[dict[str, Any]] = [{"enum": self.names()}]
        for name in self.names():
            try:
                body = options.model_of(self.get(name)).model_json_schema()
                told = self.summary(name)
            except EnvironmentLacks as lacking:
                body, told = {"type": "object"}, str(lacking)
            body.pop("title", None)
            properties = {name: {"anyOf": [body, {"type": "null"}]}}
            variants.append(
                {
                    "type": "object",
                    "properties": properties,
                    "required": [name],
                    "additionalProperties": False,
                    "description": told,
                }
            )
        return {"anyOf": variants}

    def _files(self) -> dict[str, str]:
        return _files_of(self.package)

    def _entry_points(self) -> dict[str, importlib.metadata.EntryPoint]:
        return _entry_points_of(f"deploypipe.{self.kind}")


@functools.cache
def _files_of(package: str) -> dict[str, str]:
    spec = importlib.util.find_spec(package)
    paths = list(spec.submodule_search_locations or []) if spec else []
    modules = (m.name for m in pkgutil.iter_modules(paths) if not m.name.startswith("_"))
    return {kebab(name): name for name in modules}


@functools.cache
def _entry_points_of(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    import importlib.metadata

    return {point.name: point for point in importlib.metadata.entry_points(group=group)}


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


class OneOf:
    """Annotation for an option that is a spec: ``Annotated[Calibrator, OneOf(CALIBRATORS)]``."""

    def __init__(self, shelf: Shelf[Any]) -> None:
        self.shelf = shelf

    def __get_pydantic_core_schema__(
        self, source: type, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self._build)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self.shelf.schema()

    def _build(self, spec: object) -> Any:
        try:
            return self.shelf.build(spec)
        except UserError as error:
            raise options.through_pydantic(error) from error


class _UsersFile(SourceFileLoader):
    """Compiles anew each time: a ``__pycache__`` in the user's folder would be ours."""

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        pass


_FOLDER: ContextVar[Path] = ContextVar("_FOLDER", default=Path())


@contextmanager
def paths_start_at(folder: Path) -> Iterator[None]:
    """In the block, relative paths in the options of what is built start at ``folder``."""
    token = _FOLDER.set(folder)
    try:
        yield
    finally:
        _FOLDER.reset(token)


def started(path: str) -> Path:
    """An absolute path for what an option says, by :func:`paths_start_at`; default: where we are."""
    return (_FOLDER.get() / Path(path).expanduser()).absolute()


def load_file(path: Path, where: str) -> ModuleType:
    """Import a Python file of the user's by path; its folder stays as it is.

    Raises:
        UserError: it does not exist, or importing it raises.
    """
    if not path.is_file():
        raise UserError(f"no such file: {path}", where=where)
    name = _free_name(path)
    spec = importlib.util.spec_from_file_location(name, path, loader=_UsersFile(name, str(path)))
    if spec is None or spec.loader is None:
        raise UserError(f"not a Python file: {path}", where=where)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script without a guard ends the process
        sys.modules.pop(name, None)
        raise UserError(f"{path} raises {type(error).__name__}: {error}", where=where) from error
    return module


def _free_name(path: Path) -> str:
    """A module's name of its own: two files may be called alike, and classes find their file by it.

    Without a number where it can be: exporters write it into models, which must not depend on it.
    """
    base = name = f"deploypipe_user_{path.stem}"
    number = 1
    while (taken := sys.modules.get(name)) and Path(str(taken.__file__)) != path.absolute():
        number += 1
        name = f"{base}_{number}"
    return name


def load_plugins(path: Path, where: str) -> list[str]:
    """Put every plug-in class of a user's file on its shelf; the names that were added.

    A file with one plug-in gives it the file's name; with several, each is called after its class.
    """
    module = load_file(path, where)
    classes = dict.fromkeys(c for c in vars(module).values() if inspect.isclass(c))
    mine = [c for c in classes if c.__module__ == module.__name__ and not inspect.isabstract(c)]
    pairs = [(shelf, c) for c in mine for shelf in ALL.values() if issubclass(c, shelf.base)]
    if not pairs:
        then = f"Derive from one of: {', '.join(s.base.__name__ for s in ALL.values())}"
        raise UserError(f"{path} defines no plug-in", where=where, then=then)
    for shelf, cls in pairs:
        shelf.add(cls, kebab(path.stem) if len(pairs) == 1 else None)
    return [kebab(path.stem)] if len(pairs) == 1 else [kebab(_snake(c.__name__)) for _, c in pairs]
