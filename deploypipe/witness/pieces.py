"""Pieces of an ONNX graph, cut out at tensors of one's choice and executed alone on random numbers.

A piece is a model of its own: the nodes between some wanted tensors and the tensors at which the
walk back from them stops, whose arrays the caller gives.  No op is known by name here, but for
``Shape`` and ``Size``, which read no data, and ``Softmax``, whose numbers sum to 1, and what may
stand behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from deploypipe.core.errors import UserError

Array = np.ndarray[Any, Any]

FED_FROM = 4096
"""Bytes from which a weight is fed to a piece, without a copy, instead of put into its model.

Small ones stay constants, because some kernels want scales and axes so.
"""

THREADS_FROM = 1 << 22
"""Bytes that a piece is fed from which threads pay for themselves."""

OTHER_SIZE = 32
"""What a dynamic size stands for that is no batch and was not given."""


class PieceError(Exception):
    """ONNX Runtime refused a piece or stopped in it."""


class Graph:
    """The top level of a model, by the names of its tensors.

    ``inputs`` are those that a caller must give; ``reads`` are for each node the tensors that it or
    a subgraph of it needs; ``static`` are computed tensors that depend on no data, only on
    shapes, ``normalized`` those that a softmax computes.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, graph = model, model.graph
        self.nodes = list(graph.node)
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = {v.name: v for v in graph.input if v.name not in self.initializers}
        self.outputs = {v.name: v for v in graph.output}
        self.producer = {name: i for i, n in enumerate(self.nodes) for name in n.output if name}
        self.reads = [list(dict.fromkeys(_needed(node))) for node in self.nodes]
        own = [node for node in self.nodes if node.domain in ("", "ai.onnx")]
        self.normalized = set[str]()
        for node in own:  # what moves such numbers keeps them so, or the longer piece will tell
            moves = node.op_type in ("Dropout", "Identity", "Reshape")
            if node.op_type == "Softmax" or (moves and node.input[0] in self.normalized):
                self.normalized.add(node.output[0])
        self.static: set[str] = set()
        for node, names in zip(self.nodes, self.reads, strict=True):
            shape = node.domain in ("", "ai.onnx") and node.op_type in ("Shape", "Size")
            if shape or all(map(self.constant, names)):
                self.static.update(filter(None, node.output))

    def constant(self, name: str) -> bool:
        """Whether a tensor is a weight, or follows from weights and shapes."""
        return name in self.initializers or name in self.static

    def array(self, name: str) -> Array:
        """An initializer's data, perhaps read-only."""
        return numpy_helper.to_array(self.initializers[name])

    def like(self, name: str) -> Array:
        """An array of an initializer's shape and dtype, without its data."""
        tensor = self.initializers[name]
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.broadcast_to(np.zeros((), kind), tuple(tensor.dims))

    def node(self, name: str) -> str:
        """What a person calls the node that computes a tensor: ``node 'r1' (Relu)``."""
        node = self.nodes[self.producer[name]]
        return f"node '{node.name or name}' ({node.op_type})"


def _needed(node: onnx.NodeProto) -> Iterator[str]:
    yield from filter(None, node.input)
    for attribute in node.attribute:
        single = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else []
        for body in [*single, *attribute.graphs]:
            yield from _captured(body)


def _captured(body: onnx.GraphProto) -> Iterator[str]:
    own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
    for node in body.node:
        yield from (name for name in _needed(node) if name not in own)
        own.update(node.output)
    yield from (value.name for value in body.output if value.name not in own)


