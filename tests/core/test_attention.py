import math

import numpy as np
import pytest

from ruvllm.errors import InputError, StoreError
from ruvllm.memory.attention import GraphAttention
from ruvllm.memory.attention.layer import QUERY, links_of, mass_of, scaled, unpack
from ruvllm.memory.attention.training import save_attention
from ruvllm.memory.subgraph import EDGE_KINDS, Edge, Subgraph
from ruvllm.state.store import Store


def load_attention(store: Store, dim: int, heads: int) -> GraphAttention:
    """The layer in the state file, or one that changes nothing."""
    data = store.load("attention")
    return GraphAttention(dim, heads, weights=None if data is None else unpack(data, dim, heads))


def random_graph(n: int, edges: int, seed: int = 0) -> Subgraph:
    random = np.random.default_rng(seed)
    pairs = random.integers(1, n + 1, (edges, 2)).tolist()
    return Subgraph.of(
        range(1, n + 1),
        [Edge(a, b, EDGE_KINDS[random.integers(6)], float(random.random())) for a, b in pairs if a != b],
    )


def rows(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def learnt(dim: int, heads: int, *, rounds: int = 1, seed: int = 5, dtype=np.float64) -> GraphAttention:
    """A layer with every weight moved."""
    random = np.random.default_rng(seed)
    layer = GraphAttention(dim, heads, rounds=rounds)
    for name, value in layer.weights.items():
        layer.weights[name] = (value + 0.3 * random.normal(size=value.shape)).astype(dtype)
    return GraphAttention(dim, heads, rounds=rounds, weights=layer.weights)


def by_hand(layer: GraphAttention, asking, memory, entries, gate: int) -> list[list[float]]:
    """One update written from the definitions, number by number.

    Args:
        entries: for each row asking, (row of memory, factor in the softmax by head), one for each edge.
    """
    w, dim, width = layer.weights, layer.dim, layer.dim // layer.heads

    def times(x, name):
        return [math.fsum(x[i] * float(w[name][i, j]) for i in range(dim)) for j in range(dim)]

    out = []
    for x, seen in zip(asking, entries, strict=True):
        query, context = times(x, "query"), []
        for head in range(layer.heads):
            part = range(head * width, (head + 1) * width)
            terms = []
            for row, factor in seen:
                key = times(memory[row], "key")
                dot = math.fsum(query[i] * key[i] for i in part)
                logit = dot / math.sqrt(width) / math.exp(w["log_temperature"][head])
                terms.append(factor[head] * math.exp(logit))
            total = math.fsum(terms)
            values = [times(memory[row], "value") for row, _ in seen]
            context += [math.fsum(t / total * v[i] for t, v in zip(terms, values, strict=True)) for i in part]
        added = [a + b for a, b in zip(x, times(context, "out"), strict=True)]
        mean = math.fsum(added) / dim
        spread = math.sqrt(math.fsum((a - mean) ** 2 for a in added) / dim + 1e-5)
        normal = [(a - mean) / spread * g + s for a, g, s in zip(added, w["gain"], w["shift"], strict=True)]
        moved = [a + float(w["gates"][gate]) * (b - a) for a, b in zip(x, normal, strict=True)]
        length = math.sqrt(math.fsum(a * a for a in moved))
        out.append([a / length for a in moved])
    return out


def bounded(bias: float) -> float:
    return 30 * math.tanh(bias / 30)


@pytest.mark.parametrize(("dim", "heads"), [(8, 2), (12, 3)])
def test_a_round_is_what_the_definitions_say(dim, heads):
    layer, graph, vectors = learnt(dim, heads), random_graph(5, 14), rows(5, dim)
    w = layer.weights
    entries = [[(row, [math.exp(bounded(own)) for own in w["own"]])] for row in range(5)]
    for s, t, kind, weight in zip(graph.sources, graph.targets, graph.kinds, graph.weights, strict=True):
        for way, (receiver, sender) in enumerate([(s, t), (t, s)]):
            bias = [bounded(float(w["edges"][kind] @ w["edge_heads"][way, :, h])) for h in range(heads)]
            entries[receiver].append((sender, [math.exp(b) * float(weight) for b in bias]))
    x = [[math.sqrt(dim) * float(v) / float(np.linalg.norm(row)) for v in row] for row in vectors.astype(float)]
    np.testing.assert_allclose(layer.message_pass(graph, vectors), by_hand(layer, x, x, entries, 0), atol=1e-12)


def test_the_query_attends_to_the_memory_as_defined():
    layer, memory, query = learnt(8, 2), rows(7, 8), rows(2, 8, 1)
    x, m = ([[math.sqrt(8) * v / np.linalg.norm(r) for v in r] for r in part.astype(float)] for part in (query, memory))
    everything = [[(row, [1.0, 1.0]) for row in range(7)]] * 2
    np.testing.assert_allclose(layer.cross_attend(query, memory), by_hand(layer, x, m, everything, QUERY), atol=1e-12)
    np.testing.assert_allclose(layer.cross_attend(query[1], memory), layer.cross_attend(query, memory)[1], atol=1e-14)


@pytest.mark.parametrize("dim", [256, 384])
def test_untrained_the_ranking_is_that_of_the_cosine(dim):
    query, vectors = rows(1, dim, 3)[0], rows(64, dim)
    layer = GraphAttention(dim)
    cosine = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)) @ (query / np.linalg.norm(query))
    scores = layer.rank(query, vectors, random_graph(64, 200))
    assert not layer.weights["gates"].any()
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, cosine, atol=1e-6)
    assert np.argsort(-scores).tolist() == np.argsort(-cosine).tolist()


