"""Reading and writing ONNX files: checked before any data is read, whole or absent when written."""

from __future__ import annotations

import gc
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeGuard

import numpy as np
import onnx
import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.core.files import writing
from deploypipe.core.heap import give_back
from deploypipe.graph.mapped import MappedTensor

LARGE = 100_000_000
"""Bytes of a file of which no copy more than needed is held in memory."""

HELD_ONCE = 1_000_000_000
"""Bytes of weights of which not even one copy more than needed is held: what lies in files beside
the model stays there until it is looked at."""

LARGEST_FILE = 1_900_000_000
"""Bytes of weights above which they are written beside the model; protobuf ends at 2 GiB."""

_WHOLE_BYTES = frozenset(
    int(kind)
    for kind in ir.DataType
    if kind not in (ir.DataType.UNDEFINED, ir.DataType.STRING) and kind.itemsize >= 1
)
"""Types of which no element shares a byte with another."""

_WEIGHTS = frozenset({".pt", ".pth", ".ckpt", ".safetensors"})
_AGAIN = "Export the model again, or copy it again together with all its files"


def load(path: Path) -> ir.Model:
    """Read an ONNX model; its data are in memory afterwards, so the file may go or change.

    External data of more than ``HELD_ONCE`` bytes stay where they are until they are looked at:
    such files may be replaced meanwhile, but not cut short.

    External data are read only from regular files inside the model's own folder: an absolute
    location, a ``..`` or a link that leads outside is refused before anything is opened.

    Raises:
        UserError: the file is missing, cut short, no ONNX or fails ``onnx.checker``; its external
            data are missing, too short or outside its folder; a weight of it is sparse.
    """
    path = Path(path)
    proto = read_graph(path)
    outside = [tensor for tensor in _tensors(proto) if _is_external(tensor)]
    files = [_external_file(tensor, path) for tensor in outside]
    if path.stat().st_size > LARGE:
        del proto, outside  # the checker reads the file again, and holds it twice meanwhile
        _check(path)
        proto = read_graph(path)
        outside = [tensor for tensor in _tensors(proto) if _is_external(tensor)]
    else:
        _check(path)
    _refuse_sparse(proto, path)
    weights = {id(one) for one in proto.graph.initializer if _is_plain(one)}
    places = {_external(one)["location"]: file for one, file in zip(outside, files, strict=True)}
    for tensor, file in zip(outside, files, strict=True):
        if id(tensor) in weights:
            _span(tensor, file, path)  # what is large is read once, into its array
        else:
            _take_in(tensor, file, path)
    try:
        model = ir.serde.deserialize_model(proto)
        del proto
        name_own_domain(model)
        _detach(model, path, places)
    except Exception as error:  # whatever a damaged graph provokes in the reader
        raise _damaged(path, f"no valid ONNX model: {_reason(error)}") from error
    if weight_bytes(model) > LARGE:
        give_back()
    return model


def name_own_domain(model: ir.Model) -> None:
    """Call the domain of ONNX's own operators ``""`` only, which may be written ``ai.onnx`` too."""
    owners = [model.opset_imports, *(one.opset_imports for one in model.functions.values())]
    for imports in owners:
        if "ai.onnx" in imports:
            version = imports.pop("ai.onnx")
            imports[""] = max(version, imports.get("", 0))


def _detach(model: ir.Model, path: Path, places: Mapping[str, Path]) -> None:
    """Hold the weights as arrays: protobuf copies one at each look, and one keeps all in memory.

    ``places`` are the files of external data by their location in the model.
    """
    folder = Path(os.path.realpath(path.parent))
    outside = sum(file.stat().st_size for file in set(places.values()))
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and outside > HELD_ONCE and _is_outside(tensor):
                file = places[str(tensor.location)]
                value.const_value = MappedTensor(tensor, folder, str(file.relative_to(folder)))
            elif tensor is not None and tensor.dtype != ir.DataType.STRING:
                doc, notes = tensor.doc_string, dict(tensor.metadata_props)
                array = _read(tensor, places) if _is_outside(tensor) else tensor.numpy()
                value.const_value = ir.Tensor(
                    array,
                    dtype=tensor.dtype,
                    name=tensor.name,
                    doc_string=doc,
                    metadata_props=notes,
                )


