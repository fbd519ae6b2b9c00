"""What an agent's file says below the front matter counts, less than its description, and what it is not for."""

import pytest

from ruvllm import Agent, RuvLLM
from ruvllm.agents.readers import parse_agents
from ruvllm.routing.fusion import lexicon, telling_lines
from ruvllm.text.lexical import content, stems

BODY = """
# Ledger duties

```python
secret_function()
```

Some prose about nothing in particular.

- Reconcile bank statements
1. Chase unpaid invoices

Use this agent when the quarter has to be closed.
"""


def scores(agents, text):
    return lexicon(agents).scores(content(stems(text))).tolist()


def test_the_lines_that_say_when_come_first_and_code_is_left_out():
    assert telling_lines(BODY).splitlines() == [
        "Use this agent when the quarter has to be closed.",
        "# Ledger duties",
        "- Reconcile bank statements",
        "1. Chase unpaid invoices",
        "Some prose about nothing in particular.",
    ]


def test_a_long_body_is_bounded():
    found = telling_lines("\n".join(f"- point {n} " + "word " * 200 for n in range(5_000)))
    assert len(found.splitlines()) == 16
    assert len(found) < 16 * 162


def test_a_body_counts_less_than_a_description():
    stated = Agent("accountant", "Reconcile bank statements")
    implied = Agent("bookkeeper", "Keeps the books", body="- Reconcile bank statements")
    other = Agent("gardener", "Waters the plants")
    of_stated, of_implied, of_other = scores([stated, implied, other], "reconcile the bank statements")
    assert of_stated > of_implied > of_other == 0


def test_what_an_agent_is_not_for_pushes_away():
    plain = Agent("deployer", "Deploys services")
    described = Agent("releaser", "Deploys services. Do not use for databases.")
    stated = Agent("shipper", "Deploys services", body="Not for databases, ask the migrator.")
    of_plain, of_described, of_stated = scores([plain, described, stated], "databases")
    assert of_plain == 0
    assert of_described < 0
    assert of_stated < 0
    assert [term for term, _ in lexicon([described, plain]).matches(stems("databases deploy"), 0)] == ["deploy"]


@pytest.mark.parametrize("clause", ["never use it when", "not intended for", "don't trigger this on", "not if"])
def test_the_usual_ways_of_saying_so_are_read(clause):
    agents = [Agent("one", f"Handles forms; {clause} spreadsheets are large."), Agent("two", "Handles forms")]
    against, nothing = scores(agents, "spreadsheets")
    assert against < nothing == 0


def test_a_file_is_found_by_what_stands_in_its_body(static_llm):
    head = "---\nname: {}\ndescription: Helps with the company's money\n---\n{}\n"
    files = {"ledger.md": head.format("ledger", BODY), "payroll.md": head.format("payroll", "- Compute monthly wages")}
    agents = [agent for name, text in files.items() for agent in parse_agents(text, name)[0]]
    with RuvLLM(agents, encoder="static", like=static_llm) as llm:
        assert llm.route("reconcile bank statements").agent == "ledger"
        assert llm.route("compute the monthly wages").agent == "payroll"