@pytest.mark.parametrize("block", [1, 7, 64, 1_000])
def test_blocks_do_not_change_the_result(block):
    memory, query = 50 * rows(200, 32), rows(3, 32, 1)
    wide = learnt(32, 4)
    wide.weights["log_temperature"] -= 4  # so sharp that a softmax without its maximum taken out would overflow
    np.testing.assert_allclose(
        wide.cross_attend(query, memory, block=block), wide.cross_attend(query, memory), atol=1e-12
    )


def test_receivers_in_blocks_give_the_same_masses():
    layer, graph = learnt(16, 4), random_graph(20, 60)
    links = links_of(graph)
    whole = mass_of(layer.weights, links, 20)
    parts = [mass_of(layer.weights, links, 20, start, min(start + 6, 20)) for start in range(0, 20, 6)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_message_passing_in_blocks(monkeypatch):
    layer, graph, vectors = learnt(16, 4, rounds=2), random_graph(20, 60), rows(20, 16)
    whole = layer.message_pass(graph, vectors)
    monkeypatch.setattr("ruvllm.memory.attention._MOST_SHARES", 4 * 20 * 3)
    np.testing.assert_allclose(layer.message_pass(graph, vectors), whole, atol=1e-13)


def test_rounds_carry_news_so_many_edges_away():
    chain = Subgraph.of([1, 2, 3, 4], [Edge(1, 2, "Follows"), Edge(2, 3, "Follows"), Edge(3, 4, "Follows", 0.0)])
    layer, vectors = learnt(16, 4), rows(4, 16)
    other = vectors.copy()
    other[[2, 3]] = rows(2, 16, 9)
    near, far = (layer.message_pass(chain, vectors, n) - layer.message_pass(chain, other, n) for n in (1, 2))
    assert np.abs(near[0]).max() == 0
    assert np.abs(near[1]).max() > 1e-6
    assert np.abs(far[0]).max() > 1e-6
    alone = layer.message_pass(Subgraph.of([4]), vectors[3:])
    np.testing.assert_allclose(
        layer.message_pass(chain, vectors, 2)[3:], layer.message_pass(Subgraph.of([4]), alone, 1)
    )


def test_a_summary_says_where_the_answer_comes_from():
    graph, vectors, query = random_graph(9, 20), rows(9, 16), rows(1, 16, 2)[0]
    summary = learnt(16, 4).summary(query, vectors, graph)
    shares = np.array([share for _, share in summary.ranked])
    assert sorted(i for i, _ in summary.ranked) == graph.ids.tolist()
    assert (np.diff(shares) <= 0).all()
    assert shares.sum() == pytest.approx(1)
    assert summary.mean == pytest.approx(1 / 9)
    assert summary.entropy == pytest.approx(-(shares * np.log(shares)).sum())
    assert summary.gini == pytest.approx(np.abs(shares[:, None] - shares).sum() / (2 * 9 * shares.sum()))
    assert set(summary.influence) == {*EDGE_KINDS, "Self"}
    assert sum(summary.influence.values()) == pytest.approx(1)
    alone = GraphAttention(16, 4).summary(query, vectors[:1], Subgraph.of([7]))
    assert alone.ranked == ((7, pytest.approx(1)),)
    assert alone.influence["Self"] == pytest.approx(1)
    assert (alone.entropy, alone.gini) == (pytest.approx(0), pytest.approx(0))


def test_a_kind_preferred_has_more_influence():
    graph = Subgraph.of([1, 2, 3], [Edge(1, 2, "Cites"), Edge(1, 3, "Derived")])
    layer = GraphAttention(16, 4)
    before = layer.summary(rows(1, 16, 1)[0], rows(3, 16), graph).influence
    layer.weights["edge_heads"][:, EDGE_KINDS.index("Cites")] = 3
    after = layer.summary(rows(1, 16, 1)[0], rows(3, 16), graph).influence
    assert after["Cites"] > 2 * before["Cites"]
    assert after["Derived"] < before["Derived"]


def test_empty_and_zero():
    layer = learnt(8, 2, dtype=np.float32)
    assert layer.rank(rows(1, 8)[0], np.empty((0, 8)), Subgraph.of([])).shape == (0,)
    np.testing.assert_allclose(np.linalg.norm(layer.cross_attend(rows(1, 8)[0], np.empty((0, 8)))), 1, rtol=1e-6)
    assert np.isfinite(layer.rank(np.zeros(8), np.zeros((3, 8)), Subgraph.of([1, 2, 3]))).all()
    assert (scaled(np.zeros((2, 4))) == 0).all()


def test_a_bias_pushed_far_stays_a_number():
    layer = learnt(16, 4, dtype=np.float32)
    for extreme in (-500, 500):
        layer.weights["own"][:] = extreme
        layer.weights["edge_heads"][:] = extreme
        assert np.isfinite(layer.rank(rows(1, 16)[0], rows(6, 16), random_graph(6, 12))).all()


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: GraphAttention(100, 8), "dim"),
        (lambda: GraphAttention(0), "dim"),
        (lambda: GraphAttention(64, 0), "dim"),
        (lambda: GraphAttention(64, temperature=0), "temperature"),
        (lambda: GraphAttention(64, rounds=-1), "rounds"),
        (lambda: GraphAttention(64, weights=GraphAttention(32).weights), "weights"),
        (lambda: GraphAttention(8).message_pass(Subgraph.of([1, 2]), rows(3, 8)), "vectors"),
        (lambda: GraphAttention(8).message_pass(Subgraph.of([1]), np.full((1, 8), np.nan)), "vectors"),
        (lambda: GraphAttention(8).cross_attend(rows(1, 7)[0], rows(3, 8)), "query"),
        (lambda: GraphAttention(8).cross_attend(rows(1, 8)[0], rows(3, 7)), "memory"),
        (lambda: GraphAttention(8).cross_attend(rows(1, 8)[0], rows(3, 8), block=0), "block"),
        (lambda: GraphAttention(8).rank(rows(2, 8), rows(3, 8), Subgraph.of([1, 2, 3])), "query"),
        (lambda: GraphAttention(8).summary(rows(1, 8)[0], np.empty((0, 8)), Subgraph.of([])), "graph"),
    ],
)
def test_bad_input_names_its_field(call, field):
    with pytest.raises(InputError) as error:
        call()
    assert error.value.field == field


def test_what_was_learnt_is_kept_in_the_state_file(tmp_path):
    layer = learnt(16, 4, dtype=np.float32)
    store = Store(tmp_path / "state.db")
    assert not load_attention(store, 16, 4).weights["gates"].any()
    save_attention(store, layer)
    store.close()
    again = load_attention(Store(tmp_path / "state.db"), 16, 4)
    query, vectors, graph = rows(1, 16, 1)[0], rows(6, 16), random_graph(6, 12)
    np.testing.assert_array_equal(again.rank(query, vectors, graph), layer.rank(query, vectors, graph))


@pytest.mark.parametrize("data", [b"", b"no weights", b"PK\x03\x04 broken"])
def test_damaged_weights_are_refused(data):
    store = Store()
    store.put("attention", data)
    with pytest.raises(StoreError, match="damaged"):
        load_attention(store, 16, 4)


def test_weights_of_another_layer_are_refused():
    store = Store()
    save_attention(store, learnt(16, 4))
    with pytest.raises(StoreError, match="8 heads"):
        load_attention(store, 16, 8)
    layer = learnt(16, 4)
    layer.weights["gain"][3] = np.inf
    save_attention(store, layer)
    with pytest.raises(StoreError, match="finite"):
        load_attention(store, 16, 4)
