"""Other frameworks' names over ruvllm, against an LLM that says what a test tells it to."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llm_server import Server, chunk, events, stream

from ruvllm import InputError, RuvLLM
from ruvllm.config import Config
from ruvllm.integrations.agentdb import IntelligentQueryRouter, LLMRouter
from ruvllm.integrations.aqe import (
    AQEMemoryManager,
    CoverageAnalyzerAgent,
    DefectPredictorAgent,
    HybridLLMProvider,
    LocalLLMProvider,
    TestGeneratorAgent,
)  # fmt: skip
from ruvllm.learning.adaptive import AdaptiveEmbeddingService
from ruvllm.sizing.selector import BackendProfile, LLMOrchestrator

CODE = "def add(a, b):\n    if a is None:\n        return b\n    return a + b\n"
TESTS = "```python\nfrom sums import add\n\ndef test_add():\n    assert add(1, 2) == 3\n```"


def says(*texts: str) -> list[Any]:
    return [stream(events(chunk(text), chunk(finish_reason="stop"), b"[DONE]")) for text in texts]


def run(work: Any, texts: dict[str, list[str]], state: Path) -> Any:
    """What `work(llm, servers)` gives, in an event loop with a server for each tier."""

    async def inside() -> Any:
        servers = {tier: await Server(*says(*said)).__aenter__() for tier, said in texts.items()}
        tiers = {
            tier: {"kind": "openai", "url": one.url, "model": f"{tier}-1", "retries": 0}
            for tier, one in servers.items()
        }
        llm = RuvLLM(encoder="static", state=state, config=Config.from_dict({"inference": {"tiers": tiers}}))
        try:
            return await work(llm, servers)
        finally:
            await llm.aclose()
            for one in servers.values():
                await one.__aexit__()

    return asyncio.run(inside())


def test_a_validator_teaches_and_asks_again(tmp_path: Path) -> None:
    async def work(llm: RuvLLM, servers: dict[str, Server]) -> None:
        session = llm.new_session().id
        provider = HybridLLMProvider(llm)
        verdicts = iter(["it is no number", 0.9])
        found = await provider.acomplete_with_feedback(
            "What is 6 times 7? Answer with the number.", lambda _: next(verdicts), session_id=session
        )
        assert (found.text, found.metadata["tier"]) == ("42", "large")
        assert (found.metadata["attempts"], found.metadata["valid"], found.metadata["session_id"]) == (2, True, session)
        assert "it is no number" in json.dumps(servers["large"].requests[0].body)
        assert "forty-two" in json.dumps(servers["large"].requests[0].body)

    run(work, {"small": ["forty-two"], "large": ["42"]}, tmp_path / "s.db")


def test_a_failing_validator_says_no_and_attempts_end(tmp_path: Path) -> None:
    async def work(llm: RuvLLM, servers: dict[str, Server]) -> None:
        found = await LocalLLMProvider(llm, attempts=3).acomplete_with_feedback("hello", lambda text: 1 / 0)
        assert (found.metadata["attempts"], found.metadata["valid"], found.metadata["tier"]) == (3, False, "small")
        assert "ZeroDivisionError" in json.dumps(servers["small"].requests[2].body)
        plain = await LocalLLMProvider(llm).acomplete("hello again", max_tokens=5)
        assert (plain.text, plain.metadata["tier"]) == ("d", "small")

    run(work, {"small": list("abcd")}, tmp_path / "s.db")
    with pytest.raises(InputError):
        LocalLLMProvider(RuvLLM(encoder="static"), attempts=0)


def test_who_waits_gets_the_same_without_a_model(tmp_path: Path) -> None:
    with RuvLLM(encoder="static", state=tmp_path / "s.db") as llm:
        llm.memory.add("Deploys happen on Tuesdays.")
        provider = LocalLLMProvider(llm, "auto")
        assert "Tuesdays" in provider.complete("When do deploys happen?").text
        assert provider.completeWithFeedback("When do deploys happen?", lambda text: "Tuesday" in text).metadata[
            "valid"
        ]


def test_each_agent_has_knowledge_of_its_own(tmp_path: Path) -> None:
    with RuvLLM(encoder="static", state=tmp_path / "s.db") as llm:
        memory = AQEMemoryManager(llm)
        memory.store_knowledge("tester", "Money is tested with decimals.", {"project": "shop"})
        memory.storeKnowledge("cook", "Soup is tested with a spoon.")
        (found,) = memory.retrieve_knowledge("tester", "how do we test money?")
        assert (found.memory.text, found.memory.metadata) == ("Money is tested with decimals.", {"project": "shop"})
        with pytest.raises(InputError):
            memory.store_knowledge("", "x")


def test_tests_are_generated_checked_and_remembered(tmp_path: Path) -> None:
    async def work(llm: RuvLLM, servers: dict[str, Server]) -> None:
        memory = AQEMemoryManager(llm)
        agent = TestGeneratorAgent(LocalLLMProvider(llm, attempts=3), memory)
        found = await agent.agenerate(CODE)
        assert found.text == "from sums import add\n\ndef test_add():\n    assert add(1, 2) == 3"
        assert found.metadata["attempts"] == 3
        asked = [json.dumps(request.body) for request in servers["small"].requests]
        assert "it is no Python" in asked[1]
        assert "it holds no test" in asked[2]
        assert "def test_add" in memory.retrieve_knowledge(agent.ID, "tests of add")[0].memory.text
        await agent.agenerate(CODE)
        assert "What was right before" in json.dumps(servers["small"].requests[3].body)

    run(work, {"small": ["```python\ndef test_add(:\n```", "I cannot.", TESTS]}, tmp_path / "s.db")


def test_coverage_and_defects(tmp_path: Path) -> None:
    async def work(llm: RuvLLM, servers: dict[str, Server]) -> None:
        provider = LocalLLMProvider(llm)
        report = await CoverageAnalyzerAgent(provider).aanalyze(CODE, [3])
        assert (report["coverage"], report["uncovered"]) == (0.75, ["add"])
        assert report["suggestions"] == ["call add(None, 1)"]
        found = await DefectPredictorAgent(provider).apredict(CODE)
        assert (found["risk"], found["reasons"], found["complexity"]) == (0.3, ["b may be None"], {"add": 2})
        assert found["completion"].metadata["attempts"] == 2
        with pytest.raises(InputError):
            await DefectPredictorAgent(provider).apredict(" ")

    texts = ["- call add(None, 1)", "quite risky", 'Here: {"risk": 0.3, "reasons": ["b may be None"]}.']
    run(work, {"small": texts}, tmp_path / "s.db")


def test_agentdb_searches_by_what_is_soonest(tmp_path: Path) -> None:
    with RuvLLM(encoder="static", state=tmp_path / "s.db") as llm:
        llm.memory.add(["Deploys happen on Tuesdays.", "The cat sleeps."])
        assert LLMRouter(llm).intelligent_search("release day for deploys", 1)[0].memory.text.startswith("Deploys")
        calls: dict[str, int] = {"one": 0, "two": 0}

        def search(name: str) -> Any:
            def searched(vector: np.ndarray, k: int) -> list[str]:
                assert vector.shape == (llm.memory.encoder.dim,)
                calls[name] += 1
                return [name] * k

            return searched

        router = LLMRouter(llm.memory, {name: search(name) for name in calls})
        for _ in range(8):
            assert len(router.intelligentSearch("release day", 2)) == 2
        assert sum(calls.values()) == 8
        assert router.router.stats()["prompts"] == 8
        with pytest.raises(InputError, match="hops"):
            router.intelligent_search("x", hops=1)
    assert issubclass(IntelligentQueryRouter, LLMOrchestrator)
    service = AdaptiveEmbeddingService(llm.encoders.static)
    assert asyncio.run(service.generate("hello", "code")).shape == (llm.encoders.static.dim,)
    choice = LLMOrchestrator([BackendProfile("cheap", 1e-4), BackendProfile("dear", 1e-2)]).select("2 + 2?")
    assert choice.backend in ("cheap", "dear")


def test_a_langgraph_routes_by_a_node() -> None:
    graphs = pytest.importorskip("langgraph.graph")
    from ruvllm.integrations.langgraph import UNSURE, chosen, router_node

    agents = [
        {
            "name": "baker",
            "description": "Bakes bread and cakes.",
            "examples": ["bake a sourdough loaf", "a rye bread"],
        },
        {"name": "sailor", "description": "Sails boats.", "examples": ["hoist the main sail", "moor the boat"]},
    ]
    llm = RuvLLM(agents, encoder="static")

    def node(name: str) -> Any:
        return lambda state: {"messages": [("ai", f"{name} did it")]}

    graph = graphs.StateGraph(dict if not hasattr(graphs, "MessagesState") else _state(graphs))
    graph.add_node("router", router_node(llm))
    for name in ("baker", "sailor", UNSURE):
        graph.add_node(name, node(name))
        graph.add_edge(name, graphs.END)
    graph.add_edge(graphs.START, "router")
    graph.add_conditional_edges("router", chosen, {name: name for name in ("baker", "sailor", UNSURE)})
    compiled = graph.compile()
    for task, name in (("bake a sourdough loaf", "baker"), ("hoist the main sail", "sailor")):
        end = asyncio.run(compiled.ainvoke({"messages": [("user", task)]}))
        assert end["messages"][-1].content == f"{name} did it"
        assert end["route"]["agent"] == name


def _state(graphs: Any) -> Any:
    class State(graphs.MessagesState):
        route: dict

    return State


@pytest.fixture
def scripted() -> tuple[Any, list[Any]]:
    """A model of the OpenAI Agents SDK that answers with the name of whoever asks it."""
    agents = pytest.importorskip("agents")
    from agents.models.interface import Model
    from openai.types.responses import ResponseOutputMessage, ResponseOutputText

    asked: list[Any] = []

    class Scripted(Model):
        async def get_response(self, system_instructions: Any, *args: Any, **more: Any) -> Any:
            handoffs = more.get("handoffs") or (args[4] if len(args) > 4 else [])
            asked.append((system_instructions, [one.agent_name for one in handoffs]))
            text = ResponseOutputText(text=f"by: {system_instructions}", type="output_text", annotations=[])
            message = ResponseOutputMessage(
                id="m", content=[text], role="assistant", status="completed", type="message"
            )
            return agents.ModelResponse(output=[message], usage=agents.Usage(), response_id=None)

        def stream_response(self, *args: Any, **more: Any) -> Any:
            raise NotImplementedError

    agents.set_tracing_disabled(True)
    return Scripted(), asked


def test_handoffs_of_the_agents_sdk(scripted: tuple[Any, list[Any]]) -> None:
    agents = pytest.importorskip("agents")
    from ruvllm.integrations.openai_agents import HandoffRouter

    model, asked = scripted
    people = [
        agents.Agent(name="baker", handoff_description="Bakes bread and cakes.", instructions="You bake.", model=model),
        agents.Agent(name="sailor", instructions="You sail boats across the sea.", model=model),
    ]
    triage = agents.Agent(name="triage", instructions="You decide.", model=model)

    async def work() -> None:
        router = HandoffRouter(people, triage, encoder="static")
        result = await router.run("something else entirely about tax law")
        assert result.last_agent.name == "triage"
        assert set(asked[-1][1]) == {"baker", "sailor"}
        for _ in range(3):
            await router.feedback("knead the dough for tomorrow", "baker")
        agent, decision = await router.choose("knead the dough for tomorrow")
        assert (decision.agent, decision.action) == ("baker", "use")
        assert agent is people[0]
        result = await router.run("knead the dough for tomorrow")
        assert result.final_output == "by: You bake."
        alone, _ = await HandoffRouter(people, encoder="static").choose("sail the boat")
        assert alone.name == "sailor"

    asyncio.run(work())
    with pytest.raises(InputError):
        HandoffRouter([people[0], people[0]])


def test_a_pydantic_ai_agent_is_told_of_few_tools() -> None:
    pydantic_ai = pytest.importorskip("pydantic_ai")
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel
    from pydantic_ai.toolsets import FunctionToolset

    from ruvllm.integrations.pydantic_ai import relevant_tools

    told: list[set[str]] = []

    async def model(messages: Any, info: Any) -> ModelResponse:
        told.append({one.name for one in info.function_tools})
        if len(told) == 1:
            return ModelResponse(parts=[ToolCallPart("create_invoice", {})])
        return ModelResponse(parts=[TextPart("done")])

    toolset: Any = FunctionToolset()
    for verb in ("list", "create", "delete"):
        for thing in ["invoice", "customer", "calendar", "playlist", "recipe", "flight"]:

            def tool() -> str:
                return "made"

            toolset.add_function(tool, name=f"{verb}_{thing}", description=f"{verb} a {thing}")
    llm = RuvLLM(encoder="static")
    agent = pydantic_ai.Agent(FunctionModel(model), toolsets=[toolset.prepared(relevant_tools(llm, 3))])
    assert asyncio.run(agent.run("create an invoice for Ada")).output == "done"
    assert "create_invoice" in told[0]
    assert [len(names) for names in told] == [3, 3]


ROUTES = {
    "billing": ["I was charged twice", "send me the invoice", "the payment failed"],
    "delivery": ["where is my parcel", "the courier never came", "change the delivery address"],
}


def test_a_route_layer_answers_as_semantic_routers_does(tmp_path: Path) -> None:
    from ruvllm.integrations.semantic_router import Route, RouteLayer

    layer = RouteLayer(encoder="static", routes=[Route(name, texts) for name, texts in ROUTES.items()])
    found = layer("I was charged two times")
    assert (found.name, found.function_call) == ("billing", None)
    assert found.similarity_score == layer.llm.route("I was charged two times").confidence
    assert layer("why do cats purr").name is None
    assert layer.list_route_names() == ["billing", "delivery"]
    assert layer.retrieve_multiple_routes("where is my parcel")[0].name == "delivery"
    layer.add(Route("garden", ["water the roses", "cut the hedge", "mow the lawn"]))
    assert asyncio.run(layer.acall("water the roses please")).name == "garden"
    layer.feedback("polish the brass kettle", "garden")
    assert layer("polish the brass kettle").name == "garden"
    rows = [{"name": name, "utterances": texts} for name, texts in ROUTES.items()]
    (file := tmp_path / "routes.json").write_text(json.dumps({"encoder_type": "openai", "routes": rows}))
    assert RouteLayer.from_json(file, encoder="static")("where is my parcel?").name == "delivery"
    for wrong in ([], [object()], [Route("x", "no list")]):
        with pytest.raises(InputError):
            RouteLayer(encoder="static", routes=wrong)("x")


def test_a_route_layer_takes_semantic_routers_own_routes() -> None:
    semantic_router = pytest.importorskip("semantic_router")
    from ruvllm.integrations.semantic_router import SemanticRouter

    routes = [semantic_router.Route(name=name, utterances=texts) for name, texts in ROUTES.items()]
    assert SemanticRouter(encoder=None, routes=routes, auto_sync="local")("send me the invoice").name == "billing"


def test_llama_indexs_router_selects_by_descriptions() -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import QueryBundle
    from llama_index.core.tools import ToolMetadata

    from ruvllm.integrations.llama_index import selector

    choices = [
        ToolMetadata(name="invoices", description="Questions about invoices, payments and refunds."),
        ToolMetadata(name="recipes", description="Questions about cooking, baking and recipes."),
    ]
    one = selector(RuvLLM(encoder="static"))
    assert one.select(choices, "how long do I bake a sponge cake?").ind == 1
    assert asyncio.run(one.aselect(choices, QueryBundle("when is my refund paid?"))).ind == 0
    both = selector(RuvLLM(encoder="static"), several=1e-6).select(choices, "refund for a baking course")
    assert sorted(both.inds) == [0, 1]


def test_a_crews_tasks_find_their_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of nobody")  # no model is asked
    monkeypatch.setenv("CREWAI_DISABLE_TELEMETRY", "true")
    crewai = pytest.importorskip("crewai")
    from ruvllm.integrations.crewai import CrewRouter

    def agent(role: str, goal: str) -> Any:
        return crewai.Agent(role=role, goal=goal, backstory="", llm="gpt-4o-mini")

    cook = agent("cook", "Writes recipes for meals, cakes and bread.")
    clerk = agent("clerk", "Answers questions about invoices, payments and refunds.")
    router = CrewRouter([cook, clerk], encoder="static")
    texts = ("write a recipe for a sponge cake", "find out when the refund is paid")
    tasks = [crewai.Task(description=text, expected_output="a text") for text in texts]
    assert [task.agent.role for task in router.assign(tasks)] == ["cook", "clerk"]
    assert all(decision is not None for decision in router.decisions)


def test_langgraphs_store_is_memory(tmp_path: Path) -> None:
    pytest.importorskip("langgraph.store.base")
    from ruvllm.integrations.langgraph_store import memory_store

    with RuvLLM(encoder="static", state=tmp_path / "state.db") as llm:
        store = memory_store(llm)
        store.put(("ada", "facts"), "tea", {"text": "Ada drinks green tea in the morning", "cups": 2})
        store.put(("ada", "facts"), "dog", {"text": "Her dog is called Bruno", "cups": 0})
        store.put(("ben", "facts"), "tea", {"text": "Ben drinks black coffee", "cups": 5}, ttl=1)
        store.put(("ada", "facts"), "tea", {"text": "Ada drinks mint tea in the morning", "cups": 3})
        found = store.get(("ada", "facts"), "tea")
        assert found.value == {"text": "Ada drinks mint tea in the morning", "cups": 3}
        assert found.updated_at >= found.created_at
        assert store.search(("ada",), query="what is the name of the dog?")[0].key == "dog"
        assert {one.namespace for one in store.search(("ben",), query="coffee")} == {("ben", "facts")}
        assert [one.key for one in store.search(("ada",), filter={"cups": {"$gt": 2}})] == ["tea"]
        assert len(store.search(())) == 3
        assert store.search((), limit=1, offset=1)[0].key in ("tea", "dog")
        assert store.list_namespaces(suffix=("facts",)) == [("ada", "facts"), ("ben", "facts")]
        assert store.list_namespaces(max_depth=1) == [("ada",), ("ben",)]
        store.delete(("ada", "facts"), "dog")
        assert asyncio.run(store.aget(("ada", "facts"), "dog")) is None
    with RuvLLM(encoder="static", state=tmp_path / "state.db") as llm:
        assert memory_store(llm).get(("ben", "facts"), "tea").value["cups"] == 5
