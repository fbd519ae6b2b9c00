from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ruvllm.encoders.protocol import unit_rows
from ruvllm.routing.recollection import Recollected, Recollection, latest
from ruvllm.sizing.tiers import action_for
from ruvllm.types import Action, Feedback

DIM = 64
WEIGHTS = np.array([20, -14], np.float32)  # P(same agent) is 0.9 at a cosine of 0.81
A, B = 0, 1
Vector = NDArray[np.float32]


@pytest.fixture
def memory() -> Recollection:
    return Recollection(DIM, WEIGHTS)


def directions(count: int, seed: int = 0) -> NDArray[np.float32]:
    return unit_rows(np.random.default_rng(seed).standard_normal((count, DIM)))


def like(vector: Vector, cosine: float, seed: int = 9) -> Vector:
    """A unit vector at a cosine from another."""
    other = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    other -= (other @ vector) * vector
    other /= np.linalg.norm(other)
    return np.asarray(cosine * vector + np.sqrt(1 - cosine**2) * other, np.float32)


def tell(memory: Recollection, text: str, agent: int, vector: Vector, right: bool = True, weight: float = 1.0) -> None:
    memory.add([Feedback(text, f"agent {agent}", weight, right)], [agent], vector[None])


def test_a_near_duplicate_is_answered_with_its_evidence(memory: Recollection):
    task, other = directions(2)
    tell(memory, "task", A, task)
    tell(memory, "other", B, other)
    found = memory.find(like(task, 0.95))
    assert found is not None
    assert found.agent == A
    assert [text for text, _ in found.near] == ["task"]
    assert found.near[0][1] == pytest.approx(0.95, abs=1e-5)
    assert 0.9 < found.confidence <= 0.95  # never surer than confirmed tasks agree among themselves
    nearer = memory.find(task)
    assert nearer is not None
    assert nearer.confidence >= found.confidence


@pytest.mark.parametrize(("cosine", "answers"), [(0.82, True), (0.80, False), (0.78, False), (0.76, None)])
def test_the_bounds_are_where_nine_and_eight_in_ten_agree(cosine: float, answers: bool | None, memory: Recollection):
    (task,) = directions(1)
    tell(memory, "task", A, task)
    found = memory.find(like(task, cosine))
    assert (None if found is None else found.answers) == answers


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("probability", [0.0, 0.3, 0.8999, 0.9, 0.95, 0.9947, 1.0])
@pytest.mark.parametrize("first", [True, False])
def test_what_is_confirmed_never_takes_sureness_away(probability: float, first: bool, answers: bool):
    found = Recollected(A, 0.92 if answers else 0.82, (("task", 0.9),), answers)
    joined = found.joined(probability, first)
    assert probability <= joined <= 1
    if first and 0 < probability < 0.9999 and (answers or probability not in (0.8999, 0.9)):
        assert joined > probability
    if not answers:  # a similar task leaves it to the scorers whether an answer is to be used without asking
        assert (action_for(joined) == Action.USE) == (action_for(probability) == Action.USE)


def test_the_nearer_the_surer(memory: Recollection):
    (task,) = directions(1)
    tell(memory, "task", A, task)
    found = [memory.find(like(task, cosine)) for cosine in (0.78, 0.80, 0.82, 0.9, 0.98)]
    joined = [one.joined(0.93, True) for one in found if one is not None]
    assert len(joined) == 5
    assert joined == sorted(joined)


def test_a_rejection_silences_similar_tasks_too(memory: Recollection):
    (task,) = directions(1)
    tell(memory, "task", A, like(task, 0.78, 1))
    assert memory.find(task) is not None
    tell(memory, "other", A, like(task, 0.79, 2), right=False)
    assert memory.find(task) is None


def test_nothing_confirmed_and_nothing_said_is_nothing(memory: Recollection):
    (task,) = directions(1)
    assert memory.find(task) is None
    tell(memory, "no known word", A, np.zeros(DIM, np.float32))
    assert len(memory) == 0
    tell(memory, "task", A, task)
    assert memory.find(np.zeros(DIM, np.float32)) is None


def test_near_texts_that_disagree_keep_it_silent_unless_most_of_their_weight_agrees(memory: Recollection):
    (task,) = directions(1)
    tell(memory, "one", A, like(task, 0.97, 1))
    tell(memory, "two", B, like(task, 0.95, 2))
    assert memory.find(task) is None
    tell(memory, "one", A, like(task, 0.97, 1), weight=5.0)
    found = memory.find(task)
    assert found is not None
    assert (found.agent, [text for text, _ in found.near]) == (A, ["one"])


