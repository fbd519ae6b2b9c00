import math
from dataclasses import replace

import numpy as np
import pytest

from ruvllm.encoders.protocol import unit_rows
from ruvllm.errors import InputError, StoreError
from ruvllm.sizing.fastgrnn import CONTEXTS, FastGrnn, ModelSize
from ruvllm.sizing.fastgrnn.cell import FORMS, INPUTS, OUTPUTS, PromptInputs, Shape, forms_of, forward
from ruvllm.sizing.fastgrnn.loss import Batch, heads_loss, loss_of, outputs_of
from ruvllm.sizing.fastgrnn.session import Model, RouterSession, select_model

COSTS = np.array([0.1, 0.3, 0.5, 1])


def moved(shape: Shape, seed: int = 3, size: float = 0.3) -> np.ndarray:
    """Weights none of which is where it began."""
    theta = shape.fresh().astype(np.float64)
    return theta + size * np.random.default_rng(seed).normal(size=theta.shape)


def batch_of(turns: int, sessions: int, seed: int = 0) -> Batch:
    """All sizes used, well and badly; some things unknown; sessions of different lengths."""
    random = np.random.default_rng(seed)
    present = np.ones((turns, sessions, 1))
    for i in range(sessions):
        present[: i % turns, i] = 0
    unknown = np.where(np.arange(sessions) % 3 == 0, np.nan, 1)
    return Batch(
        x=random.normal(size=(turns, sessions, INPUTS)),
        present=present,
        used=np.arange(sessions) % 4,
        quality=random.random(sessions),
        context=np.arange(sessions) % 6 - 1,
        temperature=2 * random.random(sessions) * unknown,
        top_p=random.random(sessions) * unknown[::-1],
        costs=COSTS,
    )


def vector(seed: int = 0, dim: int = 256) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).normal(size=(1, dim)))[0]


@pytest.mark.parametrize("turns", [1, 4])
def test_gradients_are_the_slopes_of_the_loss(turns):
    shape = Shape(hidden=4, rank=2, sparsity=0.6)
    theta, batch = moved(shape), batch_of(turns, 12)
    _, gradient = loss_of(shape, theta, batch)
    for i in range(shape.size):
        step = np.zeros_like(theta)
        step[i] = 1e-5
        slope = (loss_of(shape, theta + step, batch)[0] - loss_of(shape, theta - step, batch)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-5, abs=1e-8), i
    without_memory = {"a", "b"} if turns == 1 else set()
    for name, part in shape.views(gradient).items():
        assert part.any() != (name in without_memory), name


def test_the_cell_is_what_the_paper_says():
    shape = Shape(hidden=5, rank=2)
    theta = moved(shape)
    w, x = shape.views(theta), np.random.default_rng(1).normal(size=(3, INPUTS))
    zeta, nu = (1 / (1 + math.exp(-logit)) for logit in w["mix"])
    h = [0.0] * 5
    for row in x:
        mean = math.fsum(row) / INPUTS
        spread = math.sqrt(math.fsum((v - mean) ** 2 for v in row) / INPUTS + 1e-5)
        n = [(v - mean) / spread * g + s for v, g, s in zip(row, w["gain"], w["shift"], strict=True)]
        after = []
        for i in range(5):
            s = math.fsum(w["w"][i, j] * n[place] for j, place in enumerate(shape.places[i]))
            s += math.fsum(w["a"][i, k] * w["b"][k, j] * h[j] for k in range(2) for j in range(5))
            z, c = 1 / (1 + math.exp(-s - w["gate_bias"][i])), math.tanh(s + w["candidate_bias"][i])
            after.append(z * h[i] + (zeta * (1 - z) + nu) * c)
        h = after
    kept = forward(shape, theta, x[:, None], np.ones((3, 1, 1)))
    np.testing.assert_allclose(kept.states[-1, 0], h, atol=1e-12)


