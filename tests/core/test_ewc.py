import numpy as np
import pytest

from ruvllm.errors import InputError, StoreError
from ruvllm.learning.ewc import EwcPlusPlus

DIM = 28
RATE = 0.1


class Logistic:
    """Labels by a plane; a task shows only some of the inputs."""

    def __init__(self, inputs, weights, seed):
        self.inputs, self.weights = inputs, weights
        self.rng = np.random.default_rng(seed)

    def draw(self, n):
        x = np.zeros((n, DIM), np.float32)
        x[:, self.inputs] = self.rng.normal(size=(n, len(self.inputs)))
        return x, (x[:, self.inputs] @ self.weights > 0).astype(np.float32)

    def accuracy(self, theta):
        x, y = self.draw(2000)
        return ((x @ theta > 0) == y).mean()


def gradient_of(theta, x, y):
    return ((1 / (1 + np.exp(-x @ theta)) - y) * x).astype(np.float32)


def tasks():
    """The last four inputs of the first task come again in the second, where they mean the opposite."""
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=16), rng.normal(size=16)
    new[:4] = -0.3 * old[12:]
    return Logistic(np.arange(16), old, 1), Logistic(np.arange(12, 28), new, 2)


def train(theta, task, ewc, n, hold):
    ends = []
    for i, (x, y) in enumerate(zip(*task.draw(n), strict=True)):
        gradient = gradient_of(theta, x, y)
        if ewc.observe(gradient, theta):
            ends.append(i)
        theta -= np.float32(RATE) * gradient
        if hold:
            ewc.pull(theta, RATE)
    return ends


@pytest.mark.parametrize("told", [True, False])
def test_the_first_task_survives_the_second(told):
    forgot, learnt = {}, {}
    for hold in (False, True):
        first, second = tasks()
        theta, ewc = np.zeros(DIM, np.float32), EwcPlusPlus(DIM)
        assert train(theta, first, ewc, 800, hold) == []
        before = first.accuracy(theta)
        assert before > 0.93
        if told:
            ewc.consolidate(theta)
        ends = train(theta, second, ewc, 800, hold)
        assert told or (ends and ends[0] < 40)
        assert ewc.tasks == 1
        forgot[hold], learnt[hold] = before - first.accuracy(theta), second.accuracy(theta)
    assert forgot[False] > 0.3
    assert forgot[True] < 0.02
    assert learnt[True] > 0.7  # with what the first task left free


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("tail", [3, 30])
def test_noise_that_stays_the_same_is_no_boundary(seed, tail):
    rng = np.random.default_rng(seed)
    sizes = rng.gamma(0.5, size=50)
    ewc = EwcPlusPlus(50)
    noise = (rng.standard_t(tail, size=(3000, 50)) * sizes).astype(np.float32)
    assert not any(ewc.observe(gradient, sizes) for gradient in noise)
    assert ewc.tasks == 0


def test_a_boundary_is_found_once_and_anchored_before_it():
    rng = np.random.default_rng(3)
    ewc = EwcPlusPlus(40)
    sizes = np.where(np.arange(40) < 20, 1, 0.05)
    ends = []
    for i in range(1200):
        scale = sizes if i < 600 else sizes[::-1]
        if ewc.observe((rng.normal(size=40) * scale).astype(np.float32), np.full(40, i, np.float32)):
            ends.append(i)
    assert len(ends) == 1
    assert 600 <= ends[0] < 632
    assert 584 <= ewc.anchor[0] <= 616
    np.testing.assert_allclose(ewc.fisher[:20], 1, atol=0.3)
    assert ewc.fisher[20:].max() < 0.1  # nothing of the new task is in it


def test_the_fisher_is_the_mean_of_squared_gradients():
    gradients = np.random.default_rng(0).normal(size=(320, 8)).astype(np.float32)
    ewc = EwcPlusPlus(8)
    for gradient in gradients:
        ewc.observe(gradient, np.zeros(8, np.float32))
    ewc.consolidate(np.zeros(8, np.float32))
    np.testing.assert_allclose(ewc.fisher, (gradients**2).mean(0), rtol=1e-4)


