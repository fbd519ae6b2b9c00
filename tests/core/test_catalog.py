from collections import Counter

import pytest

from ruvllm.agents.catalog import agent_from, builtin_agents, builtin_digest, card, spoken_name, unique
from ruvllm.errors import InputError
from ruvllm.types import Agent, Tier

TAXONOMY = [
    "coder",
    "reviewer",
    "tester",
    "planner",
    "researcher",
    "system-architect",
    "backend-dev",
    "mobile-dev",
    "security-architect",
    "security-auditor",
    "perf-analyzer",
    "performance-optimizer",
    "cicd-engineer",
    "release-manager",
    "hierarchical-coordinator",
    "mesh-coordinator",
    "byzantine-coordinator",
    "raft-manager",
    "ml-developer",
    "safla-neural",
    "pr-manager",
    "issue-tracker",
    "workflow-automation",
    "sparc-coord",
    "specification",
    "pseudocode",
    "debugger",
    "documenter",
    "refactorer",
    "optimizer",
    "architect",
    "devops",
    "api-docs",
    "analyst",
    "code-analyzer",
    "base-template-generator",
    "crdt-synchronizer",
    "gossip-coordinator",
    "performance-benchmarker",
    "quorum-manager",
    "security-manager",
    "flow-nexus-app-store",
    "flow-nexus-auth",
    "flow-nexus-challenges",
    "flow-nexus-neural",
    "flow-nexus-payments",
    "flow-nexus-sandbox",
    "flow-nexus-swarm",
    "flow-nexus-user-tools",
    "flow-nexus-workflow",
    "code-review-swarm",
    "github-modes",
    "multi-repo-swarm",
    "project-board-sync",
    "release-swarm",
    "repo-architect",
    "swarm-issue",
    "swarm-pr",
    "sync-coordinator",
    "code-goal-planner",
    "goal-planner",
    "collective-intelligence-coordinator",
    "queen-coordinator",
    "scout-explorer",
    "swarm-memory-manager",
    "worker-specialist",
    "benchmark-suite",
    "load-balancing-coordinator",
    "performance-monitor",
    "resource-allocator",
    "topology-optimizer",
    "sublinear-goal-planner",
    "architecture",
    "refinement",
    "adaptive-coordinator",
    "smart-agent",
    "swarm-init",
    "sparc-coder",
    "memory-coordinator",
    "migration-planner",
    "task-orchestrator",
    "tdd-london-swarm",
    "production-validator",
]


def test_every_name_of_the_taxonomy_is_there():
    assert len(builtin_agents()) >= 66
    assert set(TAXONOMY) - {agent.name for agent in builtin_agents()} == set()


def test_every_agent_is_whole():
    for agent in builtin_agents():
        assert len(agent.examples) >= 10, agent.name
        assert len(agent.keywords) >= 5, agent.name
        assert len(agent.description) >= 100, agent.name
        assert agent.tier is not None, agent.name
        assert agent.tools, agent.name


def test_no_example_belongs_to_two_agents():
    counts = Counter(text.lower() for agent in builtin_agents() for text in agent.examples)
    assert [text for text, n in counts.items() if n > 1] == []


def test_digest_is_stable():
    assert builtin_digest() == builtin_digest()
    assert len(builtin_digest()) == 64


def test_card_and_spoken_name():
    assert card(Agent("cicd-engineer")) == "cicd engineer"
    assert card(Agent("a", "does b")) == "a: does b"
    assert spoken_name("a/b_c-d") == "a b c d"


@pytest.mark.parametrize(
    ("model", "tier"), [("haiku", Tier.SMALL), ("claude-sonnet-4", Tier.LARGE), ("opus", Tier.LARGE), ("gpt", None)]
)
def test_a_model_pins_its_tier(model, tier):
    assert agent_from({"name": "x", "model": model}).tier is tier


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 300}, "name"),
        ({"name": 3}, "name"),
        ({"name": "x", "description": ["a"]}, "description"),
        ({"name": "x", "description": "a" * 30_000}, "description"),
        ({"name": "x", "examples": [1]}, "examples"),
        ({"name": "x", "tier": 4}, "tier"),
        ({"name": "x", "tier": True}, "tier"),
    ],
)
def test_bad_fields_are_named(data, field):
    with pytest.raises(InputError) as error:
        agent_from(data)
    assert error.value.field == field
    assert error.value.fix


def test_unique_refuses_none_and_twins():
    with pytest.raises(InputError, match="no agent"):
        unique([])
    with pytest.raises(InputError, match="'a'"):
        unique([Agent("a"), Agent("a")])
