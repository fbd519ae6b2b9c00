"""Tiers learnt from somebody's own outcomes, and how they reach routing and answers."""

import numpy as np
import pytest

from ruvllm import Agent, ArtifactError, Config, InputError, RuvLLM, Tier
from ruvllm.options import RouterConfig
from ruvllm.sizing.difficulty import Difficulty
from ruvllm.sizing.trained import TrainedTiers, forget_tiers
from ruvllm.state.names import TIERS

HARD, EASY = "multiply {} by {} and divide the result by seven", "greet the guest {} at table {} with a smile"
AGENTS = [Agent("any", "Does whatever comes up"), Agent("clerk", "Files letters", tier=Tier.SMALL)]


def texts_of(n: int, seed: int) -> tuple[list[str], np.ndarray]:
    random = np.random.default_rng(seed)
    hard = random.random(n) < 0.5
    numbers = random.integers(10, 9_999, (n, 2))
    return [(HARD if one else EASY).format(*pair) for one, pair in zip(hard, numbers, strict=True)], hard


@pytest.fixture(scope="module")
def llm():
    with RuvLLM(AGENTS, encoder="static") as made:
        yield made


@pytest.fixture(scope="module")
def trained(llm) -> TrainedTiers:
    """The small model cannot calculate, the large one can do both: the opposite of what the words say."""
    texts, hard = texts_of(300, 0)
    right = np.random.default_rng(1).random((300, 2)) < np.stack([np.where(hard, 0.1, 0.95), np.full(300, 0.95)], 1)
    vectors = llm.encoders.static.encode_now(texts)
    learnt = Difficulty.fit(texts, vectors, right, ("small", "large"), "static")
    return TrainedTiers.of(learnt, cost=15)  # of 30: for nearly all of the hard half


def test_prompts_that_the_small_one_fails_are_large(llm, trained):
    texts, hard = texts_of(100, 2)
    found = [
        trained.tier(text, vector) for text, vector in zip(texts, llm.encoders.static.encode_now(texts), strict=True)
    ]
    assert np.mean([(tier == Tier.LARGE) == one for tier, one in zip(found, hard, strict=True)]) > 0.95


def test_routing_uses_what_is_kept(tmp_path, trained):
    state, task, greeting = tmp_path / "s.db", HARD.format(1_204, 777), "greet the guest at table 9"
    with RuvLLM(AGENTS, encoder="static", state=state) as before:
        assert before.route(task).tier == Tier.SMALL  # its words say nothing of how hard it is
        before.store.put(TIERS, trained.to_bytes())
    with RuvLLM(AGENTS, encoder="static", state=state) as after:
        assert after.route(task).tier == Tier.LARGE
        assert after.route(greeting).tier == Tier.SMALL
        assert after.route("rename getUser to fetchUser").tier == Tier.BOOSTER
        after.feedback(task, "any")
        assert after.route(task).tier == Tier.LARGE  # one that is remembered, too
        assert after.query(task).tier == Tier.BOOSTER  # who answers without a model is all there is
        after.feedback(task, "clerk", weight=10)
        assert after.route_complex(f"{task}. Then {greeting}").tier >= Tier.SMALL
    words = Config(router=RouterConfig(tier_model="words"))
    with RuvLLM(AGENTS, encoder="static", state=state, config=words) as worded:
        assert worded.route(HARD.format(3_120, 415)).tier == Tier.SMALL
        assert forget_tiers(worded.store)
        assert not forget_tiers(worded.store)
    with RuvLLM(AGENTS, encoder="static", state=state) as again:
        assert again.route(HARD.format(3_120, 415)).tier == Tier.SMALL


def test_a_file_or_the_shipped_one_can_be_named(tmp_path, trained):
    path = tmp_path / "mine.npz"
    path.write_bytes(trained.to_bytes())
    with RuvLLM(AGENTS, encoder="static", config=Config(router=RouterConfig(tier_model=str(path)))) as llm:
        assert llm.route(HARD.format(503, 6_177)).tier == Tier.LARGE
    with RuvLLM(AGENTS[:1], encoder="static", config=Config(router=RouterConfig(tier_model="shipped"))) as llm:
        shipped = TrainedTiers.from_bytes(llm.host.artifact("tiers.npz"))
        questions = ["design a distributed lock service and prove that it is safe", "fix the typo in the readme"]
        tiers = [shipped.tier(text, vector) for text, vector in zip(questions, llm.embed(questions), strict=True)]
        assert [llm.route(text).tier for text in questions] == tiers == [Tier.LARGE, Tier.SMALL]
    with pytest.raises(InputError, match="nowhere"):
        RuvLLM(AGENTS, encoder="static", config=Config(router=RouterConfig(tier_model="nowhere.npz")))


def test_it_is_the_same_after_a_file(trained):
    again = TrainedTiers.from_bytes(trained.to_bytes())
    assert again.policy == trained.policy
    assert again.difficulty.models == ("small", "large")
    with pytest.raises(ArtifactError):
        TrainedTiers.from_bytes(trained.to_bytes().replace(b'"price"', b'"prize"'))


def test_targets_and_other_encoders(llm, trained):
    thrifty, careful = (TrainedTiers.of(trained.difficulty, [1, 30], cost=cost) for cost in (8, 20))
    assert thrifty.policy.shares[1] < careful.policy.shares[1]
    with pytest.raises(InputError, match="costs"):
        TrainedTiers.of(trained.difficulty, [1, 2, 3])
    texts, _ = texts_of(60, 3)
    other = Difficulty.fit(texts, llm.encoders.static.encode_now(texts)[:, :8], np.ones((60, 2), bool), encoder="mine")
    with pytest.raises(InputError, match="--encoder static"):
        TrainedTiers.of(other).check({"static": llm.encoders.static})


def test_the_dearest_is_not_the_small_tier(llm):
    """Three models, of which the first is the dearest: tiers follow costs, not the order of the columns."""
    texts, hard = texts_of(300, 4)
    right = np.stack([np.full(300, True), ~hard, ~hard], 1)
    learnt = Difficulty.fit(texts, llm.encoders.static.encode_now(texts), right, ("opus", "haiku", "sonnet"), "static")
    rule = TrainedTiers.of(learnt, [30, 1, 6], cost=15)
    texts, hard = texts_of(50, 5)
    found = [rule.tier(text, vector) for text, vector in zip(texts, llm.encoders.static.encode_now(texts), strict=True)]
    assert np.mean([(tier == Tier.LARGE) == one for tier, one in zip(found, hard, strict=True)]) > 0.9
