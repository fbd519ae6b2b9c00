"""The nodes of a decoder, in ONNX and ONNX Runtime's own operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from ruvllm_models.convert.blocks import BLOCK
from ruvllm_models.convert.weights import Matrix

MICROSOFT = "com.microsoft"
_INT8_ARITHMETIC = 4  # MatMulNBits: activations as int8 too, several times as fast


class Graph:
    """Collects nodes; each method returns the name of what it adds."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initialisers: list[TensorProto] = []
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self._made: set[str] = set()

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        name: str,
        *,
        domain: str = "",
        outputs: Sequence[str] = (),
        **options: Any,
    ) -> str:
        """One node; its output has its name unless others are given."""
        made = helper.make_node(op, list(inputs), list(outputs) or [name], name=name, domain=domain, **options)
        self.nodes.append(made)
        return str(next(filter(None, made.output)))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """A small constant, kept in the graph."""
        self.initialisers.append(numpy_helper.from_array(value, name))
        return name

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        """An input of the model."""
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, shape: Sequence[int | str]) -> str:
        """A float32 output of the model."""
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def linear(self, x: str, weight: Matrix, name: str, bias: NDArray[np.float32] | None = None) -> str:
        """x (…, columns) -> (…, rows)."""
        if weight.bits == 32:
            out = self.node("FusedMatMul", [x, weight.data], name, domain=MICROSOFT, transB=1)
        else:
            out = self._blocks(x, weight, name)
        if weight.offset is not None:
            shift = self._blocks(self._sums(x), weight.offset, f"{name}.shift")
            out = self.node("Add", [out, shift], f"{name}.shifted")
        if bias is None:
            return out
        return self.node("Add", [out, self.constant(f"{name}.bias", bias)], f"{name}.biased")

    def _blocks(self, x: str, weight: Matrix, name: str) -> str:
        inputs = [x, weight.data, weight.scale, weight.zero]
        shape: dict[str, Any] = {"K": weight.columns, "N": weight.rows, "bits": weight.bits, "block_size": BLOCK}
        return self.node("MatMulNBits", inputs, name, domain=MICROSOFT, accuracy_level=_INT8_ARITHMETIC, **shape)

    def _sums(self, x: str) -> str:
        """x (…, columns) -> its sums over blocks (…, blocks), worked out once for all that ask."""
        name = f"{x}.sums"
        if name not in self._made:
            self._made.add(name)
            shape = self.constant(f"{name}.shape", np.array([0, 0, -1, BLOCK], np.int64))
            axis = self.constant(f"{name}.axis", np.array([-1], np.int64))
            self.node("ReduceSum", [self.node("Reshape", [x, shape], f"{name}.blocks"), axis], name, keepdims=0)
        return name

    def lookup(self, ids: str, table: Matrix, name: str) -> str:
        """ids (…) -> rows of a table (…, columns)."""
        if table.bits == 32:
            return self.node("Gather", [table.data, ids], name)
        inputs = [table.flat, ids, table.scale, table.zero]
        options: dict[str, Any] = {"gather_axis": 0, "quantize_axis": 1, "block_size": BLOCK, "bits": table.bits}
        return self.node("GatherBlockQuantized", inputs, name, domain=MICROSOFT, **options)

    def rms_norm(self, x: str, weight: NDArray[np.float32], eps: float, name: str) -> str:
        """Over the last axis (Zhang & Sennrich 2019)."""
        scale = self.constant(f"{name}.weight", weight)
        return self.node("SimplifiedLayerNormalization", [x, scale], name, axis=-1, epsilon=eps, stash_type=1)

    def add_and_norm(self, x: str, more: str, weight: NDArray[np.float32], eps: float, name: str) -> tuple[str, str]:
        """The norm of x + more, and x + more itself."""
        scale = self.constant(f"{name}.weight", weight)
        outputs = [name, "", "", f"{name}.sum"]
        self.node(
            "SkipSimplifiedLayerNormalization", [x, more, scale], name, domain=MICROSOFT, outputs=outputs, epsilon=eps
        )
        return name, f"{name}.sum"