def test_the_last_word_on_a_text_holds(memory: Recollection):
    task, _ = directions(2)
    tell(memory, "task", A, task)
    tell(memory, "task", B, task)
    found = memory.find(task)
    assert found is not None
    assert found.agent == B
    assert len(memory) == 1
    memory.add([Feedback("task", "x"), Feedback("task", "y")], [B, A], np.stack([task, task]))
    found = memory.find(task)
    assert found is not None
    assert found.agent == A
    assert len(memory) == 1


def test_a_rejection_takes_back_what_was_confirmed(memory: Recollection):
    (task,) = directions(1)
    tell(memory, "task", A, task)
    tell(memory, "task", B, task, right=False)  # says nothing against A
    assert memory.find(task) is not None
    tell(memory, "task", A, task, right=False)
    assert len(memory) == 0
    assert memory.find(task) is None
    tell(memory, "task", A, task)
    assert memory.find(task) is not None


def test_both_in_one_batch_end_as_one_after_the_other(memory: Recollection):
    (task,) = directions(1)
    yes, no = Feedback("task", "a"), Feedback("task", "a", right=False)
    for told, answers in (([yes, no], False), ([no, yes], True), ([yes, no, yes], True), ([no, yes, no], False)):
        memory.add(told, [A] * len(told), np.stack([task] * len(told)))
        assert (memory.find(task) is not None) == answers


def test_a_rejection_silences_near_duplicates_that_are_nearer_to_it(memory: Recollection):
    (task,) = directions(1)
    confirmed = like(task, 0.95, 1)
    for n in range(4):
        tell(memory, f"confirmed {n}", A, confirmed)
    tell(memory, "task", A, task, right=False)
    assert memory.find(task) is None
    assert memory.find(confirmed) is not None  # four to one, and nearer
    tell(memory, "confirmed 0", B, confirmed, right=False)
    assert memory.find(confirmed) is not None


def contradicting(share: float) -> Recollection:
    """80 pairs of near-duplicates, of which a share were confirmed for different agents."""
    memory, tasks = Recollection(DIM, WEIGHTS), directions(80, 3)
    twins = np.stack([like(task, 0.99, seed) for seed, task in enumerate(tasks)])
    for n, (task, twin) in enumerate(zip(tasks, twins, strict=True)):
        tell(memory, f"task {n}", n % 5, task)
        tell(memory, f"twin {n}", (n % 5 + (n < share * 80)) % 5, twin)
    return memory


def test_where_confirmed_tasks_contradict_each_other_only_repetitions_are_answered():
    task, asked = directions(1, 11)[0], 0.93
    for share, answers in ((0.0, True), (0.5, False)):
        memory = contradicting(share)
        tell(memory, "new", A, task)
        assert (memory.find(like(task, asked)) is not None) == answers
        again = memory.find(task)
        assert again is not None
        assert again.agent == A
        assert (again.confidence >= 0.9) == answers


def test_thousands_are_searched_like_a_few(memory: Recollection):
    vectors = directions(3_000, 5)
    told = [Feedback(f"task {n}", f"agent {n % 7}") for n in range(3_000)]
    memory.add(told, [n % 7 for n in range(3_000)], vectors)
    for n in range(0, 3_000, 211):
        found = memory.find(like(vectors[n], 0.97, n))
        assert found is not None
        assert (found.agent, found.near[0][0]) == (n % 7, f"task {n}")


def test_what_was_confirmed_is_as_sure_as_can_be_when_it_is_asked_again(memory: Recollection):
    (task,) = directions(1)
    tell(memory, "task", A, task)
    found = memory.find(task)
    assert found is not None
    assert found.joined(0.2, first=False) > 0.99  # even where the scorers have come to think otherwise


def test_only_the_last_of_much_feedback_is_looked_at():
    records = [Feedback(str(i), "a", right=i % 3 > 0) for i in range(30)]
    assert latest(records, 30) is records
    assert [int(one.text) for one in latest(records, 4)] == [18, 21, 24, 25, 26, 27, 28, 29]
    assert latest(records[1:3] * 9, 4) == records[1:3] * 2


def test_only_the_latest_are_remembered():
    memory, vectors = Recollection(DIM, WEIGHTS, most=50), directions(80, 4)
    memory.add([Feedback(f"task {n}", "agent") for n in range(60)], [A] * 60, vectors[:60])
    assert len(memory) == 50
    assert memory.find(vectors[9]) is None
    tell(memory, "task 10", A, vectors[10])  # said again, it is of now
    for n in range(60, 80):
        tell(memory, f"task {n}", A, vectors[n])
    assert len(memory) == 50
    assert memory.find(vectors[11]) is None
    for n in (10, 79):
        found = memory.find(vectors[n])
        assert found is not None
        assert found.near[0][0] == f"task {n}"