def save(model: ir.Model, path: Path, largest_file: int = LARGEST_FILE) -> None:
    """Write ``model`` to ``path``, through a temporary file of its own.

    Weights of more than ``largest_file`` bytes in all go to ``<path>.data`` beside it; or, where the
    model that is there has its weights in that file, to ``<path>.1.data``, and its file goes last.
    So at every moment there is a whole model.

    Raises:
        UserError: the place cannot be written to.
    """
    path = Path(path)
    # Graphs are cycles: weights that a pass replaced are held until the collector comes by.
    gc.collect()
    with writing(path) as temporary:
        if weight_bytes(model) <= largest_file:
            temporary.write_bytes(to_bytes(model))
            return
        names = [f"{path.name}.data", f"{path.name}.1.data"]
        taken = _locations(path).intersection(names)
        data = next(name for name in names if name not in taken)
        ir.save(model, temporary, format="protobuf", external_data=data, size_threshold_bytes=256)
        with writing(path.with_name(data)) as place:
            temporary.with_name(data).replace(place)
    for name in taken:
        path.with_name(name).unlink(missing_ok=True)


def _locations(path: Path) -> set[str]:
    """Where the model that is there has its data; nowhere if there is none that can be read."""
    try:
        proto = read_graph(path)
    except UserError:
        return set()
    outside = (tensor for tensor in _tensors(proto) if _is_external(tensor))
    return {_external(tensor).get("location", "") for tensor in outside}


def to_bytes(model: ir.Model) -> bytes:
    """The model as one ONNX file's content, data included.

    Raises:
        UserError: it would exceed protobuf's limit of 2 GiB.
    """
    if weight_bytes(model) > LARGEST_FILE:
        raise UserError(
            "the model is too large for one ONNX file (2 GiB)", then="Save it to a path"
        )
    return bytes(ir.serde.serialize_model(model).SerializeToString(deterministic=True))


def data_files(path: Path) -> dict[str, Path]:
    """Location in the model -> file, for the files of external data, checked as :func:`load` does.

    Raises:
        UserError: as :func:`load`, for what can be told without reading the data.
    """
    path = Path(path)
    outside = (tensor for tensor in _tensors(read_graph(path)) if _is_external(tensor))
    return {_external(tensor)["location"]: _external_file(tensor, path) for tensor in outside}


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers, those of subgraphs included."""
    values = (v for graph in model.graphs() for v in graph.initializers.values())
    return sum(v.const_value.nbytes for v in values if v.const_value is not None)


def read_graph(path: Path) -> onnx.ModelProto:
    """A file's content, external data left where they are.

    Raises:
        UserError: the file is missing, cut short or no ONNX.
    """
    if not path.exists():
        code = f"Export it first: deploypipe export {path} -o model.onnx --data SPEC"
        then = code if ".py:" in str(path) else "Give the path of an ONNX model"
        raise UserError("no such file", where=str(path), then=then)
    if path.is_dir():
        raise UserError("is a directory, not an ONNX file", where=str(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from error
    try:
        proto = onnx.load_model_from_string(content, format="protobuf")
    except Exception as error:  # protobuf's DecodeError has no public, stable home
        raise _no_onnx(path) from error
    if not proto.ir_version or not proto.HasField("graph"):
        raise _no_onnx(path)
    return proto


def _check(path: Path) -> None:
    try:
        # By its path: of a model in memory, the checker makes two more copies.
        onnx.checker.check_model(str(path))
    except Exception as error:  # ValidationError, and what the C++ side throws for broken graphs
        raise _damaged(path, f"fails onnx.checker: {_reason(error)}") from error


def _refuse_sparse(proto: onnx.ModelProto, path: Path) -> None:
    """The reader passes over sparse initializers: what reads them would be left with nothing."""
    bodies = [proto.graph.node, *(function.node for function in proto.functions)]
    graphs = [proto.graph, *(graph for nodes in bodies for graph in _subgraphs(nodes))]
    sparse = next((one for graph in graphs for one in graph.sparse_initializer), None)
    if sparse is not None:
        raise UserError(
            f"its weight '{sparse.values.name}' is sparse; such a model is not read",
            where=str(path),
            then="Export the model again with dense weights",
        )


def _external_file(tensor: onnx.TensorProto, path: Path) -> Path:
    """The regular file inside the model's folder that holds a tensor's data."""
    location = _external(tensor).get("location", "")
    folder = Path(os.path.realpath(path.parent))
    file = Path(os.path.realpath(folder / location))
    where = f"{path}, tensor '{tensor.name}'"
    parts = Path(location.replace("\\", "/")).parts
    if not location or Path(location).is_absolute() or ".." in parts:
        raise UserError(_leaves(location), where=where, then=_AGAIN)
    if not file.is_relative_to(folder):
        raise UserError(_leaves(location), where=where, then=_AGAIN)
    if not file.exists():
        raise UserError(f"its data file '{location}' is missing", where=where, then=_AGAIN)
    if not stat.S_ISREG(file.stat().st_mode):
        raise UserError(f"its data file '{location}' is no regular file", where=where, then=_AGAIN)
    return file


def _leaves(location: str) -> str:
    return f"its data lie at '{location}', outside the model's folder; such a model is not read"


def _take_in(tensor: onnx.TensorProto, file: Path, path: Path) -> None:
    """Move a tensor's data from its file into the proto."""
    offset, length = _span(tensor, file, path)
    with file.open("rb") as handle:
        handle.seek(offset)
        tensor.raw_data = handle.read(length)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def _span(tensor: onnx.TensorProto, file: Path, path: Path) -> tuple[int, int]:
    """Where a tensor's data begin in its file, and how many bytes they are; checked."""
    external = _external(tensor)
    where = f"{path}, tensor '{tensor.name}'"
    try:
        expected = ir.serde.TensorProtoTensor(tensor).nbytes
    except (TypeError, ValueError) as error:  # strings, and types that there are not
        what = "data of its type cannot lie in a file"
        raise UserError(what, where=where, then=_AGAIN) from error
    try:
        offset, length = int(external.get("offset", 0)), int(external.get("length", expected))
    except ValueError as error:
        raise UserError("offset or length of its data is no number", where=where) from error
    if offset < 0 or length != expected:
        raise UserError(f"needs {expected} bytes, the file declares {length}", where=where)
    if file.stat().st_size < offset + length:
        what = (
            f"its data file '{external['location']}' is too short: {offset + length} bytes needed"
        )
        raise UserError(what, where=where, then=_AGAIN)
    return offset, length