def test_a_task_may_begin_without_any_gradient():
    rng = np.random.default_rng(1)
    ewc = EwcPlusPlus(8)
    for _ in range(32):
        ewc.observe(np.zeros(8, np.float32), np.zeros(8, np.float32))
    noise = rng.normal(size=(2000, 8)).astype(np.float32)
    noise[1500:, :6] *= 0.01
    noise[1500:, 6:] *= 30
    ends = [i for i, gradient in enumerate(noise) if ewc.observe(gradient, np.zeros(8, np.float32))]
    assert [i for i in ends if i > 200] == [i for i in ends if 1500 <= i < 1532]
    assert ends[-1] >= 1500
    assert np.isfinite(ewc.fisher).all()


def consolidated(n=6, seed=0):
    rng = np.random.default_rng(seed)
    ewc = EwcPlusPlus(n)
    for _ in range(32):
        ewc.observe(rng.normal(size=n).astype(np.float32), np.zeros(n, np.float32))
    ewc.consolidate(rng.normal(size=n).astype(np.float32))
    return ewc, rng.normal(size=n).astype(np.float32)


def test_the_penaltys_gradient_is_that_of_its_value():
    ewc, theta = consolidated()
    _, gradient = ewc.penalty(theta)
    for i in range(len(theta)):
        step = np.zeros(len(theta), np.float32)
        step[i] = 0.01
        slope = (ewc.penalty(theta + step)[0] - ewc.penalty(theta - step)[0]) / 0.02
        assert gradient[i] == pytest.approx(slope, rel=1e-3)


def test_the_pull_minimises_penalty_and_distance():
    ewc, theta = consolidated()
    pulled = theta.copy()
    ewc.pull(pulled, 0.002)
    _, gradient = ewc.penalty(pulled)
    np.testing.assert_allclose((pulled - theta) / 0.002, -gradient, rtol=1e-3, atol=1e-2)
    ewc.pull(pulled, 1e6)
    np.testing.assert_allclose(pulled, ewc.anchor, atol=1e-3)


def test_nothing_is_held_before_a_task_ends():
    ewc, theta = EwcPlusPlus(3), np.ones(3, np.float32)
    ewc.pull(theta, 1.0)
    assert theta.tolist() == [1, 1, 1]
    assert ewc.penalty(theta)[0] == 0


@pytest.mark.parametrize(("away", "end"), [(0.0, 100.0), (100.0, 15_000.0)])
def test_the_strength_follows_what_is_lost_within_its_range(away, end):
    ewc, _ = consolidated()
    theta = ewc.anchor + np.float32(away)
    seen = []
    for i in range(16 * 120):
        ewc.observe(np.ones(6, np.float32) * (-1) ** i, theta)
        seen.append(ewc.strength)
    assert ewc.tasks == 1
    assert 100 <= min(seen) <= max(seen) <= 15_000
    assert seen[-1] == end


def test_older_tasks_fade():
    ewc, theta = consolidated()
    first = ewc.fisher.copy()
    ewc.consolidate(theta)
    np.testing.assert_allclose(ewc.fisher, 0.9 * first, rtol=1e-6)


def test_saved_and_loaded_it_goes_on_alike():
    rng = np.random.default_rng(5)
    gradients = rng.normal(size=(700, 6)).astype(np.float32)
    gradients[350:] *= np.array([9, 9, 9, 0, 0, 0], np.float32)
    theta = np.ones(6, np.float32)
    one, _ = consolidated()
    for gradient in gradients[:333]:
        one.observe(gradient, theta)
    other = EwcPlusPlus(6)
    other.load(one.to_bytes())
    ends = [[ewc.observe(gradient, theta) for gradient in gradients[333:]] for ewc in (one, other)]
    assert ends[0] == ends[1]
    assert sum(ends[0]) == 1
    assert one.to_bytes() == other.to_bytes()


def test_what_does_not_fit_is_refused():
    ewc, _ = consolidated()
    with pytest.raises(StoreError, match="7 weights"):
        EwcPlusPlus(7).load(ewc.to_bytes())
    arrays = ewc.arrays()
    arrays["fisher"][0] = -1
    with pytest.raises(InputError, match="no consolidation"):
        ewc.restore(arrays, InputError)
    with pytest.raises(InputError, match="gradient"):
        ewc.observe(np.full(6, np.nan, np.float32), np.zeros(6, np.float32))
    with pytest.raises(InputError, match="gradient"):
        ewc.observe(np.zeros(5, np.float32), np.zeros(6, np.float32))
    with pytest.raises(InputError, match="strength"):
        EwcPlusPlus(3, strength=50)
