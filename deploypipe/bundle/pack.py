"""Pack a model with everything that is needed to run it and to check it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from deploypipe.bundle import golden as goldens
from deploypipe.bundle.golden import Array
from deploypipe.bundle.manifest import NAME, FileEntry, Golden, Manifest, Role, Tensor, safe_path
from deploypipe.bundle.tar import holds_bundle, write_tar
from deploypipe.core.errors import UserError
from deploypipe.core.files import Json, sha256_file, writing
from deploypipe.core.tensors import TensorSpec
from deploypipe.graph.files import data_files, load

MODEL, GOLDEN, RUNNER = "model.onnx", "golden.npz", "run.py"


@dataclass(frozen=True)
class Content:
    """What is told about the model, beside its bytes.

    ``golden_inputs`` and ``golden_outputs``: name -> array with one row per sample.
    ``tolerance``: the difference that another machine's answers may have, relative to the range
    of the output, or of whole numbers the share that may differ; the default is five steps of an
    8-bit output.  ``extra``: path in the bundle -> file.
    """

    name: str
    preprocess: Mapping[str, Json] | None = None
    classes: Sequence[str] | None = None
    target: Json = None
    providers: Sequence[str] = ("CPUExecutionProvider",)
    golden_inputs: Mapping[str, Array] = field(default_factory=dict)
    golden_outputs: Mapping[str, Array] = field(default_factory=dict)
    tolerance: float = 0.02
    verdict: Json = None
    environment: Json = None
    extra: Mapping[str, Path] = field(default_factory=dict)
    created_by: str = "deploypipe"


def pack(model: Path, out: Path, content: Content) -> Path:
    """Write a bundle: a directory, or for a name that ends in ``.tar`` an uncompressed tar.

    Equal inputs give equal bytes: no date and no name of this machine is recorded but what
    ``content`` says.  An older bundle at ``out`` is replaced, anything else there is left alone.

    Raises:
        UserError: the model cannot be read, the goldens do not fit it, a name is unsafe or taken,
            or ``out`` is something else than a bundle.
    """
    model, out = Path(model), Path(out)
    _check_place(out, [model, *content.extra.values()])
    inputs, outputs = interface(load(model))
    _check_content(content, inputs, outputs)
    with writing(out) as temporary:
        folder = temporary.with_name("content") if out.suffix == ".tar" else temporary
        folder.mkdir(parents=True)
        roles = _fill(folder, model, content)
        manifest = _manifest(folder, roles, content, inputs, outputs)
        (folder / NAME).write_text(manifest.text(), encoding="utf-8")
        if folder != temporary:
            write_tar(folder, temporary)
    return out


def interface(model: ir.Model) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Inputs (without those that are initializers) and outputs of a model."""
    inputs = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    return [_spec(value) for value in inputs], [_spec(value) for value in model.graph.outputs]


def _spec(value: ir.Value) -> TensorSpec:
    if value.dtype is None or value.shape is None:
        raise UserError(f"the model's '{value.name}' has no known dtype or rank")
    dims = (dim if isinstance(dim, int) else dim.value or "?" for dim in value.shape)
    dtype = "object" if value.dtype == ir.DataType.STRING else value.dtype.numpy().name
    return TensorSpec(str(value.name), dtype, tuple(dims))


def _check_place(out: Path, inputs: Sequence[Path]) -> None:
    if out.suffix in (".gz", ".tgz", ".zst", ".xz", ".zip"):
        raise UserError(
            "a bundle is a directory or an uncompressed .tar",
            where=str(out),
            then="Name it .tar and compress the file afterwards",
        )
    if out.is_dir() and any(file.resolve().is_relative_to(out.resolve()) for file in inputs):
        raise UserError(
            "holds files that are to be packed", where=str(out), then="Use another path"
        )
    if out.exists() and not (_is_tar(out) if out.suffix == ".tar" else _is_folder(out)):
        raise UserError("is there already and no bundle", where=str(out), then="Use another path")


def _is_tar(out: Path) -> bool:
    return out.is_file() and (out.stat().st_size == 0 or holds_bundle(out))


def _is_folder(out: Path) -> bool:
    return out.is_dir() and ((out / NAME).is_file() or not any(out.iterdir()))


def _check_content(
    content: Content, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    for file in content.extra.values():
        if not file.is_file():
            raise UserError("no such file", where=str(file))
    if content.golden_inputs or content.golden_outputs:
        goldens.check_goldens(content.golden_inputs, content.golden_outputs, inputs, outputs)
        goldens.step_of(inputs, len(next(iter(content.golden_inputs.values()))))


def _fill(folder: Path, model: Path, content: Content) -> dict[str, Role]:
    """Copy everything but the manifest; path in the bundle -> role."""
    roles: dict[str, Role] = {}
    for name, file in {MODEL: model, **data_files(model)}.items():
        _put(folder, name, file, roles, "model" if name == MODEL else "weights")
    if content.golden_inputs:
        roles[GOLDEN] = "golden"
        goldens.write_goldens(folder / GOLDEN, content.golden_inputs, content.golden_outputs)
    _put(folder, RUNNER, Path(__file__).with_name(RUNNER), roles, "runner")
    for name, file in sorted(content.extra.items()):
        _put(folder, name, file, roles, "extra")
    return roles


def _put(folder: Path, name: str, file: Path, roles: dict[str, Role], role: Role) -> None:
    if name in roles or name == NAME:
        raise UserError(f"two files of the bundle would be called '{name}'", where=str(file))
    try:
        place = folder / safe_path(name)
    except ValueError as error:
        raise UserError(
            str(error), where=str(file), then="Name it with A-Z, a-z, 0-9, .-_"
        ) from error
    roles[name] = role
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)


def _manifest(
    folder: Path,
    roles: Mapping[str, Role],
    content: Content,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> Manifest:
    return Manifest.seal(
        name=content.name,
        created_by=content.created_by,
        model=MODEL,
        inputs=[Tensor.of(spec) for spec in inputs],
        outputs=[Tensor.of(spec) for spec in outputs],
        preprocess=None if content.preprocess is None else dict(content.preprocess),
        classes=None if content.classes is None else list(content.classes),
        target=content.target,
        providers=list(content.providers),
        golden=_golden(content),
        verdict=content.verdict,
        environment=content.environment,
        files=[_entry(folder, path, role) for path, role in sorted(roles.items())],
    )


def _golden(content: Content) -> Golden | None:
    if not content.golden_inputs:
        return None
    samples = len(next(iter(content.golden_inputs.values())))
    classes = len(content.classes or ())
    scores = {k: v for k, v in content.golden_outputs.items() if v.ndim == 2}
    top1 = sorted(name for name, array in scores.items() if array.shape[1] == classes > 1)
    return Golden(file=GOLDEN, samples=samples, tolerance=content.tolerance, top1=top1)


def _entry(folder: Path, path: str, role: Role) -> FileEntry:
    file = folder / path
    return FileEntry(path=path, role=role, bytes=file.stat().st_size, sha256=sha256_file(file))
