"""What OpenTelemetry is told: a span a request, and in it those of generative AI, with their metrics.

Names are those of the GenAI semantic conventions; there is none for choosing an agent, so that spans of that are called
`route`, with attributes of ruvllm's own. No span holds what anybody wrote.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter, time_ns
from typing import Any

from starlette.types import Scope

from ruvllm import ConfigError, Decision, Tier, __version__
from ruvllm.inference.backend import TRACE, Usage
from ruvllm.query.responses import STAGES, Response, Routed
from ruvllm.rlm.answers import RlmAnswer

_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
_TOKENS = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]
_INSIDE = {"embedding": "embeddings", "retrieval": "retrieval", "routing": "route"}  # stages of an answer
_PATIENCE_MS = 2_000
_MISSING = "pip install 'ruvllm-edge[otel]'"


def export_telemetry() -> None:
    """Send spans and metrics by OTLP to where the OTEL_… variables say, unless a program has set providers already.

    Raises:
        ConfigError: the SDK or its exporter is not installed.
    """
    try:
        from opentelemetry import metrics, trace
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed", field="RUVLLM_OTEL", fix=_MISSING) from None
    os.environ.setdefault("OTEL_SERVICE_NAME", "ruvllm")
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))


class Telemetry:
    """Makes spans and counts, through OpenTelemetry's global providers.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry import metrics, trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ModuleNotFoundError:
            raise ConfigError("OpenTelemetry is not installed", field="RUVLLM_OTEL", fix=_MISSING) from None
        self._trace, self._metrics, self._context = trace, metrics, TraceContextTextMapPropagator()
        self.tracer = trace.get_tracer("ruvllm", __version__)
        meter = metrics.get_meter("ruvllm", __version__)

        def histogram(name: str, unit: str, about: str, bounds: list[Any]) -> Any:
            return meter.create_histogram(name, unit, about, explicit_bucket_boundaries_advisory=bounds)

        self._served = histogram("http.server.request.duration", "s", "Duration of HTTP server requests.", _SECONDS)
        self._took = histogram("gen_ai.client.operation.duration", "s", "GenAI operation duration.", _SECONDS)
        self._tokens = histogram("gen_ai.client.token.usage", "{token}", "Input and output tokens used.", _TOKENS)
        name, about = "gen_ai.client.operation.time_to_first_chunk", "Time to receive the first chunk."
        self._first = histogram(name, "s", about, _SECONDS)

    @contextmanager
    def request(self, scope: Scope, method: str, route: str) -> Iterator[None]:
        """Around one request: its span is the caller's child where it sent `traceparent`."""
        sent = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name.decode() in TRACE}
        attributes: dict[str, Any] = {"http.request.method": method, "http.route": route, "url.scheme": scope["scheme"]}
        began, kind = perf_counter(), self._trace.SpanKind.SERVER
        with self.tracer.start_as_current_span(
            f"{method} {route}", self._context.extract(sent), kind, attributes
        ) as span:
            try:
                yield
            finally:
                attributes["http.response.status_code"] = status = scope["ruvllm.status"]
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(self._trace.StatusCode.ERROR)
                self._served.record(perf_counter() - began, attributes)

    @contextmanager
    def operation(self, kind: str, name: str, more: Mapping[str, Any] | None = None) -> Iterator[Any]:
        """Around an operation that this server does by itself.

        Args:
            kind: as `gen_ai.operation.name`.
            name: of the model or the data source, behind it in the span's name.
            more: further attributes.
        """
        attributes = {"gen_ai.operation.name": kind, "gen_ai.provider.name": "ruvllm", **(more or {})}
        began = perf_counter()
        failed: dict[str, Any] = {}
        with self.tracer.start_as_current_span(f"{kind} {name}".strip(), attributes=attributes) as span:
            try:
                yield span
            except Exception as error:
                failed = {"error.type": type(error).__qualname__}
                span.set_attributes(failed)
                raise
            finally:
                self._took.record(perf_counter() - began, _of_metric(attributes) | failed)

    def routed(self, span: Any, decision: Decision) -> None:
        """What a span of routing found."""
        span.set_attributes(_routed(decision))

    def headers(self, span: Any = None) -> dict[str, str]:
        """The trace context for a request that is sent on; of the current span when None."""
        carrier = dict[str, str]()
        self._context.inject(carrier, None if span is None else self._trace.set_span_in_context(span))
        return carrier

    def flush(self) -> None:
        """Send what waits; takes a second or so where nobody answers."""
        for provider in (self._trace.get_tracer_provider(), self._metrics.get_meter_provider()):
            if (send := getattr(provider, "force_flush", None)) is not None:
                send(_PATIENCE_MS)

    def count(self, usage: Usage, attributes: Mapping[str, Any]) -> None:
        """Tokens of an answer."""
        for kind, count in (("input", usage.prompt_tokens), ("output", usage.completion_tokens)):
            self._tokens.record(count, {**attributes, "gen_ai.token.type": kind})


