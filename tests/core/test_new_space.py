"""A state file of before the encoders were changed: nothing is read as what it is not, and nothing told is lost."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from ruvllm import Agent, Config, RuvLLM, StoreError
from ruvllm.encoders.families import MINILM, RUVLTRA
from ruvllm.encoders.protocol import run_now, unit_rows
from ruvllm.learning.sona import SonaEngine
from ruvllm.memory.attention import GraphAttention
from ruvllm.memory.attention.training import save_attention
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.reembed import elsewhere, reembed
from ruvllm.options import RouterConfig
from ruvllm.routing.router import Router
from ruvllm.routing.stored import load_scorers, save_scorers
from ruvllm.sizing.difficulty import Difficulty
from ruvllm.sizing.selector import BackendProfile
from ruvllm.sizing.trained import TrainedTiers
from ruvllm.state.names import TIERS as STORED_TIERS
from ruvllm.state.names import SpaceScopedStore
from ruvllm.state.record import Memory
from ruvllm.state.repair.check import check
from ruvllm.state.store import Store
from ruvllm.types import Feedback

FACTS = ["The staging database is reset every Monday.", "Deploys need two approvals.", "Lunch is at noon."]
TOLD = (("descale the espresso machine", "barista"), ("the sourdough does not rise", "baker"))
PROFILES = [BackendProfile("small", 0.001), BackendProfile("large", 0.03)]


class Turned:
    """An encoder of another space, as wide as ours: its vectors say nothing to anybody else."""

    name, dim = "static", 256

    def __init__(self, static):
        self.tokenizer = static.tokenizer
        self._static, (self._turn, _) = static, np.linalg.qr(np.random.default_rng(0).standard_normal((256, 256)))

    def encode_now(self, texts):
        return unit_rows(self._static.encode_now(list(texts)) @ self._turn.astype(np.float32))

    def encode_one(self, text):
        return self.encode_now([text])[0]

    async def encode(self, texts):
        return self.encode_now(texts)


def old_weights(weights):
    """As they were trained for the other vectors."""
    random, adapter = np.random.default_rng(1), weights.adapter
    return replace(
        weights, adapter=replace(adapter, query_up=random.standard_normal(adapter.query_up.shape, np.float32))
    )


@pytest.fixture
def path(old_file, tmp_path):
    """A copy of `old_file`."""
    return shutil.copy(old_file, tmp_path / "state.db")


@pytest.fixture(scope="module")
def old_file(static_llm: RuvLLM, kitchen: list[Agent], tmp_path_factory):
    """All that a state file holds of vectors, made with another encoder."""
    path, turned = tmp_path_factory.mktemp("old") / "state.db", Turned(static_llm.encoders.static)
    store, weights = Store(path), old_weights(static_llm.encoders.weights)
    memory = MemoryStore(turned, store, space=MINILM.space(256))
    memory.add_encoded([Memory(text) for text in FACTS], turned.encode_now(FACTS))
    memory.save()
    told = [Feedback(text, agent) for text, agent in TOLD]
    router = Router(kitchen, turned, None, weights, mode="static")
    for feedback in told:
        store.add_feedback(feedback)
        router.note(feedback)
    run_now(router.review())
    save_scorers(store, router.learnt, router.agents, told, weights)
    assert load_scorers(store, router.agents, store.feedback(), weights)
    save_attention(store, GraphAttention(256))
    engine = SonaEngine(encoder=turned, store=SpaceScopedStore(store, MINILM.space(256)))
    for text in FACTS:
        engine.begin_trajectory(text, "baker")
        engine.end_trajectory(quality=0.9)
    engine.force_learn()
    engine.flush()
    with RuvLLM(kitchen, encoder="static", like=static_llm) as other:
        chooser = other.orchestrator(PROFILES)
        chooser.record_outcome(chooser.select("what is two and two?"), success=True)
        store.put("orchestrator", chooser.to_bytes())
    texts = [f"prompt number {i} of many" for i in range(60)]
    right = np.stack([np.ones(60, bool), np.arange(60) % 2 == 0], 1)
    tiers = TrainedTiers.of(Difficulty.fit(texts, turned.encode_now(texts), right, encoder="static"))
    store.put(STORED_TIERS, without_space(tiers))
    store.close()
    return path


def without_space(tiers):
    """The bytes of a file that was written before spaces were named."""
    about = tiers.difficulty.arrays()["about"]
    told = json.loads(about.tobytes())
    del told["space"]
    plain = np.frombuffer(json.dumps(told).encode(), np.uint8)

    class Old(Difficulty):
        def arrays(self):
            return {**super().arrays(), "about": plain}

    known = tiers.difficulty
    old = Old(known.models, known.encoder, known.means, known.scales, known.weights, known.bias, known.held)
    return replace(tiers, difficulty=old).to_bytes()


def test_what_was_told_is_learnt_again(path, static_llm, kitchen):
    with RuvLLM(kitchen, encoder="static", like=static_llm, state=path) as llm:
        assert load_scorers(llm.store, llm.agents, llm.store.feedback(), llm.encoders.weights) == {}
        assert llm.stats()["feedback"] == len(TOLD)
        for text, agent in TOLD:
            assert llm.route(text).agent == agent
            assert llm.route(f"please, {text}").agent == agent
        assert llm.review() == len(TOLD)
    with RuvLLM(kitchen, encoder="static", like=static_llm, state=path) as llm:
        assert set(load_scorers(llm.store, llm.agents, llm.store.feedback(), llm.encoders.weights)) == {"static"}


def test_what_vectors_taught_is_not_read_under_others(path, static_llm, kitchen):
    with RuvLLM(kitchen, encoder="static", like=static_llm, state=path) as llm:
        assert llm.learning.engine.get_stats().trajectories == 0
        assert llm.orchestrator(PROFILES).ledger.answers == 0
        llm.memory.add("Tea is at four.")
        assert llm.memory.search("tea", hops=1)[0].memory.text == "Tea is at four."
        words = Config(router=RouterConfig(tier_model="words"))
        with RuvLLM(kitchen, encoder="static", like=static_llm, config=words) as other:
            for text in ("prove that every even number is a sum of two primes", "rename a file"):
                assert llm.route(text).tier == other.route(text).tier


def test_memories_are_told_apart_and_taken_over(path, static_llm, kitchen):
    with RuvLLM(kitchen, encoder="static", like=static_llm, state=path) as llm:
        assert llm.encoders.space == llm.memory.space == RUVLTRA.space(256)
        with pytest.raises(StoreError, match="minilm-256") as error:
            llm.memory.search("staging")
        assert "encode the memories anew" in error.value.fix
        assert elsewhere(llm.memory) == {"minilm-256": len(FACTS)}
        assert run_now(taken_over(llm)) == len(FACTS)
        assert elsewhere(llm.memory) == {}
        assert llm.memory.search("when is the staging database reset?")[0].memory.text == FACTS[0]
    assert check(path).ok


async def taken_over(llm):
    return sum([count async for count in reembed(llm.memory)])
