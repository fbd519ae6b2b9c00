"""Models on this machine as encoders: a converted decoder, or an embedding model's ONNX folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.agents.catalog import builtin_agents
from ruvllm.encoders.pooled import POOLINGS, PooledEncoder, Pooling
from ruvllm.errors import CONVERT, BackendError, EncoderError, InputError
from ruvllm.inference.library import find_model, prepare
from ruvllm.inference.local import MANIFEST, onnx_graph, read_manifest
from ruvllm.inference.local_model import read_model
from ruvllm.text.tokenizer_file import read_tokenizer
from ruvllm.text.wordpiece import WordPiece

_MOST_TOKENS = 512  # of a text; what it is about is said by then
_CENTRE_OF = 32  # texts
_END = 1 << 20  # bytes of either end of a file that tell it from others


def parted(text: str) -> tuple[str, Pooling | None]:
    """A model and how its tokens are pooled, from "MODEL" or "MODEL:mean"."""
    model, _, last = text.rpartition(":")
    return (model, next(p for p in POOLINGS if p == last)) if model and last in POOLINGS else (text, None)


def is_onnx_folder(folder: Path) -> bool:
    """Whether an embedding model was exported there."""
    return (folder / "tokenizer.json").is_file() and _graph_of(folder) is not None and not (folder / MANIFEST).exists()


def open_encoder(text: str) -> PooledEncoder:
    """An encoder from the path or name of a model, downloaded and converted first if need be.

    Args:
        text: what `prepare` takes, or a folder with tokenizer.json and model.onnx (or onnx/model.onnx); after it
            ":mean", ":max", ":last" or ":cls" may say how tokens are pooled.

    Raises:
        RuvllmError: there is no such model, or it cannot be used as an encoder.
    """
    model, pooling = parted(text)
    folder = Path(model).expanduser()
    if is_onnx_folder(folder):
        return _of_onnx(folder.resolve(), pooling)
    found = find_model(model) or prepare(model)
    return _of_decoder(found.path, pooling or "mean")


def _of_decoder(folder: Path, pooling: Pooling) -> PooledEncoder:
    manifest = read_manifest(folder)
    words = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    model = read_model(folder.name, manifest, words)
    graph = _session(folder / "model.onnx")
    if "hidden_states" not in {output.name for output in graph.get_outputs()}:
        message = f"{folder.name} was converted before models were encoders, too"
        raise EncoderError(message, field="encoder", fix=CONVERT)
    most, begin = min(model.context, _MOST_TOKENS), [] if model.begin is None else [model.begin]

    def tokens(text: str, most: int) -> list[int]:
        ids = model.tokenizer.ids(text, inert=True)
        return [*begin, *ids][:most] if ids else []

    def hidden(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        last = {"attention_mask": np.ones_like(ids), "num_logits_to_keep": np.ones(1, np.int64)}
        states: NDArray[np.float32] = graph.run(["hidden_states"], model.shape.empty() | {"input_ids": ids} | last)[0]
        return states

    digest = _digest([f"{file['name']}:{file.get('sha256')}" for file in manifest["files"]])
    encoder = PooledEncoder(f"{folder.name}-{pooling}-{digest}", model.shape.hidden, pooling, tokens, most, hidden)
    encoder.centre = _centre(folder / f"centre-{pooling}-{digest}.npy", encoder)
    return encoder


def _centre(path: Path, encoder: PooledEncoder) -> NDArray[np.float32]:
    """The mean of some texts' vectors, kept beside the model: worked out once."""
    try:
        cached = np.load(path, allow_pickle=False)
        if cached.shape == (encoder.dim,) and cached.dtype == np.float32 and np.isfinite(cached).all():
            return np.asarray(cached)
    except (OSError, ValueError):
        pass
    texts = [agent.description for agent in builtin_agents()[:_CENTRE_OF]]
    centre = np.mean([encoder.raw(text) for text in texts], axis=0, dtype=np.float32)
    fresh = path.with_suffix(".part")
    try:
        with fresh.open("wb") as file:
            np.save(file, centre, allow_pickle=False)
        fresh.replace(path)
    except OSError:  # a folder that cannot be written to: worked out anew each time
        fresh.unlink(missing_ok=True)
    return np.asarray(centre)


