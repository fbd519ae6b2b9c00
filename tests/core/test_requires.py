import numpy as np
import pytest

from ruvllm import Agent, RuvLLM
from ruvllm.agents.catalog import agent_from, builtin_agents
from ruvllm.agents.readers import parse_agents
from ruvllm.routing.fusion import words_of
from ruvllm.text.lexical import stems

PRODUCT = Agent("acme-billing", "Refunds, invoices and payments in Acme Cloud.", requires=("acme cloud", "acmectl"))
PLAIN = Agent("cook", "Cooks soups and stews.")


def candidates(*agents: Agent, task: str) -> list[str]:
    found = words_of(tuple(agents))[1].candidates(stems(task))
    return [agents[i].name for i in (range(len(agents)) if found is None else found)]


def test_an_agent_of_a_product_is_a_candidate_where_the_product_is_named():
    assert candidates(PRODUCT, PLAIN, task="refund the last payment") == ["cook"]
    assert candidates(PRODUCT, PLAIN, task="refund it in the cloud of Acme") == ["acme-billing", "cook"]
    assert candidates(PRODUCT, PLAIN, task="run acmectl") == ["acme-billing", "cook"]


def test_a_set_of_nothing_but_agents_of_products_is_routed_all_the_same():
    assert candidates(PRODUCT, task="refund the last payment") == ["acme-billing"]


def test_who_is_no_candidate_has_no_probability_and_stands_last():
    llm = RuvLLM([PRODUCT, PLAIN, Agent("clerk", "Pays invoices, handles payments and refunds.")], encoder="static")
    decision = llm.route("refund the last payment")
    assert decision.agent == "clerk"
    assert decision.alternatives[-1].agent == "acme-billing"
    assert decision.alternatives[-1].confidence == 0
    assert llm.route("refund the last invoice in acme cloud, it is about payments").agent == "acme-billing"


def test_a_confirmed_task_is_answered_from_memory_though_it_names_no_product():
    llm = RuvLLM([PRODUCT, PLAIN, Agent("clerk", "Pays invoices.")], encoder="static")
    llm.feedback("refund the last payment", "acme-billing")
    assert llm.route("refund the last payment").agent == "acme-billing"


@pytest.mark.parametrize("given", [["flow nexus"], "flow nexus"])
def test_mappings_and_files_may_have_the_field(given):
    assert agent_from({"name": "a", "requires": given}).requires == ("flow nexus",)


def test_front_matter_may_have_the_field():
    text = "---\nname: acme-billing\ndescription: Refunds.\nrequires: [acme cloud, acmectl]\n---\nbody\n"
    (agent,), problems = parse_agents(text, "acme-billing.md")
    assert agent.requires == ("acme cloud", "acmectl")
    assert problems == []


@pytest.mark.parametrize(
    "task",
    [
        "our neighbours' raft got stuck on the sandbank",
        "the board cannot vote without a quorum of owners",
        "gossip from the film set",
        "a young queen left with half of the bees",
        "the invoice module sends payments twice",
        "users cannot log in with their password",
    ],
)
def test_no_word_alone_calls_a_built_in_agent_of_a_product(task):
    agents = builtin_agents()
    found = words_of(tuple(agents))[1].candidates(stems(task))
    assert found is not None
    assert not [agents[i].name for i in found if agents[i].requires]


def test_examples_of_built_in_agents_hold_what_they_require():
    agents = builtin_agents()
    needing = [agent for agent in agents if agent.requires and agent.category != "flow-nexus"]
    rules = words_of(tuple(agents))[1]
    met = [
        (found := rules.candidates(stems(example))) is None or agents.index(agent) in found
        for agent in needing
        for example in agent.examples
    ]
    assert np.mean(met) >= 0.97


def test_lint_suggests_it():
    names = ("acme-cloud-auth", "acme-cloud-billing")
    agents = [Agent(name, f"Looks after the {name} of customers, every day.") for name in names]
    (finding,) = [one for one in RuvLLM(agents, encoder="static").lint() if one.kind == "product"]
    assert finding.agents == names
    assert '["acme cloud"]' in finding.fix
    assert not [one for one in RuvLLM(encoder="static").lint() if one.kind == "product"]
