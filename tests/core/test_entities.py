"""Names in texts, and questions that need two facts."""

from __future__ import annotations

import pytest

from ruvllm import RuvLLM
from ruvllm.memory.memory import MemoryStore
from ruvllm.state.store import Store
from ruvllm.text.entities import entities_in, relative_clause


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Mira works at Northwind Labs in Tromsø.", {"Mira", "Northwind Labs", "Tromsø"}),
        ("I sang with José in the University of Oslo's choir.", {"José", "University of Oslo"}),
        ("It is in core.auth.session, `use cache` and parse_invoice, as E4711 says.",
         {"core.auth.session", "use cache", "parse_invoice", "E4711"}),
        ("then getUserName fails", {"getUserName"}),
        ("Иван работает в Москве.", {"Иван", "Москве"}),
        ("«Мастер» was on.", {"Мастер"}),
        ("Camping was a disaster, the weather was bad.", set()),
        ("", set()),
    ],
)  # fmt: skip
def test_names_are_found_by_their_form(text: str, names: set[str]):
    assert set(entities_in(text)) == names


@pytest.mark.parametrize(
    ("question", "clause"),
    [
        ("Where does the person who founded Northwind live?", "founded Northwind live"),
        ("Who is the colleague that fixed the login bug?", "fixed the login bug"),
        ("Where is the company which moved our desks, and since when?", "moved our desks"),
        ("What did Ada say that evening?", ""),
        ("the " * 50_000, ""),
    ],
)
def test_what_a_question_does_not_name(question: str, clause: str):
    assert relative_clause(question) == clause


FACTS = (
    "Greta Moss trained the office dog Pluto.",
    "Greta Moss drives a green van.",
    "Ivan Novak trained the parrot Coco.",
    "Ivan Novak drives a tram.",
    "Pluto barks at couriers.",
    "Bread needs flour.",
)


def test_a_question_that_needs_two_facts_goes_by_the_name_between_them(static_llm: RuvLLM):
    memory = MemoryStore(static_llm.encoders.static, Store())
    ids = memory.add(list(FACTS), metadata={"team": "a"})
    for question, answer in (("the parrot", ids[3]), ("the office dog Pluto", ids[1])):
        found = memory.search(f"What does the person who trained {question} drive?", 3)
        why = {one.memory.id: one.why for one in found}
        assert answer in why
        assert why[answer].graph > 0  # type: ignore[union-attr]
    asked = "What does the person who trained the parrot drive?"
    assert memory.search(asked, filter={"team": "b"}) == []
    assert all(one.why is None or one.why.graph == 0 for one in memory.search("What does Ivan Novak drive?"))
