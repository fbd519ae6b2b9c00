from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruvllm.errors import InputError
from ruvllm.memory.graph import Graph, delta_of
from ruvllm.memory.records import Records
from ruvllm.memory.subgraph import EDGE_KINDS, Edge, Neighbour, Subgraph
from ruvllm.state.record import Memory
from ruvllm.state.store import Store


def graph_of(n: int, store: Store | None = None) -> Graph:
    """A graph over memories 1 to n without edges."""
    store = store or Store()
    Records(store).add([Memory(f"memory {i}") for i in range(n)], np.ones((n, 2), np.float32), "test")
    return Graph(store)


def edges_in(sub: Subgraph) -> set[tuple[int, int, str]]:
    ids = sub.ids
    rows = zip(ids[sub.sources].tolist(), ids[sub.targets].tolist(), sub.kinds.tolist(), strict=True)
    return {(source, target, EDGE_KINDS[kind]) for source, target, kind in rows}


def test_edges_are_seen_from_both_ends_heaviest_first():
    graph = graph_of(4)
    graph.link(1, 2, "Cites", 0.4)
    graph.link_all([Edge(3, 1, "Derived", 0.9), Edge(1, 4, "Cites", 0.4)])
    assert graph.neighbours([1]) == [
        Neighbour(1, 3, "Derived", 0.9, False),
        Neighbour(1, 2, "Cites", 0.4, True),
        Neighbour(1, 4, "Cites", 0.4, True),
    ]
    assert graph.neighbours([2, 1], ["Derived"]) == [Neighbour(1, 3, "Derived", 0.9, False)]
    assert graph.neighbours([1], most=1) == [Neighbour(1, 3, "Derived", 0.9, False)]


def test_linking_again_sets_the_weight_and_unlinking_removes():
    graph = graph_of(2)
    graph.link(1, 2, "Cites", 0.4)
    graph.link(1, 2, "Cites", 0.6)
    assert [edge.weight for edge in graph.neighbours([2])] == [0.6]
    assert graph.unlink(1, 2, "Cites")
    assert not graph.unlink(1, 2, "Cites")
    assert graph.neighbours([1]) == []


def test_ratings_strengthen_and_weaken_within_bounds():
    graph = graph_of(3)
    graph.link_all([Edge(1, 2, "Cites", 0.5), Edge(2, 3, "Cites", 0.95), Edge(1, 3, "Cites", 0.1)])
    graph.strengthen({(1, 2, "Cites"): delta_of(4), (2, 3, "Cites"): delta_of(5), (1, 3, "Cites"): delta_of(1)})
    weights = {(edge.node, edge.other): edge.weight for edge in graph.neighbours([1, 2]) if edge.outgoing}
    assert weights == pytest.approx({(1, 2): 0.6, (2, 3): 1.0, (1, 3): 0.0})
    assert delta_of(3) == 0


def test_a_change_with_an_unknown_edge_changes_nothing():
    graph = graph_of(3)
    graph.link(1, 2, "Cites", 0.5)
    with pytest.raises(InputError, match="no edge"):
        graph.strengthen({(1, 2, "Cites"): 0.1, (2, 1, "Cites"): 0.1})
    with pytest.raises(InputError, match="no memory 9"):
        graph.link_all([Edge(2, 3, "Cites"), Edge(1, 9, "Cites")])
    assert graph.neighbours([1, 2, 3], most=1) == [
        Neighbour(1, 2, "Cites", 0.5, True),
        Neighbour(2, 1, "Cites", 0.5, False),
    ]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda g: g.link(1, 1, "Cites"), "target"),
        (lambda g: g.link(1, 2, "Likes"), "kind"),
        (lambda g: g.link(1, 2, "Cites", 1.5), "weight"),
        (lambda g: g.link(1, 2, "Cites", float("nan")), "weight"),
        (lambda g: g.link(True, 2, "Cites"), "ids"),
        (lambda g: g.link(1, 2**63, "Cites"), "ids"),
        (lambda g: g.link("1", 2, "Cites"), "ids"),
        (lambda g: g.neighbours([7]), "ids"),
        (lambda g: g.neighbours([1], "Cites"), "kinds"),
        (lambda g: g.expand([1], kinds=["Likes"]), "kind"),
        (lambda g: g.expand([7]), "ids"),
        (lambda g: g.expand([1], hops=-1), "hops"),
        (lambda g: g.expand([1], hops=99), "hops"),
        (lambda g: g.expand([1], fan_out=0), "fan_out"),
        (lambda g: g.expand([1, 2], most=1), "most"),
        (lambda g: g.bind([1, 1]), "members"),
        (lambda g: g.bind([1, 7]), "ids"),
        (lambda g: g.bind([1, 2], metadata={"x": {1}}), "metadata"),
        (lambda g: delta_of(6), "rating"),
        (lambda g: Subgraph.of([1, 2], [Edge(1, 2, "Likes")]), "kind"),
    ],
)
def test_bad_input_names_its_field(call, field):
    with pytest.raises(InputError) as error:
        call(graph_of(2))
    assert error.value.field == field