def _is_outside(tensor: ir.TensorProtocol) -> TypeGuard[ir.ExternalTensor]:
    return isinstance(tensor, ir.ExternalTensor)


def _read(tensor: ir.ExternalTensor, places: Mapping[str, Path]) -> np.ndarray:
    """A weight's data from its file; :func:`_span` has checked that they are there."""
    shape = tensor.shape.numpy()
    file, offset = places[str(tensor.location)], tensor.offset or 0
    return np.fromfile(file, tensor.dtype.numpy(), math.prod(shape), offset=offset).reshape(shape)


def _is_external(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL or bool(tensor.external_data)


def _is_plain(tensor: onnx.TensorProto) -> bool:
    """Whether its data lie in a file as they lie in an array."""
    outside = tensor.data_location == onnx.TensorProto.EXTERNAL
    return outside and tensor.data_type in _WHOLE_BYTES


def _external(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model: initializers and attributes, in subgraphs and functions too."""
    yield from _of_graph(proto.graph)
    for function in proto.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in (a for node in nodes for a in node.attribute):
        yield from ([attribute.t] if attribute.HasField("t") else [])
        yield from attribute.tensors
        for sparse in [attribute.sparse_tensor, *attribute.sparse_tensors]:
            yield from (sparse.values, sparse.indices)
        for graph in [attribute.g, *attribute.graphs]:
            yield from _of_graph(graph)


def _subgraphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for attribute in (a for node in nodes for a in node.attribute):
        for graph in [attribute.g, *attribute.graphs]:
            yield graph
            yield from _subgraphs(graph.node)


def _no_onnx(path: Path) -> UserError:
    if path.suffix not in _WEIGHTS:
        return _damaged(path, "not an ONNX file, or cut short")
    export = f"deploypipe export FILE.py:FUNCTION --weights {path} --data SPEC -o model.onnx"
    then = f"Export the model first: {export}"
    return UserError("not an ONNX file but weights", where=str(path), then=then)


def _damaged(path: Path, what: str) -> UserError:
    return UserError(what, where=str(path), then=_AGAIN)


def _reason(error: BaseException) -> str:
    """The first telling line of an error; ir-py wraps the cause in dumps of the whole proto."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
