"""The encoders that come with ruvllm, opened from a host's artifacts when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from ruvllm.artifacts.host import Host, NativeHost, load_npz, map_npz
from ruvllm.encoders.cache import CachedEncoder
from ruvllm.encoders.families import Family
from ruvllm.encoders.onnx import OnnxEncoder
from ruvllm.encoders.protocol import Encoder, Vectors
from ruvllm.encoders.static import StaticEncoder
from ruvllm.errors import REBUILD, ArtifactError
from ruvllm.text.wordpiece import WordPiece


class ShippedEncoders:
    """A host's encoders, each opened once however many runtimes share it.

    Attributes:
        static: the token table.

    Raises:
        ArtifactError: the vocabulary or the table is missing or damaged.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self._tokenizer = WordPiece(host.artifact("vocab.txt").decode("utf-8").splitlines())
        name = "static.npz"
        table = map_npz(host.path(name)) if isinstance(host, NativeHost) else load_npz(host.artifact(name), name)
        try:
            self.static = StaticEncoder(self._tokenizer, table["table"], table["scale"])
        except KeyError as missing:
            raise ArtifactError(f"static.npz has no array {missing}", field="static.npz", fix=REBUILD) from None
        self._contextual: dict[str, Encoder] = {}

    def contextual(self, family: Family) -> Encoder:
        """A family's transformer, with its cache of vectors. Raises ArtifactError: its projection is missing."""
        if family.name not in self._contextual:
            self._contextual[family.name] = _Lazy(self.host, self._tokenizer, family)
        return self._contextual[family.name]


@cache
def shipped_encoder() -> StaticEncoder:
    """The static encoder, for who uses a part of the library without a RuvLLM. Raises ArtifactError: none is there."""
    return ShippedEncoders(NativeHost()).static


class _Lazy:
    """An encoder whose session is opened when the first text needs it."""

    def __init__(self, host: Host, tokenizer: WordPiece, family: Family) -> None:
        self._host, self._tokenizer, self._family = host, tokenizer, family
        self.name, space = family.name, family.artifact("space.npz")
        projection = load_npz(host.artifact(space), space).get("projection")
        if projection is None or projection.ndim != 2:
            raise ArtifactError(f"{space} has no projection", field=space, fix=REBUILD)
        self._projection = projection
        self.dim = int(projection.shape[1])
        self._encoder: Encoder | None = None

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 (len(texts), dim), unit rows."""
        if self._encoder is None:
            session = self._host.session(self._family.model)
            self._encoder = CachedEncoder(OnnxEncoder(self.name, self._tokenizer, session, self._projection))
        return await self._encoder.encode(texts)
