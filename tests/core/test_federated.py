import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruvllm.encoders.protocol import unit_rows
from ruvllm.learning.federated import (
    EphemeralAgent,
    FederatedCoordinator,
    FederatedManager,
)
from ruvllm.learning.federated.coordinator import merged_adapter
from ruvllm.learning.federated.groups import Group, merge_closest, microaggregate
from ruvllm.learning.lora import LowRank
from ruvllm_bench.learn.federated import measure_federated, traces

DIM = 24


def topic(number):
    return unit_rows(np.random.default_rng(1000 + number).standard_normal((1, DIM)))[0]


def texts_of(number, n, seed=0):
    noise = np.random.default_rng([seed, number]).standard_normal((n, DIM)) * 0.15
    return unit_rows(topic(number) + noise)


def learner(name, topics, n=12, **options):
    agent = EphemeralAgent(name, DIM, **options)
    for number in topics:
        for i, vector in enumerate(texts_of(number, n)):
            agent.process_trajectory(vector, model=f"route {number}", words=["word", f"topic{number}", f"{name}{i}"])
    return agent


def model_of(*updates, **options):
    coordinator = FederatedCoordinator(DIM, **options)
    for update in updates:
        coordinator.aggregate(update)
    coordinator.consolidate()
    return coordinator.model()


def accuracy(model, topics):
    hits = [model.route(v)[0] == f"route {number}" for number in topics for v in texts_of(number, 20, seed=1)]
    return float(np.mean(hits))


def same(one, two):
    assert one.to_bytes() == two.to_bytes()


# learning together


def test_two_learners_that_never_met_know_together_what_each_knew_alone():
    left, right = (learner(name, topics).export_state() for name, topics in (("a", (0, 1)), ("b", (2, 3))))
    together = accuracy(model_of(left, right), range(4))
    assert together > 0.95
    for alone in (left, right):
        assert accuracy(model_of(alone), range(4)) <= 0.5


def test_words_tell_apart_what_vectors_do_not():
    agents = []
    for name in ("mail", "code"):
        agent = EphemeralAgent(name, DIM)
        for vector in texts_of(0, 10):
            agent.process_trajectory(vector, model=name, words=["open", "the", name])
        agents.append(agent.export_state())
    model = model_of(*agents)
    assert [model.route(topic(0), ["open", "the", name])[0] for name in ("mail", "code")] == ["mail", "code"]


def test_the_order_of_updates_does_not_matter():
    updates = [learner(name, (i,)).export_state() for i, name in enumerate("abc")]
    same(model_of(*updates), model_of(*updates[::-1]))


def test_disjoint_clients_come_close_to_training_in_one_place():
    sets = []
    for seed, n in ((0, 15), (1, 10)):
        vectors = np.concatenate([texts_of(number, n, seed) for number in range(8)])
        routes = [f"route {number}" for number in range(8) for _ in range(n)]
        texts = [f"please look after matter {number} for case {i}" for number in range(8) for i in range(n)]
        sets.append((texts, vectors, routes))
    result = measure_federated(*sets, clients=4)
    assert result.central is not None
    assert result.shared >= result.central - 0.02
    assert result.alone <= 0.25 + 0.01
    assert (result.texts_found, result.vectors_found) == (0, 0)


# what travels


def test_no_text_word_or_vector_of_one_prompt_is_in_what_travels():
    agent = EphemeralAgent("a", DIM)
    texts = [f"transfer the sum of {i} to account secret{i}x" for i in range(23)]
    vectors = texts_of(0, 23)
    for text, vector in zip(texts, vectors, strict=True):
        agent.process_trajectory(vector, model="bank", words=text.split(), tags=["money", text[:40]])
    update = agent.export_state()
    sent = update.to_bytes()
    assert traces(texts, vectors, sent) == (0, 0)
    assert b"secret" not in sent
    assert b"money" in sent
    assert sum(group.count for group in update.groups) == 23
    for group in update.groups:
        assert group.count >= 5
        uses = list(group.terms.values())
        # "transfer", "the", "sum", "of", "to", "account" and the pairs of them: none that one text alone had.
        assert set(uses) == {group.count}
        assert len(uses) == 10


