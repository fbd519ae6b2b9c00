"""OpenAiHttp against a server on a real socket: slow, broken, busy, gone."""

import asyncio
import logging
import socket
from contextlib import aclosing, suppress

import pytest
from llm_server import Server, answer, chunk, cut, events, hold, stream
from waiting import PATIENCE, patiently, until_async

from ruvllm.errors import BackendError, ConfigError
from ruvllm.inference import openai_http
from ruvllm.inference import openai_http as http_attempt
from ruvllm.inference.backend import Message, Params, Usage
from ruvllm.inference.endpoint import Endpoint, Price, Retries
from ruvllm.inference.openai_http import OpenAiHttp
from ruvllm.inference.tiers import Tiers
from ruvllm.types import Tier

ASKED = [Message("system", "Be brief."), Message("user", "How hot is the oven? 🔥")]
PLAIN = Params()
KEY = "sk-oven-5b1c77d0e2"
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
END = events(chunk(finish_reason="stop"), {"choices": [], "usage": USAGE}, b"[DONE]")
HOT = stream(events(chunk("very ")), events(chunk("hot")) + END)
HTML = "<html><body>Bad gateway</body></html>"


async def no_sleep(seconds):
    """Waits of a second are not what these tests are about."""


def backend(server, **options):
    told = {"retries": Retries(most=2, first=0.5)} | options
    return OpenAiHttp(Endpoint(server.url, "oven-1", **told), name="oven", sleep=no_sleep)


def ask(*behaviours, params=PLAIN, **options):
    """(completion or error, server) of one request."""

    async def main():
        async with Server(*behaviours) as server:
            model = backend(server, **options)
            try:
                return await model.generate(ASKED, params), server
            except BackendError as error:
                return error, server
            finally:
                await model.close()

    return asyncio.run(main())


def read(*behaviours, most=99, **options):
    """(texts, error, server) of a stream of which the caller takes `most` chunks."""

    async def main():
        texts, error = [], None
        async with Server(*behaviours) as server:
            model = backend(server, **options)
            try:
                async with aclosing(model.stream(ASKED, PLAIN)) as chunks:
                    async for one in chunks:
                        texts.append(one.text)
                        if len(texts) == most:
                            break
            except BackendError as caught:
                error = caught
            if len(texts) == most:
                await until_async(lambda: server.left)
            await model.close()
            return texts, error, server

    return asyncio.run(main())


def test_an_answer_its_usage_and_its_cost():
    found, server = ask(HOT, price=Price(1.0, 10.0))
    assert (found.text, found.model, found.finish_reason) == ("very hot", "served", "stop")
    assert found.usage == Usage(12, 3)
    assert found.cost == pytest.approx(42e-6)
    request = server.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.body["messages"][1] == {"role": "user", "content": "How hot is the oven? 🔥"}
    assert request.body["stream"] is True
    assert "authorization" not in request.headers


def test_usage_is_estimated_when_the_server_gives_none():
    found, _ = ask(stream(events(chunk("hot"), chunk(finish_reason="length"), b"[DONE]")))
    assert (found.finish_reason, found.usage.estimated, found.usage.completion_tokens) == ("length", True, 1)


def test_pieces_reach_the_caller_as_they_come():
    async def main():
        texts, first = [], asyncio.Event()
        async with Server(stream(events(chunk("a")), b": wait\n\n", first, events(chunk("b")) + END)) as server:
            model = backend(server)
            async with asyncio.timeout(PATIENCE):
                async for one in model.stream(ASKED, PLAIN):
                    texts.append(one.text)
                    first.set()  # the server says no more before it has reached us
            await model.close()
        return texts

    assert asyncio.run(main()) == ["a", "b", ""]


def test_an_answer_may_come_in_any_pieces():
    data = b": hi\r\n\r\n" + events(chunk("väry "), chunk("höt")) + END
    pieces = [data[i : i + 7] for i in range(0, len(data), 7)]
    texts, error, _ = read(stream(*pieces))
    assert (texts, error) == (["väry ", "höt", ""], None)


def test_a_server_that_does_not_stream_answers_too():
    body = {"model": "old", "choices": [{"message": {"content": "hot"}, "finish_reason": "stop"}], "usage": USAGE}
    found, _ = ask(answer(200, body))
    assert (found.text, found.model, found.usage) == ("hot", "old", Usage(12, 3))


