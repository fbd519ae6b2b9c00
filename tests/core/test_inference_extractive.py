"""Answers without an LLM, on passages written for it: tests/data/answers.json."""

import json
from pathlib import Path

import numpy as np
import pytest

from ruvllm.encoders.protocol import run_now
from ruvllm.errors import InputError
from ruvllm.inference.backend import Message, Params, gather
from ruvllm.inference.echo import Echo
from ruvllm.inference.extractive import CANNOT_ANSWER, Extractive
from ruvllm.inference.passages import Passage, extract, sentences
from ruvllm.memory.found import Found
from ruvllm.state.record import Memory

DATA = json.loads((Path(__file__).parents[1] / "data" / "answers.json").read_text("utf-8"))
TEXTS = [passage["text"] for passage in DATA["passages"]]
OVEN = "The oven Vulcan holds forty loaves. It is lit at four in the morning."


def ask(text):
    return [Message("system", "Be brief."), Message("user", text)]


def said(text):
    return [(sentence.text, sentence.lead) for sentence in sentences(text)]


@pytest.fixture(scope="module")
def encoder(static_llm):
    return static_llm.memory.encoder


@pytest.fixture(scope="module")
def backend(encoder):
    vectors = run_now(encoder.encode(TEXTS))

    async def recall(question):
        scores = vectors @ (await encoder.encode([question]))[0]
        best = np.argsort(-scores)[:5]
        return [Passage(TEXTS[i], int(i) + 1, float(scores[i])) for i in best]

    return Extractive(encoder, recall)


def test_questions_get_the_sentence_that_answers_them(backend):
    asked = [(q, a) for passage in DATA["passages"] for q, a in passage["asked"].items()]
    right = sum(answer in run_now(backend.generate(ask(q), Params())).text for q, answer in asked)
    assert right >= 0.85 * len(asked)


def test_what_no_passage_is_about_is_not_answered(backend):
    for question in DATA["elsewhere"]:
        answer = run_now(backend.generate(ask(question), Params()))
        assert (answer.text, answer.confidence) == (CANNOT_ANSWER, 0)


def test_half_of_what_only_a_near_passage_could_answer_is_declined(backend):
    asked = [question for passage in DATA["passages"] for question in passage["unanswered"]]
    declined = sum(run_now(backend.generate(ask(question), Params())).confidence == 0 for question in asked)
    assert declined >= 0.5 * len(asked)


def test_each_sentence_is_cited_and_each_source_named(encoder):
    passages = [Passage("Bread is kneaded.", 3, 0.3), Passage(OVEN, 9, 0.8, "ovens.md")]
    answer = run_now(Extractive(encoder).over(passages).generate(ask("How many loaves does Vulcan hold?"), Params()))
    assert answer.text == f"{OVEN} [2]\n\n[2] ovens.md"
    assert answer.usage.estimated
    assert (answer.finish_reason, answer.model, answer.cost) == ("stop", "extractive", 0)
    assert answer.confidence > 0.7


def test_notes_of_the_prompt_are_passages_too(encoder):
    notes = f"Notes.\n[1] Bread is kneaded.\n[2] {OVEN}\n[7] Vulcan holds ninety loaves.\nEnd."
    messages = [Message("system", notes), Message("user", "How many loaves does the oven Vulcan hold?")]
    assert run_now(Extractive(encoder).generate(messages, Params())).text == f"{OVEN} [2]"
    nothing = [Message("system", "No notes."), messages[1]]
    assert run_now(Extractive(encoder).generate(nothing, Params())).text == CANNOT_ANSWER


def test_sentences_come_one_by_one_and_say_how_sure_they_are(backend):
    async def collect():
        return [chunk async for chunk in backend.stream(ask("How long do we keep billing backups?"), Params())]

    chunks = run_now(collect())
    assert len(chunks) >= 3
    assert [chunk.finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk.confidence for chunk in chunks}) == 1
    assert chunks[-1].usage.completion_tokens > 0


def test_the_answer_keeps_to_its_tokens(backend):
    answer = run_now(backend.generate(ask("How long do we keep billing backups?"), Params(max_tokens=5)))
    assert (answer.text, answer.finish_reason) == ("", "length")


def test_the_same_said_twice_is_said_once(encoder):
    passages = [Passage(OVEN, i, 0.8) for i in (1, 2)]
    found = run_now(extract("How many loaves does the oven Vulcan hold?", passages, encoder))
    assert len(found.sentences) == 1
    assert set(found.sources) == {1}


def test_a_memory_names_its_own_source():
    found = Found(Memory("x", metadata={"path": "b.md", "title": "B"}, id=4), 0.5)
    assert Passage.of(found) == Passage("x", 4, 0.5, "B")
    assert Passage.of(Found(Memory("x", id=4), 0.5)).source == ""


def test_without_a_question_there_is_no_answer(encoder):
    with pytest.raises(InputError, match="user"):
        run_now(Extractive(encoder).generate([Message("system", "x")], Params()))


def test_sentences_end_where_they_end():
    assert said("Dr. Brot came at 5.30. See e.g. The Times. Done!") == [
        ("Dr. Brot came at 5.30.", ""),
        ("See e.g. The Times.", ""),
        ("Done!", ""),
    ]
    assert said("Eins。二。") == [("Eins。", ""), ("二。", "")]
    assert said("") == said(" \n\n ") == []


def test_lines_that_an_editor_broke_are_one_sentence():
    wrapped = "The oven is lit at four in the morning by the first baker to\narrive. Then\nit warms."
    assert [text for text, _ in said(wrapped)] == [
        "The oven is lit at four in the morning by the first baker to arrive.",
        "Then it warms.",
    ]
    assert said("Host: alpha\nPort: 80") == [("Host: alpha", ""), ("Port: 80", "")]


def test_what_refers_back_comes_with_what_it_refers_to():
    assert said("Vulcan is hot. It glows. It hums. Bread rises.") == [
        ("Vulcan is hot. It glows.", ""),
        ("It hums.", ""),
        ("Bread rises.", ""),
    ]


def test_answers_lists_and_sections_know_what_they_belong_to():
    asked = ("Marta does.", "Who bakes?")
    assert said("Q: Who bakes?\nA: Marta does.\nThe rest sleep.") == [asked, ("The rest sleep.", "")]
    assert said("Q: Who bakes? A: Marta does.") == [asked]
    assert said("# Oven\nHot. Loud.\n## Cellar\nCold.") == [("Hot.", "Oven"), ("Loud.", "Oven"), ("Cold.", "Cellar")]
    brought = [("flour", "Bring:"), ("salt", "Bring:")]
    assert said("Bring:\n- flour\n- salt\n\nThen wait.") == [*brought, ("Then wait.", "")]


def test_a_megabyte_of_hostile_text_is_cheap():
    for text in ("A. " * 300_000, "a" * 1_000_000, "? " * 500_000, "\n" * 1_000_000, "1) " * 300_000):
        assert sum(len(sentence.text) for sentence in sentences(text)) <= 20_000


def test_echo_says_that_it_is_one_and_keeps_to_its_tokens():
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)

    echo = Echo(pause=0.5, sleep=sleep)
    answer = run_now(echo.generate(ask("knead  the dough"), Params()))
    assert (answer.text, answer.finish_reason, pauses) == ("[echo] knead  the dough", "stop", [0.5] * 4)
    short = run_now(gather(echo.stream(ask("knead the dough"), Params(max_tokens=3)), "echo"))
    assert (short.text, short.finish_reason, short.usage.completion_tokens) == ("[echo] knead", "length", 3)