def test_one_turn_at_a_time_is_the_same_network():
    network = FastGrnn()
    network.theta = moved(network.shape).astype(np.float32)
    x = np.stack([network.inputs(vector(i), "Why?" * i) for i in range(6)])
    hidden = network.start()
    for t in range(6):
        outputs, hidden = network.step(x[t], hidden)
        whole = outputs_of(network.shape, network.theta, x[: t + 1, None], np.ones((t + 1, 1, 1), np.float32))
        np.testing.assert_allclose(outputs, whole[0], atol=1e-5)


def test_w_is_sparse_and_u_of_low_rank():
    shape = Shape()
    named = shape.views(shape.fresh())
    dense = shape.dense(named["w"])
    assert dense.shape == (64, 128)
    assert (dense == 0).mean() == pytest.approx(0.9, abs=0.005)
    assert ((dense != 0).sum(axis=0) > 0).all()  # each input is read
    assert np.linalg.matrix_rank(named["a"] @ named["b"]) == 8
    assert sum(view.size for view in named.values()) == shape.size
    assert Shape(hidden=128, rank=4).views(Shape(hidden=128, rank=4).fresh())["a"].shape == (128, 4)


def test_the_model_loss_is_the_likelihood_of_where_the_cheapest_size_lies():
    outputs, batch = np.random.default_rng(2).normal(size=(8, OUTPUTS)), batch_of(1, 8)
    quiet = batch._replace(context=np.full(8, -1), temperature=np.full(8, np.nan), top_p=np.full(8, np.nan))
    shares = np.exp(outputs[:, :4]) / np.exp(outputs[:, :4]).sum(axis=1, keepdims=True)
    losses, slopes = heads_loss(outputs, quiet)
    assert (slopes[:, 4:-1] == 0).all()
    for i, (used, quality) in enumerate(zip(batch.used, batch.quality, strict=True)):
        within = shares[i, : used + 1].sum()
        beyond = shares[i, used + 1 :].sum() if used < 3 else shares[i, 3]  # nothing is larger
        expected = -quality * math.log(within) - (1 - quality) * math.log(beyond)
        chosen = int(np.argmax(np.cumsum(shares[i]) - 0.25 * COSTS))
        known = chosen == used or (chosen > used if quality >= 0.5 else chosen < used)
        sure = 1 / (1 + math.exp(-outputs[i, -1]))
        expected -= known * (quality * math.log(sure) + (1 - quality) * math.log(1 - sure))
        assert losses[i] == pytest.approx(expected, rel=1e-9)
        assert (slopes[i, -1] != 0) == known


def test_untrained_it_is_unsure_whatever_it_is_asked():
    session = RouterSession(FastGrnn())
    for i in range(20):
        choice = session.decide(vector(i), "Prove it. " * i)
        assert not choice.sure
        assert (choice.size.label, choice.context) == ("1.2B", 2_048)
        assert (choice.temperature, choice.top_p) == (0.7, 0.9)
        assert choice.confidence == pytest.approx(0.269, abs=0.001)
    assert np.abs(session.hidden).max() > 0


def test_the_heads_are_read_as_documented():
    network = FastGrnn()
    outputs = [math.log(p) for p in (0.2, 0.74, 0.03, 0.03)] + [math.log(p) for p in (0.5, 0.35, 0.1, 0.03, 0.02)]
    choice = network.choose([*outputs, 0.0, 2.0, 1.0])
    assert choice.holds == pytest.approx((0.2, 0.94, 0.97, 1.0))
    assert choice.sure
    assert choice.size is ModelSize.SMALL  # 0.94 - ¼ · 0.7 / 2.6 beats 0.97 - ¼ · 1.2 / 2.6
    assert choice.context == 1_024  # 0.95 of what is needed fits
    assert choice.temperature == pytest.approx(1.0)
    assert choice.top_p == pytest.approx(1 / (1 + math.exp(-2)))
    network.cost_weight = 0.0
    assert network.choose([*outputs, 0.0, 2.0, 1.0]).size is ModelSize.LARGE
    assert not network.choose([*outputs, 0.0, 2.0, 0.84]).sure  # σ(0.84) < 0.7


