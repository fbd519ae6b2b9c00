"""Graph attention against torch, where torch is installed (`pip install torch`): values, gradients, the optimiser."""

import numpy as np
import pytest

from ruvllm.memory.attention import GraphAttention
from ruvllm.memory.attention.layer import attend, links_of, mass_of, scaled
from ruvllm.memory.attention.training import AdamW, loss_of
from ruvllm_bench.memory.attention import make_examples

torch = pytest.importorskip("torch")
F = torch.nn.functional
HEADS = 8


def learnt(dim: int, dtype=np.float32) -> dict:
    random = np.random.default_rng(0)
    fresh = GraphAttention(dim, HEADS).weights
    size = {name: 0.3 if value.shape != (dim, dim) else 1 / np.sqrt(dim) for name, value in fresh.items()}
    return {name: (value + size[name] * random.normal(size=value.shape)).astype(dtype) for name, value in fresh.items()}


def parts(dim: int, dtype=np.float32):
    """Weights, rows (64, dim) with a root mean square of one, the graph's masses, an example."""
    weights, example = learnt(dim, dtype), make_examples(1, dim)[0]
    mass = mass_of(weights, links_of(example.graph), 64)
    return weights, scaled(example.vectors.astype(dtype)), mass, example


def tensors(weights: dict) -> dict:
    return {name: torch.tensor(value) for name, value in weights.items()}


@pytest.mark.parametrize("dim", [256, 384])
def test_attention_is_scaled_dot_product_attention(dim):
    weights, x, mass, _ = parts(dim)
    _, kept = attend(weights, x, x, mass, 0)
    queries, keys, values = (
        torch.tensor(np.ascontiguousarray(part)) for part in (kept.queries, kept.keys, kept.values)
    )
    sharp = torch.tensor(np.exp(-weights["log_temperature"]))[:, None, None]
    masked = torch.tensor(mass).log()  # -inf where there is no edge
    context = F.scaled_dot_product_attention(queries * sharp, keys, values, attn_mask=masked)
    np.testing.assert_allclose(kept.context, context.transpose(0, 1).reshape(64, dim).numpy(), atol=1e-5)


