import json
import re
from collections.abc import Sequence
from itertools import pairwise

import pytest

from ruvllm import BackendError, ConfigError, InputError, RuvLLM
from ruvllm.encoders.protocol import run_now
from ruvllm.inference.backend import Chunk, Completion, Message, Params, estimate_usage
from ruvllm.inference.extractive import CANNOT_ANSWER
from ruvllm.inference.passages import Passage
from ruvllm.rlm.controller import RlmController
from ruvllm.rlm.document import Document, partition
from ruvllm.rlm.plan import Plan, SubQuery
from ruvllm.rlm.reading import asks_for_all, ground

BOTH = "What causes rust, and how hot does the kiln get?"
NOTES = [
    "Rust is caused by iron that reacts with oxygen and water.",
    "The kiln gets as hot as 1240 degrees before the glaze is done.",
    "Our library opens at nine on weekdays.",
]


class Scribe:
    """A backend that answers at once: each note it was given, cited, or that it does not know; it keeps its prompts."""

    name, model, context = "scribe", "scribe", 4096

    def __init__(self, fails: str = "") -> None:
        self.prompts: list[str] = []
        self.fails, self.tokens = fails, 0

    def said(self, messages: Sequence[Message], params: Params) -> Completion:
        system, asked = messages[0].content, messages[-1].content
        self.prompts.append(f"{system}\n{asked}")
        if self.fails and self.fails in asked:
            raise BackendError("no", kind="unavailable")
        notes = re.findall(r"^\[(\d+)\] (.+)$", system, re.MULTILINE)
        text = f"{notes[0][1]} [{notes[0][0]}]" if notes else " ".join(re.findall(r"[^.\n]+\. \[\d+\]", system))
        text = (text or CANNOT_ANSWER)[: 4 * params.max_tokens]
        usage = estimate_usage(messages, text)
        self.tokens += usage.total_tokens
        return Completion(text, self.model, usage)

    async def generate(self, messages, params) -> Completion:
        return self.said(messages, params)

    async def stream(self, messages, params):
        said = self.said(messages, params)
        for word in said.text.split(" "):
            yield Chunk(f"{word} ")
        yield Chunk("", "stop", said.usage)