@pytest.mark.parametrize("dim", [64, 256, 384])
def test_the_projection_keeps_angles(dim):
    inputs = PromptInputs(dim, seed=5)
    assert inputs.projection.shape == (112, dim)
    assert np.array_equal(np.abs(inputs.projection), np.ones((112, dim)))
    if dim == 256:
        np.testing.assert_array_equal(inputs.projection @ inputs.projection.T, 256 * np.eye(112))
    x = inputs(vector(1, dim))
    assert x.shape == (128,)
    assert (x[:112] ** 2).mean() == pytest.approx(1, abs=0.4)
    assert np.array_equal(PromptInputs(dim, seed=5).projection, inputs.projection)
    assert not np.array_equal(PromptInputs(dim, seed=6).projection, inputs.projection)


def test_forms_say_what_they_are_called():
    def form(name: str, text: str) -> float:
        return float(forms_of(text)[FORMS.index(name)])

    short, long = "Rename the variable", "Design a distributed system, prove it safe, and explain why. " * 20
    for name in ("words", "difficulty", "reasoning", "sentences", "clauses"):
        assert form(name, long) > form(name, short), name
    assert form("question", "Is it raining?") > form("question", short)
    assert form("code", "def f(x):\n    return x") > form("code", short)
    assert form("creativity", "Invent a slogan") > form("creativity", short)
    assert form("brevity", "Give a short answer") > form("brevity", short)
    assert form("follow-up", "And do the same again") > form("follow-up", short)
    assert form("digits", "17 + 25") > form("digits", short)
    assert form("capitals", "HELP ME") > form("capitals", short)
    assert form("foreign", "été à la mer") > form("foreign", short)
    assert np.abs(forms_of("x" * 100_000 + "\n;?é" * 30_000)).max() <= 4
    assert not forms_of("  ").any()


def test_saved_and_loaded_it_is_the_same():
    network = FastGrnn(64, Shape(hidden=16, rank=3, sparsity=0.8, seed=7), seed=9, cost_weight=0.4)
    network.theta, network.costs = moved(network.shape).astype(np.float32), COSTS
    again = FastGrnn.from_bytes(network.to_bytes())
    assert again.to_bytes() == network.to_bytes()
    assert (again.shape, again.cost_weight) == (network.shape, 0.4)
    sessions = RouterSession(network), RouterSession(again)
    for i in range(5):
        first, second = (session.decide(vector(i, 64), "again") for session in sessions)
        assert first == second
    np.testing.assert_array_equal(sessions[0].hidden, sessions[1].hidden)


def test_damaged_bytes_are_refused():
    data = FastGrnn(64, Shape(hidden=8)).to_bytes()
    nan = np.float32(np.nan).tobytes()
    broken = [
        b"",
        data[:20],
        data[:-4],
        data + b"1234",
        b"X" + data[1:],
        data[:-4] + nan,
        data[:36] + b"\xff" * 8 + data[44:],
    ]
    broken += [
        data[:8] + b"\xff" * 4 + data[12:],
        data[:12] + b"\xff" * 4 + data[16:],
        data[:16] + b"\xff" * 4 + data[20:],
    ]
    for bad in broken:
        with pytest.raises(StoreError, match="no usable model router"):
            FastGrnn.from_bytes(bad)
    with pytest.raises(InputError):
        FastGrnn.from_bytes(data[:-1], error=InputError)


def test_the_same_seed_gives_the_same_network():
    assert FastGrnn(seed=1).to_bytes() == FastGrnn(seed=1).to_bytes()
    assert FastGrnn(shape=Shape(seed=1)).to_bytes() != FastGrnn(shape=Shape(seed=2)).to_bytes()