def test_expansion_by_hops_survives_cycles():
    graph = graph_of(6)
    graph.link_all(Edge(i, i % 5 + 1, "Follows") for i in range(1, 6))  # a ring of five; 6 is alone
    assert graph.expand([1], hops=0).ids.tolist() == [1]
    assert graph.expand([1], hops=1).ids.tolist() == [1, 2, 5]
    ring = graph.expand([1], hops=8)
    assert dict(zip(ring.ids.tolist(), ring.hops.tolist(), strict=True)) == {1: 0, 2: 1, 5: 1, 3: 2, 4: 2}
    assert edges_in(ring) == {(i, i % 5 + 1, "Follows") for i in range(1, 6)}
    assert graph.expand([6, 6]).ids.tolist() == [6]
    assert len(graph.expand([])) == 0


def test_numpy_ids_are_ids():
    graph = graph_of(3)
    graph.link(np.int64(1), np.int32(2), "Cites")
    assert graph.expand(np.array([2, 3])).ids.tolist() == [2, 3, 1]


def test_expansion_is_bounded_and_keeps_the_heaviest_paths():
    graph = graph_of(40)
    graph.link_all(Edge(1, i, "Cites", i / 100) for i in range(2, 31))  # a hub
    graph.link_all([Edge(30, 31, "Cites", 1.0), Edge(2, 32, "Cites", 1.0)])
    assert graph.expand([1], hops=1, fan_out=3).ids.tolist() == [1, 30, 29, 28]
    assert graph.expand([1], hops=2, most=5, fan_out=3).ids.tolist() == [1, 30, 29, 28, 31]
    assert graph.expand([1], hops=1, most=4).ids.tolist() == [1, 30, 29, 28]
    assert graph.expand([1], hops=1, kinds=["Derived"]).ids.tolist() == [1]


def test_a_binding_brings_its_members_together():
    graph = graph_of(6)
    pair = graph.bind([5, 2], "Derived", 0.5)
    team = graph.bind([4, 1, 3], "SameTopic", 0.9, {"task": "release"})
    found = graph.bindings([3, 2])
    assert [(b.id, b.members, b.kind, b.weight, b.metadata) for b in found] == [
        (team, (1, 3, 4), "SameTopic", 0.9, {"task": "release"}),
        (pair, (2, 5), "Derived", 0.5, {}),
    ]
    assert graph.bindings([3], ["Derived"]) == []
    assert [b.id for b in graph.bindings([3, 2], most=1)] == [team]
    sub = graph.expand([3])
    assert sub.ids.tolist() == [3, 1, 4]
    assert edges_in(sub) == {(3, 1, "SameTopic"), (3, 4, "SameTopic")}
    assert graph.expand([3], fan_out=1).ids.tolist() == [3, 1]
    assert graph.unbind(team)
    assert graph.expand([3]).ids.tolist() == [3]


