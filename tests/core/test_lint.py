from ruvllm import Agent, RuvLLM

BUILDER = "Builds the web application and its pages with React, and keeps them working."


def findings(*agents: Agent):
    return [(f.kind, set(f.agents)) for f in RuvLLM(list(agents), encoder="static").lint()]


def test_a_clean_set_has_no_findings():
    assert (
        findings(Agent("web", BUILDER), Agent("cook", "Cooks soups, stews and roasts for large groups of guests."))
        == []
    )


def test_empty_short_and_duplicate_agents_are_found():
    found = findings(Agent("a", BUILDER), Agent("b", BUILDER), Agent("c"), Agent("d", "does d"))
    assert ("duplicate", {"a", "b"}) in found
    assert ("empty", {"c"}) in found
    assert ("short", {"d"}) in found


def test_colliding_examples_are_shown_with_their_prompts():
    one = Agent("one", BUILDER, examples=("write the login page in react", "style the footer"))
    two = Agent("two", "Reviews contracts and leases for lawyers.", examples=("write a login page in react",))
    (finding,) = RuvLLM([one, two], encoder="static").lint()
    assert finding.kind == "confusable"
    assert any("write the login page in react" in prompt for prompt in finding.prompts)
    assert finding.fix
