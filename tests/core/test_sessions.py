"""Sessions end when nobody uses them, the oldest first, and keep their last turns."""

from __future__ import annotations

import numpy as np
import pytest

from ruvllm.errors import InputError
from ruvllm.query.requests import Asked, RequestLog
from ruvllm.routing.fastgrnn import FastGrnn
from ruvllm.routing.fastgrnn_session import RouterSession
from ruvllm.sessions import Sessions, new_id


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


NETWORK = FastGrnn(8)


def sessions(ttl: float = 60, most: int = 3) -> tuple[Sessions, Clock]:
    clock = Clock()
    return Sessions(lambda: RouterSession(NETWORK), ttl, most, clock), clock


def test_a_session_keeps_what_it_was_made_with():
    known, clock = sessions()
    made = known.new({"user": "ada"})
    clock.now += 5
    found = known.get(made.id).snapshot()
    assert (found.metadata, found.created, found.accessed) == ({"user": "ada"}, 1_000, 1_005)
    assert found.history == ()


def test_ids_are_random_or_the_callers():
    known, _ = sessions()
    assert known.new().id != known.new().id
    assert known.new(id="mine").id == "mine"
    with pytest.raises(InputError, match="already"):
        known.new(id="mine")
    for bad in ("", "x" * 300, "a\nb", 3):
        with pytest.raises(InputError):
            known.new(id=bad)  # type: ignore[arg-type]
    assert len({new_id("req") for _ in range(1_000)}) == 1_000


def test_a_session_ends_when_it_is_not_used():
    known, clock = sessions(ttl=60)
    used, unused = known.new().id, known.new().id
    for _ in range(3):
        clock.now += 30
        known.get(used)
    with pytest.raises(InputError, match="no session"):
        known.get(unused)
    assert len(known) == 1


def test_the_one_unused_for_longest_makes_room():
    known, _ = sessions(most=3)
    first, second, third = (known.new().id for _ in range(3))
    known.get(first)
    fourth = known.new().id
    assert len(known) == 3
    with pytest.raises(InputError):
        known.get(second)
    assert [known.get(i).id for i in (first, third, fourth)] == [first, third, fourth]


def test_a_session_can_be_ended():
    known, _ = sessions()
    id = known.new().id
    assert known.end(id)
    assert not known.end(id)
    with pytest.raises(InputError):
        known.get(id)


def test_history_is_bounded():
    known, _ = sessions()
    session = known.new()
    for i in range(120):
        session.add(f"question {i}", f"answer {i}")
    history = session.snapshot().history
    assert len(history) == 100
    assert (history[0].content, history[-1].content) == ("question 70", "answer 119")


def test_the_log_remembers_the_latest_requests():
    log = RequestLog(2)
    for name in ("one", "two", "three"):
        log.add(Asked(name, "text", "agent", np.zeros(8, np.float32)))
    assert log.get("three").request_id == "three"
    for gone in ("one", "", 3):
        with pytest.raises(InputError, match="remembered"):
            log.get(gone)  # type: ignore[arg-type]