class Fixed:
    """A decomposer that follows a table."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self.table = table

    def tokens(self, query: str) -> int:
        return 0

    async def decompose(self, query: str) -> Plan:
        return Plan(query, tuple(SubQuery(part) for part in self.table.get(query, ())))


@pytest.fixture(scope="module")
def noted() -> RuvLLM:
    llm = RuvLLM(encoder="static")
    llm.memory.add(NOTES)
    return llm


def controller(llm: RuvLLM, backend=None, **settings) -> RlmController:
    return RlmController(llm.encoders.static, backend, llm.memory, **settings)


def test_without_an_llm_the_answer_is_what_memory_says(noted):
    answer = controller(noted).query(BOTH)
    assert "oxygen and water" in answer.text
    assert "1240 degrees" in answer.text
    assert [source.text for source in answer.sources] == NOTES[:2]
    assert re.findall(r"\[(\d)\]", answer.text.split("\n\n[1]")[0]) == ["1", "2"]
    assert (answer.usage.total_tokens, answer.calls, answer.depth) == (0, 0, 1)
    assert answer.quality > 0.8


def test_it_names_what_it_cannot_answer(noted):
    answer = controller(noted).query("What causes rust, and who composed the opera Norma?")
    assert answer.unanswered == ("who composed the opera Norma",)
    assert "Not answered: who composed the opera Norma (not found)." in answer.text
    assert answer.quality <= 0.5
    nothing = controller(noted).query("who composed the opera Norma")
    assert (nothing.text, nothing.quality) == (CANNOT_ANSWER, 0)


def test_an_llm_reads_each_part_and_writes_one_answer(noted):
    scribe = Scribe()
    answer = run_now(controller(noted, scribe).aquery(BOTH))
    assert len(scribe.prompts) == answer.calls == 3
    assert "oxygen" in answer.text
    assert "1240" in answer.text
    assert {source.text for source in answer.sources} == set(NOTES[:2])
    assert answer.usage.total_tokens == scribe.tokens


def test_a_citation_of_no_source_is_left_out(noted):
    class Invents(Scribe):
        def said(self, messages, params):
            said = super().said(messages, params)
            return Completion(f"{said.text} It never rains. [7]", said.model, said.usage)

    answer = run_now(controller(noted, Invents()).aquery(BOTH))
    assert set(re.findall(r"\[(\d)\]", answer.text)) == {"1", "2"}


def test_a_part_that_refers_back_gets_the_earlier_answer(noted):
    scribe = Scribe()
    run_now(controller(noted, scribe).aquery("How hot does the kiln get? What happens to the glaze in it?"))
    assert "Already known: How hot does the kiln get" in scribe.prompts[1]
    assert "1240" in scribe.prompts[1]


def test_a_backend_that_fails_leaves_it_to_the_passages(noted):
    answer = run_now(controller(noted, Scribe(fails="rust")).aquery(BOTH))
    assert "oxygen" in answer.text
    assert not answer.unanswered


@pytest.mark.parametrize("tokens", [128, 200, 400, 800, 1600, 4096])
def test_the_budget_is_never_exceeded(noted, tokens):
    scribe = Scribe()
    answer = run_now(controller(noted, scribe, token_budget=tokens, reflections=2, min_quality=1.0).aquery(BOTH))
    assert answer.usage.total_tokens == scribe.tokens <= tokens
    assert "oxygen" in answer.text


def test_a_backend_that_counts_more_than_expected_stays_within_the_budget(noted):
    class Greedy(Scribe):
        def said(self, messages, params):
            said = super().said(messages, params)
            usage = type(said.usage)(int(said.usage.prompt_tokens * 1.45), params.max_tokens)
            return Completion(said.text, said.model, usage)

    for tokens in (300, 700, 1500):
        query = "Define rust, glaze, kiln, iron and oxygen"
        answer = run_now(controller(noted, Greedy(), token_budget=tokens).aquery(query))
        assert answer.usage.total_tokens <= tokens


def test_recursion_goes_as_deep_as_it_may(noted):
    table = {"q": ["a", "b"], "a": ["c", "d"], "c": ["e", "f"]}
    answer = controller(noted, decomposer=Fixed(table)).query("q")
    assert [(finding.query, finding.depth) for finding in answer.findings] == [("e", 3), ("f", 3), ("d", 2), ("b", 1)]
    shallow = controller(noted, decomposer=Fixed(table), max_depth=1).query("q")
    assert [finding.query for finding in shallow.findings] == ["a", "b"]


def test_circles_end(noted):
    table = {"q": ["a", "b"], "a": ["Q?", "b", "z"], "b": ["a", "b"]}
    answer = controller(noted, decomposer=Fixed(table)).query("q")
    assert max(finding.depth for finding in answer.findings) <= 5
    itself = controller(noted, decomposer=Fixed({"q": ["q", "q"]})).query("q")
    assert [finding.query for finding in itself.findings] == ["q"]


def test_more_parts_than_one_query_may_have_form_deeper_groups(noted):
    parts = [f"thing {i}" for i in range(8)]
    answer = controller(noted, decomposer=Fixed({"q": parts})).query("q")
    assert [finding.depth for finding in answer.findings] == [1] * 4 + [2] * 4
    assert [finding.query for finding in answer.findings] == parts
    few = controller(noted, decomposer=Fixed({"q": parts}), max_depth=1).query("q")
    assert few.unanswered[-1] == "thing 7"


def test_answers_are_kept_for_a_while(noted):
    now = [0.0]
    rlm = controller(noted, ttl=10.0, clock=lambda: now[0])
    first, again = rlm.query(BOTH), rlm.query("what causes  RUST, and how hot does the kiln get")
    assert (first.cached, again.cached, again.text) == (False, True, first.text)
    assert rlm.cache_stats()["hits"] == 1
    now[0] = 11.0
    assert not rlm.query(BOTH).cached
    rlm.clear_cache()
    assert rlm.cache_stats()["size"] == 0


def test_a_deadline_that_has_passed_is_said(noted):
    ticks = iter(range(1000))
    rlm = controller(noted, deadline=2.5, clock=lambda: float(next(ticks)))
    answer = rlm.query("Define rust, glaze and kiln")
    assert answer.unanswered
    assert {finding.missing for finding in answer.findings} >= {"deadline"}
    assert rlm.cache_stats()["size"] == 0


def test_it_needs_no_parts_of_ones_own():
    text = "The kiln is lit at dawn. The glaze is mixed at noon."
    answer = RlmController(max_depth=5).query("When is the kiln lit and when is the glaze mixed?", context=text)
    assert "dawn" in answer.text
    assert "noon" in answer.text


def test_settings_are_checked(noted):
    for name, value in (("max_depth", -1), ("token_budget", 1), ("ttl", float("nan")), ("top_k", True), ("depth", 3)):
        with pytest.raises(ConfigError) as error:
            controller(noted, **{name: value})
        assert error.value.field == name
    assert controller(noted).configure(max_depth=2).max_depth == 2
    with pytest.raises(InputError):
        controller(noted).query("  ")


def test_memory_can_be_written_and_searched():
    llm = RuvLLM(encoder="static")
    rlm = controller(llm)
    assert rlm.query("where do the herons nest").unanswered
    rlm.add_memory("The herons nest on the island in the pond.")
    assert "island" in rlm.query("where do the herons nest").text
    assert run_now(rlm.search_memory("herons"))[0].memory.text.startswith("The herons")
    with pytest.raises(InputError):
        RlmController(llm.encoders.static).add_memory("x")


def test_grounding_is_measured(static_llm):
    sources = [Passage(NOTES[1])]

    def measure(text: str):
        return run_now(ground(text, sources, static_llm.encoders.static))

    true, wrong = measure("The kiln gets as hot as 1240 degrees. [1]"), measure("The kiln gets as hot as 900 degrees.")
    assert true.score > 0.9
    assert not true.doubtful
    assert wrong.doubtful == ("The kiln gets as hot as 900 degrees.",)
    assert measure("Penguins can hold their breath for minutes.").score < 0.3
    assert measure("") is None


class Inventor(Scribe):
    """Answers anything, from nowhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def said(self, messages, params):
        return Completion(self.text, self.model, estimate_usage(messages, self.text))


