"""What OpenTelemetry is told of requests, with its SDK's own exporters in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Running, Writer, serving
from test_backends import llm_server
from test_tools import SERVED

from ruvllm import ConfigError, RuvLLM
from ruvllm_edge.telemetry import Telemetry, export_telemetry

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "tracestate": "vendor=1"}
CHAT = {"model": "auto", "messages": [{"role": "user", "content": "fix the memory leak in the cache module"}]}


@pytest.fixture(scope="module")
def exported() -> tuple[Any, Any]:
    """Spans and metrics of this process."""
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed: the extra `otel`")
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    export_telemetry()  # finds these providers, and leaves them
    return spans, reader


@pytest.fixture
def told(exported: tuple[Any, Any]) -> Iterator[tuple[Any, Running]]:
    exported[0].clear()
    with serving(RuvLLM(encoder="static", backends={"small": Writer()}), otel=True) as edge:
        edge.get("/ready")
        exported[0].clear()
        yield exported[0], edge


@contextmanager
def _upstream(api: str) -> Iterator[tuple[Any, RuvLLM]]:
    with llm_server(SERVED[api, False]) as server:
        tier = {"kind": api, "url": server.url, "model": "up-1", "retries": 0}
        yield server, RuvLLM(encoder="static", config={"inference": {"tiers": {"small": tier}}})


def of(spans: Any) -> dict[str, Any]:
    return {span.name: span for span in spans.get_finished_spans()}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_a_span_with_what_came_before_it(told: tuple[Any, Running], stream: bool):
    spans, edge = told
    answer = edge.post("/v1/chat/completions", CHAT | {"stream": stream}, headers=PARENT)
    assert answer.status_code == 200
    found = of(spans)
    served, chat = found["POST /v1/chat/completions"], found["chat auto"]
    assert f"{served.context.trace_id:032x}" == TRACE
    assert f"{served.parent.span_id:016x}" == "b7ad6b7169203331"
    assert served.attributes["http.response.status_code"] == 200
    assert chat.parent.span_id == served.context.span_id
    about = dict(chat.attributes)
    assert about["gen_ai.operation.name"] == "chat"
    assert about["gen_ai.request.model"] == "auto"
    assert (about["gen_ai.response.model"], about["gen_ai.provider.name"]) == ("writer-1", "ruvllm")
    assert about["gen_ai.usage.input_tokens"] > 0
    assert about["gen_ai.response.finish_reasons"] == ("stop",)
    for name in ("embeddings", "retrieval", "route"):
        assert found[name].parent.span_id == chat.context.span_id
        assert chat.start_time <= found[name].start_time <= found[name].end_time
    assert found["route"].attributes["gen_ai.agent.name"] == about["gen_ai.agent.name"]
    assert "memory leak" not in repr([dict(span.attributes) for span in found.values()])


def test_what_the_server_does_by_itself_is_a_span_too(told: tuple[Any, Running]):
    spans, edge = told
    edge.post("/v1/route", {"text": "fix the login page"})
    edge.post("/v1/embeddings", {"model": "auto", "input": ["a"]})
    edge.post("/v1/memory/search", {"query": "a"})
    edge.post("/v1/query", {"query": "what is there"})
    found = of(spans)
    assert found["route"].attributes["ruvllm.tier"] in ("booster", "small", "large")
    embedded = next(span for name, span in found.items() if name.startswith("embeddings "))
    assert embedded.attributes["gen_ai.embeddings.dimension.count"] > 0
    assert found["POST /v1/query"].context.trace_id == found["chat auto"].context.trace_id


def test_failures_are_told(exported: tuple[Any, Any]):
    spans, _ = exported
    with serving(RuvLLM(encoder="static", backends={"small": Writer(fails_after=0)}), otel=True) as edge:
        spans.clear()
        assert edge.post("/v1/chat/completions", CHAT).status_code == 503
    found = of(spans)
    assert found["chat auto"].attributes["error.type"] == "unavailable"
    assert found["POST /v1/chat/completions"].status.status_code.name == "ERROR"


def test_metrics_have_the_names_of_the_conventions(told: tuple[Any, Running], exported: tuple[Any, Any]):
    _, edge = told
    edge.post("/v1/chat/completions", CHAT | {"stream": True})
    data = exported[1].get_metrics_data().resource_metrics[0].scope_metrics
    found = {metric.name: metric for scope in data for metric in scope.metrics}
    assert {
        "http.server.request.duration", "gen_ai.client.operation.duration", "gen_ai.client.token.usage",
        "gen_ai.client.operation.time_to_first_chunk",
    } <= found.keys()  # fmt: skip
    kinds = {point.attributes["gen_ai.token.type"] for point in found["gen_ai.client.token.usage"].data.data_points}
    assert kinds == {"input", "output"}


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_the_trace_goes_on_to_the_server_that_writes(exported: tuple[Any, Any], api: str):
    spans, _ = exported
    with _upstream(api) as (server, llm), serving(llm, otel=True) as edge:
        spans.clear()
        assert edge.post("/v1/chat/completions", CHAT, headers=PARENT).status_code == 200
        sent = server.requests[-1].headers["traceparent"]
    span = of(spans)["chat auto"].context
    assert sent == f"00-{TRACE}-{span.span_id:016x}-01"


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_without_telemetry_the_clients_trace_goes_on_as_it_is(api: str):
    with _upstream(api) as (server, llm), serving(llm) as edge:
        for path, body in (("/v1/chat/completions", CHAT), ("/v1/query", {"query": "hello there"})):
            assert edge.post(path, body, headers=PARENT).status_code == 200
            assert server.requests[-1].headers["traceparent"] == PARENT["traceparent"]
            assert server.requests[-1].headers["tracestate"] == "vendor=1"


def test_without_opentelemetry_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    for name in ("opentelemetry", "opentelemetry.trace", "opentelemetry.exporter"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    for start in (Telemetry, export_telemetry):
        with pytest.raises(ConfigError) as caught:
            start()
        assert (caught.value.field, "[otel]" in caught.value.fix) == ("RUVLLM_OTEL", True)