def test_the_search_for_traces_finds_them():
    vectors = texts_of(0, 5)
    agent = EphemeralAgent("please call my sister", DIM)
    for _ in range(5):
        agent.process_trajectory(vectors[0], model="r")
    assert traces(["Please call my sister"], vectors[:1], agent.export_state().to_bytes()) == (1, 1)


def test_routes_with_few_texts_wait_for_more():
    agent = learner("a", (0,), n=4)
    first = agent.export_state()
    assert (first.groups, first.held_back) == ((), 4)
    agent.process_trajectory(topic(0), model="route 0")
    assert agent.export_state().texts == 5


def test_a_text_travels_once_so_that_two_exports_do_not_differ_by_one():
    agent = learner("a", (0,), n=10)
    assert agent.export_state().texts == 10
    agent.process_trajectory(topic(0), model="route 0")
    second = agent.export_state()
    assert (second.groups, second.held_back, second.serial) == ((), 1, 2)


def test_an_adapter_that_few_texts_taught_stays():
    agent = EphemeralAgent("a", DIM)
    for taught in range(1, 6):
        agent.process_trajectory(texts_of(0, 5)[taught - 1], topic(1))
        update = agent.export_state()
        assert (update.adapter is None) == (taught < 5)
    assert update.adapter.updates == 5
    assert agent.adapter.updates == 0


def test_a_full_agent_folds_its_texts_and_forgets_them():
    agent = learner("a", (0,), n=40, capacity=20, clusters=3)
    assert agent.waiting == 0
    update = agent.export_state()
    assert (update.texts, len(update.groups)) == (40, 3)
    rare = learner("b", range(9), n=1, capacity=5)
    assert rare.waiting <= 5


@given(st.integers(2, 6), st.integers(0, 40))
def test_groups_are_a_partition_into_k_to_2k(k, more):
    vectors = unit_rows(np.random.default_rng(k * 100 + more).standard_normal((k + more, 4)))
    rows = microaggregate(vectors, k)
    assert sorted(np.concatenate(rows).tolist()) == list(range(k + more))
    assert all(k <= len(some) < 2 * k for some in rows)


def test_merging_keeps_every_sum_and_joins_what_is_close():
    vectors = np.repeat(np.eye(3, dtype=np.float32), 400, axis=0)
    groups = [Group("r", vector * 5, 5.0, 4.0, {1: 5, i: 5}) for i, vector in enumerate(vectors, 10)]
    merged = merge_closest(groups, 3)
    assert sorted(np.round(group.mean, 5).tolist() for group in merged) == np.eye(3)[::-1].tolist()
    assert sum(group.count for group in merged) == 6000
    assert sum(group.terms[1] for group in merged) == 6000
    assert sum(len(group.terms) for group in merged) == 1203


# the coordinator


def test_the_coordinator_consolidates_at_the_fiftieth_agent():
    coordinator = FederatedCoordinator(DIM)
    updates = [learner(f"agent-{i}", (i % 3,), n=5).export_state() for i in range(50)]
    assert not any(coordinator.aggregate(update).consolidated for update in updates[:49])
    assert not coordinator.auto_consolidate()
    assert coordinator.aggregate(updates[49]).consolidated
    stats = coordinator.stats()
    assert (stats.agents, stats.consolidations, stats.pending, stats.texts) == (50, 1, 0, 250)


def test_poor_trajectories_and_groups_are_refused():
    agent = EphemeralAgent("a", DIM, quality=0.0)
    careful = EphemeralAgent.default_federated("b", DIM)
    for quality in (0.3, 0.9):
        for vector in texts_of(0, 6):
            agent.process_trajectory(vector, quality=quality, model=f"route {quality}")
            careful.process_trajectory(vector, quality=quality, model=f"route {quality}")
    accepted = FederatedCoordinator(DIM).aggregate(agent.export_state())
    assert (accepted.groups, accepted.texts, accepted.refused) == (1, 6, 1)
    update = careful.export_state()
    assert (update.routes, update.refused) == (("route 0.9",), 6)


