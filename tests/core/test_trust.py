from collections.abc import Awaitable

import numpy as np
import pytest
from numpy.typing import NDArray

from ruvllm.encoders.protocol import run_now, unit_rows
from ruvllm.routing import updater as trust
from ruvllm.routing.updater import trusted

AGENTS, EACH, DIM = 8, 40, 32


def clusters(spread: float = 0.5, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """EACH unit vectors around each of AGENTS centres, and whose they are."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((AGENTS, DIM))
    labels = np.repeat(np.arange(AGENTS, dtype=np.int64), EACH)
    return unit_rows(centres[labels] + spread * random.standard_normal((len(labels), DIM))), labels


def with_noise(labels: NDArray[np.int64], share: float, seed: int = 1) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Labels of which some are another agent's, and which these are."""
    random = np.random.default_rng(seed)
    wrong = random.random(len(labels)) < share
    moved = (labels + random.integers(1, AGENTS, len(labels))) % AGENTS
    return np.where(wrong, moved, labels).astype(np.int64), wrong


def test_a_fifth_of_wrong_labels_is_mostly_doubted_and_the_right_ones_are_not():
    vectors, truth = clusters()
    labels, wrong = with_noise(truth, 0.2)
    weights = run_now(trusted(vectors, labels, AGENTS))
    assert weights.dtype == np.float32
    assert (weights[wrong] < 0.5).mean() > 0.8
    assert (weights[~wrong] == 1).mean() > 0.98


def test_what_nobody_contradicts_counts_in_full():
    vectors, labels = clusters()
    assert (run_now(trusted(vectors, labels, AGENTS)) == 1).all()


def test_texts_that_lie_between_two_agents_are_let_be():
    """Neighbours that do not agree among themselves contradict nobody."""
    random = np.random.default_rng(3)
    vectors = unit_rows(random.standard_normal((400, DIM)))
    labels = random.integers(0, AGENTS, 400)
    assert (run_now(trusted(vectors, labels, AGENTS)) == 1).mean() > 0.95


def test_few_texts_contradict_nobody():
    vectors, truth = clusters()
    labels, _ = with_noise(truth, 0.2)
    assert (run_now(trusted(vectors[:99], labels[:99], AGENTS)) == 1).all()
    assert run_now(trusted(vectors[:0], labels[:0], AGENTS)).shape == (0,)


def test_the_last_are_judged_as_among_all(monkeypatch: pytest.MonkeyPatch):
    vectors, truth = clusters()
    order = np.random.default_rng(5).permutation(len(truth))
    vectors, labels = vectors[order], with_noise(truth, 0.2)[0][order]
    every = run_now(trusted(vectors, labels, AGENTS))
    assert (every < 1).any()
    monkeypatch.setattr(trust, "_CELLS", 3_000)  # several slices, the last one shorter
    np.testing.assert_array_equal(run_now(trusted(vectors, labels, AGENTS)), every)
    np.testing.assert_array_equal(run_now(trusted(vectors, labels, AGENTS, first=250)), every[250:])


def test_others_have_their_turn_between_slices(monkeypatch: pytest.MonkeyPatch):
    vectors, labels = clusters()
    monkeypatch.setattr(trust, "_CELLS", 50 * len(labels))
    turns = list[int]()

    async def turn() -> None:
        turns.append(1)

    def pause() -> Awaitable[None]:
        return turn()

    run_now(trusted(vectors, labels, AGENTS, pause=pause))
    assert len(turns) == -(-len(labels) // 50)
