import pytest
from ruvllm.learning.loops import HOUR, Loop, Loops

from ruvllm.encoders.protocol import Pause, no_pause, run_now
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
    loops = Loops([Loop("b", HOUR, work)], store, clock=clock)
    (run,) = run_now(loops.tick(pause=no_pause))
    assert (run.outcome, run.stopped) == ("run 1", False)
    assert run_now(loops.tick(pause=no_pause)) == []
    clock.now += HOUR
    assert [run.name for run in run_now(loops.tick(pause=no_pause))] == ["b"]
    assert work.finished == 2


def test_the_record_outlives_the_process_and_damage_only_makes_loops_due(clock, tmp_path):
    store = Store(tmp_path / "state.db")
    run_now(Loops([Loop("b", HOUR, Counting())], store, clock=clock).tick(pause=no_pause))
    assert Loops([Loop("b", HOUR, Counting())], store, clock=clock).due() == []
    store.put("loops", b"[{]")
    assert Loops([Loop("b", HOUR, Counting())], store, clock=clock).due() == ["b"]


def test_what_outlasts_its_budget_is_stopped_and_gets_twice_the_time(clock):
    work = Counting(pauses=10_000)
    loops = Loops([Loop("b", HOUR, work)], Store(), clock=clock)
    allowed, runs = 1e-6, []
    for _ in range(30):
        runs += run_now(loops.tick(allowed, pause=no_pause))
        if work.finished:
            break
    assert runs[0].stopped
    assert not runs[-1].stopped
    assert work.finished == 1


def test_forced_runs_need_not_be_due(clock):
    work = Counting()
    loops = Loops([Loop("b", HOUR, work), Loop("c", HOUR, work)], Store(), clock=clock)
    run_now(loops.tick(pause=no_pause))
    assert [run.name for run in run_now(loops.tick(force=True, pause=no_pause))] == ["b", "c"]
    assert [row["due"] for row in loops.status()] == [False, False]
