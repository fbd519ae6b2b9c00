"""Raw sockets: headers without end, half-open connections, too many of them, and answers that nobody reads."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from http.client import HTTPResponse
from typing import Any

import pytest
from conftest import Running, serving

from ruvllm import RuvLLM
from ruvllm_edge import serve
from ruvllm_edge.connections import _address, bounded_protocol

GET = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n"


@pytest.fixture(params=["httptools", "h11"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(serve, "bounded_protocol", partial(bounded_protocol, fast=request.param == "httptools"))
    return str(request.param)


def static(**options: Any) -> Any:
    return serving(RuvLLM(encoder="static"), **options)


def opened(edge: Running, first: bytes = b"") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", edge.port), timeout=20)
    sock.sendall(first)
    return sock


def read(sock: socket.socket) -> bytes:
    """All that comes until the server closes."""
    out = b""
    try:
        while piece := sock.recv(65536):
            out += piece
    except ConnectionError:
        pass
    return out


def status(sock: socket.socket) -> int:
    """Of one answer, which is read to its end."""
    answer = HTTPResponse(sock)
    answer.begin()
    answer.read()
    return answer.status


def taken(sock: socket.socket, pieces: Iterator[bytes]) -> int:
    """Bytes that can be sent before the server cuts the connection."""
    sent = 0
    try:
        for piece in pieces:
            sock.sendall(piece)
            sent += len(piece)
    except (ConnectionError, TimeoutError):
        pass
    return sent


def test_one_header_of_111_mb_is_cut_early():
    with static() as edge, opened(edge, GET + b"x-large: ") as sock:
        assert taken(sock, (b"a" * 65536 for _ in range(111 << 4))) < 20 << 20  # what lies in the kernel's buffers
        assert edge.get("/health").status_code == 200


@pytest.mark.parametrize("head", [b"x-large: " + b"a" * 70_000, b"x: y\r\n" * 12_000, b"cookie: a\r\n" * 40_000])
def test_headers_of_more_than_64_kb_are_431(head: bytes):
    with static() as edge, opened(edge, GET + head) as sock:
        assert read(sock).startswith(b"HTTP/1.1 431 ")
    with static() as edge, opened(edge, GET + b"x-large: " + b"a" * 60_000 + b"\r\nconnection: close\r\n\r\n") as sock:
        assert read(sock).startswith(b"HTTP/1.1 200 ")


def test_a_line_of_111_mb_before_any_header_is_cut_early():
    with static() as edge, opened(edge, b"GET /") as sock:
        assert taken(sock, (b"a" * 65536 for _ in range(111 << 4))) < 20 << 20


def test_trailers_of_a_body_are_headers_too():
    head = b"POST /v1/route HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    head += b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-large: "
    with static() as edge, opened(edge, head) as sock:
        assert taken(sock, (b"a" * 65536 for _ in range(111 << 4))) < 20 << 20


@pytest.mark.parametrize(
    ("path", "kind"), [("/v1/chat/completions", "error"), ("/v1/messages", "type"), ("/", "title")]
)
def test_a_431_has_the_shape_of_its_path(path: str, kind: str):
    head = f"GET {path}?a HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ".encode()
    with static() as edge, opened(edge, head + b"a" * 70_000) as sock:
        assert kind in json.loads(read(sock).partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("sent", [b"", b"GET", b"\r\n", GET, GET + b"x-half: op"])
def test_a_half_open_request_is_closed(sent: bytes):
    with static(header_timeout=0.3) as edge, opened(edge, sent) as sock:
        assert read(sock)[:13] in (b"", b"HTTP/1.1 408 ", b"HTTP/1.1 400 ")


def drip(sock: socket.socket) -> None:
    """Send a byte fifty times a second, until the server closes."""
    sock.settimeout(0.02)
    for _ in range(10_000):
        try:
            sock.sendall(b"x")
            if not sock.recv(1_000):
                return
        except TimeoutError:
            continue
        except ConnectionError:
            return
    pytest.fail("it is open still")


def test_a_header_that_drips_is_closed_however_often_a_byte_comes():
    with static(header_timeout=0.3) as edge, opened(edge, GET) as sock:
        drip(sock)


@pytest.mark.parametrize("path", ["/health", "/nothing", "/v1/route"])
def test_a_body_that_drips_after_its_answer_is_closed(path: str):
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 99999\r\n\r\n"
    with static(header_timeout=0.3, body_timeout=0.3) as edge, opened(edge, head.encode()) as sock:
        drip(sock)


def test_a_second_request_has_its_own_time_and_an_idle_connection_stays():
    with static(header_timeout=0.3) as edge, opened(edge, GET + b"\r\n") as sock:
        assert status(sock) == 200
        with opened(edge) as other:
            assert read(other) == b""  # so long has it been idle
        sock.sendall(GET + b"\r\n")
        assert status(sock) == 200
        sock.sendall(GET)
        assert read(sock).startswith(b"HTTP/1.1 408 ")


def test_one_connection_too_many_is_503_while_others_and_health_are_answered():
    with static(max_connections=3) as edge, ExitStack() as stack:
        socks = [stack.enter_context(opened(edge, GET + b"\r\n")) for _ in range(2)]  # the client has the third
        for sock in socks:
            assert status(sock) == 200
        with opened(edge, GET.replace(b"/health", b"/v1/agents") + b"\r\n") as sock:
            assert read(sock).startswith(b"HTTP/1.1 503 ")
        with opened(edge, GET + b"\r\n") as sock:
            assert read(sock).startswith(b"HTTP/1.1 200 ")  # and closed after it
        socks[0].sendall(GET.replace(b"/health", b"/v1/agents") + b"\r\n")
        assert status(socks[0]) == 200
        socks[1].close()
        while True:  # until the server has seen that it is gone
            with opened(edge, GET.replace(b"/health", b"/v1/patterns") + b"connection: close\r\n\r\n") as sock:
                if read(sock).startswith(b"HTTP/1.1 200 "):
                    break


def test_connections_far_beyond_the_most_are_refused_at_once():
    with static(max_connections=1, header_timeout=20.0) as edge, ExitStack() as stack:
        socks = [stack.enter_context(opened(edge)) for _ in range(40)]
        assert sum(read(sock).startswith(b"HTTP/1.1 503 ") for sock in reversed(socks)) >= 20


def test_addresses_are_counted_by_customer_and_this_machine_is_none():
    assert _address(("203.0.113.9", 1)) == _address(("::ffff:203.0.113.9", 2))
    assert _address(("2001:db8:1:2::1", 1)) == _address(("2001:db8:1:2:ffff::1", 1))
    assert _address(("2001:db8:1:2::1", 1)) != _address(("2001:db8:1:3::1", 1))
    assert {_address(("127.0.0.1", 1)), _address(("::1", 1)), _address(None), _address(("", 0))} == {""}


def test_an_answer_that_nobody_reads_is_given_up():
    ask = GET.replace(b"/health", b"/docs") + b"\r\n"
    with static(body_timeout=0.3) as edge, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.settimeout(20)
        sock.connect(("127.0.0.1", edge.port))
        assert taken(sock, (ask * 100 for _ in range(10_000))) < len(ask) * 1_000_000


def test_pipelined_requests_and_large_bodies_are_read():
    text = json.dumps({"text": "fix it " * 30_000}).encode()
    head = b"POST /v1/route HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    ask = head + b"content-length: %d\r\n\r\n" % len(text) + text
    last = ask.replace(b"host:", b"connection: close\r\nhost:", 1)
    with static() as edge, opened(edge, ask + ask + last) as sock:
        assert read(sock).count(b"HTTP/1.1 200 ") == 3