@pytest.mark.parametrize("remembered", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "Vincenzo Bellini composed the opera Norma in 1831.",
        "Vincenzo Bellini composed the opera Norma in 1831. [1]",
        "It was he.",
        "42.",
    ],
)
def test_deep_has_no_quality_for_an_invention_that_memory_does_not_hold(noted, static_llm, remembered: bool, text: str):
    llm = noted if remembered else static_llm
    answer = run_now(controller(llm, Inventor(text)).aquery("who composed the opera Norma"))
    assert answer.text.startswith(text.removesuffix(" [1]"))
    assert answer.quality < 0.3
    if not remembered:
        assert (answer.quality, answer.grounding, answer.sources) == (0, None, ())


def test_an_answer_that_names_no_source_is_measured_by_what_it_read(noted):
    answer = run_now(controller(noted, Inventor(NOTES[1])).aquery("how hot does the kiln get?"))
    assert (answer.sources, answer.quality) == ((), 1)


@pytest.mark.parametrize(
    "text", ["Water is caused by rust that reacts with iron and oxygen. [1]", "Rust is not caused by iron. [1]"]
)
def test_quality_is_1_only_for_what_sources_say_word_for_word(noted, text: str):
    answer = run_now(controller(noted, Inventor(text)).aquery("what causes rust?"))
    assert f"{answer.quality:.2f}" != "1.00"
    true = run_now(controller(noted, Inventor(f"{NOTES[0]} [1]")).aquery("what causes rust?"))
    assert true.quality == 1


def test_an_answer_that_sources_do_not_bear_out_is_written_again(noted):
    class Rambles(Scribe):
        def said(self, messages, params):
            said = super().said(messages, params)
            first = "findings below" in messages[0].content and "no source bears out" not in messages[0].content
            return Completion("Penguins sleep in the attic.", said.model, said.usage) if first else said

    told = run_now(controller(noted, Rambles()).aquery(BOTH))
    again = run_now(controller(noted, Rambles(), reflections=1).aquery(BOTH))
    assert told.text.startswith("Penguins")
    assert told.grounding < 0.5 < again.grounding
    assert "oxygen" in again.text
    assert (told.reflections, again.reflections) == (0, 1)


def pages() -> str:
    filler = "The clerk walked along the canal and counted the boats that lay there. " * 12
    parts = [f"# Chapter {i}\n\n{filler}\n\nOn day {i} the clerk found item {i * 7}.\n\n{filler}" for i in range(40)]
    parts[23] += "\n\nThe vault of the old observatory is opened with a brass lever behind the clock."
    return "\n\n".join(parts)


def test_partition_loses_nothing():
    text = pages() + "\n" + "x" * 5_000
    cuts = partition(text)
    assert "".join("".join(text[cut.start : cut.end].split()) for cut in cuts).count("x") >= 5_000
    assert all(a.end <= b.start for a, b in pairwise(cuts))
    assert max(cut.end - cut.start for cut in cuts) <= 1_200
    assert cuts[0].heading == "Chapter 0"


def test_a_long_text_is_answered_from_its_passages(static_llm):
    rlm = RlmController(static_llm.encoders.static)
    answer = rlm.query("How is the vault of the observatory opened?", context=pages())
    assert "brass lever" in answer.text
    assert "Chapter 23" in answer.sources[0].source


def test_a_long_text_never_enters_one_prompt(static_llm):
    scribe, text = Scribe(), pages()
    rlm = RlmController(static_llm.encoders.static, scribe)
    run_now(rlm.aquery("How is the vault opened, and what did the clerk find on day 12?", context=text))
    whole = run_now(rlm.aquery("Summarise this document", context=text))
    assert len(whole.findings) == 5
    assert len({source.source for source in whole.sources}) == 5  # of all over it
    assert "brass lever" in scribe.prompts[0]
    assert len(scribe.prompts) >= 6
    assert max(map(len, scribe.prompts)) < len(text) / 5


def test_what_is_about_the_whole_is_told_from_what_is_about_a_part():
    assert all(map(asks_for_all, ("Summarise this document", "what is the book about?", "give me the key points")))
    assert not any(map(asks_for_all, ("summarise chapter 3", "key ideas of ownership", "what about the clerk", "why")))


def test_a_document_is_read_once_for_many_questions(static_llm):
    rlm = RlmController(static_llm.encoders.static)
    document = run_now(rlm.read(pages(), "log"))
    assert isinstance(document, Document)
    assert "brass" in rlm.query("how is the vault of the observatory opened", context=document).text
    assert rlm.query("summarise the book", context=document).sources
    for nothing in ("  \n", 3, ["text"]):
        with pytest.raises(InputError) as error:
            rlm.query("what", context=nothing)
        assert error.value.field == "context"


def test_answers_are_plain_data(noted):
    from dataclasses import asdict

    assert json.loads(json.dumps(asdict(controller(noted).query(BOTH))))["query"] == BOTH
