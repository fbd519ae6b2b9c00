"""A state file whose memories an earlier edition of the encoder has read: all are found, and read anew in idle time."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest

from ruvllm.encoders.protocol import no_pause, run_now, unit_rows
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.reembed import elsewhere, renew
from ruvllm.state.names import EDITION, SpaceScopedStore
from ruvllm.state.record import Memory
from ruvllm.state.store import Store

SPACE = "ruvltra-16"
TEXTS = [f"note {n} about {word}" for n, word in enumerate(("bread", "pipes", "walls", "coats", "trees") * 10)]


class Edition:
    """An encoder whose editions differ a little."""

    name, dim = "ruvltra", 16

    def __init__(self, edition: int) -> None:
        self.edition, self.asked = edition, 0

    def rows(self, texts: list[str]) -> np.ndarray:
        self.asked += len(texts)
        seeds = [crc32(text.encode()) for text in texts]
        plain = np.stack([np.random.default_rng(seed).standard_normal(self.dim) for seed in seeds])
        return unit_rows((plain + 0.1 * self.edition).astype(np.float32))

    async def encode(self, texts: list[str]) -> np.ndarray:
        return self.rows(list(texts))


@pytest.fixture
def path(tmp_path):
    store = Store(tmp_path / "state.db")
    memory = MemoryStore(Edition(1), store, space=SPACE)
    memory.add_encoded([Memory(text) for text in TEXTS], Edition(1).rows(TEXTS))
    memory.save()
    store.close()
    return tmp_path / "state.db"


def open_file(path):
    store = Store(path)
    encoder = Edition(2)
    return store, encoder, MemoryStore(encoder, store, space=SPACE), SpaceScopedStore(store, SPACE)


def first(memory: MemoryStore, text: str) -> str:
    return run_now(memory.asearch(text, k=1))[0].memory.text


def stored(store: Store) -> np.ndarray:
    return np.stack([np.frombuffer(row[0], "<f4") for row in store.read("SELECT data FROM vectors ORDER BY id")])


def test_all_memories_are_found_before_and_after(path):
    store, _, memory, scoped = open_file(path)
    assert elsewhere(memory) == {}
    assert all(first(memory, text) == text for text in TEXTS)
    assert run_now(renew(memory, scoped, 2)) == len(TEXTS)
    assert np.allclose(stored(store), Edition(2).rows(TEXTS), atol=1e-6)
    assert all(first(memory, text) == text for text in TEXTS)
    assert scoped.load(EDITION) == b"[2, 0]"
    store.close()


def test_what_was_read_is_not_read_again_after_a_stop(path):
    store, encoder, memory, scoped = open_file(path)

    async def stop_at_once() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        run_now(renew(memory, scoped, 2, stop_at_once))
    done = encoder.asked
    assert 0 < done < len(TEXTS)
    store.close()
    store, encoder, memory, scoped = open_file(path)
    assert run_now(renew(memory, scoped, 2)) == encoder.asked == len(TEXTS) - done
    assert len(store.read("SELECT id FROM memories")) == len(TEXTS)
    store.close()


def test_a_file_without_memories_is_done_at_once(tmp_path):
    store = Store(tmp_path / "empty.db")
    memory = MemoryStore(Edition(2), store, space=SPACE)
    scoped = SpaceScopedStore(store, SPACE)
    assert run_now(renew(memory, scoped, 2, no_pause)) == 0
    assert scoped.load(EDITION) == b"[2, 0]"
    store.close()


def test_other_spaces_are_left_alone(path):
    store, _, _, _ = open_file(path)
    other = MemoryStore(Edition(2), store, space="minilm-16")
    assert run_now(renew(other, SpaceScopedStore(store, "minilm-16"), 2)) == 0
    assert np.allclose(stored(store), Edition(1).rows(TEXTS), atol=1e-6)
    store.close()
