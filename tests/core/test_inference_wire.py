"""Server-sent events, the chat completions protocol and when to ask again: without a network."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruvllm.errors import BackendError, InputError
from ruvllm.inference import chat_wire as sse
from ruvllm.inference.backend import Message, Params, Usage, estimate_tokens, estimate_usage
from ruvllm.inference.chat_wire import ChatReader, EventReader, failure, request_body
from ruvllm.inference.endpoint import Retries, retry_after
from ruvllm.options import DIALECTS
from ruvllm.text.surrogates import Joiner, well_formed

STREAM = (
    '\ufeff: hello\r\nevent: token\r\ndata: {"a": "ü🦊"}\r\n\r\n: still here\n\n'
    "id: 7\ndata:x\rdata: y\r\rdata: p\r\ndata: q\r\n\r\ndata: [DONE]"
).encode()
EVENTS = ['{"a": "ü🦊"}', "x\ny", "p\nq", "[DONE]"]
ASKED = [Message("user", "how hot is the oven?")]


def events(pieces):
    reader = EventReader()
    found = [event for piece in pieces for event in reader.feed(piece)]
    return found + reader.close()


def test_events_are_the_same_for_one_cut_anywhere_and_byte_by_byte():
    assert all(events([STREAM[:cut], STREAM[cut:]]) == EVENTS for cut in range(len(STREAM)))
    assert events(STREAM[i : i + 1] for i in range(len(STREAM))) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_are_the_same_wherever_the_pieces_end(cuts):
    ends = [0, *sorted(cuts), len(STREAM)]
    assert events(STREAM[a:b] for a, b in pairwise(ends)) == EVENTS


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes_are_read_without_an_error(pieces):
    together = events([b"".join(pieces)])
    assert events(pieces) == together
    assert all(isinstance(event, str) for event in together)


def test_an_event_is_there_as_soon_as_its_blank_line_is():
    reader = EventReader()
    assert reader.feed(b"data: one\n") == []
    assert reader.feed(b"\ndata: tw") == ["one"]
    assert reader.feed(b"o\n\n") == ["two"]


def test_other_fields_and_a_field_whose_name_only_begins_with_data_are_left_out():
    assert events([b"database: no\n\nretry: 5\n\ndata\n\ndata:  two blanks\n\n"]) == ["", " two blanks"]


def test_an_event_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(sse, "MOST_EVENT", 1_000)
    for endless in (b"data: " + b"x" * 100, b"data: " + b"x" * 100 + b"\n"):
        with pytest.raises(ValueError, match="1000 bytes"):
            events([endless] * 12)


def test_a_request_has_what_its_server_knows():
    params = Params(max_tokens=9, top_k=5, repeat_penalty=1.2, stop=("END",), seed=3)
    cloud = request_body("m", ASKED, params, "openai", {})
    assert cloud["messages"] == [{"role": "user", "content": "how hot is the oven?"}]
    assert (cloud["max_tokens"], cloud["stop"], cloud["seed"], cloud["stream"]) == (9, ["END"], 3, True)
    assert not {"top_k", "repeat_penalty", "repetition_penalty"} & set(cloud)
    assert request_body("m", ASKED, params, "llama.cpp", {})["repeat_penalty"] == 1.2
    vllm = request_body("m", ASKED, Params(top_k=0, repeat_penalty=1.1), "vllm", {})
    assert (vllm["top_k"], vllm["repetition_penalty"], "min_p" in vllm) == (-1, 1.1, False)
    for dialect, sent in (("openai", None), ("llama.cpp", 0.2), ("vllm", 0.2)):
        assert request_body("m", ASKED, Params(min_p=0.2), dialect, {}).get("min_p") == sent
    assert "stop" not in vllm
    assert "seed" not in vllm
    new = request_body("m", ASKED, params, "openai", {"max_tokens": None, "max_completion_tokens": 9})
    assert "max_tokens" not in new
    assert new["max_completion_tokens"] == 9


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_nobody_set_is_not_sent(dialect):
    assert request_body("m", ASKED, Params(), dialect, {}) == {
        "model": "m",
        "messages": [{"role": "user", "content": "how hot is the oven?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_max_completion_tokens_and_unknown_fields_are_sent_as_they_came():
    messages = [{"role": "user", "content": "how hot is the oven?", "name": "ada"}]
    extra = {
        "max_completion_tokens": 50,
        "reasoning_effort": "low",
        "logit_bias": {"50256": -100},
        "stream_options": {"include_obfuscation": False},
        "messages": messages,
        "model": "another",
        "stream": False,
    }
    body = request_body("m", ASKED, Params(max_tokens=40, extra=extra), "openai", {"reasoning_effort": "high"})
    assert body == extra | {
        "max_completion_tokens": 40,  # what is left of the context
        "reasoning_effort": "high",  # whoever set up the server has the last word
        "stream_options": {"include_obfuscation": False, "include_usage": True},
        "model": "m",
        "stream": True,
    }


def test_a_stream_is_read_to_its_end():
    reader = ChatReader()
    said = [
        reader.read(data)
        for data in (
            '{"model": "m-1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": null}}]}',
            '{"choices": [{"delta": {"content": "hot"}, "logprobs": {"content": [{"logprob": -0.5}]}}]}',
            '{"choices": [{"delta": {"content": "ter"}, "logprobs": {"content": [{"logprob": -1.5}]}}]}',
            '{"choices": [{"delta": {}, "finish_reason": "length"}], "usage": null}',
            '{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}',
            " [DONE] ",
        )
    ]
    assert said == ["", "hot", "ter", "", "", ""]
    assert (reader.text, reader.model, reader.finish_reason) == ("hotter", "m-1", "length")
    assert (reader.usage, reader.done, reader.complete) == (Usage(7, 2), True, True)
    assert reader.confidence == pytest.approx(0.3679, abs=1e-4)  # exp(-1)


def test_a_whole_answer_and_one_of_an_old_server_are_read_too():
    reader = ChatReader()
    assert reader.read('{"choices": [{"message": {"content": "hot"}, "finish_reason": "stop"}]}') == "hot"
    assert (reader.finish_reason, reader.usage, reader.confidence) == ("stop", None, None)
    assert ChatReader().read('{"choices": [{"text": "old", "index": 0}]}') == "old"
    assert ChatReader().read('{"choices": [{"text": "a"}]}\n{"choices": [{"text": "b"}]}') == "ab"


def chunks(*texts, reason="stop"):
    """Events of JSON, escapes as they are, and an end."""
    said = [f'{{"choices": [{{"delta": {{"content": "{text}"}}}}]}}' for text in texts]
    return [*said, f'{{"choices": [{{"delta": {{}}, "finish_reason": "{reason}"}}]}}', "[DONE]"]


def test_halves_of_a_character_in_two_deltas_are_joined():
    reader = ChatReader()
    assert [reader.read(data) for data in chunks(r"a\ud83d", r"\ude00b")] == ["a", "\U0001f600b", "", ""]
    assert reader.text == "a\U0001f600b"


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        ((r"a\ud83d",), "a\ufffd"),
        ((r"a\ud83d", "b"), "a\ufffdb"),
        ((r"\ude00", r"\ud83d", r"\ud83d", "", r"\ude00"), "\ufffd\ufffd\U0001f600"),
    ],
)
def test_half_a_character_alone_is_replaced(texts, whole):
    for events in (chunks(*texts), [*chunks(*texts)[:-2], "[DONE]"]):
        reader = ChatReader()
        said = "".join(reader.read(data) for data in events)
        assert (said, reader.text) == (whole, whole)
    message = ChatReader()
    message.read('{"model": "m\\ud800", "choices": [{"message": {"content": "a\\ud83d"}, "finish_reason": "stop"}]}')
    assert (message.text, message.model) == ("a\ufffd", "m\ufffd")


@given(st.text(st.sampled_from("aé😀\ud83d\ude00\ud800")), st.lists(st.integers(0, 12)))
def test_a_text_cut_anywhere_is_joined_again(text, cuts):
    ends = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    joiner = Joiner()
    joined = "".join(joiner.feed(text[a:b]) for a, b in pairwise(ends)) + joiner.close()
    assert joined == well_formed(text)


def test_a_content_filter_and_a_refusal_are_ends_whose_text_stays():
    reader = ChatReader()
    assert "".join(map(reader.read, chunks("half of", reason="content_filter"))) == "half of"
    assert (reader.finish_reason, reader.refused) == ("content_filter", False)
    for data in (
        ['{"choices": [{"delta": {"role": "assistant", "content": null, "refusal": "I "}}]}',
         '{"choices": [{"delta": {"refusal": "cannot."}}]}',
         '{"choices": [{"delta": {}, "finish_reason": "stop"}]}'],
        ['{"choices": [{"message": {"content": null, "refusal": "I cannot."}, "finish_reason": "stop"}]}'],
    ):  # fmt: skip
        reader = ChatReader()
        assert "".join(map(reader.read, data)) == "I cannot."
        assert (reader.finish_reason, reader.refused) == ("refusal", True)


def test_a_second_answer_is_not_mixed_into_the_first():
    data = '{"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]}'
    assert ChatReader().read(data) == "a"


@pytest.mark.parametrize(
    "data",
    ["<html>", "null", "[]", "7", '{"choices": 3}', '{"choices": [4]}', '{"a": 1}', '{"choices"'],
)
def test_garbage_is_named_as_such(data):
    with pytest.raises(BackendError) as error:
        ChatReader().read(data)
    assert error.value.kind == "bad_response"
    assert len(str(error.value)) < 500


FIELDS = ("choices", "delta", "message", "content", "usage", "error", "code", "logprobs", "finish_reason", "text")
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
NESTED = st.recursive(LEAVES, lambda one: st.lists(one) | st.dictionaries(st.sampled_from(FIELDS), one), max_leaves=20)


@given(NESTED)
def test_any_json_is_text_or_a_backend_error(value):
    with suppress(BackendError):
        assert isinstance(ChatReader().read(json.dumps(value)), str)


def test_an_empty_event_is_a_sign_of_life():
    assert ChatReader().read("") == ""


def test_an_error_in_the_stream_is_the_servers():
    for data, kind in (
        ('{"error": {"message": "slot busy", "code": 503}}', "unavailable"),
        ('{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}', "rate_limited"),
        ('{"error": {"message": "too long", "code": 400}}', "refused"),
        ('{"error": "no memory"}', "unavailable"),
        ('{"error": {"message": "gone", "code": "503"}}', "unavailable"),
        ('{"error": {"message": "no", "type": "invalid_request_error"}}', "refused"),
        ('{"object": "error", "message": "odd", "type": "BadRequestError", "code": 400}', "refused"),
    ):
        with pytest.raises(BackendError) as error:
            ChatReader().read(data)
        assert error.value.kind == kind


@pytest.mark.parametrize(
    ("status", "kind", "field"),
    [
        (400, "refused", "backend"),
        (401, "refused", "api_key_env"),
        (404, "refused", "url"),
        (408, "unavailable", "backend"),
        (429, "rate_limited", "backend"),
        (500, "unavailable", "backend"),
        (503, "unavailable", "backend"),
        (302, "bad_response", "url"),
        (204, "bad_response", "url"),
    ],
)
def test_each_status_has_its_kind(status, kind, field):
    error = failure(status, {"error": {"message": "the reason"}}, 3.0)
    assert (error.kind, error.field) == (kind, field)
    assert "the reason" in str(error)
    assert error.retry_after == (3.0 if kind in ("rate_limited", "unavailable") else None)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_callers_own_fault_keeps_its_status_its_code_and_its_words(status):
    body = {"error": {"message": "the reason", "code": "odd_value", "param": "temperature"}}
    error = failure(status, body)
    assert (error.kind, error.status, error.code) == ("refused", status, "odd_value")
    assert error.message == f"the backend answered {status}: the reason"
    assert [failure(status, "").status for status in (408, 429, 500, 503)] == [0, 0, 0, 0]
    assert failure(400, body).field == "temperature"


TOO_LONG = {
    "openai": (400, {"message": "This model's maximum context length is 8192 tokens. However, ...", "code": None}),
    "openai's code": (400, {"message": "shorten it", "code": "context_length_exceeded"}),
    "openai's responses": (400, {"message": "Your input exceeds the context window of this model."}),
    "vllm": (400, {"message": "'max_tokens' is too large: 9. This model's maximum context length is 4 tokens"}),
    "vllm's prompt": (400, {"message": "The decoder prompt (length 9) is longer than the maximum model length of 4."}),
    "llama.cpp": (400, {"message": "request (4476 tokens) exceeds the available context size (4096 tokens)"}),
    "llama.cpp's type": (400, {"message": "no", "type": "exceed_context_size_error", "code": 400}),
    "old llama.cpp": (500, {"message": "the request exceeds the available context size. try increasing it"}),
    "ollama": (400, {"message": "the input length exceeds the context length"}),
    "ollama's prompt": (400, {"message": "prompt too long; exceeded max context length by 9 tokens"}),
    "anthropic": (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}),
    "anthropic's limit": (400, {"message": "input length and `max_tokens` exceed context limit: 190000 + 20000"}),
    "gemini": (400, {"message": "The input token count (9) exceeds the maximum number of tokens allowed (4)."}),
    "groq": (400, {"message": "Please reduce the length of the messages or completion."}),
    "mistral": (400, {"message": "Prompt contains 9 tokens, too large for model with 4 maximum context length"}),
    "sglang": (400, {"message": "The input (9 tokens) is longer than the model's context length (4 tokens)."}),
    "with 413": (413, {"message": "prompt is too long"}),
}


@pytest.mark.parametrize(("status", "error"), TOO_LONG.values(), ids=TOO_LONG)
def test_each_servers_word_for_too_long_is_the_same_error(status, error):
    found = failure(status, {"error": error})
    assert (found.kind, found.status, found.code) == ("refused", 400, "context_length_exceeded")
    with pytest.raises(BackendError) as streamed:
        ChatReader().read(json.dumps({"error": {"code": status} | error}))
    assert streamed.value.code == "context_length_exceeded"


def test_other_faults_are_not_too_long():
    for message in ("max_tokens is too large: 9. This model supports at most 4 completion tokens", "no such model"):
        assert failure(400, {"error": {"message": message}}).code == ""
    assert failure(429, {"error": {"message": "Request too large on tokens per minute"}}).kind == "rate_limited"


def test_no_address_and_no_key_is_told():
    said = "key sk-proj-****ab12 is wrong at http://10.0.0.7:8000/v1/x?k=1, see 10.0.0.7:8000, Bearer abc.def"
    message = failure(401, {"error": {"message": said}}).message
    for secret in ("sk-proj", "10.0.0.7", "http", "abc.def"):
        assert secret not in message
    assert "is wrong at" in message


@pytest.mark.parametrize("body", ["plain", {"detail": "plain"}, {"message": "plain"}, {"error": {"error": "plain"}}])
def test_an_errors_message_is_found_in_many_shapes(body):
    assert failure(500, body).message == "the backend answered 500: plain"


def test_retry_after_is_seconds_or_a_date():
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after": "0.5"}) == 0.5
    assert retry_after({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, now) == 30
    assert retry_after({"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, now) == 0
    assert retry_after({"retry-after": "-3"}) == 0
    assert retry_after({"retry-after": "Sun, 01 Mar 2099 11:00:00 GMT"}, now) == 7 * 86_400
    for nonsense in ("", "soon", "nan", "inf", "1e999", "Sun, 99 Mar"):
        assert retry_after({"retry-after": nonsense}, now) is None
    assert retry_after({}) is None


def test_waits_double_with_jitter_and_stay_within_the_deadline():
    down = BackendError("down", kind="unavailable")
    policy = Retries(most=4, first=1, longest=3, patience=3)
    assert [policy.delay(i, down, 100, lambda: 1.0) for i in range(5)] == [1, 2, 3, 3, None]
    assert policy.delay(0, down, 100, lambda: 0.0) == 0.5
    assert policy.delay(1, down, 2.0, lambda: 1.0) is None
    asked = BackendError("busy", kind="rate_limited", retry_after=2.5)
    assert policy.delay(0, asked, 100, lambda: 0.0) == 2.5
    assert policy.delay(0, asked, 2.4, lambda: 0.0) is None
    assert policy.delay(0, BackendError("busy", kind="rate_limited", retry_after=3.1), 100) is None
    asked = BackendError("busy", kind="rate_limited", retry_after=1)
    assert Retries().delay(0, asked, 100) is None  # who asked can ask somebody else, or come back
    for kind in ("timeout", "bad_response", "refused"):
        assert policy.delay(0, BackendError("no", kind=kind), 100) is None


def test_tokens_are_estimated_and_said_to_be():
    assert [estimate_tokens(text) for text in ("", "abc", "abcde", "🦊🦊")] == [0, 1, 2, 2]
    assert estimate_tokens("\ud800") == 1
    assert estimate_usage(ASKED, "hot") == Usage(9, 1, estimated=True)
    assert estimate_usage(ASKED, "hot").total_tokens == 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("temperature", float("nan")),
        ("temperature", 2.1),
        ("top_p", 0),
        ("top_k", -1),
        ("repeat_penalty", 0),
        ("timeout", 0),
        ("timeout", float("nan")),
        ("stop", "END"),
        ("stop", ("",)),
    ],
)
def test_params_that_cannot_be_are_refused_by_name(field, value):
    with pytest.raises(InputError) as error:
        Params(**{field: value})
    assert error.value.field == field


def test_a_role_that_nobody_plays_is_refused():
    with pytest.raises(InputError, match="robot"):
        Message("robot", "beep")
