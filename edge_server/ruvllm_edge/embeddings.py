"""Embeddings, as OpenAI's API has them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

import numpy as np
from msgspec import UNSET

from ruvllm.encoders.protocol import Vectors
from ruvllm.inference.backend import estimate_tokens
from ruvllm_edge import openai_types as o
from ruvllm_edge.auth import Key
from ruvllm_edge.chat import AUTO
from ruvllm_edge.edge import Edge
from ruvllm_edge.openai import STYLE, embeds
from ruvllm_edge.operations import Call, Operation
from ruvllm_edge.problems import Problem

_OPENAIS = "text-embedding-"


async def embed(edge: Edge, key: Key, texts: Sequence[str], model: str, dimensions: int | None) -> Vectors:
    """Unit vectors, float32 (len(texts), dimensions); fewer dimensions than the encoder has are its first ones.

    Args:
        model: AUTO, the encoder's name, or one that the settings take for it.

    Raises:
        Problem: there is no such model, or it has fewer dimensions.
    """
    encoder, names = edge.llm.encoders.main, edge.settings.embedding_names
    served = model in (AUTO, encoder.name, *names) or (not names and model.startswith(_OPENAIS))
    if not served or not embeds(edge, key):
        fix = f"use {AUTO} or {encoder.name}, or set RUVLLM_EMBEDDING_NAMES"
        raise Problem(404, f"there is no embedding model {model[:100]!r}", field="model", fix=fix)
    if dimensions is not None and dimensions > encoder.dim:
        raise Problem(400, f"dimensions is {dimensions}", field="dimensions", fix=f"use 1 to {encoder.dim}")
    about = {"gen_ai.request.model": encoder.name, "gen_ai.embeddings.dimension.count": dimensions or encoder.dim}
    with edge.traced("embeddings", encoder.name, about):
        rows = await edge.embed(texts)
    if dimensions in (None, encoder.dim):
        return rows
    rows = rows[:, :dimensions].copy()
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return rows


async def embeddings(edge: Edge, call: Call) -> o.Embeddings:
    """Unit vectors in the space that tasks and memories share; their scalar products are cosines."""
    body: o.EmbeddingBody = call.body
    texts = _texts(edge, body)
    rows = await embed(edge, call.key, texts, body.model, body.dimensions)
    tokens = sum(map(estimate_tokens, texts))
    base64 = body.encoding_format == "base64"
    cut = edge.llm.encoders.truncated(texts)
    data = [
        o.Embedding(
            i, b64encode(row.astype("<f4").tobytes()).decode() if base64 else row.tolist(), truncated=cut[i] or UNSET
        )
        for i, row in enumerate(rows)
    ]
    return o.Embeddings(data, edge.llm.encoders.main.name, o.EmbeddingUsage(tokens, tokens))


def _texts(edge: Edge, body: o.EmbeddingBody) -> list[str]:
    """The input as texts: tokens of our own encoders' vocabulary are spelled out. Raises Problem: of another's."""
    if isinstance(body.input, str):
        return [body.input]
    rows = [one for one in body.input if not isinstance(one, int)]
    if len(rows) < len(body.input):  # one text's
        rows = [[one for one in body.input if isinstance(one, int)]]
    encoders = edge.llm.encoders
    try:
        if encoders.custom is not None or body.model not in (AUTO, encoders.main.name):
            raise IndexError
        return [row if isinstance(row, str) else encoders.static.tokenizer.text(row) for row in rows]
    except IndexError:
        fix = "send texts (in LangChain: check_embedding_ctx_length=False)"
        raise Problem(400, "input has numbers of another model's tokens", field="input", fix=fix) from None


OPERATIONS = (
    Operation("POST", "/v1/embeddings", embeddings, "Place texts in the space", o.EmbeddingBody, answer=o.Embeddings,
              tag="openai", style=STYLE, most=8 << 20, example={"input": ["fix the login"]}),
)  # fmt: skip
