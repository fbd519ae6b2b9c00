"""A user's model in the place of ruvllm's encoders: for routing, memory and answers alike."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ruvllm.agents.catalog import builtin_agents, builtin_digest, card, spoken_name
from ruvllm.encoders.cache import CachedEncoder
from ruvllm.encoders.families import MINILM
from ruvllm.encoders.pooled import PooledEncoder
from ruvllm.encoders.protocol import Vectors
from ruvllm.inference.encoder_model import open_encoder
from ruvllm.inference.library import models_folder
from ruvllm.routing.fusion import RouterWeights
from ruvllm.routing.router import Router
from ruvllm.routing.stored import save_scorers
from ruvllm.state.store import Store
from ruvllm.types import Feedback


class CustomEncoder:
    """The model, and what is stored so that a start need not wait for it.

    The built-in agents' texts take a language model minutes. Their vectors are stored in the models' folder, and the
    scorers that were made of them in the state file.

    Args:
        text: see `open_encoder`.

    Attributes:
        encoder: the same, with a cache.
        saved: paths of the state files that have the scorers in use.
    """

    def __init__(self, text: str) -> None:
        self.model: PooledEncoder = open_encoder(text)
        self.encoder = CachedEncoder(self.model)
        self.saved = set[str]()
        self._file = models_folder() / ".vectors" / f"{self.model.name}.npz"
        self._texts = _catalog_texts()
        self.model.precomputed = dict(zip(self._texts, self._read(), strict=False))
        self._had = len(self.model.precomputed)

    def weights(self, weights: RouterWeights) -> RouterWeights:
        """Those of MiniLM for this encoder."""
        return weights.with_encoder(self.model.name, self.model.dim, MINILM.name)

    def save(self, store: Store, router: Router, feedback: Sequence[Feedback]) -> None:
        """Keep what is new.

        Args:
            feedback: all of it for the router's agents, oldest first.

        Raises:
            StoreError: the state file cannot be written.
        """
        mine = {name: scorer for name, scorer in router.learnt.items() if name == self.model.name}
        if mine and store.path not in self.saved and store.path != ":memory:":
            save_scorers(store, mine, router.agents, feedback, router.weights)
            self.saved.add(store.path)
        if not self._had:
            self._write()

    def _read(self) -> Vectors:
        """float32 (texts, dim), or no rows."""
        with suppress(OSError, ValueError, KeyError), np.load(self._file, allow_pickle=False) as stored:
            vectors = stored["vectors"]
            fits = vectors.shape == (len(self._texts), self.model.dim) and vectors.dtype == np.float32
            if fits and str(stored["digest"]) == builtin_digest():
                return np.asarray(vectors)
        return np.zeros((0, self.model.dim), np.float32)

    def _write(self) -> None:
        """All of them or none; where there is no place for them, they are worked out again."""
        found = [self.encoder.cache.get(text) for text in self._texts]
        if any(vector is None for vector in found):
            return
        fresh = Path(f"{self._file}.part")
        with suppress(OSError):
            fresh.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("wb") as file:
                np.savez(file, vectors=np.stack([v for v in found if v is not None]), digest=np.array(builtin_digest()))
            fresh.replace(self._file)
            self._had = len(found)


def _catalog_texts() -> list[str]:
    """What is encoded of the built-in agents, each text once."""
    agents = builtin_agents()
    parts = ([card(a) for a in agents], [spoken_name(a.name) for a in agents], [t for a in agents for t in a.examples])
    return list(dict.fromkeys(text for part in parts for text in part))
