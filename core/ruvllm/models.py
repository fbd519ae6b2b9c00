"""The models that come with ruvllm, read from a host's artifacts when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from ruvllm.agents.catalog import builtin_agents, builtin_digest
from ruvllm.artifacts.host import Host, load_npz
from ruvllm.artifacts.shipped import static_of
from ruvllm.encoders.cache import CachedEncoder
from ruvllm.encoders.families import RUVLTRA, Family
from ruvllm.encoders.onnx import OnnxEncoder
from ruvllm.encoders.protocol import Encoder, Vectors
from ruvllm.errors import REBUILD, ArtifactError
from ruvllm.routing.compiled import Compiled
from ruvllm.routing.extend import places
from ruvllm.routing.fusion import RouterWeights
from ruvllm.text.wordpiece import WordPiece
from ruvllm.types import Agent

__all__ = ["Models"]


class Models:
    """The models of a host, read once however many routers use them."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._tokenizer = WordPiece(host.artifact("vocab.txt").decode("utf-8").splitlines())
        self.static = static_of(host, self._tokenizer)
        self._weights: dict[str, RouterWeights] = {}
        self._encoders: dict[str, Encoder] = {}

    @cached_property
    def space(self) -> str:
        """Of the static encoder, and of the one that it was distilled from."""
        return RUVLTRA.space(self.static.dim)

    def weights(self, family: Family) -> RouterWeights:
        """The router's, for a family."""
        if family.name not in self._weights:
            name = family.artifact("router.npz")
            self._weights[family.name] = RouterWeights.from_arrays(load_npz(self._host.artifact(name), name), name)
        return self._weights[family.name]

    def encoder(self, family: Family) -> Encoder:
        """A family's, with its cache of vectors."""
        if family.name not in self._encoders:
            self._encoders[family.name] = _Lazy(self._host, self._tokenizer, family)
        return self._encoders[family.name]

    def builtin(self, agents: Sequence[Agent], files: Sequence[str], weights: RouterWeights) -> Compiled | None:
        """What was built before, where the agents are the built-in ones or little else.

        Args:
            files: artifacts to read it from.
        """
        if places(agents, builtin_agents()) is None:
            return None
        found: dict[str, NDArray[Any]] = {}
        for name in files:
            arrays = load_npz(self._host.artifact(name), name)
            if str(arrays.pop("digest", None)) != builtin_digest():
                return None
            found |= arrays
        return Compiled.unpack(builtin_agents(), found, weights)


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
