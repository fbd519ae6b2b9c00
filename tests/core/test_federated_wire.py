import contextlib
import io
import math
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruvllm.encoders.protocol import unit_rows
from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.learning.federated import (
    EphemeralAgent,
    FederatedCoordinator,
    FederatedManager,
    Privacy,
    SharedModel,
    Update,
)
from ruvllm.learning.federated.groups import delta_of, noise_for
from ruvllm.learning.federated.wire import group_arrays
from ruvllm.state.packing import json_array, pack

DIM = 8
ROUTES = ("north", "south")


def learner(name="a", routes=ROUTES, n=8, **options):
    agent = EphemeralAgent(name, DIM, **options)
    for place, route in enumerate(routes):
        noise = np.random.default_rng([place, len(name)]).standard_normal((n, DIM)) * 0.1
        for vector in unit_rows(np.eye(DIM)[place] + noise):
            agent.process_trajectory(vector, vector[::-1], model=route, words=["go", route])
    return agent


def update():
    return learner().export_state()


def header(**changes):
    groups = update().groups
    names = {"routes": list(ROUTES), "tags": [[] for _ in groups]}
    known = {"agent": "a", "serial": 1, "k": 5, "noise": None, "held_back": 0, "refused": 0, "names": names}
    return known | changes


def forged(head=None, version=1, **arrays):
    known = group_arrays(update().groups, DIM) | {"header": json_array(head or header())}
    return pack(known | arrays, "federated", version)


# the wire


def test_an_update_and_a_model_come_back_as_they_were():
    sent = update()
    assert Update.from_bytes(sent.to_bytes()).to_bytes() == sent.to_bytes()
    coordinator = FederatedCoordinator(DIM)
    coordinator.aggregate(sent.to_bytes())
    coordinator.consolidate()
    model = coordinator.model()
    found = SharedModel.from_bytes(model.to_bytes())
    np.testing.assert_array_equal(
        found.logits(np.eye(DIM, dtype=np.float32)[0], ["go"]), model.logits(np.eye(DIM, dtype=np.float32)[0], ["go"])
    )
    assert found.to_bytes() == model.to_bytes()
    assert found.find(np.eye(DIM, dtype=np.float32)[1], 1)[0][0].route == "south"


def test_the_forged_update_is_refused_for_what_is_forged():
    assert Update.from_bytes(forged()).routes == ROUTES


GROUPS = 2


@pytest.mark.parametrize(
    "arrays",
    [
        {"totals": np.full((GROUPS, DIM), np.nan, np.float32)},
        {"totals": np.full((GROUPS, DIM), 100, np.float32)},
        {"totals": np.zeros((GROUPS + 1, DIM), np.float32)},
        {"totals": np.zeros((GROUPS, DIM), np.float64)},
        {"counts": np.array([1.0, 8.0])},
        {"counts": np.array([1e12, 8.0])},
        {"counts": np.array([-8.0, 8.0])},
        {"quality": np.array([80.0, 8.0])},
        {"quality": np.array([-1.0, 8.0])},
        {"route": np.array([0, 2], np.int32)},
        {"route": np.array([-1, 0], np.int32)},
        {"ends": np.array([3, 1], np.int64)},
        {"ends": np.array([1, 2**62], np.int64)},
        {"uses": np.full(6, 9, np.int32)},
        {"terms": np.full(6, -1, np.int64)},
        {"terms": np.full(6, 1 << 32, np.int64)},
        {"down": np.zeros((DIM, 2), np.float32)},
        {"raw": np.zeros((GROUPS, DIM), np.float32)},
    ],
)
def test_arrays_that_cannot_be_are_refused(arrays):
    with pytest.raises(InputError):
        Update.from_bytes(forged(**arrays))


@pytest.mark.parametrize(
    "changes",
    [
        {"agent": ""},
        {"agent": 5},
        {"agent": "a" * 201},
        {"agent": "a\n"},
        {"serial": -1},
        {"serial": True},
        {"k": 1},
        {"k": 9},
        {"noise": [1, 1]},
        {"noise": [0, 1, 1]},
        {"noise": "much"},
        {"names": {"routes": ["north"], "tags": [[], []]}},
        {"names": {"routes": [["north"], "south"], "tags": [[], []]}},
        {"names": {"routes": ["north", "south"], "tags": [[]]}},
        {"names": {"routes": ["north", "south"], "tags": [["x"] * 33, []]}},
        {"names": None},
    ],
)
def test_headers_that_cannot_be_are_refused(changes):
    with pytest.raises(InputError):
        Update.from_bytes(forged(header(**changes)))


