"""Time: dates in texts, what superseded what, and questions about a moment."""

from __future__ import annotations

from datetime import date

import pytest

from ruvllm import InputError, RuvLLM
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.validity import moment_of
from ruvllm.options import MemoryConfig
from ruvllm.state.record import Memory
from ruvllm.state.store import Store
from ruvllm.text.dates import dates_in, first_date
from ruvllm.text.statements import replaces, statement_of

TODAY = date(2023, 8, 16)  # a Wednesday


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("1:56 pm on 8 May, 2023", "2023-05-08", "2023-05-08"),
        ("2023-05-08T13:56", "2023-05-08", "2023-05-08"),
        ("8.5.2023", "2023-05-08", "2023-05-08"),
        ("12/25/2022", "2022-12-25", "2022-12-25"),
        ("May 8th, 2023", "2023-05-08", "2023-05-08"),
        ("last May", "2023-05-01", "2023-05-31"),
        ("next May", "2024-05-01", "2024-05-31"),
        ("in March", "2023-03-01", "2023-03-31"),
        ("three days before 8 May 2023", "2023-05-05", "2023-05-05"),
        ("two weeks before last Friday", "2023-07-25", "2023-07-31"),
        ("a month ago", "2023-07-01", "2023-07-31"),
        ("last week", "2023-08-07", "2023-08-13"),
        ("next tuesday", "2023-08-22", "2023-08-22"),
        ("yesterday", "2023-08-15", "2023-08-15"),
        ("last summer", "2022-06-01", "2022-08-31"),
        ("in 2021", "2021-01-01", "2021-12-31"),
    ],
)
def test_dates_are_understood(text: str, first: str, last: str):
    assert [(str(span.first), str(span.last)) for span in dates_in(f"It was {text}, I think", TODAY)] == [(first, last)]


@pytest.mark.parametrize(
    "text", ["it may happen", "march on", "31.02.2023", "9999 years ago", "10:30", "v1.2.3", "x" * 50_000]
)
def test_what_is_no_date_is_none(text: str):
    assert dates_in(text, TODAY) == []


def test_a_date_of_the_metadata():
    assert first_date("8 May 2023") == first_date("2023-05-08") == first_date(1683550000.0)
    assert all(first_date(value) is None for value in (None, True, "soon", 1e30, float("nan"), ["2023-05-08"]))


@pytest.fixture
def memory(static_llm: RuvLLM) -> MemoryStore:
    return MemoryStore(static_llm.encoders.static, Store())


def say(memory: MemoryStore, text: str, day: str, **more: object) -> int:
    return memory.add(text, metadata={"observed_at": day, **more})[0]


def texts(memory: MemoryStore, query: str, **options: object) -> list[str]:
    return [one.memory.text for one in memory.search(query, 5, **options)]


def test_what_was_said_on_a_day_is_found_by_it(memory: MemoryStore):
    say(memory, "We painted the fence", "2023-05-08")
    say(memory, "We painted the door", "2023-07-01")
    say(memory, "Yesterday we painted the roof", "2023-03-02")
    assert texts(memory, "What did we paint in May 2023?")[0] == "We painted the fence"
    assert texts(memory, "What did we paint on 1 March 2023?")[0] == "Yesterday we painted the roof"
    (best, *_) = memory.search("What did we paint on 1 July 2023?", 5)
    assert best.why is not None
    assert best.why.time > 0


def test_a_new_statement_ends_an_older_one_and_can_be_undone(memory: MemoryStore):
    old = say(memory, "Ada lives in Porto.", "2023-01-05")
    other = say(memory, "Bob lives in Porto.", "2023-01-06")
    new = say(memory, "Ada moved to Quito.", "2023-06-05")
    closed = memory.validity.closed([old, other, new])
    assert closed.keys() == {old}
    assert closed[old].successor == new
    assert "place" in closed[old].reason
    assert first_date(closed[old].until) == first_date("2023-06-05")
    assert memory.validity.history(new) == [old, new]
    assert texts(memory, "Where does Ada live?")[0] == "Ada moved to Quito."
    assert texts(memory, "Where did Ada live in March 2023?")[0] == "Ada lives in Porto."
    assert texts(memory, "Where did Ada live before?")[0] == "Ada lives in Porto."
    assert texts(memory, "Where does Ada live?", at="2023-02")[0] == "Ada lives in Porto."
    assert memory.validity.reopen([old]) == 1
    assert memory.validity.closed([old]) == {}
    assert memory.validity.reopen([old]) == 0


