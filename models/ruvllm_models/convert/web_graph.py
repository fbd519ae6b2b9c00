"""The same decoder for WebAssembly, whose MatMulNBits unpacks the whole matrix anew for every token.

There each matrix in blocks becomes int8 with one scale a row, made from the very blocks while a page loads them, and
an activation becomes two int8 rows, the second for what the first leaves out: 16 bits for a price near that of 8.
What the coarser weights lose, the finer activations gain: on random decoders the logits are off by about as much as
MatMulNBits with its int8 activations is, and by far less where some activations are large.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_TOP = 127  # int8 without its lowest value
_STEPS = 2 * _TOP  # of the second row in one of the first


@dataclass(frozen=True, slots=True)
class Packed:
    """A matrix in blocks as it lies in the shards, and the names of what takes its place.

    Attributes:
        q, scale, zero: (file, offset) of each.
        weight: of int8 (columns, rows).
        scales: of float32 (rows,).
    """

    rows: int
    columns: int
    bits: int
    q: tuple[str, int]
    scale: tuple[str, int]
    zero: tuple[str, int]
    weight: str
    scales: str


def web_graph(model: ModelProto) -> tuple[ModelProto, list[dict[str, Any]]] | None:
    """The decoder on int8 matrices, which are files of their own names, and what they are made from.

    None when no matrix is in blocks: the decoder runs well as it is.
    """
    if not any(node.op_type == "MatMulNBits" for node in model.graph.node):
        return None
    made = _Web({tensor.name: tensor for tensor in model.graph.initializer})
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            made.product(node)
        else:
            made.nodes.append(node)
    used = {name for node in made.nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    graph = helper.make_graph(
        made.nodes, model.graph.name, model.graph.input, model.graph.output, [*kept, *made.initialisers]
    )
    web = helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version, producer_name=model.producer_name
    )
    return web, [asdict(one) for one in made.packed.values()]


class _Web:
    """Collects the new nodes."""

    def __init__(self, tensors: dict[str, TensorProto]) -> None:
        self._tensors = tensors
        self.nodes: list[NodeProto] = []
        self.initialisers: list[TensorProto] = []
        self.packed: dict[str, Packed] = {}
        self._quantised: set[str] = set()
        for name, value in (
            ("web.least", np.float32(1e-30)),
            ("web.one", np.float32(1 / _TOP)),
            ("web.steps", np.float32(_STEPS)),
            ("web.step", np.float32(1 / _STEPS)),
            ("web.middle", np.float32(128)),
            ("web.zero", np.uint8(128)),
            ("web.last", np.array([-1], np.int64)),
        ):
            self.initialisers.append(numpy_helper.from_array(np.asarray(value), name))

    def _node(self, op: str, inputs: list[str], name: str, **options: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **options))
        return name

    def product(self, node: NodeProto) -> None:
        """Nodes in place of a MatMulNBits, with its very output."""
        matrix, (x, out) = self._matrix(node), (node.input[0], node.output[0])
        q, scale = self._rows(x)
        sums = self._node("MatMulInteger", [q, matrix.weight, "web.zero"], f"{out}.sums")
        floats = self._node("Cast", [sums], f"{out}.floats", to=TensorProto.FLOAT)
        high, low = f"{out}.high", f"{out}.low"
        self.nodes.append(helper.make_node("Split", [floats], [high, low], name=f"{out}.split", axis=0, num_outputs=2))
        fine = self._node("Add", [high, self._node("Mul", [low, "web.step"], f"{out}.fine")], f"{out}.both")
        self._node("Mul", [self._node("Mul", [fine, scale], f"{out}.scaled"), matrix.scales], out)

    def _rows(self, x: str) -> tuple[str, str]:
        """x (1, tokens, columns) as uint8 (2, tokens, columns) around 128, and its scale (1, tokens, 1)."""
        names = f"{x}.uint8", f"{x}.unit"
        if x not in self._quantised:
            self._quantised.add(x)
            size = self._node("ReduceMax", [self._node("Abs", [x], f"{x}.abs"), "web.last"], f"{x}.size", keepdims=1)
            self._node("Mul", [self._node("Max", [size, "web.least"], f"{x}.some"), "web.one"], names[1])
            units = self._node("Div", [x, names[1]], f"{x}.units")
            high = self._node("Round", [units], f"{x}.high")
            rest = self._node("Mul", [self._node("Sub", [units, high], f"{x}.rest"), "web.steps"], f"{x}.steps")
            both = self._node("Concat", [high, self._node("Round", [rest], f"{x}.low")], f"{x}.both", axis=0)
            raised = self._node("Add", [both, "web.middle"], f"{x}.raised")
            self._node("Cast", [raised], names[0], to=TensorProto.UINT8)
        return names

    def _matrix(self, node: NodeProto) -> Packed:
        data, scale, zero = node.input[1:4]
        if data not in self.packed:
            told = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            q, scales, zeros = (_place(self._tensors[name]) for name in (data, scale, zero))
            made = Packed(told["N"], told["K"], told["bits"], q, scales, zeros, f"{data}.int8", f"{data}.scales")
            self._virtual(made.weight, TensorProto.INT8, (made.columns, made.rows), made.rows * made.columns)
            self._virtual(made.scales, TensorProto.FLOAT, (made.rows,), 4 * made.rows)
            self.packed[data] = made
        return self.packed[data]

    def _virtual(self, name: str, dtype: int, shape: tuple[int, ...], length: int) -> None:
        """A tensor in a file of its own, which whoever loads the graph makes."""
        tensor = TensorProto(name=name, data_type=dtype, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", name), ("offset", "0"), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
        self.initialisers.append(tensor)


def _place(tensor: TensorProto) -> tuple[str, int]:
    told = {entry.key: entry.value for entry in tensor.external_data}
    return told["location"], int(told.get("offset", "0"))
