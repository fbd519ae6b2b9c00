"""The model router against torch, where torch is installed (`pip install torch`): values, gradients, the optimiser."""

import numpy as np
import pytest

from ruvllm.encoders.protocol import run_now
from ruvllm.sizing.fastgrnn import FastGrnn, ModelSize
from ruvllm.sizing.fastgrnn.cell import INPUTS, Shape
from ruvllm.sizing.fastgrnn.loss import Batch, loss_of, outputs_of
from ruvllm.sizing.fastgrnn.replay import Outcome, Replay
from ruvllm.sizing.fastgrnn.training import FastGrnnTrainer, judges_among

torch = pytest.importorskip("torch")
F = torch.nn.functional
TURNS, SESSIONS = 5, 24


def moved(shape: Shape, dtype) -> np.ndarray:
    return (shape.fresh() + 0.3 * np.random.default_rng(3).normal(size=shape.size)).astype(dtype)


def batch_of(dtype) -> Batch:
    random = np.random.default_rng(0)
    present = (np.arange(TURNS)[:, None] >= np.arange(SESSIONS) % TURNS).astype(dtype)[:, :, None]
    unknown = np.where(np.arange(SESSIONS) % 3 == 0, np.nan, 1)
    return Batch(
        x=random.normal(size=(TURNS, SESSIONS, INPUTS)).astype(dtype),
        present=present,
        used=np.arange(SESSIONS) % 4,
        quality=random.random(SESSIONS).astype(dtype),
        context=np.arange(SESSIONS) % 6 - 1,
        temperature=(2 * random.random(SESSIONS) * unknown).astype(dtype),
        top_p=(random.random(SESSIONS) * unknown).astype(dtype),
        costs=np.array([0.1, 0.3, 0.5, 1]),
    )


def torch_outputs(shape: Shape, theta, batch: Batch):
    """The network in torch's own operations."""
    w, start = {}, 0
    for name, size in shape.shapes.items():
        w[name] = theta[start : start + int(np.prod(size))].reshape(size)
        start += int(np.prod(size))
    dense = torch.zeros(shape.hidden, INPUTS, dtype=theta.dtype).scatter(1, torch.tensor(shape.places), w["w"])
    x, present = torch.tensor(batch.x), torch.tensor(batch.present)
    h = torch.zeros(x.shape[1], shape.hidden, dtype=theta.dtype)
    zeta, nu = torch.sigmoid(w["mix"])
    for t in range(len(x)):
        s = F.linear(F.layer_norm(x[t], (INPUTS,), w["gain"], w["shift"], eps=1e-5), dense)
        s = s + F.linear(h, w["a"] @ w["b"])
        z, c = torch.sigmoid(s + w["gate_bias"]), torch.tanh(s + w["candidate_bias"])
        h = torch.where(present[t] > 0, z * h + (zeta * (1 - z) + nu) * c, h)
    return F.linear(h, w["heads"], w["head_bias"])


def torch_loss(outputs, batch: Batch):
    quality = torch.tensor(batch.quality)
    shares = outputs[:, :4].softmax(1)
    used, sizes = torch.tensor(batch.used)[:, None], torch.arange(4)
    within, last = (shares * (sizes <= used)).sum(1), torch.tensor(batch.used) == 3
    beyond = torch.where(last, shares[:, 3], (shares * (sizes > used)).sum(1))
    loss = -quality * torch.where(last, torch.ones_like(within), within).log() - (1 - quality) * beyond.log()
    loss = loss + F.cross_entropy(outputs[:, 4:9], torch.tensor(batch.context), ignore_index=-1, reduction="none")
    for column, used_value, most in ((9, batch.temperature, 2), (10, batch.top_p, 1)):
        target = torch.tensor(used_value) / most
        known = ~target.isnan()
        off = torch.sigmoid(outputs[:, column]) - target.nan_to_num()
        loss = loss + torch.where(known, quality * off**2, torch.zeros_like(off))
    chosen = (shares.cumsum(1) - 0.25 * torch.tensor(batch.costs)).argmax(1)
    used = used[:, 0]
    known = torch.where(quality >= 0.5, chosen >= used, chosen <= used)
    sure = F.binary_cross_entropy_with_logits(outputs[:, 11], quality, reduction="none")
    return (loss + known * sure).mean()


@pytest.mark.parametrize(("dtype", "near"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("shape", [Shape(), Shape(hidden=128, seed=2)])
def test_values_and_gradients_through_time_are_those_of_torch(shape, dtype, near):
    theta, batch = moved(shape, dtype), batch_of(dtype)
    weights = torch.tensor(theta, requires_grad=True)
    outputs = torch_outputs(shape, weights, batch)
    loss = torch_loss(outputs, batch)
    loss.backward()
    np.testing.assert_allclose(outputs_of(shape, theta, batch.x, batch.present), outputs.detach(), atol=near)
    ours, gradient = loss_of(shape, theta, batch)
    assert ours == pytest.approx(loss.item(), abs=near)
    assert gradient.dtype == dtype
    np.testing.assert_allclose(gradient, weights.grad, atol=near)
    assert np.abs(gradient).max() > 0.1


def test_one_turn_at_a_time_gives_torch_s_outputs():
    network, batch = FastGrnn(), batch_of(np.float32)
    network.theta = moved(network.shape, np.float32)
    hidden = network.start()
    for x in batch.x[:, 0]:
        outputs, hidden = network.step(x, hidden)
    expected = torch_outputs(network.shape, torch.tensor(network.theta), batch)[0]
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_steps_are_those_of_adam():
    network, replay = FastGrnn(), Replay()
    network.theta = moved(network.shape, np.float32)
    random = np.random.default_rng(1)
    for i in range(40):
        turn = replay.add(random.normal(size=INPUTS).astype(np.float32))
        assert replay.label(turn, Outcome(ModelSize(i % 4), float(i % 3 > 0)))
    teaching = np.flatnonzero(~judges_among(np.arange(40)))
    theirs = torch.tensor(network.theta, requires_grad=True)
    optimiser = torch.optim.Adam([theirs], lr=1e-3)
    for _ in range(10):
        batch = replay.batch(teaching, 8, network.costs)
        optimiser.zero_grad()
        torch_loss(torch_outputs(network.shape, theirs, batch), batch).backward()
        optimiser.step()
    run_now(FastGrnnTrainer(network, replay, enough=1, batch=len(teaching)).learn(10))
    np.testing.assert_allclose(network.theta, theirs.detach(), atol=1e-5)
