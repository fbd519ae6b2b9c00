"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ruvllm import Decision

__all__ = ["MEDIA", "Metrics"]

MEDIA = CONTENT_TYPE_LATEST.encode()
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
_TENTHS = tuple(i / 10 for i in range(1, 11))


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "ruvllm_requests", "Requests answered.", ("method", "path", "status"), registry=registry
        )
        self._latency = Histogram(
            "ruvllm_request_latency_seconds",
            "From headers to the last byte.",
            ("path",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._confidence = Histogram(
            "ruvllm_confidence",
            "Calibrated probability that the chosen agent is right.",
            buckets=_TENTHS,
            registry=registry,
        )
        self._decisions = Counter("ruvllm_decisions", "Decisions made.", ("tier", "action"), registry=registry)
        self.quality = Histogram(
            "ruvllm_quality_score", "What people said of answers, 0 to 1.", buckets=_TENTHS, registry=registry
        )
        self._tokens = Counter("ruvllm_tokens", "Tokens read and written.", ("backend", "kind"), registry=registry)
        self._cost = Counter("ruvllm_cost_dollars", "Spent on backends.", ("backend",), registry=registry)
        self._failures = Counter("ruvllm_backend_failures", "Of backends.", ("kind",), registry=registry)
        self.in_flight = Gauge("ruvllm_requests_in_flight", "Being worked on.", registry=registry)
        self.waiting = Gauge("ruvllm_answers_waiting", "Requests in the queue before backends.", registry=registry)
        self.agents = Gauge("ruvllm_agents", "Agents routed among.", registry=registry)
        self.memories = Gauge("ruvllm_memories", "Memories in the index.", registry=registry)
        self._aside = Gauge("ruvllm_set_aside", "Items that could not be written.", ("kind",), registry=registry)
        self._failed = Gauge(
            "ruvllm_step_failures", "Failures of what is done behind the answers.", ("step",), registry=registry
        )
        self._counted: dict[tuple[str, str, int], Counter] = {}
        self._timed: dict[str, Histogram] = {}
        self._decided: dict[tuple[int, str], Counter] = {}

    def request(self, method: str, path: str, status: int, seconds: float) -> None:
        """One was answered; `path` is that of the operation, so that there are few."""
        key = (method, path, status)
        counter = self._counted.get(key)
        if counter is None:
            counter = self._counted[key] = self._requests.labels(method, path, str(status))
        counter.inc()
        timed = self._timed.get(path)
        if timed is None:
            timed = self._timed[path] = self._latency.labels(path)
        timed.observe(seconds)

    def decision(self, decision: Decision) -> None:
        """One was made."""
        key = (int(decision.tier), decision.action)
        counter = self._decided.get(key)
        if counter is None:
            counter = self._decided[key] = self._decisions.labels(decision.tier.name.lower(), decision.action)
        counter.inc()
        self._confidence.observe(decision.confidence)

    def answer(self, backend: str, prompt_tokens: int, completion_tokens: int, cost: float) -> None:
        """A backend wrote one."""
        self._tokens.labels(backend, "prompt").inc(prompt_tokens)
        self._tokens.labels(backend, "completion").inc(completion_tokens)
        self._cost.labels(backend).inc(cost)

    def failure(self, kind: str) -> None:
        """A backend failed, and with it the request."""
        self._failures.labels(kind).inc()

    def behind(self, aside: Mapping[str, int], failures: Mapping[str, int]) -> None:
        """What is set aside by kind, and what failed by step, as it stands."""
        self._aside.clear()
        for kind, count in aside.items():
            self._aside.labels(kind).set(count)
        for step, count in failures.items():
            self._failed.labels(step).set(count)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)