def test_the_same_update_counts_once_and_old_texts_give_way():
    coordinator = FederatedCoordinator(DIM, capacity=20)
    update = learner("a", (0,)).export_state()
    assert not coordinator.aggregate(update).again
    assert coordinator.aggregate(update.to_bytes()).again
    coordinator.consolidate()
    assert coordinator.stats().texts == 12
    for name in "bcd":
        coordinator.aggregate(learner(name, (1,)).export_state())
        coordinator.consolidate()
        assert coordinator.stats().texts <= 20
    assert coordinator.model().routes == ("route 0", "route 1")


def test_a_client_that_mislabels_a_route_is_not_believed():
    honest = [learner(name, (0, 1)).export_state() for name in "abcd"]
    liar = EphemeralAgent("liar", DIM)
    for vector in texts_of(1, 200):
        liar.process_trajectory(vector, model="route 0")
    poison = liar.export_state()
    coordinator = FederatedCoordinator(DIM)
    for update in (*honest, poison):
        coordinator.aggregate(update)
    coordinator.consolidate()
    assert coordinator.stats().outliers == 1
    assert accuracy(coordinator.model(), (0, 1)) > 0.95


def test_only_allowed_routes_are_learnt():
    update = learner("a", (0, 1)).export_state()
    assert model_of(update, routes=["route 1"]).routes == ("route 1",)


# adapters


def nudged(seed, size=0.3):
    adapter = LowRank(DIM, 2, seed=0)
    adapter.up[:] = np.random.default_rng(seed).standard_normal((2, DIM)).astype(np.float32) * size / DIM
    adapter.updates = 1
    return adapter


def full(adapter):
    return adapter.scale * (adapter.down @ adapter.up)


@pytest.mark.parametrize("how", ["trimmed", "median"])
def test_a_poisoned_adapter_is_bounded(how):
    honest = [nudged(i) for i in range(6)]
    poison = nudged(99, size=500.0)
    clean = full(merged_adapter(honest, [1] * 6, how, DIM, 1e9))
    robust = full(merged_adapter([*honest, poison], [1] * 6 + [1e6], how, DIM, 1e9))
    naive = full(merged_adapter([*honest, poison], [1] * 6 + [1e6], "mean", DIM, 1e9))
    spread = max(float(np.linalg.norm(full(one) - clean)) for one in honest)
    assert np.linalg.norm(robust - clean) < spread
    assert np.linalg.norm(naive - clean) > 100 * spread
    assert merged_adapter([poison], [1], "mean", 4, 1.0).strength < 1.01


def test_the_trimmed_mean_of_equal_adapters_is_that_adapter():
    one = nudged(3)
    np.testing.assert_allclose(full(merged_adapter([one] * 5, [1] * 5, "trimmed", 4, 1e9)), full(one), atol=1e-6)


def test_what_agents_learnt_of_answers_reaches_one_that_never_saw_them():
    queries, answer = texts_of(0, 30), topic(1)
    manager = FederatedManager(DIM)
    for name in "abc":
        agent = EphemeralAgent(name, DIM)
        for x in queries:
            agent.process_trajectory(x, answer, quality=1.0, model="r" if name == "a" else "")
        manager.register(agent)
    new = EphemeralAgent("new", DIM)
    manager.register(new)
    before = float(new.adapt(topic(0)) @ answer)
    manager.run_round()
    assert float(new.adapt(topic(0)) @ answer) > before + 0.05


def test_bad_answers_push_away():
    agent = EphemeralAgent("a", DIM)
    x, answer = topic(0), unit_rows((topic(0) + topic(1))[None])[0]
    for _ in range(20):
        agent.process_trajectory(x, answer, quality=0.0)
    assert float(agent.adapt(x) @ answer) < float(x @ answer) - 0.02