class Piece:
    """The nodes between ``wanted`` tensors and the nearest ones for which ``cut`` is true.

    ``cuts`` are the tensors whose arrays a call needs: the nearest ones, and the graph's inputs
    that are reached.  Initializers are part of the piece unless they are cut.  ``found``
    is room for results.
    """

    def __init__(self, graph: Graph, wanted: Iterable[str], cut: Callable[[str], bool]) -> None:
        self.graph, self.wanted = graph, list(wanted)
        self.cuts: list[str] = []
        self.weights: list[str] = []
        self._numbers: set[int] = set()
        self._walk(cut)
        self.found: dict[tuple[int, bool], dict[str, Array]] = {}
        self._session: Any = None
        self._fed: dict[str, Array] = {}

    def _walk(self, cut: Callable[[str], bool]) -> None:
        seen, waiting = set(self.wanted), list(self.wanted)
        while waiting:
            name = waiting.pop()
            if name not in self.wanted and cut(name):
                self.cuts.append(name)
            elif name in self.graph.initializers:
                self.weights.append(name)
            elif name not in self.graph.producer:
                self.cuts.append(name)
            else:
                number = self.graph.producer[name]
                self._numbers.add(number)
                new = [need for need in self.graph.reads[number] if need not in seen]
                seen.update(new)
                waiting.extend(new)

    def same_as(self, other: Piece) -> bool:
        """Whether the other piece is this one, to the last bit of its weights."""
        one, two = self.graph.model, other.graph.model
        mine, its = self.graph.initializers, other.graph.initializers
        return (
            {*self.cuts} == {*other.cuts}
            and {*self.weights} == {*other.weights}
            and self.nodes == other.nodes
            and [*one.opset_import] == [*two.opset_import]
            and [*one.functions] == [*two.functions]
            and all(mine[name] == its[name] for name in self.weights)
        )

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The piece's nodes, in order."""
        return [self.graph.nodes[number] for number in sorted(self._numbers)]

    def __call__(self, states: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays of ``wanted`` for arrays of ``cuts``.

        Raises:
            PieceError: ONNX Runtime cannot run the piece on them.
        """
        names = [name for name in self.wanted if name in self.graph.producer]
        found = {n: self.graph.array(n) for n in self.wanted if n in self.graph.initializers}
        if names:
            feeds = {name: np.asarray(states[name], order="C") for name in self.cuts}
            self._session = self._session or self._open(names, feeds)
            with explained():
                arrays = self._session.run(names, feeds | self._fed)
            found.update(zip(names, map(_tensor, arrays), strict=True))
        return found

    def _open(self, names: Sequence[str], feeds: dict[str, Array]) -> Any:
        held = []
        for tensor in map(self.graph.initializers.__getitem__, self.weights):
            if _plain(tensor.data_type) and tensor.ByteSize() >= FED_FROM:
                self._fed[tensor.name] = self.graph.array(tensor.name)
            else:
                held.append(tensor)
        given = [_value(name, array) for name, array in (feeds | self._fed).items()]
        wanted = [onnx.ValueInfoProto(name=name) for name in names]
        nodes = [self._apart(node) for node in self.nodes]
        whole = self.graph.model
        model = onnx.ModelProto(
            ir_version=whole.ir_version, opset_import=whole.opset_import, functions=whole.functions
        )
        model.graph.CopyFrom(helper.make_graph(nodes, "piece", given, wanted, held))
        work = sum(array.nbytes for array in (*feeds.values(), *self._fed.values()))
        threads = 0 if work >= THREADS_FROM else 1
        return open_session(model.SerializeToString(), optimized=False, threads=threads)

    def _apart(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """The node; an output of it that is cut, and so given, gets another name."""
        renamed = onnx.NodeProto()
        renamed.CopyFrom(node)
        for i, name in enumerate(node.output):
            renamed.output[i] = f"{name}/not used" if name in self.cuts else name
        return renamed


def _plain(data_type: int) -> bool:
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(data_type)) if data_type else np.dtype(object)
    return kind.isbuiltin == 1 and kind.kind in "fiub"


def _value(name: str, array: Array) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, kind, array.shape)


def _tensor(value: object) -> Array:
    if value is None or isinstance(value, (list, dict)):
        raise PieceError("only tensors can be checked, not sequences, maps or empty optionals")
    return np.asarray(value)


@contextmanager
def explained() -> Iterator[None]:
    """Turn whatever ONNX Runtime raises into a :class:`PieceError` of one line."""
    try:
        yield
    except Exception as error:  # the runtime's errors have no common base
        raise PieceError(" ".join(str(error).split())[:300]) from error


def open_session(model: bytes | Path, *, optimized: bool, threads: int = 0) -> Any:
    """A session on the CPU, its threads not spinning; unless ``optimized`` the graph stays so.

    Raises:
        PieceError: ONNX Runtime does not take the model.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = optimized
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    given = model if isinstance(model, bytes) else str(model)
    with explained():
        return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def run_nodes(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays of all inputs and computed tensors.

    Raises:
        PieceError: a node does not run; it is named.
    """
    values = dict(feeds)
    try:
        return values | Piece(graph, graph.producer, feeds.__contains__)(values)
    except PieceError:
        pass  # one by one, to find the node
    for node in graph.nodes:
        outputs = [name for name in node.output if name]
        piece = Piece(graph, outputs, lambda name: name not in graph.initializers)
        try:
            values.update(piece(values))
        except (PieceError, KeyError) as error:
            raise PieceError(f"{graph.node(outputs[0])} does not run: {error}") from error
    return values


def read_graph(file: Path) -> Graph:
    """Read an ONNX file with its external data.

    Raises:
        UserError: it is missing or no ONNX model.
    """
    try:
        model = onnx.load(file)
    except Exception as error:  # protobuf's, onnx' and the system's errors have no common base
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"cannot be read as ONNX: {reason}", where=str(file)) from error
    if not model.graph.output or model.graph.sparse_initializer:
        raise UserError("no ONNX model with outputs and dense weights", where=str(file))
    return Graph(model)


def interface(graph: Graph) -> list[tuple[object, ...]]:
    """Names, types and fixed sizes (0: dynamic) of the inputs, names and types of the outputs."""
    types = [(name, value.type.tensor_type) for name, value in graph.inputs.items()]
    fixed = [(name, t.elem_type, *(dim.dim_value for dim in t.shape.dim)) for name, t in types]
    return [*fixed, *((name, v.type.tensor_type.elem_type) for name, v in graph.outputs.items())]


def dynamic_sizes(graph: Graph) -> dict[str, bool]:
    """Names of the inputs' dynamic sizes (empty for those without), and whether one is a batch."""
    found: dict[str, bool] = {}
    for value in graph.inputs.values():
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                found[dim.dim_param] = found.get(dim.dim_param, False) or axis == 0
    return found


def random_inputs(
    graph: Graph, sizes: Mapping[str, int], batch: int, generator: np.random.Generator
) -> dict[str, Array]:
    """Normal floats, 8-bit integers over their range, other integers 0 or 1, for every input.

    A dynamic first size is ``batch``, another :data:`OTHER_SIZE`, unless ``sizes`` has its name.
    """
    found = {}
    dynamic = dynamic_sizes(graph)
    for name, value in graph.inputs.items():
        kind, shape = value.type.tensor_type, []
        for axis, dim in enumerate(kind.shape.dim):
            first = dynamic.get(dim.dim_param) if dim.dim_param else axis == 0
            size = sizes.get(dim.dim_param, batch if first else OTHER_SIZE)
            shape.append(dim.dim_value if dim.HasField("dim_value") else size)
        if not _plain(kind.elem_type):
            raise UserError(f"input '{name}' is of a type that cannot be drawn at random")
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
        found[name] = random_array(dtype, shape, generator)
    return found


def random_array(
    dtype: np.dtype[Any], shape: Sequence[int], generator: np.random.Generator
) -> Array:
    """Normal floats, 8-bit integers over their range, booleans and other integers 0 or 1."""
    if dtype.kind == "f":
        return np.asarray(generator.standard_normal(shape)).astype(dtype)
    if dtype.itemsize > 1 or dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)  # an index into anything
    limits = np.iinfo(dtype)
    return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