class Answering:
    """An answer that nobody traces."""

    headers: Mapping[str, str] = {}  # the trace context, for the server that writes

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            self.failed(error)

    def chunk(self) -> None:
        """A piece came."""

    def done(self, response: Response) -> None:
        """It is answered."""

    def done_deep(self, answer: RlmAnswer, backend: str) -> None:
        """It is put together from several answers."""

    def broken_off(self, routed: Routed, usage: Usage) -> None:
        """Nobody waits for the rest."""

    def failed(self, error: BaseException) -> None:
        """There is no answer."""


class TracedAnswer(Answering):
    """The span of an answer from when it is asked for, and in it those of what came before the model wrote.

    Args:
        model: as the request names it.
        provider: by backend, as `gen_ai.provider.name`.
    """

    def __init__(self, telemetry: Telemetry, model: str, provider: Mapping[str, str], stream: bool = False) -> None:
        self._telemetry, self._provider, self._stream = telemetry, provider, stream
        self._attributes: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model}
        self._began, self._since, self._first, self._ended = perf_counter(), time_ns(), False, False
        kind = telemetry._trace.SpanKind.CLIENT
        stated = self._attributes | ({"gen_ai.request.stream": True} if stream else {})
        self.span = telemetry.tracer.start_span(f"chat {model}", kind=kind, attributes=stated, start_time=self._since)
        self.headers = telemetry.headers(self.span)

    def chunk(self) -> None:
        """A piece came; the first is timed."""
        if not self._first:
            self._first = True
            self._telemetry._first.record(perf_counter() - self._began, self._attributes)

    def done(self, response: Response) -> None:
        """It is answered."""
        self.span.set_attributes({"gen_ai.response.id": response.request_id, **_routed(response.decision)})
        self.span.set_attribute("gen_ai.response.finish_reasons", [response.finish_reason])
        self._inside(response)
        self._used(response.routing.backend, response.routing.model, response.usage)

    def done_deep(self, answer: RlmAnswer, backend: str) -> None:
        """It is put together from several answers."""
        self._used(backend, backend, answer.usage)

    def broken_off(self, routed: Routed, usage: Usage) -> None:
        """Nobody waits for the rest."""
        self.span.set_attributes(_routed(routed.decision))
        self._used(routed.routing.backend, routed.routing.model, usage)

    def failed(self, error: BaseException) -> None:
        """There is no answer."""
        self.span.set_status(self._telemetry._trace.StatusCode.ERROR)
        self._end({"error.type": str(getattr(error, "kind", "") or type(error).__qualname__)})

    def _used(self, backend: str, model: str, usage: Usage) -> None:
        found = {"gen_ai.provider.name": self._provider.get(backend, "ruvllm"), "gen_ai.response.model": model}
        self._attributes |= found
        tokens: dict[str, Any] = {"gen_ai.usage.input_tokens": usage.prompt_tokens}
        tokens["gen_ai.usage.output_tokens"] = usage.completion_tokens
        if usage.cached_tokens:
            tokens["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
        self.span.set_attributes(found | tokens)
        self._telemetry.count(usage, self._attributes)
        self._end({})

    def _end(self, more: dict[str, Any]) -> None:
        if self._ended:
            return
        self._ended = True
        self.span.set_attributes(more)
        self._telemetry._took.record(perf_counter() - self._began, self._attributes | more)
        self.span.end()

    def _inside(self, response: Response) -> None:
        """The stages before the model, one after the other, as the answer timed them."""
        context, since = self._telemetry._trace.set_span_in_context(self.span), self._since
        for stage in STAGES:
            until = since + round(response.latency.get(stage, 0.0) * 1_000)
            if name := _INSIDE.get(stage):
                attributes = {"gen_ai.operation.name": name, "gen_ai.provider.name": "ruvllm"}
                attributes |= _routed(response.decision) if name == "route" else {}
                self._telemetry.tracer.start_span(name, context, attributes=attributes, start_time=since).end(until)
            since = until


def _routed(decision: Decision) -> dict[str, Any]:
    return {
        "gen_ai.agent.name": decision.agent, "ruvllm.confidence": decision.confidence,
        "ruvllm.tier": Tier(decision.tier).name.lower(), "ruvllm.action": decision.action,
    }  # fmt: skip


def _of_metric(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those with few values."""
    named = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")
    return {name: attributes[name] for name in named if name in attributes}
