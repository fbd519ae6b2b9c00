"""Background work: what is due runs, what fails stops no other, and a restart repeats nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ruvllm import RuvLLM
from ruvllm.encoders.protocol import Pause, no_pause, run_now
from ruvllm.jobs import HOUR, Job, Jobs, jobs_of
from ruvllm.state.names import JOBS
from ruvllm.state.store import Store


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Counting:
    def __init__(self, pauses: int = 1) -> None:
        self.finished, self.pauses = 0, pauses

    async def __call__(self, pause: Pause) -> str:
        for _ in range(self.pauses):
            await pause()
        self.finished += 1
        return f"run {self.finished}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_is_due_runs_and_then_waits_its_interval(clock):
    work, store = Counting(), Store()
    jobs = Jobs([Job("b", HOUR, work)], store, clock=clock)
    (run,) = run_now(jobs.run(pause=no_pause))
    assert (run.outcome, run.stopped) == ("run 1", False)
    assert run_now(jobs.run(pause=no_pause)) == []
    clock.now += HOUR
    assert [run.name for run in run_now(jobs.run(pause=no_pause))] == ["b"]
    assert work.finished == 2


def test_the_record_outlives_the_process_and_damage_only_makes_jobs_due(clock, tmp_path):
    store = Store(tmp_path / "state.db")
    run_now(Jobs([Job("b", HOUR, Counting())], store, clock=clock).run(pause=no_pause))
    assert Jobs([Job("b", HOUR, Counting())], store, clock=clock).due() == []
    store.put(JOBS, b"[{]")
    assert Jobs([Job("b", HOUR, Counting())], store, clock=clock).due() == ["b"]


def test_what_outlasts_its_budget_is_stopped_and_gets_twice_the_time(clock):
    work = Counting(pauses=10_000)
    jobs = Jobs([Job("b", HOUR, work)], Store(), clock=clock)
    allowed, runs = 1e-6, []
    for _ in range(30):
        runs += run_now(jobs.run(allowed, no_pause))
        if work.finished:
            break
    assert runs[0].stopped
    assert not runs[-1].stopped
    assert work.finished == 1


def test_forced_runs_need_not_be_due(clock):
    work = Counting()
    jobs = Jobs([Job("b", HOUR, work), Job("c", HOUR, work)], Store(), clock=clock)
    run_now(jobs.run(pause=no_pause))
    assert [run.name for run in run_now(jobs.run(force=True, pause=no_pause))] == ["b", "c"]
    assert [row["due"] for row in jobs.status()] == [False, False]


class Failing:
    def __init__(self) -> None:
        self.tried = 0

    async def __call__(self, pause: Pause) -> str:
        self.tried += 1
        raise KeyError("a text that must not be told")


def test_a_job_that_fails_stops_no_other_and_is_tried_again_later_and_later(clock, caplog):
    bad, good = Failing(), Counting()
    jobs = Jobs([Job("bad", HOUR, bad), Job("good", HOUR, good)], Store(), clock=clock)
    first, second = run_now(jobs.run(pause=no_pause))
    assert (first.error, second.outcome) == ("KeyError", "run 1")
    waits = []
    for _ in range(4):
        before, following = clock.now, jobs.status()[0]["next"]
        while not jobs.due():
            clock.now += 1
        assert clock.now == following
        waits.append(clock.now - before)
        run_now(jobs.run(pause=no_pause))
    assert waits == [2, 4, 8, 16]
    (row, _) = jobs.status()
    assert (row["last"], row["failure"]["error"], bad.tried) == (None, "KeyError", 5)
    assert caplog.text.count("job bad") == 1
    assert "must not be told" not in caplog.text


@pytest.mark.parametrize(
    ("count", "age", "due"), [(199, 0, False), (200, 0, True), (1, 3_599, False), (1, 3_600, True)]
)
def test_much_feedback_or_some_of_an_hour_ago_is_reviewed(static_llm: RuvLLM, count: int, age: float, due: bool, clock):
    llm = RuvLLM(encoder="static", like=static_llm)
    clock.now = 2_000_000_000.0
    jobs = jobs_of(llm.services, clock=clock)
    with llm.store.write() as db:
        rows = [(f"water plant {i}", clock.now - age) for i in range(count)]
        db.executemany("INSERT INTO feedback (text, agent, weight, created) VALUES (?, 'planner', 1, ?)", rows)
    assert ("review" in jobs.due()) == due


def test_200_feedbacks_are_reviewed_without_a_query_and_a_restart_does_not_repeat_it(
    static_llm: RuvLLM, kitchen: list, tmp_path: Path
):
    with RuvLLM(kitchen, encoder="static", like=static_llm, state=tmp_path / "s.db") as llm:
        for i in range(200):
            llm.feedback(f"polish copper kettle number {i}", llm.agents[i % 2].name)
        assert "review" in llm.jobs.due()
        runs = {run.name: run for run in llm.run_jobs(600)}
        assert runs["review"].outcome == "reviewed 200 feedbacks"
        assert "review" not in llm.jobs.due()
    with RuvLLM(kitchen, encoder="static", like=static_llm, state=tmp_path / "s.db") as again:
        assert [run.name for run in again.run_jobs(600) if run.name == "review"] == []
        (row,) = [row for row in again.stats()["jobs"] if row["name"] == "review"]
        assert row["last"]["outcome"] == "reviewed 200 feedbacks"


def test_what_a_database_has_more_of_is_not_made_concepts_of(static_llm: RuvLLM, monkeypatch: pytest.MonkeyPatch):
    """A node archived ten thousand memories of all the others', of a collection of which it held the latest."""

    class Database:
        def covers(self, collection: str) -> bool:
            return collection == "papers"

        async def bring(self, *_: object) -> str:
            return ""

    seen = list[str]()
    monkeypatch.setattr("ruvllm.memory.consolidate.consolidate", lambda _, name, *more: seen.append(name) or iter(()))
    with RuvLLM(encoder="static", like=static_llm) as llm:
        for collection in ("papers", "default"):
            llm.memory.add("Ada owns billing.", collection=collection)
        llm.memory.elsewhere = Database()
        run_now(llm.jobs.run(pause=no_pause, force=True, names=["concepts"]))
    assert seen == ["default"]
