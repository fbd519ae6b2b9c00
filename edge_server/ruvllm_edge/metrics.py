"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric

from ruvllm import Decision
from ruvllm.jobs import JobRun
from ruvllm_edge.workers import Decided

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
        self.tools_left_out = Counter(
            "ruvllm_tools_left_out", "Tools of requests that were not passed on.", registry=registry
        )
        self._failures = Counter("ruvllm_backend_failures", "Of backends.", ("kind",), registry=registry)
        self.in_flight = Gauge("ruvllm_requests_in_flight", "Being worked on.", registry=registry)
        self.waiting = Gauge("ruvllm_answers_waiting", "Requests in the queue before backends.", registry=registry)
        self.agents = Gauge("ruvllm_agents", "Agents routed among.", registry=registry)
        self.memories = Gauge("ruvllm_memories", "Memories in the index.", registry=registry)
        self._aside = Gauge("ruvllm_set_aside", "Items that could not be written.", ("kind",), registry=registry)
        self._failed = Gauge(
            "ruvllm_step_failures", "Failures of what is done behind the answers.", ("step",), registry=registry
        )
        job = ("job",)
        self._runs = Counter("ruvllm_job_runs", "Of background jobs, all of them.", job, registry=registry)
        self._job_failures = Counter("ruvllm_job_failures", "Runs that failed.", job, registry=registry)
        self._stopped = Counter("ruvllm_job_stopped", "Runs that outlasted their budget.", job, registry=registry)
        self._took = Gauge("ruvllm_job_last_run_seconds", "That the last whole run took.", job, registry=registry)
        self._ended = Gauge(
            "ruvllm_job_last_run_timestamp_seconds", "When the last whole run ended, 0: never.", job, registry=registry
        )
        self._next = Gauge(
            "ruvllm_job_next_run_timestamp_seconds", "The next run comes no sooner.", job, registry=registry
        )
        key = ("space", "key")
        self._key_requests = Counter(
            "ruvllm_key_requests", "Requests of each key.", (*key, "outcome"), registry=registry
        )
        self._key_tokens = Counter("ruvllm_key_tokens", "Read and written for it.", (*key, "kind"), registry=registry)
        self._key_cost = Counter("ruvllm_key_cost_dollars", "Spent for it.", key, registry=registry)
        self._key_budget = Gauge("ruvllm_key_budget_dollars", "That it may spend a day.", key, registry=registry)
        self._key_spent = Gauge("ruvllm_key_spent_today_dollars", "That it spent today.", key, registry=registry)
        space = ("space",)
        self.shared_sent = Counter("ruvllm_shared_sent", "Changes sent to other nodes.", space, registry=registry)
        self.shared_applied = Counter("ruvllm_shared_applied", "Changes of other nodes.", space, registry=registry)
        self._shared_up = Gauge("ruvllm_shared_up", "Whether the shared log answers.", space, registry=registry)
        self._waiting = Gauge("ruvllm_shared_waiting", "Changes that wait to be sent.", space, registry=registry)
        self._waiting_age = Gauge(
            "ruvllm_shared_waiting_seconds", "Since the oldest of these was made.", space, registry=registry
        )
        self._lag = Gauge(
            "ruvllm_shared_lag_seconds", "Since all that others wrote was here last.", space, registry=registry
        )
        self.spaces = Gauge("ruvllm_spaces_open", "Spaces that are open, the default one too.", registry=registry)
        self._called: dict[tuple[str, str, str], Counter] = {}
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

    def decision(self, decision: Decision | Decided) -> None:
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

    def key_request(self, space: str, key: str, status: int) -> None:
        """A key's request was answered, refused (4xx) or failed."""
        name = (space, key, "ok" if status < 400 else "refused" if status < 500 else "failed")
        counter = self._called.get(name)
        if counter is None:
            counter = self._called[name] = self._key_requests.labels(*name)
        counter.inc()

    def key_answer(self, space: str, key: str, prompt_tokens: int, completion_tokens: int, cost: float) -> None:
        """A backend wrote an answer for a key."""
        self._key_tokens.labels(space, key, "prompt").inc(prompt_tokens)
        self._key_tokens.labels(space, key, "completion").inc(completion_tokens)
        self._key_cost.labels(space, key).inc(cost)

    def budget(self, space: str, key: str, budget: float, spent: float) -> None:
        """What a key may spend a day, and has."""
        self._key_budget.labels(space, key).set(budget)
        self._key_spent.labels(space, key).set(spent)

    def shared(self, space: str, stats: Mapping[str, Any]) -> None:
        """How a space stands among nodes, as `Node.stats` has it."""
        self._shared_up.labels(space).set(stats["up"])
        self._waiting.labels(space).set(stats["waiting"])
        self._waiting_age.labels(space).set(stats["waiting_seconds"])
        self._lag.labels(space).set(stats["lag_seconds"])

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

    def job_runs(self, runs: Sequence[JobRun]) -> None:
        """Background jobs ran."""
        for run in runs:
            self._runs.labels(run.name).inc()
            self._job_failures.labels(run.name).inc(bool(run.error))
            self._stopped.labels(run.name).inc(run.stopped)

    def job_status(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """When each last ran and will run, as `Jobs.status` has it; counts of those that never ran are 0."""
        for row in rows:
            name, last = row["name"], row["last"] or {"seconds": 0.0, "at": 0.0}
            for counter in (self._runs, self._job_failures, self._stopped):
                counter.labels(name)
            self._took.labels(name).set(last["seconds"])
            self._ended.labels(name).set(last["at"])
            self._next.labels(name).set(row["next"])

    def text(self, space: str | None = None) -> bytes:
        """As Prometheus reads it: everything, or what is labelled with one space."""
        if space is None:
            return generate_latest(self.registry)
        return generate_latest(_OneSpace(self.registry, space))


class _OneSpace:
    """The part of a registry that is about one space."""

    def __init__(self, registry: CollectorRegistry, space: str) -> None:
        self._registry, self._space = registry, space

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [one for one in family.samples if one.labels.get("space") == self._space]
            if family.samples:
                yield family