@pytest.mark.parametrize(
    "end",
    [
        stream(events(chunk("hot"), chunk(finish_reason="stop"))),  # no [DONE]
        stream(events(chunk("hot"), b"[DONE]")),  # no finish_reason
        stream(events(chunk("hot"), b"[DONE]").rstrip()),  # no last blank line
        stream(events(chunk("hot"), chunk(finish_reason="stop")), finish=False),  # lost after its end
    ],
)
def test_an_answer_that_ends_in_another_way_is_whole(end):
    found, server = ask(end)
    assert (found.text, found.finish_reason, len(server.requests)) == ("hot", "stop", 1)


@pytest.mark.parametrize(("said", "waits"), [((), "_FOR_USAGE"), ((b"[DONE]",), "_FOR_END")])
def test_who_forgets_to_close_after_the_end_is_not_waited_for_long(said, waits, monkeypatch):
    for name in ("_FOR_USAGE", "_FOR_END"):  # the other one would be waited for for ever
        monkeypatch.setattr(http_attempt, name, 0.02 if name == waits else 10 * PATIENCE)
    forgetful = hold(events(chunk("hot"), chunk(finish_reason="stop"), *said))
    found, _ = ask(forgetful, read_timeout=10 * PATIENCE, timeout=10 * PATIENCE)
    assert found.text == "hot"


@pytest.mark.parametrize("rest", [b"", b'data: {"choices": [{"del'])
def test_half_an_answer_is_an_error_that_holds_the_half(rest):
    for broken in (stream(events(chunk("ve"), chunk("ry")) + rest, finish=False), stream(events(chunk("very")) + rest)):
        texts, error, server = read(broken)
        assert ("".join(texts), error.kind, error.partial) == ("very", "bad_response", "very")
        assert len(server.requests) == 1  # never again after the first token


def test_a_failure_that_would_be_tried_again_is_not_after_the_first_token():
    texts, error, server = read(stream(events(chunk("ve"), {"error": {"code": 503, "message": "no slot"}})), HOT)
    assert (texts, error.kind, error.partial, len(server.requests)) == (["ve"], "unavailable", "ve", 1)


def test_an_error_of_many_bytes_is_not_read_to_its_end_and_frees_its_connection():
    found, server = ask(answer(500, "oops " * 100_000), HOT, connections=1, connect_timeout=PATIENCE)
    assert (found.text, len(server.requests)) == ("very hot", 2)


