"""What comes with the library, for who uses a part of it without a RuvLLM."""

from __future__ import annotations

from functools import cache

from ruvllm.artifacts.host import Host, NativeHost, load_npz
from ruvllm.encoders.static import StaticEncoder
from ruvllm.errors import REBUILD, ArtifactError
from ruvllm.text.wordpiece import WordPiece

__all__ = ["shipped_encoder", "static_of"]


@cache
def shipped_encoder() -> StaticEncoder:
    """The static encoder. Raises ArtifactError: it is not there."""
    host = NativeHost()
    return static_of(host, WordPiece(host.artifact("vocab.txt").decode("utf-8").splitlines()))


def static_of(host: Host, tokenizer: WordPiece) -> StaticEncoder:
    """A host's static encoder. Raises ArtifactError: it is damaged."""
    table = load_npz(host.artifact("static.npz"), "static.npz")
    try:
        return StaticEncoder(tokenizer, table["table"], table["scale"])
    except KeyError as missing:
        raise ArtifactError(f"static.npz has no array {missing}", field="static.npz", fix=REBUILD) from None
