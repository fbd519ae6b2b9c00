import json
from pathlib import Path

import pytest

from ruvllm import Action, Agent, RuvLLM
from ruvllm.agents.catalog import builtin_agents
from ruvllm.routing.reading import LONG, Reader, passages
from ruvllm.text.lexical import stems

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def reader(static_llm: RuvLLM) -> Reader:
    return Reader(builtin_agents(), static_llm.encoders.static.tokenizer)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("wirte unit tests for the prser", "write unit tests for the parser"),
        ("reviw the databse schmea", "review the database schema"),
        ("Documnet the depoyment", "document the deployment"),
        ("fix src/parserr.py and call fucntion()", "fix src/parserr.py and call fucntion()"),
        ("fix the redis cache in kubernetes", "fix the redis cache in kubernetes"),
    ],
)
def test_slips_are_mended_but_not_in_paths_and_calls(reader: Reader, typed, meant):
    assert reader.read(typed).text == meant
    assert reader.read(typed).most == 1


def test_english_is_read_as_it_is(reader: Reader):
    texts = [example for agent in builtin_agents() for example in agent.examples]
    assert [text for text in texts if reader.read(text).most < 1] == []
    assert sum(reader.read(text).text != text for text in texts) < 0.2 * len(texts)


def test_other_languages_are_never_used_without_asking(static_llm: RuvLLM):
    rows = json.loads((DATA / "languages.json").read_text("utf-8"))["prompts"]
    decisions = [(static_llm.route(row["prompt"]), row["agent"]) for row in rows]
    assert not [decision for decision, _ in decisions if decision.action == Action.USE]
    assert sum(decision.agent == agent for decision, agent in decisions) >= 0.6 * len(rows)


def test_what_is_learnt_in_another_language_is_found_again():
    llm = RuvLLM([Agent("cook", "Cooks soups."), Agent("smith", "Forges iron.")], encoder="static")
    text = "bitte die Suppe für morgen kochen"
    llm.feedback(text, "smith")
    assert llm.route(text).agent == "smith"


def test_passages_come_once_the_ends_first_and_lists_are_left_out():
    lines = [f"2026-01-07 09:00:{i:02} INFO took batch {i}" for i in range(60)]
    text = "\n".join(
        ["First things first.", *lines, "In the middle. Of it!", *lines, "Last but one here", "the last line"]
    )
    assert passages(text) == ["First things first.", "In the middle.", "the last line", "Last but one here"]
    assert passages("only this one line") == ["only this one line"]


@pytest.mark.parametrize("place", [0, 40, 80])
def test_a_task_within_a_long_text_is_found(static_llm: RuvLLM, place):
    names = ("ferry", "choir", "heron", "baker", "captain", "guide", "lamp", "mill")
    lines = [f"The {a} passed the {b} and nobody said a word." for a in names for b in names] * 2
    lines = [f"{line} It was {'very ' * (i % 5)}late." for i, line in enumerate(lines)]
    lines.insert(place, "Write unit tests for the date parser")
    text = "\n".join(lines)
    assert len(text) > LONG
    assert static_llm.route(text).agent == "tester"


def test_a_request_of_one_word_is_not_used_without_asking(static_llm: RuvLLM):
    for text in ("error", "faster please", "there is an error"):
        assert static_llm.route(text).action != Action.USE


@pytest.mark.parametrize(
    "text",
    [
        "fix the login page",
        "parseJSON(x) in src/HTTPServer.ts, c++ and c# too!",
        "  tabs\tand\nlines \r\n",
        "[CLS] fix [MASK]x",
        "one\x0bword\x1cin\x00pieces",
        "über den Wolken",
        "fix teh prser in src/teh.py",
        "x" * 300 + " y",
        "corrige el parser por favor",
        "fix the page " * 200,
        "snake_case_name camelCaseName 12ab34 a.b-c/d",
        "don't!?#42 @user",
    ],
)
def test_parts_are_read_as_the_whole_is(static_llm: RuvLLM, reader: Reader, text):
    for _ in range(2):  # unknown, and remembered
        read = reader.read(text)
        assert read == reader._read(text)
        assert read.ids == static_llm.encoders.static.tokenizer.ids(read.text, 256)
        assert read.words == stems(read.text)
