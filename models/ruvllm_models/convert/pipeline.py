"""From a file or folder to a folder that every host runs, tensor by tensor."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from ruvllm.errors import ArtifactError, InputError
from ruvllm_models.convert.decoder import Bits, build
from ruvllm_models.convert.gguf_source import GgufSource
from ruvllm_models.convert.graph import MICROSOFT, Graph
from ruvllm_models.convert.hf_source import FolderSource
from ruvllm_models.convert.shards import Shards
from ruvllm_models.convert.spec import DecoderSpec, tensors_of
from ruvllm_models.convert.tensor import Tensor
from ruvllm_models.convert.vocabulary import Vocabulary, from_folder, from_gguf
from ruvllm_models.convert.web_graph import web_graph
from ruvllm_models.convert.weights import Report, Writer

MANIFEST = "ruvllm-model.json"
_WEB_GRAPH = "model_web.onnx"
_SHARD = 128 << 20
_CONTEXT = 32_768  # tokens; the angles of longer ones would weigh more than a small model
_OPSET, _IR = 21, 10
_WIDTHS = (0, 4, 8, 32)
Progress = Callable[[int, int], None]  # bytes done, bytes in all


def convert(
    source: Path,
    out: Path,
    *,
    bits: Bits | None = None,
    context: int = 0,
    shard: int = _SHARD,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Write model.onnx with its weights, model_web.onnx on the same ones, tokenizer.json, chat_template.jinja and a
    manifest, which is returned.

    Args:
        source: a .gguf file, or a folder with config.json, tokenizer.json and *.safetensors.
        out: a folder that does not exist yet; it appears when all of it is written.
        bits: of the weights; None for what suits the source.
        context: tokens that prompt and answer may have; 0 for the model's own, at most 32,768.
        shard: bytes of a file of weights, about.

    Raises:
        ArtifactError: the source is damaged or cannot be converted; the tensor or field is named.
        InputError: `out` is there already, or a number makes no sense.
    """
    bits = bits or Bits()
    _check(out, bits, context, shard)
    if source.is_dir():
        folder = FolderSource.open(source)
        spec, tensors, factors = folder.spec, _complete(source.name, folder.spec, folder.tensors), None
        words = from_folder(source, folder.config, spec.vocab)
    else:
        file = GgufSource.open(source)
        spec, tensors, factors = file.spec, _complete(source.name, file.spec, file.tensors), file.factors
        words = from_gguf(source.name, file.metadata, spec.vocab)
    places = min(context or min(spec.context, _CONTEXT), spec.context)
    angles = np.outer(np.arange(places), _frequencies(spec, factors))
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        reports, matrices = _write_model(partial, spec, tensors, bits, angles, shard, progress)
        manifest = _manifest(source.name, spec, words, places, reports)
        if matrices:
            manifest["web"] = {"graph": _WEB_GRAPH, "matrices": matrices}
        _write_words(partial, words)
        manifest["files"] = [_digest(path) for path in sorted(partial.iterdir())]
        _write_json(partial / MANIFEST, manifest)
        partial.chmod(0o755)
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def _check(out: Path, bits: Bits, context: int, shard: int) -> None:
    if out.exists():
        raise InputError(f"{out} is there already", field="out", fix="give a folder that does not exist")
    if bits.layers not in _WIDTHS or bits.embedding not in _WIDTHS:
        raise InputError(f"{bits} cannot be written", field="bits", fix="give 4, 8 or 32")
    if context < 0 or shard < 1 << 20:
        message = f"context is {context}, shard {shard}"
        raise InputError(message, field="context", fix="give 0 or more tokens, and shards of 1 MB or more")


def _complete(file: str, spec: DecoderSpec, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, if they are those that the architecture has, of the shapes that it has."""
    needed = tensors_of(spec)
    if spec.tied:
        found = {name: tensor for name, tensor in found.items() if name != "lm_head.weight"}
    for name, shape in needed.items():
        if name not in found:
            raise _wrong(file, name, f"is missing in this {spec.architecture} model")
        if found[name].shape != shape:
            raise _wrong(file, found[name].name, f"has shape {found[name].shape}, where the model has {shape}")
    for name in found.keys() - needed.keys():
        raise _wrong(file, found[name].name, f"is none that a {spec.architecture} model here has")
    return found


def _frequencies(spec: DecoderSpec, factors: NDArray[np.float32] | None) -> NDArray[np.float64]:
    plain = spec.rope.frequencies(spec.head_dim)
    if factors is None:
        return plain
    if not (factors > 0).all():
        raise _wrong("the file", "rope_freqs.weight", "holds numbers that are not above 0")
    return np.asarray(plain / factors)


def _write_model(
    folder: Path,
    spec: DecoderSpec,
    tensors: dict[str, Tensor],
    bits: Bits,
    angles: NDArray[np.float64],
    shard: int,
    progress: Progress,
) -> tuple[list[Report], list[dict[str, Any]]]:
    done, total = 0, sum(tensor.data.nbytes for tensor in tensors.values() if len(tensor.shape) > 1)

    def advance(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

    shards = Shards(folder, shard)
    try:
        writer = Writer(shards, advance)
        graph = build(spec, tensors, writer, bits, angles)
    finally:
        shards.close()
    return writer.reports, _save(folder, graph, writer)


def _save(folder: Path, graph: Graph, writer: Writer) -> list[dict[str, Any]]:
    """Both graphs; what the matrices of the second one are made from."""
    made = helper.make_graph(
        graph.nodes, "decoder", graph.inputs, graph.outputs, [*graph.initialisers, *writer.initialisers]
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=_IR, producer_name="ruvllm")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    web = web_graph(model)
    if web is None:
        return []
    (folder / _WEB_GRAPH).write_bytes(web[0].SerializeToString())
    return web[1]


def _manifest(file: str, spec: DecoderSpec, words: Vocabulary, context: int, reports: list[Report]) -> dict[str, Any]:
    worst = max(reports, key=lambda report: report.relative)
    kinds = {True: "attention", False: "conv"}
    return {
        "format": 1,
        "source": file,
        "architecture": spec.architecture,
        "context": context,
        "vocabulary": spec.vocab,
        "layers": [kinds[attends] for attends in spec.attention],
        "hidden": spec.hidden,
        "kv_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "conv": spec.conv,
        "begin": words.begin,
        "ends": list(words.ends),
        "names": words.names,
        "worst": {"tensor": worst.name, "relative": worst.relative},
        "tensors": [asdict(report) for report in reports],
    }


def _write_words(folder: Path, words: Vocabulary) -> None:
    _write_json(folder / "tokenizer.json", words.tokenizer)
    if words.template:
        (folder / "chat_template.jinja").write_text(words.template, "utf-8")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1 if path.name == MANIFEST else None), "utf-8")


def _digest(path: Path) -> dict[str, Any]:
    digest = sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _wrong(file: str, tensor: str, what: str) -> ArtifactError:
    fix = "use a qwen2, llama, lfm2 or gemma3 model as it was published"
    return ArtifactError(f"{file}: tensor {tensor!r} {what}", field=tensor, fix=fix)
