import asyncio
import json

import numpy as np
import pytest

from ruvllm import RuvLLM
from ruvllm.errors import EncoderError, InputError, StoreError
from ruvllm.integrations.agentdb import IntelligentQueryRouter, LLMRouter
from ruvllm.sizing.difficulty import Difficulty
from ruvllm.sizing.selector import BackendProfile, Choice, LLMOrchestrator

DIM = 4
SMALL, LARGE = BackendProfile("small", 0.001, 300, 0.7), BackendProfile("large", 0.03, 2_000, 0.9)
HARD, EASY = np.array([1.0, 0, 0, 0]), np.array([0, 1.0, 0, 0])


def replay(selector: LLMOrchestrator, turns: int, seed: int = 0, chance=None) -> float:
    """The mean quality: the small one fails at hard prompts, the large one seldom at any."""
    chance = chance or {("small", True): 0.1, ("small", False): 0.9, ("large", True): 0.9, ("large", False): 0.9}
    random = np.random.default_rng(seed)
    total = 0
    for _ in range(turns):
        hard = bool(random.random() < 0.4)
        vector = (HARD if hard else EASY) + 0.1 * random.standard_normal(DIM)
        choice = selector.select(vector)
        good = bool(random.random() < chance[choice.backend, hard])
        selector.record_outcome(choice, good, cost=SMALL.cost if choice.backend == "small" else LARGE.cost)
        total += good
    return total / turns


@pytest.fixture(scope="module")
def taught() -> LLMOrchestrator:
    selector = LLMOrchestrator([SMALL, LARGE], dim=DIM, budget=0.015, memory=2_000)
    assert replay(selector, 1_200) > 0.87  # 0.9 is the best that there is, 0.58 the small one alone
    return selector


def test_hard_prompts_go_to_the_large_one_within_the_budget(taught):
    chosen = {name: [taught.select(vector).backend for _ in range(20)] for name, vector in (("h", HARD), ("e", EASY))}
    assert chosen["h"].count("large") >= 15
    assert chosen["e"].count("small") >= 10
    stats = taught.stats()
    assert stats["spent"] / stats["answers"] == pytest.approx(0.015, rel=0.1)
    assert 0.4 < stats["savings"] < 0.6


def test_it_learns_how_good_each_is():
    told, random = LLMOrchestrator([SMALL, LARGE], dim=DIM), np.random.default_rng(0)
    for turn in range(1_200):
        name, vector = ("small", "large")[turn % 2], (HARD, EASY)[int(random.random() < 0.6)]
        good = random.random() < (0.1 if name == "small" and vector is HARD else 0.9)
        told.record_outcome(name, bool(good), prompt=vector + 0.1 * random.standard_normal(DIM))
    hard, easy = (told.bandit.expected(told.inputs("", vector)) for vector in (HARD, EASY))
    assert hard == pytest.approx([0.1, 0.9], abs=0.15)
    assert easy == pytest.approx([0.9, 0.9], abs=0.15)


def test_stats_are_json_and_add_up(taught):
    stats = json.loads(json.dumps(taught.stats(), allow_nan=False))
    assert stats["answers"] == sum(backend["calls"] for backend in stats["backends"]) == 1_200
    assert [point["answers"] for point in stats["curve"]] == list(range(50, 1_201, 50))
    assert stats["always_dearest"] == pytest.approx(1_200 * 0.03)
    last = stats["curve"][-1]
    small, large = last["backends"]
    assert min(small, large) <= last["quality"] <= max(small, large)


def test_the_curve_says_who_was_not_asked_and_stays_short():
    selector = LLMOrchestrator([SMALL, LARGE], dim=DIM)
    for turn in range(12_000):
        selector.ledger.add(0, float(turn % 2), None, None)
    curve = selector.stats()["curve"]
    assert len(curve) < 200
    assert (curve[-1]["answers"], curve[-1]["backends"]) == (12_000, [0.5, None])


def test_a_difficulty_of_other_rows_is_a_warm_start():
    random = np.random.default_rng(5)
    hard = random.random(400) < 0.5
    vectors = np.where(hard[:, None], HARD, EASY) + 0.1 * random.standard_normal((400, DIM))
    chance = np.stack([np.where(hard, 0.1, 0.9), np.full(400, 0.9)], 1)
    rows = [str(row) for row in range(400)]
    known = Difficulty.fit(rows, vectors.astype(np.float32), random.random((400, 2)) < chance, ("weak", "strong"))
    selector = LLMOrchestrator([LARGE, SMALL], dim=DIM, difficulty=known)  # the weakest is the cheapest
    large, small = selector.bandit.expected(selector.inputs("1", HARD))
    assert large - small > 0.5
    again = LLMOrchestrator([LARGE, SMALL], dim=DIM, difficulty=known)
    for _ in range(300):
        selector.record_outcome("large", False, prompt=HARD)
    assert selector.bandit.expected(selector.inputs("1", HARD))[0] < large - 0.3  # outcomes count more
    again.restore(selector.to_bytes())
    assert again.stats() == selector.stats()
    three = Difficulty.fit(rows, vectors.astype(np.float32), np.ones((400, 3), bool), ("a", "b", "c"))
    for dim, other in ((DIM, three), (DIM + 1, known)):
        with pytest.raises(InputError, match="difficulty"):
            LLMOrchestrator([SMALL, LARGE], dim=dim, difficulty=other)


