import numpy as np
import pytest

from ruvllm.encoders.protocol import unit_rows
from ruvllm.errors import InputError, StoreError
from ruvllm.learning.sona.adapters import DRIFT_SPECS, Drift
from ruvllm.state.packing import pack, unpack

DIM = 64


def topics(n, which, seed):
    """Unit vectors about some of forty topics, and noise."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, DIM))
    return unit_rows(centres[rng.choice(which, n)] + rng.normal(size=(n, DIM)))


def boundaries(drift, rows):
    return [i for i, x in enumerate(rows) if drift.add(x)]


def test_the_same_topics_are_no_boundary():
    alarms = sum(len(boundaries(Drift(DIM), topics(2000, np.arange(40), seed))) for seed in range(6))
    assert alarms == 0


def test_other_topics_are_found_once_and_then_are_the_reference():
    rows = np.concatenate([topics(800, np.arange(20), 1), topics(800, np.arange(20, 40), 2)])
    found = boundaries(Drift(DIM), np.concatenate([rows, rows]))
    assert len(found) == 3
    assert all(0 <= end - start <= 80 for end, start in zip(found, (800, 1600, 2400), strict=True))


def test_one_outlier_is_no_boundary():
    rows = topics(1600, np.arange(40), 3)
    rows[900] *= 1e6
    assert boundaries(Drift(DIM), rows) == []


def test_saved_and_loaded_it_still_knows_what_was_before():
    one, other = Drift(DIM), Drift(DIM)
    assert boundaries(one, topics(800, np.arange(20), 4)) == []
    other.restore(unpack(pack(one.arrays(), "drift"), "drift", DRIFT_SPECS))
    later = topics(200, np.arange(20, 40), 5)
    assert boundaries(other, later) == boundaries(one, later) != []
    with pytest.raises(StoreError, match="reference"):
        Drift(DIM + 1).restore(one.arrays())


def test_what_is_no_vector_is_refused():
    for x in (np.zeros(DIM - 1), np.full(DIM, np.nan)):
        with pytest.raises(InputError, match="vector"):
            Drift(DIM).add(x)
