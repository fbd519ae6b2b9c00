import pytest

from ruvllm import RuvLLM
from ruvllm.routing.team import parts
from ruvllm.sizing.tiers import Features, action_for, choose, difficulty
from ruvllm.types import Action, Agent, Tier


@pytest.mark.parametrize(
    ("confidence", "action"),
    [(0.95, Action.USE), (0.9, Action.CONFIRM), (0.7, Action.CONFIRM), (0.69, Action.ESCALATE), (0.0, Action.ESCALATE)],
)
def test_bands(confidence, action):
    assert action_for(confidence) == action


def test_an_agents_own_tier_wins():
    hard = "design a distributed consensus protocol and migrate the whole system"
    assert choose(Features(hard, Agent("x", tier=Tier.SMALL))).tier is Tier.SMALL
    assert choose(Features(hard, Agent("x"))).tier is Tier.LARGE
    assert choose(Features("fix a typo in the readme", Agent("x"))).tier is Tier.SMALL


def test_difficulty_is_a_probability_for_any_length():
    assert 0 <= difficulty("design " * 5000) <= 1
    assert difficulty("rename a label") < difficulty("design a scalable architecture")


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("build full-stack app with auth", ["design", "api", "frontend", "auth", "qa"]),
        ("Add authentication to the API", ["api", "auth"]),
        ("refactor the parser, then write tests and document it", ["refactor", "qa", "docs"]),
        ("write a function that sorts names", ["main"]),
        ("write unit tests for the shop application", ["qa"]),
        ("add unit tests for the auth module", ["qa"]),
        ("build a web shop with login and deploy it", ["design", "api", "frontend", "auth", "qa", "deploy"]),
        ("fix the login bug in the React frontend and add a test", ["debug", "qa"]),
        ("research and development of the cache", ["research"]),
    ],
)
def test_parts(text, roles):
    assert [role for role, _ in parts(text)] == roles


def test_it_means_the_first_clause():
    assert parts("refactor the parser and document it")[1] == ("docs", "document the parser")


def test_a_full_stack_app_gets_its_team(static_llm: RuvLLM):
    team = static_llm.route_complex("build full-stack app with auth")
    assert {member.role: member.agent for member in team.members} == {
        "design": "system-architect",
        "api": "backend-dev",
        "frontend": "coder",
        "auth": "security-architect",
        "qa": "tester",
    }
    assert team.tier is Tier.LARGE


def test_two_labels_for_one_task(static_llm: RuvLLM):
    names = [member.agent for member in static_llm.route_complex("Add authentication to the API").members]
    assert names == ["backend-dev", "security-architect"]
    assert static_llm.route("Add authentication to the API", team=True).team == tuple(names)
    assert static_llm.route("Add authentication to the API").to_dict()["team"] == ()
    assert static_llm.route("write unit tests for the parser", team=True).team == ()


@pytest.mark.parametrize(
    ("text", "agents"),
    [
        ("migrate billing to Python 3, dockerize it, set up monitoring", ["migration-planner", "devops"]),
        ("escribe pruebas para el login, documenta la API", ["tester", "api-docs"]),
        ("Scrivi i test per il parser, poi documenta l'API", ["tester", "api-docs"]),
        ("1. write unit tests for the parser\n2. document the API", ["tester", "api-docs"]),
        ("const x = 1; let y = 2;\nlet z = x + y;", ["coder"]),
        ("- write unit tests for the parser\n- review my pull request", ["tester", "reviewer"]),
        ("rename foo to bar and baz to qux", ["refactorer"]),
        ("document the API, including errors, limits and examples", ["api-docs"]),
    ],
)
def test_a_list_of_asks_gets_a_team_and_a_list_of_things_does_not(static_llm: RuvLLM, text: str, agents: list[str]):
    assert [member.agent for member in static_llm.route_complex(text).members] == agents


def test_it_is_the_thing_that_is_changed_and_not_what_it_becomes(static_llm: RuvLLM):
    members = static_llm.route_complex("migrate billing to Python 3, dockerize it, set up monitoring").members
    assert [member.task for member in members] == [
        "migrate billing to Python 3",
        "dockerize billing; set up monitoring",
    ]


def test_a_simple_task_is_a_team_of_one(static_llm: RuvLLM):
    (member,) = static_llm.route_complex("add unit tests for the auth module").members
    assert member.agent == static_llm.route("add unit tests for the auth module").agent