def _of_onnx(folder: Path, pooling: Pooling | None) -> PooledEncoder:
    path = _graph_of(folder)
    assert path is not None
    graph = _session(path)
    inputs = {one.name for one in graph.get_inputs()}
    outputs = {one.name: one.shape for one in graph.get_outputs()}
    strange = inputs - {"input_ids", "attention_mask", "token_type_ids"}
    name = next((n for n in ("sentence_embedding", "last_hidden_state", "token_embeddings") if n in outputs), None)
    if strange or name is None or not isinstance(outputs[name][-1], int):
        what = f"takes {sorted(inputs)} and gives {sorted(outputs)}"
        fix = "export it so that it gives last_hidden_state or sentence_embedding"
        raise EncoderError(f"{path} is no embedding model: it {what}"[:300], field="encoder", fix=fix)

    def hidden(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        states: NDArray[np.float32] = graph.run([name], {key: feeds[key] for key in inputs})[0]
        return states

    how = pooling or _stored_pooling(folder)
    digest = _digest([_print(path), _print(folder / "tokenizer.json")])
    return PooledEncoder(f"{folder.name}-{how}-{digest}", int(outputs[name][-1]), how, *_tokens(folder), hidden)


def _graph_of(folder: Path) -> Path | None:
    return next((path for path in (folder / "model.onnx", folder / "onnx" / "model.onnx") if path.is_file()), None)


def _stored_pooling(folder: Path) -> Pooling:
    """What its own configuration says, else the mean."""
    settings = _object(folder / "1_Pooling" / "config.json")
    if settings.get("pooling_mode_lasttoken"):
        return "last"
    return "cls" if settings.get("pooling_mode_cls_token") else "mean"


def _tokens(folder: Path) -> tuple[Callable[[str, int], Sequence[int]], int]:
    """The ids of a text as the model was trained on them, with what stands around every text; how many it reads."""
    data = _object(folder / "tokenizer.json")
    config = _object(folder / "config.json")
    places = config.get("max_position_embeddings")
    most = min(places, _MOST_TOKENS) if type(places) is int and places > 2 else _MOST_TOKENS
    model = data.get("model")
    if isinstance(model, dict) and model.get("type") == "WordPiece":
        vocab, normalizer = model.get("vocab"), data.get("normalizer") or {}
        if not isinstance(vocab, dict) or normalizer.get("lowercase") is False:
            raise _strange("is a WordPiece with capitals")
        return WordPiece(sorted(vocab, key=vocab.__getitem__)).encode, most
    before, after = _around(data.get("post_processor"))
    bpe = read_tokenizer(data)

    def tokens(text: str, most: int) -> list[int]:
        return [*before, *bpe.ids(text, inert=True)[: most - len(before) - len(after)], *after]

    return tokens, most


def _around(processor: Any) -> tuple[list[int], list[int]]:
    match processor:
        case None | {"type": "ByteLevel"}:
            return [], []
        case {"type": "Sequence", "processors": list(steps)}:
            found = [_around(step) for step in steps]
            return [i for before, _ in found for i in before], [i for _, after in found for i in after]
        case {"type": "RobertaProcessing" | "BertProcessing", "cls": [_, int(cls)], "sep": [_, int(sep)]}:
            return [cls], [sep]
        case {"type": "TemplateProcessing", "single": list(single), "special_tokens": dict(specials)}:
            parts: tuple[list[int], list[int]] = [], []
            seen = False
            for piece in single:
                seen = seen or "Sequence" in piece
                if "SpecialToken" in piece:
                    parts[seen].extend(specials[piece["SpecialToken"]["id"]]["ids"])
            return parts
    raise _strange(f"has a post_processor {str(processor)[:60]}")


def _strange(what: str) -> InputError:
    fix = "use an embedding model of BERT's, GPT-2's, Llama's or Qwen's family"
    return InputError(f"the encoder's tokenizer {what}", field="tokenizer.json", fix=fix)


def _object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _digest(parts: Sequence[str]) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:8]


def _print(path: Path) -> str:
    """Tells a file from others without reading all of it."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        first = file.read(_END)
        file.seek(max(0, size - _END))
        return f"{size}:{sha256(first + file.read(_END)).hexdigest()}"


def _session(path: Path) -> Any:
    try:
        return onnx_graph(path)
    except BackendError as error:
        raise EncoderError(error.message, field="encoder", fix=error.fix) from None