@pytest.mark.parametrize(
    "garbage",
    [
        answer(200, HTML),
        answer(200, {"hello": "world"}),
        answer(302, "", location="http://127.0.0.1:1/"),
        stream(b"\xff\xfe\x00 garbage \r\n\r\n" * 50),
        stream(events(b"<html>")),
        stream(events(b"[" * 100_000)),
        stream(b""),
        cut(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        cut(b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n"),
    ],
)
def test_garbage_is_a_bad_response(garbage):
    error, server = ask(garbage)
    assert (error.kind, error.partial, len(server.requests)) == ("bad_response", "", 1)
    assert len(str(error)) < 600


def test_an_endless_event_is_given_up(monkeypatch):
    monkeypatch.setattr("ruvllm.inference.chat_wire.MOST_EVENT", 10_000)
    error, _ = ask(stream(*[b"data: " + b"x" * 4_000] * 9))
    assert (error.kind, "10000 bytes" in error.message) == ("bad_response", True)


@pytest.mark.parametrize(
    "busy", [answer(429, {"error": {"message": "slow down"}}), answer(500, HTML), answer(503), cut()]
)
def test_busy_and_broken_servers_are_asked_again(busy):
    found, server = ask(busy, busy, HOT)
    assert (found.text, len(server.requests)) == ("very hot", 3)


@pytest.mark.parametrize(
    ("failing", "kind", "attempts"),
    [
        (answer(429, {"error": {"message": "slow down"}}), "rate_limited", 3),
        (answer(500, "oops"), "unavailable", 3),
        (cut(), "unavailable", 3),
        (stream(events({"error": {"code": 503, "message": "no slot"}})), "unavailable", 3),
        (answer(400, {"error": {"message": "too long"}}), "refused", 1),
        (answer(401, {"error": {"message": "who are you"}}), "refused", 1),
        (answer(404, HTML), "refused", 1),
    ],
)
def test_each_failure_has_its_kind_and_number_of_attempts(failing, kind, attempts):
    error, server = ask(failing)
    assert (error.kind, len(server.requests)) == (kind, attempts)


def test_retry_after_is_waited_for_as_long_as_it_is_worth_it():
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    async def main(seconds, params=PLAIN):
        async with Server(answer(429, "", retry_after=seconds), HOT) as server:
            endpoint = Endpoint(server.url, "oven-1", retries=Retries(patience=60))
            return await OpenAiHttp(endpoint, sleep=sleep, jitter=lambda: 0.0).generate(ASKED, params)

    assert asyncio.run(main("7")).text == "very hot"
    assert waits == [7]
    for seconds, params in (("61", PLAIN), ("7", Params(timeout=6))):
        with pytest.raises(BackendError) as error:
            asyncio.run(main(seconds, params))
        assert (error.value.kind, error.value.retry_after) == ("rate_limited", float(seconds))
    assert waits == [7]


def test_nobody_there_is_unavailable():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    model = OpenAiHttp(Endpoint(url, "oven-1"), sleep=no_sleep)

    async def main():
        assert not await model.healthy()
        await model.generate(ASKED, PLAIN)

    with pytest.raises(BackendError, match="no connection") as error:
        asyncio.run(main())
    assert (error.value.kind, error.value.field) == ("unavailable", "url")


@pytest.mark.parametrize(
    ("slow", "options", "params", "field"),
    [
        (hold(), {"read_timeout": 0.1}, PLAIN, "read_timeout"),
        (hold(events(chunk("hot"))), {"read_timeout": 0.1}, PLAIN, "read_timeout"),
        (hold(events(chunk("hot"))), {"timeout": 0.2}, PLAIN, "timeout"),
        (hold(events(chunk("hot"))), {}, Params(timeout=0.2), "timeout"),
        (stream(*[b": still here\n\n", 0.03] * 4_000), {"timeout": 0.3, "read_timeout": PATIENCE}, PLAIN, "timeout"),
    ],
)
def test_the_slow_are_left_in_time(slow, options, params, field):
    def check(slower):
        told = {name: seconds * slower for name, seconds in options.items()}
        limit = params if params.timeout is None else Params(timeout=params.timeout * slower)
        error, server = ask(slow, params=limit, **told)
        assert (error.kind, error.field, len(server.requests)) == ("timeout", field, 1)

    patiently(check)


def test_a_slow_answer_is_no_timeout_while_it_goes_on():
    def check(slower):
        found, _ = ask(stream(*[events(chunk("x")), 0.1 * slower] * 12, END), read_timeout=1.0 * slower)
        assert getattr(found, "text", found) == "x" * 12

    patiently(check)


def test_a_caller_who_leaves_frees_the_server():
    texts, error, server = read(hold(events(chunk("hot"))), most=1)
    assert (texts, error, server.left) == (["hot"], None, 1)

    async def main():
        async with Server(hold(events(chunk("hot")))) as server:
            model = backend(server)
            task = asyncio.create_task(model.generate(ASKED, PLAIN))
            await until_async(lambda: server.requests)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await until_async(lambda: server.left == 1)
            await model.close()

    asyncio.run(main())


def test_connections_are_limited_and_the_surplus_told():
    async def main(slower):
        async with Server(hold()) as server:
            model = backend(server, connections=1, connect_timeout=0.2 * slower, retries=Retries(most=0))
            first = asyncio.create_task(model.generate(ASKED, PLAIN))
            await until_async(lambda: server.requests or first.done())
            assert not first.done()  # it had no time to connect
            try:
                await model.generate(ASKED, PLAIN)
            finally:
                first.cancel()
                await model.close()

    def check(slower):
        with pytest.raises(BackendError, match="busy") as error:
            asyncio.run(main(slower))
        assert error.value.kind == "unavailable"

    patiently(check)


def test_a_connection_is_used_again(monkeypatch):
    monkeypatch.setattr(http_attempt, "_FOR_END", PATIENCE)

    async def main():
        async with Server(HOT) as server:
            model = backend(server)
            for _ in range(5):
                await model.generate(ASKED, PLAIN)
            await model.close()
            return len(server.requests), server.connections

    assert asyncio.run(main()) == (5, 1)


def test_each_event_loop_has_its_own_connections():
    async def ask_once(model):
        return (await model.generate(ASKED, PLAIN)).text

    def in_two_loops(model):
        with asyncio.Runner() as one, asyncio.Runner() as two:
            return [runner.run(ask_once(model)) for runner in (one, two, one)]

    async def main():
        async with Server(HOT) as server:
            model = backend(server, read_timeout=PATIENCE)
            there = await asyncio.to_thread(in_two_loops, model)
            here = await ask_once(model)
            await model.close()
            return there, here

    assert asyncio.run(main()) == (["very hot"] * 3, "very hot")


def test_many_streams_at_once_are_not_mixed_up():
    async def echo(reader, writer):
        await stream(events(chunk("a")), 0.02, events(chunk("b")) + END)(reader, writer)

    async def main():
        async with Server(echo) as server:
            model = backend(server)
            found = await asyncio.gather(*(model.generate(ASKED, PLAIN) for _ in range(40)))
            await model.close()
            return {one.text for one in found}

    assert asyncio.run(main()) == {"ab"}


@pytest.mark.parametrize(
    ("behaviour", "well"), [(answer(200, {"data": []}), 1), (answer(404), 1), (answer(500), 0), (cut(), 0)]
)
def test_health_is_asked_of_the_server(behaviour, well, monkeypatch):
    monkeypatch.setattr(openai_http, "_HEALTH_TIMEOUT", PATIENCE)

    async def main():
        async with Server(behaviour) as server:
            model = backend(server)
            healthy = await model.healthy()
            await model.close()
            return healthy, server.requests[0].path

    assert asyncio.run(main()) == (bool(well), "/v1/models")


def test_the_key_is_sent_and_never_said(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OVEN_KEY", KEY)
    found, server = ask(HOT, api_key_env="OVEN_KEY")
    assert found.text == "very hot"
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    tellers = [
        answer(401, {"error": {"message": f"wrong key {KEY}"}}),
        answer(400, "x" * 175 + KEY),  # the excerpt ends inside it
        stream(events(KEY.encode())),
    ]
    for teller in tellers:
        error, _ = ask(teller, api_key_env="OVEN_KEY")
        said = f"{error} {error!r} {error.message} {vars(error)} {caplog.text}"
        assert KEY not in said
        assert KEY[:10] not in said
    model = OpenAiHttp(Endpoint("http://localhost:1/v1", "m", "OVEN_KEY"))
    assert KEY not in f"{model!r} {vars(model)} {model.endpoint!r}"


def test_a_key_that_is_missing_or_mangled_is_found_at_the_start(monkeypatch):
    endpoint = Endpoint("http://localhost:1/v1", "m", "OVEN_KEY")
    monkeypatch.delenv("OVEN_KEY", raising=False)
    with pytest.raises(ConfigError, match="OVEN_KEY is not set"):
        OpenAiHttp(endpoint)
    monkeypatch.setenv("OVEN_KEY", "sk one\ntwo")
    with pytest.raises(ConfigError, match="OVEN_KEY") as error:
        OpenAiHttp(endpoint)
    assert "two" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("url", {"url": "ftp://localhost/v1"}),
        ("url", {"url": "localhost:8080"}),
        ("url", {"url": "http://[::1/v1"}),
        ("url", {"url": "http://me:secret@localhost/v1"}),
        ("url", {"url": "http://localhost/v1?key=secret"}),
        ("model", {"model": ""}),
        ("timeout", {"timeout": float("nan")}),
        ("read_timeout", {"read_timeout": 0}),
        ("connections", {"connections": 0}),
        ("context", {"context": 0}),
        ("dialect", {"dialect": "klingon"}),
        ("price", {"price": Price(-1, 0)}),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused_by_name(field, options):
    with pytest.raises(ConfigError) as error:
        Endpoint(**({"url": "http://localhost:8080/v1", "model": "m"} | options))
    assert error.value.field == field
    assert "secret" not in str(error.value)


def test_odd_text_is_sent_as_it_is():
    async def main():
        async with Server(HOT) as server:
            model = backend(server)
            await model.generate([Message("user", "lone \ud800 and \x00 and ü")], PLAIN)
            await model.close()
            return server.requests[0].body["messages"][0]["content"]

    assert asyncio.run(main()) == "lone \ud800 and \x00 and ü"


def test_tiers_fall_back_and_come_back_over_http():
    async def main():
        async with Server(answer(503), HOT) as small, Server(stream(events(chunk("40")) + END)) as large:
            tiers = Tiers(
                {
                    Tier.SMALL: backend(small, retries=Retries(most=0)),
                    Tier.LARGE: OpenAiHttp(Endpoint(large.url, "big"), name="big"),
                }
            )
            first, second = [await tiers.at(Tier.SMALL).generate(ASKED, PLAIN) for _ in range(2)]
            await tiers.close()
            return (first.backend, first.text), (second.backend, second.text)

    assert asyncio.run(main()) == (("big", "40"), ("oven", "very hot"))


def test_the_tokens_probabilities_are_the_confidence():
    sure = stream(events(chunk("hot", logprobs={"content": [{"token": "hot", "logprob": -0.1}]})) + END)
    found, server = ask(sure, logprobs=True)
    assert found.confidence == pytest.approx(0.9048, abs=1e-4)
    assert server.requests[0].body["logprobs"] is True
