"""Search by words: the terms of texts, their postings, a query's syntax, and both kinds of search together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ruvllm import InputError, RuvLLM
from ruvllm.config import Config
from ruvllm.inference.extractive import CANNOT_ANSWER
from ruvllm.memory.found import Why, answerable
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.records import Records
from ruvllm.memory.subgraph import Edge
from ruvllm.memory.words import Words
from ruvllm.options import MemoryConfig
from ruvllm.state.record import Memory
from ruvllm.state.store import Store
from ruvllm.text.terms import Sought, parse, terms

NOTES = (
    "The staging database is reset every Monday",
    "Refunds need the approval of two people",
    "Deploys of the web shop need two approvals",
    "The error E4711 means that the disk is full",
    "Refunds are paid within a week",
)


@pytest.fixture
def notes(static_llm: RuvLLM) -> MemoryStore:
    memory = MemoryStore(static_llm.encoders.static, Store())
    memory.add([Memory(text, metadata={"team": "web" if "web" in text else "Shop"}) for text in NOTES])
    return memory


def texts(found: Sequence[Any]) -> list[str]:
    return [one.memory.text for one in found]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I bought it", "buy"),
        ("she went there", "go"),
        ("the children", "kids"),
        ("Café", "cafe"),
        ("getUserName", "user"),
        ("東京に行きました", "東京"),
        ("running tests", "run test"),
    ],
)
def test_forms_of_a_word_meet_in_one_term(one: str, other: str):
    assert set(terms(other)) & set(terms(one))


def test_what_only_joins_words_is_no_term():
    assert terms("What is the ... of it, and who were they?") == []


@pytest.mark.parametrize(
    ("query", "sought"),
    [
        ("plain words", Sought("plain words")),
        ('what is "the web  shop" about', Sought("what is the web shop about", ("the web shop",))),
        ("deploy -staging", Sought("deploy", (), ("stag",))),
        ("refunds team:web", Sought("refunds", (), (), (("team", "web"),))),
        ('author:"Ann Lee" plans', Sought("plans", (), (), (("author", "Ann Lee"),))),
        ("git commit -m -rf now", Sought("git commit -m -rf now")),
        ("at -5 degrees, 10:30", Sought("at -5 degrees, 10:30")),
        ("note: std::vector http://a.b/c", Sought("note: std::vector http://a.b/c")),
        ('a lone " quote', Sought('a lone " quote')),
        ('""', Sought('""')),
        ('Who read "Dune" -really?', Sought('Who read "Dune" -really?')),
        ("-alone", Sought("", (), ("alon",))),
        (" ".join(f"k{i}:v" for i in range(40)), Sought(" ".join(f"k{i}:v" for i in range(40)))),
    ],
)
def test_a_query_falls_into_its_parts(query: str, sought: Sought):
    assert parse(query) == sought


@pytest.mark.parametrize(
    "query",
    [
        '"',
        '"" OR 1=1 --',
        "NEAR(a b)",
        "a AND",
        "*",
        "col:*",
        "'; DROP TABLE words; --",
        "\x00\ud800",
        "x" * 30_000,
        '-"a b"',
    ],
)
def test_a_hostile_query_is_only_words(query: str, notes: MemoryStore):
    for way in ("hybrid", "words"):
        notes.search(query, 3, search=way)
    assert len(notes.search("refund", 5)) == 5


def test_rare_words_find_what_vectors_do_not(notes: MemoryStore):
    assert texts(notes.search("E4711", 1)) == [NOTES[3]]
    found = notes.search("E4711", 1, search="words")
    assert texts(found) == [NOTES[3]]
    assert found[0].why is not None
    assert found[0].why.words == pytest.approx(found[0].score)


def test_a_score_is_the_sum_of_its_parts(notes: MemoryStore):
    for one in notes.search("who approves refunds?", 5):
        assert isinstance(one.why, Why)
        assert one.score == pytest.approx(
            one.why.cosine + one.why.words + one.why.speaker + one.why.neighbour + one.why.time
        )
    assert all(one.why is None for one in notes.search("who approves refunds?", 5, search="vectors"))


def test_an_answer_is_as_sure_as_it_is_that_memory_holds_it(static_llm: RuvLLM):
    sure = dict[tuple[str, str], float]()
    for way in ("vectors", "hybrid"):
        config = Config(memory=MemoryConfig(search=way))
        with RuvLLM(encoder="static", config=config, like=static_llm) as llm:
            llm.memory.add(NOTES)
            for question in ("who has to approve refunds?", "why is the printer of the web shop slow?"):
                answer = llm.query(question)
                sure[way, question[:3]] = answer.confidence or 0.0
                assert (answer.text == CANNOT_ANSWER) == (answer.confidence == 0)
    assert sure["hybrid", "who"] > 0.5
    assert sure["hybrid", "why"] == 0


def test_what_nobody_said_is_hardly_in_memory(talk: MemoryStore):
    chances = [
        answerable(talk.search(question, 10)) for question in ("What does Ada's dog own?", "Where did Ada marry?")
    ]
    assert chances[0] > 0.4 > chances[1]
    assert answerable([]) == 0


def test_syntax_bounds_what_is_found(notes: MemoryStore):
    assert texts(notes.search('"two approvals"')) == [NOTES[2]]
    assert texts(notes.search('"TWO  approvals" approval')) == [NOTES[2]]
    assert NOTES[1] not in texts(notes.search("refunds -people"))
    assert texts(notes.search("approval team:web")) == [NOTES[2]]
    assert len(notes.search("team:shop")) == 4
    assert notes.search('"approvals two"') == []
    assert texts(notes.search("approval", filter={"team": "web"})) == [NOTES[2]]


@pytest.mark.parametrize(("query", "options", "field"), [("a", {"search": "fts"}, "search"), ("a", {"k": 0}, "k")])
def test_a_way_to_search_that_there_is_not(query: str, options: dict[str, Any], field: str, notes: MemoryStore):
    with pytest.raises(InputError) as caught:
        notes.search(query, **options)
    assert caught.value.field == field
    with pytest.raises(InputError):
        notes.search(np.ones(notes.encoder.dim), search="words")


def test_postings_follow_the_memories(notes: MemoryStore):
    assert notes.search("quokka", 1, search="words") == []
    (new,) = notes.add("A quokka is a small animal")
    assert [one.memory.id for one in notes.search("quokka", search="words")] == [new]
    notes.archive([new])
    assert notes.search("quokka", search="words") == []
    (again,) = notes.add("Another quokka")
    assert [one.memory.id for one in notes.search("quokka", search="words")] == [again]
    notes.forget([again])
    assert notes.search("quokka", search="words") == []
    assert notes.store.read("SELECT count(*) FROM words") == [(len(NOTES) + 1,)]


def test_another_object_on_the_file_sees_the_same(tmp_path: Path, static_llm: RuvLLM):
    one, other = (MemoryStore(static_llm.encoders.static, Store(tmp_path / "state.db")) for _ in range(2))
    one.add(list(NOTES))
    assert texts(other.search("E4711", 1, search="words")) == [NOTES[3]]
    (gone,) = [found.memory.id for found in one.search("E4711", 1)]
    other.forget([gone])
    one.add("E4712 is another error")
    assert [found.score for found in one.search("e4712 refunds", 9)] == pytest.approx(
        [found.score for found in other.search("e4712 refunds", 9)]
    )
    assert one.search("E4711", search="words") == []
    one.store.close()
    other.store.close()


def test_words_that_the_file_lacks_are_made_when_it_is_searched(notes: MemoryStore):
    before = notes.store.read("SELECT * FROM words ORDER BY id")
    with notes.store.write() as db:
        db.execute("DELETE FROM words")
    fresh = MemoryStore(notes.encoder, notes.store)
    assert texts(fresh.search("E4711", 1, search="words")) == [NOTES[3]]
    assert notes.store.read("SELECT * FROM words ORDER BY id") == before


def test_many_words_are_ranked_as_one_by_one():
    """Postings in parts, group maxima and marks of what is gone, against plain arithmetic."""
    rng = np.random.default_rng(0)
    said = [" ".join(f"w{n}" for n in rng.zipf(1.5, 12) % 300) for _ in range(700)]
    records = Records(Store())
    words = Words(records)
    ids = list[int]()
    for start, stop in ((0, 400), (400, 650), (650, 700)):
        ids += records.add([Memory(text) for text in said[start:stop]], np.ones((stop - start, 2)), "space")
        words.find("default", "w1")
    records.remove(ids[::7])
    alive = {i: text.split() for n, (i, text) in enumerate(zip(ids, said, strict=True)) if n % 7}
    hits = words.find("default", "w3 w5 w17 w17 w299")
    best, scores = hits.best(20)
    asked = ("w3", "w5", "w17", "w299")
    assert all(any(word in alive[i] for word in asked) for i in best.tolist())
    assert (np.diff(scores) <= 0).all()
    rest = set(alive) - set(best.tolist())
    every = dict(zip(ids, hits.of(np.array(ids))[0].tolist(), strict=True))
    assert max(every[i] for i in rest) <= scores[-1]
    assert 0 < scores[0] <= 1
    assert all(every[i] == 0 for i in ids[::7])


@pytest.fixture
def talk(static_llm: RuvLLM) -> MemoryStore:
    memory = MemoryStore(static_llm.encoders.static, Store())
    lines = (
        ("Ada", "I finally got a dog!"),
        ("Ben", "No way, Ada! What is the name?"),
        ("Ada", "Biscuit. She already owns the couch."),
        ("Ben", "My dog is called Rex, by the way."),
    )
    new = [Memory(text, metadata={"speaker": who, "session": 1 + n // 3}) for n, (who, text) in enumerate(lines)]
    ids = memory.add(new)
    memory.graph.link_all([Edge(ids[1], ids[0], "Follows"), Edge(ids[2], ids[1], "Follows")])
    memory.add(["Ada was the first programmer", "Bread needs flour"])
    return memory


def test_a_name_asks_for_what_was_said_by_somebody(talk: MemoryStore):
    found = talk.search("What dog does Ben have?", 6)
    assert found[0].memory.text.startswith("My dog is called Rex")
    said = {one.memory.text: one.why for one in found}
    assert all(why.speaker > 0 for text, why in said.items() if text.startswith(("My dog", "No way")) and why)
    assert said["No way, Ada! What is the name?"].words == talk.search("dog", 6)[-1].why.words  # type: ignore[union-attr]
    (first, *_) = talk.search("Ada", 6, search="words")
    assert first.memory.text == "Ada was the first programmer"  # where nobody says it, a name is a word


def test_what_stands_beside_a_hit_counts(talk: MemoryStore):
    answer = next(one for one in talk.search("What is the name of Ada's dog?", 6) if "Biscuit" in one.memory.text)
    assert answer.why is not None
    assert answer.why.neighbour > 0
    alone = next(one for one in talk.search("What is the name of Ada's dog?", 6) if "Rex" in one.memory.text)
    assert alone.why is not None
    assert alone.why.neighbour == 0


def test_sessions_are_ranked_by_what_was_said_in_them(talk: MemoryStore):
    found = talk.search_sessions("Which dog owns the couch?", 5)
    assert [one.session for one in found] == ["1", "2"]
    assert found[0].score >= found[0].found[0].score
    assert {one.memory.metadata["session"] for one in found[0].found} == {1}


def test_edges_and_ends_are_read_again_once_the_file_has_changed(tmp_path: Path, static_llm: RuvLLM):
    one, other = (MemoryStore(static_llm.encoders.static, Store(tmp_path / "state.db")) for _ in range(2))
    ids = one.add(["I finally got a dog!", "What is the name?", "Ada lives in Porto."])
    one.graph.link(ids[1], ids[0], "Follows")

    def neighbour() -> float:
        return sum(found.why.neighbour for found in one.search("dog", 3) if found.why)

    assert neighbour() > 0
    assert neighbour() > 0
    other.graph.unlink(ids[1], ids[0], "Follows")
    assert neighbour() == 0
    one.graph.link(ids[1], ids[0], "Follows")
    assert neighbour() > 0
    assert one.search("Ada", 1)[0].memory.id == ids[2]
    (new,) = other.add("Ada moved to Quito.")
    assert one.search("Where does Ada live?", 1)[0].memory.id == new
    one.store.close()
    other.store.close()


def test_a_hit_comes_with_what_was_said_around_it(talk: MemoryStore):
    (found, *more) = talk.search("Which dog owns the couch?", 2, window=1)
    assert [one.memory.id for one in found.passage] == [2, 3]
    assert found.passage[1].why == found.why
    assert all(one.score > 0 for one in found.passage)
    assert {one.memory.id for one in more} & {2, 3} == set()
    (found, *_) = talk.search("Which dog owns the couch?", 2, window=8)
    assert [one.memory.id for one in found.passage] == [1, 2, 3]
    (found, *_) = talk.search("Which dog owns the couch?", 2, window=8, filter={"speaker": "Ada"})
    assert [one.memory.id for one in found.passage] == [3]  # no further than what may be found
    (found, *_) = talk.search("Who needs flour?", 1, window=2)
    assert [one.memory.text for one in found.passage] == ["Bread needs flour"]
    assert talk.search("Which dog owns the couch?", 2)[0].passage == ()
    with pytest.raises(InputError, match="window"):
        talk.search("dog", window=9)
