from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from ruvllm import RuvLLM
from ruvllm.encoders.protocol import pause, unit_rows
from ruvllm.errors import ConfigError, InputError, StoreError
from ruvllm.learning.patterns import Pattern
from ruvllm.learning.sona import SonaConfig, SonaEngine
from ruvllm.learning.sona.adapters import sides
from ruvllm.learning.sona.core import verdict_of
from ruvllm.state.store import Store

DIM, ROUTES = 48, 5


class World:
    """Tasks of five routes: what tells them apart is small beside what they all share."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        basis = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
        self.means, self.shared = 0.5 * rng.normal(size=(ROUTES, 12)) @ basis[:12], basis[12:30]

    def tasks(self, n, seed):
        rng = np.random.default_rng(seed)
        labels = rng.integers(ROUTES, size=n)
        noise = rng.normal(size=(n, len(self.shared))) @ self.shared + 0.1 * rng.normal(size=(n, DIM))
        return unit_rows(self.means[labels] + noise), [f"route {label}" for label in labels]


def engine(**options):
    return SonaEngine.with_config(embedding_dim=DIM, **options)


def teach(sona, vectors, routes, quality=0.9, success=True):
    for vector, route in zip(vectors, routes, strict=True):
        sona.begin_trajectory(vector, route)
        sona.add_trajectory_step("input", "action", 0.8 if success else -0.8)
        sona.end_trajectory(quality, success)


@pytest.fixture(scope="module")
def learnt():
    """What a cycle over 150 tasks left behind, as bytes."""
    sona = engine()
    teach(sona, *World(0).tasks(150, 1))
    assert sona.force_learn().finished
    return sona.to_bytes()


def hits(sona, vectors, routes, adapt=lambda x: x):
    nearest = (adapt(vectors) @ sona.core.bank.centroids.T).argmax(1)
    return float(np.mean([sona.core.bank.routes[i] == route for i, route in zip(nearest, routes, strict=True)]))


def test_without_a_trajectory_nothing_happens():
    sona = engine()
    x = 3 * World(0).tasks(1, 0)[0][0]
    for adapted in (sona.apply_micro_lora(x), sona.apply_base_lora(x), sona.apply(x)):
        assert (adapted == x).all()
    assert sona.find_patterns(x) == sona.get_patterns() == []
    for report in (sona.tick(), sona.force_learn()):
        assert (report.ran, report.finished, report.trajectories, report.patterns) == (False, True, 0, 0)
    sona.flush()
    stats = sona.get_stats()
    assert (stats.trajectories, stats.patterns, stats.micro_strength, stats.base_strength) == (0, 0, 0.0, 0.0)


MEDICINE = ("my throat hurts and I have a fever", "a rash on my arm will not go away", "which pill helps with headache")
TRAVEL = ("book a flight to Lisbon in May", "find a hotel near the beach", "which train goes to Vienna tonight")


def test_an_unseen_paraphrase_finds_the_route_that_worked(static_llm: RuvLLM):
    sona = SonaEngine(encoder=static_llm.encoders.static)
    for route, texts in (("doctor", MEDICINE), ("agency", TRAVEL)):
        for text in texts:
            sona.begin_trajectory()
            sona.set_trajectory_route(route)
            sona.add_trajectory_step(text, "advise", 1.0)
            sona.add_trajectory_context("morning")
            sona.add_trajectory_context({"desk": 2})
            sona.end_trajectory(quality=0.95, success=True)
        sona.begin_trajectory(texts[0], "clown")
        sona.end_trajectory(quality=0.05, success=False)
    sona.force_learn()
    for query, route in (
        ("I feel feverish and my neck is sore", "doctor"),
        ("what medicine is good against a migraine", "doctor"),
        ("reserve a plane ticket to Portugal", "agency"),
        ("is there a rail connection to Austria this evening", "agency"),
    ):
        best = sona.find_patterns(query, k=3)[0]
        assert best.route == route, query
        assert (best.contexts, best.actions, best.metadata) == (("morning",), ("advise",), {"desk": 2})
    assert not any(one.route == "clown" for one in sona.get_patterns())


def test_adapters_improve_retrieval_of_tasks_that_nobody_taught(learnt):
    sona = SonaEngine.from_bytes(learnt)
    vectors, routes = World(0).tasks(300, 2)
    before = hits(sona, vectors, routes)
    assert hits(sona, vectors, routes, sona.core.adapters.base.apply) > before + 0.15
    assert hits(sona, vectors, routes, sona.apply) > before + 0.15
    moved = np.array([sona.apply_base_lora(x) - x for x in vectors[:10]])
    assert np.linalg.norm(moved, axis=1).min() > 0.1
    assert np.allclose(np.linalg.norm([sona.apply_base_lora(5 * x) for x in vectors[:10]], axis=1), 5, rtol=1e-4)


def test_the_micro_adapter_learns_before_any_cycle():
    gains = []
    for seed in (1, 2, 3):
        sona, world = engine(micro_lora_lr=0.01), World(seed)
        teach(sona, *world.tasks(120, 1))
        stats = sona.get_stats()
        assert stats.patterns == stats.base_updates == 0 < stats.micro_updates
        vectors, routes = world.tasks(300, 2)
        known, names = world.tasks(60, 3)  # neither of them taught
        same = np.array([[a == b for b in names] for a in routes])
        plain, adapted = ((x @ known.T).argmax(1) for x in (vectors, sona.apply(vectors)))
        gains.append(same[np.arange(300), adapted].mean() - same[np.arange(300), plain].mean())
        assert np.linalg.norm(sona.apply_micro_lora(vectors[0]) - vectors[0]) > 0.05
        assert (sona.apply_base_lora(vectors[0]) == vectors[0]).all()
    assert np.mean(gains) > 0.04


def test_what_went_badly_is_filtered_and_wears_patterns_down(learnt):
    sona = SonaEngine.from_bytes(learnt)
    before = {one.id: one.avg_quality for one in sona.get_patterns()}
    vectors, routes = World(0).tasks(60, 5)
    teach(sona, vectors, ["clown"] * 30 + routes[30:], quality=0.1, success=False)
    sona.force_learn()
    after = {one.id: one.avg_quality for one in sona.get_patterns()}
    assert "clown" not in sona.core.bank.routes
    assert after.keys() <= before.keys(), "no pattern is made of failures"
    worn = [after.get(id, 0.0) - quality for id, quality in before.items()]
    assert max(worn) == 0
    assert sum(worn) < -1
    assert sona.get_stats().judged_good == 150


def test_without_routes_failures_are_what_successes_are_told_from():
    sona, (vectors, _) = engine(), World(2).tasks(40, 1)
    teach(sona, vectors[:20], [""] * 20)
    assert sona.get_stats().micro_updates == 0, "nothing to be told from"
    teach(sona, vectors[20:], [""] * 20, quality=0.1, success=False)
    sona.force_learn()
    assert sona.get_stats().micro_updates > 0 < sona.get_stats().base_strength


@pytest.mark.parametrize(
    ("told", "score", "good"),
    [
        ((0.8, None, ()), 0.8, True),
        ((0.3, None, ()), 0.3, False),
        ((None, True, ()), 1.0, True),
        ((None, None, (1.0, 0.0)), 0.75, True),
        ((0.9, False, ()), 0.45 / 0.8, False),
        ((0.5, True, (-1.0,)), 0.55, True),
    ],
)
def test_verdicts(told, score, good):
    verdict = verdict_of(*told)
    assert verdict.score == pytest.approx(score)
    assert verdict.good is good
    assert verdict.weight == pytest.approx(score if good else 1 - score)
    assert verdict.agreement is None


def test_experience_tempers_a_verdict_and_excuses_nothing():
    known = [Pattern(1, np.ones(1, np.float32), route="a", avg_quality=0.9, similarity=0.8)]
    assert verdict_of(0.8, None, (), "a", known).score == pytest.approx(0.82)
    assert verdict_of(0.8, None, (), "b", known).score == pytest.approx(0.66)
    assert not verdict_of(0.45, None, (), "b", known).good
    assert not verdict_of(0.39, None, (), "a", known).good
    assert verdict_of(0.8, None, (), "", known).agreement is None
    for bad in ((None, None), (1.5, None), (float("nan"), None), (True, None), (0.5, "yes")):
        with pytest.raises(InputError):
            verdict_of(*bad, ())


def test_sides_of_what_went_well_and_badly():
    rows = np.eye(6, dtype=np.float32)
    good = (rows[:1], np.array(["a"], object)), (rows[1:3], np.array(["b", "b"], object))
    landmarks = good, (rows[3:5], np.array(["a", "b"], object))
    near, far = sides(landmarks, rows[0], "a", good=True)
    assert (near == rows[:1]).all()
    assert (np.sort(far.argmax(1)) == [1, 2, 3]).all()
    assert (sides(landmarks, rows[0], "a", good=False)[1] == rows[:1]).all()
    assert sides(landmarks, rows[0], "nobody", good=True) is None


def test_a_short_tick_goes_on_where_the_last_one_stopped(learnt):
    """In slices it comes to the same as at once."""
    whole, sliced = SonaEngine.from_bytes(learnt), SonaEngine.from_bytes(learnt)
    for sona in (whole, sliced):
        teach(sona, *World(0).tasks(100, 6))
    whole.force_learn()
    reports = [sliced.force_learn(budget_s=0)]
    assert (reports[0].ran, reports[0].finished) == (True, False)
    while not reports[-1].finished:
        reports.append(sliced.tick(budget_s=0))
        assert reports[-1].trajectories <= 32
    assert len(reports) > 8
    assert sum(report.trajectories for report in reports) == 100
    assert sliced.get_stats() == whole.get_stats()
    assert (sliced.core.adapters.base.theta == whole.core.adapters.base.theta).all()


def test_a_cycle_that_is_cut_off_is_begun_again_and_counts_nothing_twice(learnt):
    sona = SonaEngine.from_bytes(learnt)
    size = sum(one.cluster_size for one in sona.get_patterns())
    teach(sona, *World(0).tasks(80, 6))
    for _ in range(9):
        sona.force_learn(budget_s=0)
    other = SonaEngine.from_bytes(sona.to_bytes())
    assert other.get_stats().waiting == 80
    other.force_learn()
    assert sum(one.cluster_size for one in other.get_patterns()) == size + 80
    assert (other.get_stats().waiting, other.get_stats().cycles) == (0, 2)


def test_tick_waits_for_its_time_or_a_full_buffer():
    now = [1000.0]
    sona = SonaEngine(SonaConfig(embedding_dim=DIM, trajectory_capacity=30), clock=lambda: now[0])
    teach(sona, *World(0).tasks(20, 1))
    assert not sona.tick().ran
    now[0] += 3601
    assert sona.tick(budget_s=60).ran
    assert sona.get_stats().waiting == 0
    teach(sona, *World(0).tasks(29, 2))
    assert not sona.tick().ran
    teach(sona, *World(0).tasks(1, 3))
    assert sona.tick(budget_s=60).ran
    assert sona.get_stats().dropped == 0


def test_what_is_learnt_stays_in_the_state_file(tmp_path: Path):
    store = Store(tmp_path / "state.db")
    sona = SonaEngine.with_config(SonaConfig(embedding_dim=DIM), store=store, micro_lora_rank=1)
    vectors, routes = World(0).tasks(60, 1)
    teach(sona, vectors[:50], routes[:50])
    sona.force_learn(budget_s=0)
    teach(sona, vectors[50:], routes[50:])
    sona.flush()
    store.close()
    other = SonaEngine(SonaConfig(embedding_dim=DIM), store=Store(tmp_path / "state.db"))
    assert asdict(other.get_stats()) == asdict(sona.get_stats())
    assert other.get_stats().waiting == 10, "and the cycle that had begun is finished"
    assert (other.apply(vectors) == sona.apply(vectors)).all()
    for one in (sona, other):
        one.force_learn()
    assert (other.apply(vectors) == sona.apply(vectors)).all(), "what it then learns is the same too"
    with pytest.raises(StoreError, match="48 dimensions"):
        SonaEngine(SonaConfig(embedding_dim=DIM + 1), store=other._store)


def test_damaged_state_is_refused(learnt):
    for damaged in (b"", learnt[:-100], learnt[:500] + b"\xff" * 64 + learnt[564:]):
        with pytest.raises(StoreError):
            SonaEngine.from_bytes(damaged)


def test_a_change_of_tasks_is_consolidated():
    sona = engine(background_interval_ms=0)
    for seed in (0, 7):
        vectors, routes = World(seed).tasks(300, 1)
        teach(sona, unit_rows(vectors + (seed - 3) * 0.2 * np.eye(DIM)[0]), [f"{seed} {route}" for route in routes])
        sona.force_learn()
    adapters = sona.core.adapters
    assert sona.get_stats().ewc_tasks >= 1
    value, gradient = adapters.ewc.penalty(adapters.base.theta)
    assert value > 0 < np.abs(gradient).max()


def test_switched_off_it_neither_learns_nor_adapts(learnt):
    sona = SonaEngine.from_bytes(learnt)
    vectors, routes = World(0).tasks(3, 9)
    sona.set_enabled(False)
    teach(sona, vectors, routes)
    assert (sona.apply_base_lora(vectors[0]) == vectors[0]).all()
    assert not sona.force_learn().ran
    assert len(sona.find_patterns(vectors[0], 2)) == 2
    assert (sona.get_stats().trajectories, sona.get_stats().open) == (150, 0)
    sona.set_enabled(True)
    assert not (sona.apply_base_lora(vectors[0]) == vectors[0]).all()


def test_trajectories_may_overlap():
    sona, (vectors, _) = engine(), World(0).tasks(2, 1)
    first, second = sona.begin_trajectory(vectors[0]), sona.begin_trajectory(vectors[1])
    sona.set_trajectory_route("one", first)
    sona.set_trajectory_route("two")
    sona.add_trajectory_step("i", "a", 1.0, trajectory=first)
    with pytest.raises(InputError, match="came out"):
        sona.end_trajectory(trajectory=second)
    sona.end_trajectory(success=True, trajectory=second)
    sona.end_trajectory()
    assert [(one.route, one.rewards) for one in sona.core.waiting] == [("two", ()), ("one", (1.0,))]
    for call in (sona.end_trajectory, lambda: sona.add_trajectory_step("i", "a", 1.0, trajectory=first)):
        with pytest.raises(InputError) as error:
            call()
        assert error.value.field == "trajectory"
    for _ in range(1001):
        sona.begin_trajectory()
    assert sona.get_stats().open == 1000


def finished(coroutine):
    """Its result, whatever it waits for: Pyodide under Node cannot run an event loop inside a test."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value