def test_other_versions_kinds_and_containers_are_refused():
    with pytest.raises(InputError, match="version"):
        Update.from_bytes(forged(version=2))
    with pytest.raises(InputError, match="version"):
        SharedModel.from_bytes(forged())
    file = io.BytesIO()
    np.savez_compressed(file, totals=np.zeros((1000, 1000)))
    pickled = io.BytesIO()
    np.savez(pickled, header=np.array([{}], object))
    with zipfile.ZipFile(empty := io.BytesIO(), "w"):
        pass
    for data in (b"", b"PK", file.getvalue(), pickled.getvalue(), empty.getvalue(), update().to_bytes()[:-40]):
        with pytest.raises(InputError):
            Update.from_bytes(data)


@given(st.integers(0, 20_000), st.binary(min_size=1, max_size=8))
def test_damage_is_an_error_of_ours_or_a_lesser_update(at, noise):
    data = bytearray(SENT)
    at %= len(data)
    data[at : at + len(noise)] = noise
    try:
        found = Update.from_bytes(bytes(data))
    except RuvllmError:
        return
    assert all(group.count >= 5 for group in found.groups)


SENT = update().to_bytes()


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("embedding", {"embedding": np.zeros(3)}),
        ("embedding", {"embedding": np.full(DIM, np.inf)}),
        ("activations", {"activations": np.ones(3)}),
        ("quality", {"quality": math.nan}),
        ("quality", {"quality": 2}),
        ("model", {"model": "x" * 500}),
        ("tag", {"tags": ["\0"]}),
    ],
)
def test_trajectories_that_cannot_be_are_refused(field, arguments):
    with pytest.raises(InputError) as caught:
        EphemeralAgent("a", DIM).process_trajectory(**({"embedding": np.ones(DIM)} | arguments))
    assert caught.value.field == field


def test_another_width_is_refused():
    with pytest.raises(InputError, match="dimensions"):
        FederatedCoordinator(DIM + 1).aggregate(update())
    with pytest.raises(InputError, match="dimensions"):
        FederatedManager(DIM + 1).register(learner())


def test_a_coordinator_goes_on_where_it_was():
    one, two = FederatedCoordinator(DIM), FederatedCoordinator(DIM)
    sent = update()
    one.aggregate(sent)
    data = one.to_bytes()
    two.load(data)
    assert two.stats() == one.stats()
    assert two.model().to_bytes() == one.model().to_bytes()
    assert two.aggregate(sent).again
    with pytest.raises(StoreError):
        FederatedCoordinator(DIM + 1).load(data)
    with pytest.raises(StoreError):
        two.load(sent.to_bytes())
    for start in range(0, len(data), 97):
        with contextlib.suppress(StoreError):
            two.load(data[:start] + b"\xff" + data[start + 1 :])
    assert two.model().routes == ROUTES


# privacy


def test_the_analytic_mechanism_gives_known_values():
    # For epsilon 0, delta is P(|N(0,1)| < 1/(2 ratio)); the classical bound needs more noise at epsilon 1.
    assert delta_of(0, 0.5) == pytest.approx(math.erf(1 / math.sqrt(2)), rel=1e-12)
    assert noise_for(1.0, 1e-5) == pytest.approx(3.730632, abs=1e-5)
    assert noise_for(1.0, 1e-5) < math.sqrt(2 * math.log(1.25e5))


@given(st.floats(0.05, 60), st.floats(1e-12, 0.05))
def test_noise_keeps_its_promise_and_no_more(epsilon, delta):
    ratio = noise_for(epsilon, delta)
    assert delta_of(epsilon, ratio) <= delta * (1 + 1e-6)
    assert delta_of(epsilon, ratio * 0.999) > delta
    assert delta_of(epsilon * 0.999, ratio) > delta


def noisy(seed, routes=ROUTES, n=60, epsilon=8.0, **options):
    agent = EphemeralAgent("a", DIM, privacy=Privacy(epsilon, 1e-5, seed=seed), routes=ROUTES, **options)
    for place, route in enumerate(routes):
        for vector in unit_rows(np.eye(DIM)[place] + np.random.default_rng(place).standard_normal((n, DIM)) * 0.1):
            agent.process_trajectory(vector, model=route, words=["go", route])
    return agent.export_state()


