"""What fits into a prompt: question, notes, history and the answer's share, and a word about what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruvllm import Agent
from ruvllm.errors import InputError
from ruvllm.inference.backend import Message, estimate_tokens
from ruvllm.query.prompting import Prompt, compose
from ruvllm.query.responses import Source
from ruvllm.sizing.fastgrnn import CONTEXTS

AGENT = Agent("baker", "Bakes bread.")
QUESTION = "how long does the sourdough proof?"


def sources(*tokens: int) -> list[Source]:
    return [Source(i, "word" * size, 0.9) for i, size in enumerate(tokens, 1)]


def turns(*tokens: int) -> list[Message]:
    pairs = ((Message("user", "what"), Message("assistant", "word" * size)) for size in tokens)
    return [message for pair in pairs for message in pair]


def made(notes: list[Source], history: list[Message], **sizes: int | None) -> Prompt:
    known: dict[str, int] = {"wanted": 4_096, "most": 8_192, "max_tokens": 512}
    return compose(QUESTION, AGENT, notes, history, **(known | sizes))  # type: ignore[arg-type]


@pytest.mark.parametrize("learnt", CONTEXTS)
def test_a_learnt_context_of_256_or_512_leaves_room_for_sources_and_the_last_turn(learnt: int):
    notes, history = sources(60, 60, 60), turns(50, 50, 50, 50)
    prompt = made(notes, history, learnt=learnt)
    assert prompt.sources == tuple(notes)
    assert prompt.max_tokens == 512
    assert [message.role for message in prompt.messages[:3]] == ["system", "user", "assistant"]
    assert prompt.context >= learnt
    left = 4 - (len(prompt.messages) - 2) // 2
    words = (f"{left} of 4 earlier turns did not fit into a context of {prompt.context} tokens",)
    assert prompt.left_out == (words if left else ())


def test_the_answers_share_comes_last():
    prompt = made(sources(700), turns(600), wanted=2_048, most=2_048, max_tokens=2_000)
    assert (len(prompt.sources), len(prompt.messages)) == (1, 4)
    assert prompt.max_tokens == prompt.context - prompt.tokens < 800
    (word,) = prompt.left_out
    assert word.endswith("of 2000 tokens of the answer did not fit into a context of 2048 tokens")


def test_an_answer_has_a_quarter_however_much_there_is_to_read():
    prompt = made(sources(*[300] * 20), turns(*[300] * 20), wanted=2_048, most=2_048, max_tokens=2_000)
    assert prompt.max_tokens >= 512
    (word,) = prompt.left_out
    assert all(name in word for name in ("of 20 sources", "of 20 earlier turns", "tokens of the answer"))


def test_a_source_that_had_to_be_cut_is_told():
    (word,) = made(sources(9_000), [], learnt=256).left_out
    assert word.startswith("1 of 1 sources did not fit")


def test_what_was_left_out_counts_for_what_is_needed():
    notes, history = sources(60), turns(*[200] * 10)
    prompt, whole = made(notes, history, learnt=256), made(notes, history)
    assert prompt.left_out
    assert not whole.left_out
    assert prompt.needed == whole.needed
    assert whole.needed == pytest.approx(whole.tokens, abs=8)
    assert whole.tokens > prompt.tokens + 1_000


def test_nobody_in_particular_has_no_persona():
    without = compose(QUESTION, None, [], [], wanted=4_096, most=8_192, max_tokens=512)
    assert without.messages == (Message("user", QUESTION),)
    noted = compose(QUESTION, None, sources(9), [], wanted=4_096, most=8_192, max_tokens=512)
    assert noted.messages[0].content.startswith("Notes from memory")


few = st.lists(st.integers(1, 700), max_size=6)


@given(few, few, st.sampled_from([None, *CONTEXTS]), st.integers(100, 5_000), st.integers(1, 5_000))
def test_whatever_there_is_it_fits_and_nothing_vanishes_without_a_word(
    notes: list[int], history: list[int], learnt: int | None, most: int, max_tokens: int
):
    given_, said = sources(*notes), turns(*history)
    sizes = {"most": most, "max_tokens": max_tokens}
    try:
        prompt = made(given_, said, learnt=learnt, **sizes)
    except InputError:
        assert most < 200
        return
    read = sum(estimate_tokens(message.content) + 4 for message in prompt.messages)
    assert read <= prompt.tokens + 8
    assert prompt.tokens + prompt.max_tokens <= prompt.context <= most
    assert prompt.max_tokens >= min(max_tokens, 64)
    assert prompt.messages[-1].content == QUESTION
    missing = len(prompt.sources) < len(given_) or len(prompt.messages) < 2 + len(said)
    assert bool(prompt.left_out) >= (missing or prompt.max_tokens < max_tokens)
    plain = made(given_, said, **sizes)
    assert prompt.sources == plain.sources
    assert prompt.max_tokens >= min(max_tokens, plain.max_tokens)
    if len(plain.messages) > 2:  # the last turn
        assert prompt.messages[-3:] == plain.messages[-3:]
