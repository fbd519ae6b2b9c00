"""What somebody tries first: works, or says in one sentence what to call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ruvllm import Agent, Config, Constraints, RuvLLM, read_agents
from ruvllm.errors import ConfigError, InputError, RuvllmError
from ruvllm.learning.adaptive import AdaptiveEmbeddingService
from ruvllm.learning.sona import SonaConfig, SonaEngine
from ruvllm.options import LearningConfig, MemoryConfig
from ruvllm.rlm.controller import RlmController
from ruvllm.sizing.selector import BackendProfile, LLMOrchestrator
from ruvllm.state.store import Store

BAKER = {"name": "baker", "description": "bakes bread and cakes"}


@pytest.fixture(scope="module")
def llm(static_llm: RuvLLM) -> RuvLLM:
    """One to be taught, of two agents."""
    return RuvLLM([BAKER, Agent("barista", "makes coffee drinks")], encoder="static", like=static_llm)


@pytest.fixture
def made(static_llm: RuvLLM) -> Any:
    """Makes a runtime with these arguments, over the models that are read already."""
    return lambda *args, **options: RuvLLM(*args, **{"encoder": "static", "like": static_llm, **options})


def test_a_session_object_is_taken_wherever_its_id_is(llm: RuvLLM):
    session = llm.new_session({"user": "u1"})
    assert llm.query_session(session, "bake a cake").session_id == session.id
    assert llm.query("and a bread", session=session).session_id == session.id
    assert llm.query_session(session.id, "and a roll").session_id == session.id
    assert len(llm.session(session).history) == 6
    assert llm.end_session(session)
    with pytest.raises(InputError, match="begin one with new_session"):
        llm.query_session(session, "still there?")


@pytest.mark.parametrize(
    "agents",
    [
        [BAKER],
        [Agent("baker", "bakes bread and cakes")],
        BAKER,
        Agent("baker", "bakes bread and cakes"),
        (one for one in [BAKER]),
        [Agent("baker", "bakes bread and cakes", examples=["knead the dough"])],
    ],
)
def test_agents_as_mappings_objects_and_one_alone(made: Any, agents: Any):
    llm = made(agents)
    assert llm.agent("baker").description == "bakes bread and cakes"
    assert llm.route("knead the dough").agent == "baker"
    llm.add_agents({"name": "barista"})
    assert [agent.name for agent in llm.agents] == ["baker", "barista"]


def test_options_in_the_place_of_agents_and_as_mappings(made: Any):
    assert made(Config(memory=MemoryConfig(k=7))).config.memory.k == 7
    assert made({"memory": {"k": 7}}).config.memory.k == 7
    assert made(config={"memory": {"k": 7}}).config.memory.k == 7
    assert len(made({"agents": [BAKER], "encoder": "static"}).agents) == 1
    assert len(made([BAKER], config={"agents": "/nowhere"}).agents) == 1
    with pytest.raises(ConfigError, match="given twice"):
        made(Config(), config=Config())


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("embedding_dim", "the encoder settles it"),
        ("embeddingDim", "the encoder settles it"),
        ("router_hidden_dim", "router.hidden_dim"),
        ("hnsw_params", "memory.recall"),
        ("hnsw_m", "memory.recall"),
        ("learning_enabled", "learning.enabled"),
        ("db_path", "use state"),
        ("pattern_clusters", "learning.pattern_clusters"),
        ("quality_threshold", "memory.quality_threshold or learning.quality_threshold"),
        ("auto_consolidate", "learning.background_interval_ms"),
        ("auto_consolidate_interval", "learning.background_interval_ms"),
        ("ewc_lambda", "learning.ewc_lambda"),
        ("models", "inference.tiers"),
        ("available_models", "inference.tiers"),
        ("default_model", "inference.tiers"),
        ("inference_mode", "inference.tiers"),
        ("stat", "did you mean state"),
    ],
)
def test_options_of_other_systems_say_where_they_live(made: Any, name: str, fix: str):
    for call in (
        lambda: Config(**{name: 1}),
        lambda: Config.from_dict({name: 1}),
        lambda: made({name: 1}),
        lambda: made(**{name: 1}),
    ):
        with pytest.raises(ConfigError) as caught:
            call()
        assert caught.value.field == name
        assert fix in caught.value.fix


def test_an_option_in_the_wrong_group_says_its_place():
    with pytest.raises(ConfigError, match=r"learning\.ewc_lambda"):
        Config.from_dict({"memory": {"ewc_lambda": 2000}})
    with pytest.raises(ConfigError, match="write_back"):
        Config.from_dict({"memory": {"writeBack": True}})
    with pytest.raises(ConfigError, match="did you mean enabled"):
        LearningConfig(enable=True)


def calls(llm: RuvLLM, made: Any, path: Path) -> dict[str, Any]:
    """Wrong first calls, by the field that their error names."""
    (path / "notes.txt").write_text("hello")
    memory = llm.memory
    return {
        "RuvLLM(b'x') agents": lambda: made(b"x"),
        "RuvLLM(5) agents": lambda: made(5),
        "RuvLLM('') agents": lambda: made(""),
        "RuvLLM([]) agents": lambda: made([]),
        "RuvLLM(['coder']) agents": lambda: made(["coder"]),
        "RuvLLM([None]) agents": lambda: made([None]),
        "RuvLLM(a text file) agents": lambda: made(path / "notes.txt"),
        "RuvLLM([Agent(None)]) name": lambda: made([Agent(None)]),
        "RuvLLM([Agent('')]) name": lambda: made([Agent("")]),
        "RuvLLM(tier='small') tier": lambda: made([Agent("a", tier="small")]),
        "RuvLLM(two of a name) name": lambda: made([BAKER, BAKER]),
        "RuvLLM(config='x.toml') config": lambda: made(config="x.toml"),
        "RuvLLM(encoder=5) encoder": lambda: made(encoder=5),
        "RuvLLM(encoder=[]) encoder": lambda: made(encoder=["static"]),
        "RuvLLM(state=5) state": lambda: made(state=5),
        "RuvLLM(state='') state": lambda: made(state=""),
        "RuvLLM(state=b'x') state": lambda: made(state=b"x"),
        "RuvLLM(state=a text file) state": lambda: made(state=path / "notes.txt"),
        "RuvLLM(like=5) like": lambda: made(like=5),
        "RuvLLM(backends=5) backends": lambda: made(backends=5).query("hello"),
        "RuvLLM(backends={'small': url}) backends": lambda: made(backends={"small": "http://x"}).query("hello"),
        "RuvLLM(model='x') model": lambda: made(model="x"),
        "from_pretrained('') model": lambda: RuvLLM.from_pretrained(""),
        "from_pretrained(Config()) model": lambda: RuvLLM.from_pretrained(Config()),
        "Config({}) config": lambda: Config({}),
        "Config.from_toml({}) path": lambda: Config.from_toml({}),
        "read_agents([]) agents": lambda: read_agents([]),
        "add_agents(None) agents": lambda: llm.add_agents(None),
        "agent('bakr') agent": lambda: llm.agent("bakr"),
        "route(None) text": lambda: llm.route(None),
        "route(b'x') text": lambda: llm.route(b"x"),
        "route(['x']) text": lambda: llm.route(["x"]),
        "route('') text": lambda: llm.route(""),
        "route('x', '3') top": lambda: llm.route("bake", "3"),
        "embed('x') texts": lambda: llm.embed("x"),
        "embed(None) texts": lambda: llm.embed(None),
        "query(None) text": lambda: llm.query(None),
        "query('x', session=5) session": lambda: llm.query("x", session=5),
        "query_session([], 'x') session": lambda: llm.query_session([], "x"),
        "query_session('x', session) text": lambda: llm.query_session("x", llm.new_session()),
        "query('x', constraints=5) constraints": lambda: llm.query("x", constraints=5),
        "constraints={'max_token': 5} max_token": lambda: llm.query("x", constraints={"max_token": 5}),
        "Constraints(stop=5) stop": lambda: Constraints(stop=5),
        "Constraints(seed='x') seed": lambda: Constraints(seed="x"),
        "new_session('name') metadata": lambda: llm.new_session("name"),
        "new_session(5) metadata": lambda: llm.new_session(5),
        "new_session({'a': {1}}) metadata": lambda: llm.new_session({"a": {1}}),
        "new_session(id=5) session": lambda: llm.new_session(id=5),
        "end_session([]) session": lambda: llm.end_session([]),
        "feedback('x', None) agent": lambda: llm.feedback("x", None),
        "feedback('x', []) agent": lambda: llm.feedback("x", []),
        "feedback(None, 'baker') text": lambda: llm.feedback(None, "baker"),
        "feedback('x', 'baker', True) weight": lambda: llm.feedback("x", "baker", True),
        "feedback({'request_id': …}) request_id": lambda: llm.feedback({"request_id": "r", "rating": 5}),
        "feedback_request(None, 5) request_id": lambda: llm.feedback_request(None, 5),
        "get_patterns('x') limit": lambda: llm.get_patterns("x"),
        "restore(5) state": lambda: llm.restore(5),
        "rlm(5) backend": lambda: llm.rlm(5),
        "rlm(max_deph=5) max_deph": lambda: llm.rlm(max_deph=5),
        "orchestrator(5) backends": lambda: llm.orchestrator(5),
        "orchestrator([{}]) backends": lambda: llm.orchestrator([{"name": "gpt"}]),
        "memory.add(None) memories": lambda: memory.add(None),
        "memory.add(b'x') memories": lambda: memory.add(b"x"),
        "memory.add([None]) text": lambda: memory.add([None]),
        "memory.add({}) text": lambda: memory.add({}),
        "memory.add('x', colection='c') colection": lambda: memory.add("x", colection="c"),
        "memory.search('x', '5') k": lambda: memory.search("x", "5"),
        "memory.search('x', None) k": lambda: memory.search("x", None),
        "memory.search('x', recall='a') recall": lambda: memory.search("x", recall="a"),
        "memory.search('x', hops='a') hops": lambda: memory.search("x", hops="a"),
        "memory.search('x', collection=[]) collection": lambda: memory.search("x", collection=[]),
        "memory.forget('x') ids": lambda: memory.forget("x"),
        "memory.archive(None) ids": lambda: memory.archive(None),
        "memory.get('x') ids": lambda: memory.get("x"),
        "memory.rate('x', None) ids": lambda: memory.rate("x", None),
    }


def test_a_wrong_first_call_names_its_field_and_the_fix(llm: RuvLLM, made: Any, tmp_path: Path):
    llm.memory.add("the oven is hot")
    for name, call in calls(llm, made, tmp_path).items():
        with pytest.raises(RuvllmError) as caught:
            call()
        assert caught.value.field == name.rpartition(" ")[2], name
        assert caught.value.fix, name
        assert caught.value.message, name


def test_memories_as_mappings_and_one_id_alone(static_llm: RuvLLM, made: Any):
    memory = made().memory
    (first,) = memory.add({"text": "Marta bakes the bread", "metadata": {"day": "Monday"}})
    (second,) = memory.add("Ivo brews the coffee", {"day": "Tuesday"})
    assert [one.metadata for one in memory.get([first, second])] == [{"day": "Monday"}, {"day": "Tuesday"}]
    memory.rate("who bakes?", first)
    assert memory.forget(second) == 1
    assert [one.id for one in memory.get(first)] == [first]


def test_constraints_as_a_mapping(llm: RuvLLM):
    assert Constraints.of({"maxTokens": 5}) == Constraints(max_tokens=5)
    llm.query("bake a cake", constraints={"max_tokens": 5})


def test_feedback_as_an_object(llm: RuvLLM):
    response = llm.query("knead the dough for the rolls")
    applied = llm.feedback_request({"requestId": response.request_id, "rating": 4, "agent": response.agent})
    assert applied.agent == "confirmed"
    llm.feedback({"task": "froth the milk", "agent": "barista"})
    assert llm.route("froth the milk").agent == "barista"


def test_names_that_still_stand_warn_and_work(static_llm: RuvLLM):
    with RuvLLM(like=static_llm, encoder="static") as llm:
        session = llm.new_session()
        with pytest.warns(DeprecationWarning, match="process is deprecated: use query"):
            answer = llm.process({"query": "when is staging reset?", "sessionId": session.id})
        assert (answer.request_id.startswith("req-"), len(llm.session(session).history)) == (True, 2)
        with pytest.warns(DeprecationWarning, match="use query"), pytest.raises(InputError, match="no argument 'txt'"):
            llm.process({"txt": "when?"})
        with pytest.warns(DeprecationWarning, match="shutdown is deprecated: use close"):
            llm.shutdown()
    assert RuvLLM.shutdown.__doc__.startswith("Deprecated: use `close`.")


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("generate", "query"),
        ("export_session", "asdict"),
        ("addMemory", "memory.add"),
        ("force_learn", "learning.engine"),
    ],
)
def test_methods_of_other_systems_say_what_to_call(llm: RuvLLM, name: str, instead: str):
    with pytest.raises(AttributeError, match=f"use {instead}"):
        getattr(llm, name)
    with pytest.raises(AttributeError, match="use new_session"):
        getattr(llm, "newSession")  # noqa: B009
    with pytest.raises(AttributeError, match="nothing_like_it"):
        getattr(llm, "nothing_like_it")  # noqa: B009
    assert not hasattr(llm, "__fspath__")


VECTOR = np.eye(8, dtype=np.float32)[0]


@pytest.mark.parametrize(
    "engine",
    [
        SonaEngine(8),
        SonaEngine({"hiddenDim": 8, "microLoraRank": 1}),
        SonaEngine.with_config({"hiddenDim": 8, "qualityThreshold": 0.3}),
        SonaEngine.with_config(8, hiddenDim=8),
        SonaEngine.with_config(SonaConfig(hidden_dim=8), patternClusters=5),
    ],
)
def test_sona_called_with_objects_and_with_ids_in_front(engine: Any):
    assert engine.dim == 8
    first = engine.begin_trajectory({"embedding": VECTOR, "route": "baker"})
    second = engine.begin_trajectory(list(VECTOR))
    engine.add_trajectory_step(first, "dough", "knead", 0.9)
    engine.add_trajectory_step(first, {"state": "loaf", "action": "bake", "reward": 1.0})
    engine.add_trajectory_context(first, "bakery")
    engine.add_trajectory_context(first, {"desk": 2})
    engine.set_trajectory_route(second, "barista")
    engine.end_trajectory(first, {"quality": 0.9, "success": True})
    engine.end_trajectory(second, 0.8)
    third = engine.begin_trajectory({"queryEmbedding": VECTOR})
    assert not engine.end_trajectory(third, quality=0.1).good
    engine.begin_trajectory(VECTOR)
    engine.end_trajectory({"score": 0.7, "taskSuccess": True})
    assert [(one.route, one.quality, len(one.steps)) for one in engine.core.waiting] == [
        ("baker", 0.9, 2),
        ("barista", 0.8, 0),
        ("", 0.1, 0),
        ("", 0.7, 0),
    ]
    assert engine.force_learn({"budget_s": 60}).finished
    assert engine.tick({"budgetS": 0.01}).finished
    engine.flush()
    assert {one.route for one in engine.find_patterns(VECTOR, 2)} <= {"baker", "barista", ""}
    assert len(engine.find_patterns({"embedding": VECTOR, "k": 1})) == 1
    assert len(engine.find_patterns(VECTOR, {"limit": 1})) == 1
    assert engine.apply_micro_lora(VECTOR).shape == (8,)
    assert (engine.apply_base_lora(0, VECTOR) == engine.apply_base_lora(VECTOR)).all()
    engine.set_enabled(False)
    assert not engine.get_stats().enabled


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda sona, id: sona.add_trajectory_step(id, [0.1], [0.5], 0.8), "input"),
        (lambda sona, id: sona.add_trajectory_step("dough", ["knead"]), "action"),
        (lambda sona, id: sona.add_trajectory_context(id, 5), "context"),
        (lambda sona, id: sona.set_trajectory_route(id, ["baker"]), "route"),
        (lambda sona, id: sona.end_trajectory(id, {"outcome": "fine"}), "outcome"),
        (lambda sona, id: sona.end_trajectory("fine"), "quality"),
        (lambda sona, id: sona.end_trajectory(id + 1, 0.9), "trajectory"),
        (lambda sona, id: sona.force_learn({"patterns": []}), "patterns"),
        (lambda sona, id: sona.force_learn("now"), "budget_s"),
        (lambda sona, id: sona.find_patterns(VECTOR, "5"), "k"),
        (lambda sona, id: sona.find_patterns(None), "vector"),
        (lambda sona, id: sona.apply_base_lora(3, VECTOR), "layer"),
        (lambda sona, id: sona.begin_trajectory({"tsk": VECTOR}), "tsk"),
        (lambda sona, id: SonaEngine("max_quality"), "config"),
        (lambda sona, id: SonaConfig(micro_lora=3), "micro_lora"),
    ],
)
def test_what_sona_cannot_take_says_so(call: Any, field: str):
    sona = SonaEngine.with_config(8)
    id = sona.begin_trajectory(VECTOR)
    with pytest.raises(RuvllmError) as caught:
        call(sona, id)
    assert caught.value.field == field
    assert caught.value.fix
    assert sona.end_trajectory(id, {"quality": 0.5}) is not None, "it is still open"


def test_names_of_sona_in_camel_case_say_what_to_call():
    sona = SonaEngine.with_config(8)
    for name, instead in (("beginTrajectory", "begin_trajectory"), ("isEnabled", "enabled"), ("save", "flush")):
        with pytest.raises(AttributeError, match=f"use {instead}"):
            getattr(sona, name)


async def _generated(service: AdaptiveEmbeddingService) -> Any:
    return await service.generate("bake a cake", {"domain": "kitchen"})


def test_objects_of_options_elsewhere(static_llm: RuvLLM):
    """The adaptive embedding's domain, a controller's settings, an orchestrator's limits."""
    service = AdaptiveEmbeddingService(static_llm.encoders.static, Store())
    with pytest.raises(StopIteration) as done:
        _generated(service).send(None)
    assert done.value.value.shape == (static_llm.encoders.static.dim,)
    assert RlmController({"maxDepth": 2}).config.max_depth == 2
    profiles = [BackendProfile("small", 0.001, 100), BackendProfile("large", 0.03, 500)]
    chooser = LLMOrchestrator(profiles, static_llm.encoders.static)
    assert chooser.select("say hello", {"maxCost": 0.01}).backend == "small"