def test_what_is_forgotten_leaves_the_graph_and_what_is_archived_stays():
    graph = graph_of(4)
    graph.link_all([Edge(1, 2, "Contains"), Edge(1, 3, "Contains")])
    graph.bind([1, 2, 4])
    records = Records(graph.store)
    records.archive([3])
    records.remove([2])
    assert graph.expand([1]).ids.tolist() == [1, 3, 4]
    assert graph.bindings([4])[0].members == (1, 4)


def test_the_graph_is_there_after_reopening(tmp_path):
    graph = graph_of(3, Store(tmp_path / "state.db"))
    graph.link(1, 2, "Cites", 0.25)
    graph.bind([2, 3])
    before = graph.expand([1])
    graph.store.close()
    after = Graph(Store(tmp_path / "state.db")).expand([1])
    assert after.ids.tolist() == before.ids.tolist() == [1, 2, 3]
    assert after.weights.tolist() == before.weights.tolist()


EDGES = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from(EDGE_KINDS), st.integers(0, 4)), max_size=40
)


@settings(max_examples=30, deadline=None)
@given(EDGES, st.sets(st.integers(1, 12), min_size=1, max_size=3), st.integers(0, 4))
def test_unbounded_expansion_is_breadth_first_search(edges, seeds, hops):
    kept = {(s, t, kind): w / 4 for s, t, kind, w in edges if s != t}
    graph = graph_of(12)
    graph.link_all(Edge(*key, weight) for key, weight in kept.items())
    around = {i: {b for a, b, _ in kept if a == i} | {a for a, b, _ in kept if b == i} for i in range(1, 13)}
    distance, queue = dict.fromkeys(seeds, 0), deque(seeds)
    while queue:
        node = queue.popleft()
        for other in around[node] - distance.keys():
            if distance[node] < hops:
                distance[other] = distance[node] + 1
                queue.append(other)
    sub = graph.expand(sorted(seeds), hops, fan_out=100)
    assert dict(zip(sub.ids.tolist(), sub.hops.tolist(), strict=True)) == distance
    assert edges_in(sub) == {key for key in kept if key[0] in distance and key[1] in distance}


@settings(max_examples=30, deadline=None)
@given(EDGES, st.integers(1, 6), st.integers(1, 12), st.integers(1, 2))
def test_bounds_hold_and_do_not_depend_on_the_order_of_linking(edges, fan_out, most, hops):
    kept = {(s, t, kind): w / 4 for s, t, kind, w in edges if s != t}
    one, other = graph_of(12), graph_of(12)
    one.link_all(Edge(*key, weight) for key, weight in kept.items())
    other.link_all(Edge(*key, weight) for key, weight in reversed(kept.items()))
    first, second = (g.expand([1], hops, fan_out=fan_out, most=most) for g in (one, other))
    assert len(first) <= min(most, 1 + fan_out + fan_out**2)
    assert len(edges_in(first)) == len(first.kinds) <= len(first) * fan_out
    for name in ("ids", "hops", "sources", "targets", "kinds", "weights"):
        assert getattr(first, name).tolist() == getattr(second, name).tolist()


def test_an_edge_of_an_unknown_kind_in_the_file_is_passed_over():
    graph = graph_of(3)
    graph.link(1, 2, "Cites")
    with graph.store.write() as db:
        db.execute("INSERT INTO edges VALUES (1, 3, 'Gossip', 0.9)")
    found = graph.expand([1])
    assert (found.ids.tolist(), edges_in(found)) == ([1, 2], {(1, 2, "Cites")})


def test_what_grew_is_the_same_with_and_without_arrays():
    graph = graph_of(6)
    graph.link_all([Edge(1, 2, "Cites", 0.4), Edge(3, 1, "Derived", 0.9), Edge(2, 5, "Cites", 0.2)])
    graph.bind([3, 4, 6], weight=0.5)
    grown, arrays = graph.grow([1], most=5), graph.expand([1], most=5)
    assert list(grown.hops.items()) == list(zip(arrays.ids.tolist(), arrays.hops.tolist(), strict=True))
    assert {edge[:3] for edge in grown.edges()} == edges_in(arrays)