@pytest.mark.parametrize("dim", [256, 384])
def test_a_round_is_multi_head_attention_forward_and_layer_norm(dim):
    weights, x, mass, example = parts(dim)
    weights["log_temperature"][:] = 0  # torch has none
    w, rows = tensors(weights), torch.tensor(x)
    attended, shares = F.multi_head_attention_forward(
        rows[:, None],
        rows[:, None],
        rows[:, None],
        dim,
        HEADS,
        torch.cat([w["query"].T, w["key"].T, w["value"].T]),
        None,
        None,
        None,
        False,
        0.0,
        w["out"].T,
        None,
        attn_mask=torch.tensor(mass).log(),
        average_attn_weights=False,
    )
    result = F.layer_norm(rows + attended[:, 0], (dim,), w["gain"], w["shift"])
    _, kept = attend(weights, x, x, mass, 0)
    np.testing.assert_allclose(kept.shares, shares[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(kept.change + x, result.numpy(), atol=1e-5)
    expected = F.normalize(rows + w["gates"][0] * (result - rows)).numpy()
    layer = GraphAttention(dim, HEADS, weights=weights)
    np.testing.assert_allclose(layer.message_pass(example.graph, example.vectors), expected, atol=1e-5)


@pytest.mark.parametrize("block", [7, 4_096])
def test_cross_attention_is_multi_head_attention_forward(block):
    dim = 256
    weights, x, _, example = parts(dim)
    weights["log_temperature"][:] = 0
    w, memory = tensors(weights), torch.tensor(x)
    query = torch.tensor(scaled(example.query[None]))
    joined = torch.cat([w["query"].T, w["key"].T, w["value"].T])
    attended, _ = F.multi_head_attention_forward(
        query[:, None],
        memory[:, None],
        memory[:, None],
        dim,
        HEADS,
        joined,
        None,
        None,
        None,
        False,
        0.0,
        w["out"].T,
        None,
    )
    result = F.layer_norm(query + attended[:, 0], (dim,), w["gain"], w["shift"])
    expected = F.normalize(query + w["gates"][1] * (result - query))[0].numpy()
    layer = GraphAttention(dim, HEADS, weights=weights)
    np.testing.assert_allclose(layer.cross_attend(example.query, example.vectors, block=block), expected, atol=1e-5)


def torch_loss(w: dict, example, rounds: int):
    """The loss with torch's own operations, for its automatic gradients."""

    def unit(x):
        return F.normalize(x) * np.sqrt(x.shape[1])

    def attended(asking, memory, mask, gate):
        q, k, v = (
            (rows @ w[name]).reshape(len(rows), HEADS, -1).transpose(0, 1)
            for rows, name in ((asking, "query"), (memory, "key"), (memory, "value"))
        )
        context = F.scaled_dot_product_attention(q * torch.exp(-w["log_temperature"])[:, None, None], k, v, mask)
        added = asking + context.transpose(0, 1).reshape(len(asking), -1) @ w["out"]
        return unit(asking + w["gates"][gate] * (F.layer_norm(added, added.shape[1:], w["gain"], w["shift"]) - asking))

    x, graph, n = unit(torch.tensor(example.vectors).double()), example.graph, len(example.graph)
    bias = 30 * torch.tanh(torch.einsum("ke,weh->wkh", w["edges"], w["edge_heads"]) / 30)
    links = links_of(graph)
    each = bias[torch.tensor(links.ways), torch.tensor(links.kinds)].exp() * torch.tensor(links.weights)[:, None]
    where = torch.tensor(links.receivers), torch.tensor(links.senders)
    mass = torch.zeros(n, n, HEADS, dtype=torch.float64).index_put(where, each.double(), accumulate=True)
    mass = mass + torch.eye(n)[:, :, None] * torch.exp(30 * torch.tanh(w["own"] / 30))
    mask = torch.where(mass > 0, mass, 1).log().masked_fill(mass <= 0, -torch.inf).permute(2, 0, 1)
    for _ in range(rounds):
        x = attended(x, x, mask, 0)
    query = attended(unit(torch.tensor(example.query)[None].double()), x, None, 1)
    target = torch.tensor(example.relevance / example.relevance.sum()).double()
    return F.cross_entropy(20 / x.shape[1] * (x @ query[0])[None], target[None])


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_gradients_are_those_of_torch(rounds):
    weights, _, _, example = parts(64, np.float64)
    grads = {name: np.zeros_like(value) for name, value in weights.items()}
    w = {name: value.requires_grad_() for name, value in tensors(weights).items()}
    loss = torch_loss(w, example, rounds)
    loss.backward()
    assert loss_of(weights, example, rounds, grads) == pytest.approx(loss.item(), rel=1e-9)
    for name, grad in grads.items():
        theirs = np.zeros_like(grad) if w[name].grad is None else w[name].grad.numpy()
        np.testing.assert_allclose(grad, theirs, atol=1e-8, err_msg=name)


def test_steps_are_those_of_adamw():
    start = {"own": np.zeros(8), "gates": np.zeros(2)}
    ours = {name: value.copy() for name, value in start.items()}
    theirs = tensors(start)
    optimisers = [
        torch.optim.AdamW([theirs[n]], lr=rate, weight_decay=1e-2) for n, rate in (("own", 5e-2), ("gates", 3e-2))
    ]
    moving, random = AdamW(ours), np.random.default_rng(0)
    for _ in range(20):
        grads = {name: random.normal(size=value.shape) for name, value in start.items()}
        for name, value in theirs.items():
            value.grad = torch.tensor(grads[name])
        for optimiser in optimisers:
            optimiser.step()
        moving.step(ours, grads)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value.numpy(), atol=1e-10)