def test_limits_are_hard(taught):
    assert taught.select(HARD, max_cost=0.01).backend == "small"
    assert taught.select(HARD, max_latency=500).backend == "small"
    assert taught.select(HARD, min_quality=0.6).backend == "large"


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"max_cost": 0.0009}, "'small', costs \\$0.001"),
        ({"max_cost": 0.029, "min_quality": 0.8}, "'large', costs \\$0.03"),
        ({"max_latency": 100}, "'small', takes 300 ms"),
        ({"min_quality": 1.01}, "expected quality"),
    ],
)
def test_the_nearest_miss_is_named(taught, limits, told):
    with pytest.raises(InputError, match=f"no backend matches: the nearest, .*{told}"):
        taught.select(HARD, **limits)


def test_without_a_budget_it_is_quality_for_cost_and_time():
    selector = LLMOrchestrator([SMALL, BackendProfile("slow", 0.001, 3_000, 0.9), LARGE], dim=DIM)
    choice = selector.select(HARD)
    assert (choice.backend, choice.alternatives) == ("small", ("slow", "large"))
    assert selector.select(HARD, min_quality=0.85).backend == "slow"


def test_whoever_is_to_hear_of_outcomes_may_have_to_be_awaited():
    """As in a page, whose encoder waits for the browser."""
    heard = []

    async def observe(vector, name, quality):
        await asyncio.sleep(0)  # which needs no event loop
        heard.append((name, quality, vector.shape))

    selector = LLMOrchestrator([SMALL, LARGE], dim=DIM, observe=observe)
    recording = selector.arecord_outcome("small", quality=0.25, prompt=EASY)
    recording.send(None)
    with pytest.raises(StopIteration):
        recording.send(None)
    assert heard == [("small", 0.25, (DIM,))]
    with pytest.raises(EncoderError, match="asynchronous"):
        selector.record_outcome("small", prompt=EASY)


def test_prices_and_times_are_learnt():
    selector = LLMOrchestrator([SMALL, LARGE], dim=DIM)
    for _ in range(300):
        selector.record_outcome("small", quality=0.8, cost=0.02, latency=900, prompt=EASY)
    small = selector.stats()["backends"][0]
    assert small["cost"] == pytest.approx(0.02, rel=0.05)
    assert small["latency"] == pytest.approx(900, rel=0.05)
    with pytest.raises(InputError, match="nearest, 'small', costs"):
        selector.select(EASY, max_cost=0.005)


def test_a_backend_that_gets_worse_is_left():
    selector = LLMOrchestrator([SMALL, LARGE], dim=DIM, budget=0.03, memory=500)
    replay(selector, 600)
    broken = {("small", True): 0.1, ("small", False): 0.9, ("large", True): 0.0, ("large", False): 0.0}
    replay(selector, 600, seed=1, chance=broken)
    assert replay(selector, 200, seed=2, chance=broken) > 0.45  # the small one alone: 0.58


def test_it_goes_on_after_a_file(taught):
    data = taught.to_bytes()
    again = LLMOrchestrator([SMALL, LARGE], dim=DIM, budget=0.015, memory=2_000)
    again.restore(data)
    assert again.stats() == taught.stats()
    for vector in (HARD, EASY):
        expected = taught.bandit.expected(taught.inputs("", vector))
        assert again.bandit.expected(again.inputs("", vector)) == pytest.approx(expected, abs=0.02)
    fresh = LLMOrchestrator([SMALL, BackendProfile("other", 1)], dim=DIM)
    before = fresh.stats()
    for bad in (data, data[:-100], b"", b"PK", data.replace(b'"spent"', b'"spend"')):
        with pytest.raises(StoreError):
            fresh.restore(bad)
    assert fresh.stats() == before


def test_texts_need_no_encoder_of_ones_own():
    selector = LLMOrchestrator([BackendProfile("a", 0.001, 300), BackendProfile("b", 0.03, 900)])
    assert selector.select("say hello", max_latency=500).backend == "a"
    with pytest.raises(InputError, match="without an encoder"):
        LLMOrchestrator([BackendProfile("a", 1), BackendProfile("b", 2)], dim=8).select("say hello")


def test_bad_input_is_named():
    selector = LLMOrchestrator([SMALL, LARGE], dim=DIM)
    choice: Choice = selector.select(HARD)
    wrong = (
        lambda: LLMOrchestrator([SMALL]),
        lambda: LLMOrchestrator([SMALL, SMALL]),
        lambda: LLMOrchestrator([SMALL, LARGE], budget=0.0001),
        lambda: BackendProfile("x", float("nan")),
        lambda: BackendProfile("x", 1, quality=2),
        lambda: selector.select("a text"),
        lambda: selector.select(np.zeros(3)),
        lambda: selector.select(np.full(DIM, np.nan)),
        lambda: selector.select(HARD, max_cost=float("nan")),
        lambda: selector.record_outcome("nobody", prompt=HARD),
        lambda: selector.record_outcome("small"),
        lambda: selector.record_outcome(choice, quality=2),
        lambda: selector.record_outcome(choice, cost=-1),
    )
    for call in wrong:
        with pytest.raises(InputError):
            call()
    assert selector.stats()["answers"] == 0


def test_the_sooner_search_is_asked():
    router, vector = IntelligentQueryRouter(["exact", "hnsw"], dim=8), np.ones(8, np.float32)
    for _ in range(30):
        choice = router.route("", vector)
        router.record_latency(choice, 9.0 if choice.backend == "exact" else 1.0)
    assert router.route("", vector).backend == "hnsw"


def test_a_memory_is_searched_by_its_own_choice(static_llm: RuvLLM):
    with RuvLLM(encoder="static", like=static_llm) as llm:
        llm.memory.add(["Deploys happen on Tuesdays.", "Lunch is at noon."])
        found = LLMRouter(llm.memory).intelligent_search("when do deploys happen?", 1)
    assert [one.memory.text for one in found] == ["Deploys happen on Tuesdays."]