def sure_of(network: FastGrnn, shares: tuple[float, ...]) -> None:
    """Whatever the prompt, so much chance for each size to be the cheapest that does."""
    theta = network.theta.copy()
    named = network.shape.views(theta)
    named["head_bias"][:4], named["head_bias"][-1] = np.log(shares), 4
    network.theta = theta


def test_a_model_is_selected_among_those_there_are():
    network, names = FastGrnn(), ["SmolLM-360M", "TinyLlama 1.1B", "Qwen2-3b"]
    unsure = select_model(network, vector(), names)
    assert (unsure.model.name, unsure.sure) == ("Qwen2-3b", False)  # the cheapest of at least 1.2B
    assert select_model(network, vector(), names[:2]).model.name == "TinyLlama 1.1B"
    sure_of(network, (0.96, 0.02, 0.01, 0.01))
    easy = select_model(network, vector(), names)
    assert (easy.model.name, easy.sure) == ("SmolLM-360M", True)
    assert easy.confidence == pytest.approx(0.96, abs=0.01)
    assert easy.holds[0] < easy.holds[1] < easy.holds[2] == pytest.approx(1)
    sure_of(network, (0.01, 0.01, 0.01, 0.97))
    assert select_model(network, vector(), names).model.name == "Qwen2-3b"
    tiny = select_model(network, vector(), ["a-10M", "b-50M"])
    assert (tiny.model.name, tiny.sure, tiny.holds) == ("b-50M", False, (0.0, 0.0))
    sure_of(network, (0.96, 0.02, 0.01, 0.01))
    dear = [Model("own", 0.35, cost=9.0), Model("free", 1.2, cost=0.0)]
    assert select_model(network, vector(), dear).model.name == "free"


def test_the_hidden_state_can_be_taken_along():
    network = FastGrnn()
    network.theta = moved(network.shape).astype(np.float32)
    whole, part = RouterSession(network), RouterSession(network)
    for i in range(3):
        expected = whole.decide(vector(i))
    for i in range(2):
        part.decide(vector(i))
    later = RouterSession(network)
    later.hidden = part.hidden
    assert later.decide(vector(2)) == expected != RouterSession(network).decide(vector(2))
    chosen = select_model(network, vector(2), ["a-1B"], hidden=part.hidden)
    assert chosen.holds != select_model(network, vector(2), ["a-1B"]).holds


@pytest.mark.parametrize(
    "bad",
    [
        lambda: FastGrnn(0),
        lambda: FastGrnn(seed=-1),
        lambda: FastGrnn(cost_weight=-1),
        lambda: FastGrnn(cost_weight=math.nan),
        lambda: Shape(hidden=4, rank=5),
        lambda: Shape(sparsity=1.0),
        lambda: RouterSession(FastGrnn()).decide(vector(dim=128)),
        lambda: RouterSession(FastGrnn()).decide(vector() * np.float32(np.nan)),
        lambda: RouterSession(FastGrnn(), explore=2),
        lambda: setattr(RouterSession(FastGrnn()), "hidden", np.zeros(63, np.float32)),
        lambda: setattr(RouterSession(FastGrnn()), "hidden", np.full(64, np.nan, np.float32)),
        lambda: select_model(FastGrnn(), vector(), ["a-1B"], hidden=np.zeros(3, np.float32)),
        lambda: select_model(FastGrnn(), vector(), []),
        lambda: select_model(FastGrnn(), vector(), ["mystery"]),
        lambda: Model("none", 0.0),
        lambda: setattr(FastGrnn(), "theta", np.zeros(3, np.float32)),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_fix(bad):
    with pytest.raises(InputError) as caught:
        bad()
    assert caught.value.field
    assert caught.value.fix


def test_choices_are_data():
    choice = RouterSession(FastGrnn()).decide(vector())
    assert choice.context in CONTEXTS
    assert replace(choice, size=ModelSize.TINY).size.label == "350M"
