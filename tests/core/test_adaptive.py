from contextlib import closing

import numpy as np
import pytest

from ruvllm.encoders.protocol import run_now, unit_rows
from ruvllm.errors import InputError, StoreError
from ruvllm.learning.adaptive import AdaptiveEmbeddingService
from ruvllm.state.store import Store
from ruvllm_bench.learn.lora import measure_lora

DIM = 48
TOPICS = {name: i for i, name in enumerate(("topic", "works", "fails", "style a", "style b", "style c"))}
AXES = unit_rows(np.random.default_rng(0).normal(size=(len(TOPICS), DIM)))


class Topical:
    """Texts that name topics, and a number for what else sets them apart: "works, style a, 7"."""

    name, dim = "topical", DIM

    async def encode(self, texts):
        rows = []
        for text in texts:
            *topics, number = text.split(", ")
            noise = np.random.default_rng(int(number)).normal(size=DIM) * 0.12
            rows.append(AXES[0] * 2 + sum((0.5 if t[0] in "wf" else 1) * AXES[TOPICS[t]] for t in topics) + noise)
        return unit_rows(np.array(rows))


def texts(kind, start, n):
    return [f"{kind}, style {'abc'[i % 3]}, {i}" for i in range(start, start + n)]


def agreement(service, domain="general"):
    """How often a held-out text's nearest neighbour among forty others shares its outcome."""
    rows = run_now(service.generate_many(texts("works", 900, 20) + texts("fails", 950, 20), domain))
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -2)
    return float(((cosines.argmax(1) < 20) == (np.arange(40) < 20)).mean())


def margin(service, domain="general"):
    """Mean cosine among texts of one outcome, less that among texts of both."""
    rows = run_now(service.generate_many(texts("works", 900, 20) + texts("fails", 950, 20), domain))
    cosines, same = rows @ rows.T, np.equal.outer(np.arange(40) < 20, np.arange(40) < 20)
    return float(cosines[same & ~np.eye(40, dtype=bool)].mean() - cosines[~same].mean())


def teach(service, n=60, domain="general"):
    for good, bad in zip(texts("works", 0, n), texts("fails", 200, n), strict=True):
        service.learn(run_now(service.generate(good, domain)), 0.9, True)
        service.learn(run_now(service.generate(bad, domain)), 0.1, False)


def test_without_feedback_it_is_the_encoder():
    service = AdaptiveEmbeddingService(Topical())
    rows = texts("works", 0, 3)
    np.testing.assert_array_equal(run_now(service.generate_many(rows)), run_now(Topical().encode(rows)))
    assert service.stats() == []


def test_outcomes_draw_what_works_apart_from_what_fails():
    service = AdaptiveEmbeddingService(Topical())
    before, apart = agreement(service), margin(service)
    teach(service)
    assert before < 0.85
    assert agreement(service) > before + 0.1
    assert margin(service) > 2 * apart
    assert np.linalg.norm(run_now(service.generate("works, 5"))) == pytest.approx(1, abs=1e-5)


def test_domains_do_not_touch_each_other():
    service = AdaptiveEmbeddingService(Topical())
    plain = run_now(service.generate("works, 1", "law"))
    teach(service, 10, "medicine")
    np.testing.assert_array_equal(run_now(service.generate("works, 1", "law")), plain)
    assert np.abs(run_now(service.generate("works, 1", "medicine")) - plain).max() > 1e-3
    assert [(one.domain, one.successes, one.failures) for one in service.stats()] == [("medicine", 10, 10)]


def test_one_outcome_alone_tells_nothing_apart():
    service = AdaptiveEmbeddingService(Topical())
    for text in texts("works", 0, 5):
        assert not service.learn(run_now(service.generate(text)), 1.0, True)
    assert service.stats()[0].strength == 0
    assert not service.learn(run_now(service.generate("fails, 9")), 1.0, False)  # the first of its kind
    assert service.learn(run_now(service.generate("fails, 8")), 0.0, False)
    assert not service.learn(run_now(service.generate("fails, 7")), 1.0, False)  # no failure at all, by its quality