def test_noise_changes_what_travels_and_its_epsilon_is_reported():
    one, two = noisy(1), noisy(2)
    assert one.to_bytes() == noisy(1).to_bytes()
    assert not np.array_equal(one.groups[0].total, two.groups[0].total)
    assert all(not group.terms for group in one.groups)
    found = Update.from_bytes(one.to_bytes())
    assert found.noise is not None
    assert (found.noise.epsilon, found.noise.delta) == (8.0, 1e-5)
    assert delta_of(8.0, found.noise.sigma / math.sqrt(7)) == pytest.approx(1e-5, rel=1e-4)
    coordinator = FederatedCoordinator(DIM)
    coordinator.aggregate(found)
    assert coordinator.stats().epsilon == 8.0
    coordinator.consolidate()
    assert coordinator.model().route(np.eye(DIM, dtype=np.float32)[1])[0] == "south"
    coordinator.aggregate(learner("open").export_state())
    assert coordinator.stats().epsilon is None


def test_the_noise_is_as_large_as_promised():
    first = noisy(0, n=200)
    others = [noisy(seed, n=200) for seed in range(1, 20)]
    pairs = [pair for other in others for pair in zip(first.groups, other.groups, strict=True)]
    drawn = np.concatenate([one.total - two.total for one, two in pairs])
    assert drawn.std() == pytest.approx(first.noise.sigma * math.sqrt(2), rel=0.2)
    assert first.adapter is not None  # sent whether or not there was anything to learn


def test_how_often_a_private_agent_folds_changes_nothing():
    for one, two in zip(noisy(1, capacity=7).groups, noisy(1).groups, strict=True):
        np.testing.assert_allclose(one.total, two.total, rtol=1e-5)
        assert one.count == pytest.approx(two.count)


def test_a_private_route_is_held_back_by_its_noisy_count_alone():
    sent = [len(noisy(seed, routes=("north",), epsilon=2.0).groups) for seed in range(30)]
    assert set(sent) == {1, 2}  # noise lets some routes without a text pass: nobody can tell


def test_privacy_asks_for_the_routes_and_takes_no_other():
    with pytest.raises(InputError, match="without routes"):
        EphemeralAgent("a", DIM, privacy=Privacy())
    agent = EphemeralAgent("a", DIM, privacy=Privacy(), routes=["north"])
    with pytest.raises(InputError, match="not declared"):
        agent.process_trajectory(np.ones(DIM), model="west")
    with pytest.raises(InputError, match="epsilon"):
        Privacy(epsilon=0)


# topologies


def managed(topology, names="abcde"):
    manager = FederatedManager(DIM, topology)
    for place, name in enumerate(names):
        manager.register(learner(name, (f"route {place}", "south")))
    return manager


def test_a_ring_gives_every_learner_the_model_of_the_star():
    star, ring = managed("star"), managed("ring")
    hub, around = star.run_round(), ring.run_round()
    models = {learner.model.to_bytes() for learner in ring.learners.values()}
    assert models == {star.hub.model().to_bytes()}
    assert (hub.messages, around.messages) == (10, 20)
    assert hub.complete
    assert around.complete
    assert ring.coordinator("a") is not ring.coordinator("b")
    assert ring.hub.stats().updates == 0


def test_gossip_reaches_everybody_after_some_rounds():
    manager = managed("peer")
    rounds = [manager.run_round() for _ in range(6)]
    assert not rounds[0].complete
    routes = {learner.model.routes for learner in manager.learners.values()}
    assert len(routes) == 1
    assert rounds[0].sent_bytes > 0


def test_a_learner_that_comes_late_hears_it_all():
    manager = managed("ring", "abc")
    manager.run_round()
    late = EphemeralAgent("late", DIM)
    manager.register(late)
    manager.run_round()
    assert set(late.model.routes) == {"route 0", "route 1", "route 2", "south"}


def test_what_cannot_be_registered_is_refused():
    manager = managed("star", "a")
    with pytest.raises(InputError, match="is registered"):
        manager.register(learner("a"))
    with pytest.raises(InputError, match="topology"):
        FederatedManager(DIM, "tree")
    with pytest.raises(InputError, match="no learner"):
        FederatedManager(DIM).run_round()
