"""What comes with the library, for who uses a part of it without a RuvLLM."""

from __future__ import annotations

from functools import cache

from ruvllm.encoders.static import StaticEncoder
from ruvllm.host import NativeHost, load_npz
from ruvllm.text.wordpiece import WordPiece

__all__ = ["shipped_encoder"]


@cache
def shipped_encoder() -> StaticEncoder:
    """The static encoder. Raises ArtifactError: it is not there."""
    host = NativeHost()
    tokenizer = WordPiece(host.artifact("vocab.txt").decode("utf-8").splitlines())
    table = load_npz(host.artifact("static.npz"), "static.npz")
    return StaticEncoder(tokenizer, table["table"], table["scale"])