def test_edges_do_not_lift_what_holds_no_longer(memory: MemoryStore):
    old = say(memory, "Ada lives in Porto, close to the river.", "2023-01-05")
    new = say(memory, "Ada moved to Quito.", "2023-06-05")
    memory.graph.link(new, old, "Follows")
    scores = {one.memory.id: one.score for one in memory.search("Where does Ada live?", 5, hops=2)}
    assert scores[old] < scores[new] - 0.2


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("Where does Ada live?", "Quito"),
        ("Where does Ada live now?", "Quito"),
        ("Where did Ada live in March 2023?", "Porto"),
        ("Where did Ada live before?", "Porto"),
    ],
)
def test_a_query_is_answered_from_what_held_then(static_llm: RuvLLM, query: str, answer: str):
    llm = RuvLLM(encoder="static", like=static_llm)
    for text, day in (("Ada lives in Porto.", "2023-01-05"), ("Ada moved to Quito.", "2023-06-05")):
        say(llm.memory, text, day)
    say(llm.memory, "Bob lives in Rome.", "2023-01-02")
    response = llm.query(query)
    assert answer in response.text
    assert ("Porto" in response.text) + ("Quito" in response.text) == 1


def test_what_is_given_to_hold_for_a_time_does(memory: MemoryStore):
    memory.add("The office is in Graz.", metadata={"valid_from": "2020-01-01", "valid_to": "2999-01-01"})
    memory.add("The office is in Linz.", metadata={"valid_from": "2019-01-01", "valid_to": "2019-06-01"})
    graz, linz = (one.memory for one in memory.search("where is the office?", 2))
    assert (graz.text, linz.text) == ("The office is in Graz.", "The office is in Linz.")
    assert memory.validity.holding([graz, linz], moment_of("where is the office?")) == [graz]
    assert memory.validity.holding([graz, linz], moment_of("where was the office in March 2019?")) == [linz]


def test_each_one_ends_with_the_next(memory: MemoryStore):
    ids = [say(memory, f"Ada lives in {city}.", f"2023-0{n}-01") for n, city in enumerate(("Rome", "Oslo", "Bonn"), 1)]
    closed = memory.validity.closed(ids)
    assert [closed[i].successor if i in closed else None for i in ids] == [ids[1], ids[2], None]
    assert memory.validity.history(ids[0]) == ids


def test_what_was_said_before_ends_nothing_that_came_later(memory: MemoryStore):
    new = say(memory, "Ada lives in Quito.", "2023-06-05")
    say(memory, "Ada lives in Porto.", "2023-01-05")
    assert memory.validity.closed([new]) == {}


def test_speakers_and_agents_are_kept_apart(memory: MemoryStore):
    ada = say(memory, "I live in Porto", "2023-01-05", speaker="Ada")
    ben = say(memory, "I live in Rome", "2023-01-05", speaker="Ben")
    say(memory, "Big news! I've moved to Oslo.", "2023-03-05", speaker="Ada")
    assert memory.validity.closed([ada, ben]).keys() == {ada}
    mine = say(memory, "The port is 8080.", "2023-01-05", agent_id="a")
    say(memory, "The port is 9090.", "2023-02-05", agent_id="b")
    assert memory.validity.closed([mine]) == {}


def test_superseding_can_be_off_and_what_is_forgotten_takes_its_closing_along(static_llm: RuvLLM, memory: MemoryStore):
    off = MemoryStore(static_llm.encoders.static, Store(), options=MemoryConfig(supersede=False))
    off.add(["The port is 8080."])
    off.add(["The port is 9090."])
    assert off.store.read("SELECT count(*) FROM closed") == [(0,)]
    memory.add("The port is 8080.")
    (new,) = memory.add("The port is 9090.")
    assert memory.store.read("SELECT count(*) FROM closed") == [(1,)]
    memory.forget([new])
    assert memory.store.read("SELECT count(*) FROM closed") == [(0,)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Ada likes jazz.", "Ada likes folk."),
        ("The shop opens at 9.", "The shop closes at 18."),
        ("Ada was in Rome in March.", "Ada was in Oslo in June."),
        ("Ada lives in Rome.", "Would Ada live in Oslo?"),
        ("Ada lives in Rome.", "Ada wants to live in Oslo."),
        ("Ada lives in Rome.", "Ada lives in Rome, near the river."),
        ("Ada's sister lives in Rome.", "Ada lives in Oslo."),
        ("The app supports Linux.", "The app supports Windows."),
        ("Ada's friend is Tom.", "Ada's friend is Ben."),
        ("The meeting on Monday starts at 9.", "The meeting on Thursday starts at 11."),
    ],
)
def test_what_can_both_be_so_stays(old: str, new: str):
    before, after = statement_of(old), statement_of(new)
    assert before is None or after is None or replaces(before, after)[0] == 0


def test_recency_and_at(memory: MemoryStore):
    memory.add([Memory("note about the garden", metadata={"observed_at": "2020-01-01"})])
    memory.add("note about the garden gate")
    assert texts(memory, "note about the garden")[0] == "note about the garden"
    assert texts(memory, "note about the garden", recency=1.0)[0] == "note about the garden gate"
    with pytest.raises(InputError) as caught:
        memory.search("note", at="soon")
    assert caught.value.field == "at"