def test_a_better_success_teaches_more():
    moved = []
    for quality in (0.2, 1.0):
        service = AdaptiveEmbeddingService(Topical())
        teach(service, 1)
        service.learn(run_now(service.generate("works, 50")), quality, True)
        moved.append(service.stats()[0].strength)
    assert moved[1] > 1.5 * moved[0] > 0


def test_an_embedding_is_learnt_as_it_was_before_adaptation():
    """Whether or not the domain has moved on since, and told or not."""
    service = AdaptiveEmbeddingService(Topical())
    teach(service, 10, "law")
    adapted = run_now(service.generate("works, 77", "law"))
    plain = run_now(Topical().encode(["works, 77"]))[0]
    assert np.abs(adapted - plain).max() > 1e-3
    service.learn(adapted, 1.0, True)
    np.testing.assert_array_equal(service._domains["law"].good[-1], plain)
    service.learn(plain, 1.0, True, "other")
    assert [one.domain for one in service.stats()] == ["law", "other"]


def test_preferences_bring_the_answer_to_the_front():
    service = AdaptiveEmbeddingService(Topical())
    memories = AXES[1:3]
    queries = [f"fails, style a, {i}" for i in range(60)]

    def first():
        return (run_now(service.generate_many(queries[40:])) @ memories.T).argmax(1)

    assert first().mean() > 0.8
    for query in queries[:40]:
        service.prefer(run_now(service.generate(query)), memories[0], memories[1:])
    assert first().mean() < 0.1


def test_what_was_learnt_is_kept_in_the_store(tmp_path):
    with closing(Store(tmp_path / "state.db")) as store:
        one = AdaptiveEmbeddingService(Topical(), store)
        teach(one, 60)
        teach(one, 3, "law")
        one.save()
    with closing(Store(tmp_path / "state.db")) as store:
        other = AdaptiveEmbeddingService(Topical(), store)
        assert other.stats() == one.stats()
        for service in (one, other):
            teach(service, 5)
        rows = texts("works", 300, 5)
        np.testing.assert_array_equal(run_now(other.generate_many(rows)), run_now(one.generate_many(rows)))
        wider = Topical()
        wider.dim = DIM + 1
        with pytest.raises(StoreError):
            AdaptiveEmbeddingService(wider, store)


def test_saving_without_a_store_does_nothing():
    service = AdaptiveEmbeddingService(Topical())
    teach(service, 2)
    service.save()


def test_unusable_input_is_refused():
    service = AdaptiveEmbeddingService(Topical(), rank=2)
    good = run_now(service.generate("works, 1"))
    for embedding in (good[:-1], good * np.nan, good * 0):
        with pytest.raises(InputError, match="vectors"):
            service.learn(embedding, 1.0, True)
    for quality in (-0.1, 1.1, np.nan):
        with pytest.raises(InputError, match="quality"):
            service.learn(good, quality, True)
    for domain in ("", "x" * 65):
        with pytest.raises(InputError, match="domain"):
            run_now(service.generate("works, 1", domain))
        with pytest.raises(InputError, match="domain"):
            service.learn(good, 1.0, True, domain)
    with pytest.raises(InputError, match="prefer"):
        service.prefer(good, good, good[None][:0])
    with pytest.raises(InputError, match="rank"):
        AdaptiveEmbeddingService(Topical(), rank=0)
    for i in range(64):
        service.learn(good, 1.0, True, f"d{i}")
    with pytest.raises(InputError, match="64 domains"):
        service.learn(good, 1.0, True, "one more")


def test_the_measurement_measures():
    speed = measure_lora(32)
    assert min(speed.update_us, speed.apply_us, speed.loss_us, speed.absorb_ms) > 0
    assert 0.005 < speed.moved < 1