def test_an_encoder_that_has_to_be_awaited():
    class Slow:
        name, dim = "slow", DIM

        async def encode(self, texts):
            await pause()
            return unit_rows(np.array([[len(text), text.count("a"), 1] + [0.0] * (DIM - 3) for text in texts]))

    async def use():
        sona = SonaEngine(encoder=Slow())
        sona.begin_trajectory("a banana", "fruit")
        await sona.aend_trajectory(success=True)
        sona.force_learn()
        return [one.route for one in await sona.afind_patterns("another banana")]

    assert finished(use()) == ["fruit"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"micro_lora_rank": 0}, "micro_lora_rank"),
        ({"micro_lora_rank": 1.5}, "micro_lora_rank"),
        ({"base_lora_rank": True}, "base_lora_rank"),
        ({"quality_threshold": 1.1}, "quality_threshold"),
        ({"quality_threshold": "high"}, "quality_threshold"),
        ({"ewc_lambda": 10}, "ewc_lambda"),
        ({"pattern_clusters": 0}, "pattern_clusters"),
        ({"background_interval_ms": -1}, "background_interval_ms"),
        ({"micro_lora_lr": float("nan")}, "micro_lora_lr"),
        ({"enable_simd": False}, "enable_simd"),
        ({"microLoraRanks": 2}, "micro_lora_ranks"),
        ({"micro_lora_rnk": 2}, "micro_lora_rnk"),
    ],
)
def test_options_that_cannot_be(options, field):
    with pytest.raises(ConfigError) as error:
        SonaEngine.with_config(options)
    assert error.value.field == field
    assert error.value.fix


def test_presets_and_widths(static_llm: RuvLLM):
    for preset in (SonaConfig.max_throughput(), SonaConfig.max_quality(), SonaConfig.edge()):
        assert SonaEngine.with_config(preset, embedding_dim=DIM).config.base_lora_rank == preset.base_lora_rank
    assert SonaEngine().dim == 256
    assert SonaEngine(encoder=static_llm.encoders.static).dim == static_llm.encoders.static.dim
    with pytest.raises(ConfigError) as error:
        SonaEngine(SonaConfig(embedding_dim=7), static_llm.encoders.static)
    assert error.value.field == "embedding_dim"
    for vector in (np.zeros(DIM), np.ones(3), "text", [float("nan")] * DIM, [["x"]], [1e300] * DIM):
        with pytest.raises(InputError):
            engine().find_patterns(vector)
