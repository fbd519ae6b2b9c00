from functools import cache

import numpy as np
import pytest

from ruvllm.encoders.protocol import run_now, unit_rows
from ruvllm.errors import InputError, StoreError
from ruvllm.learning.ewc import EwcPlusPlus
from ruvllm.sizing.fastgrnn import FastGrnn, ModelSize
from ruvllm.sizing.fastgrnn.replay import Outcome, Replay
from ruvllm.sizing.fastgrnn.session import RouterSession
from ruvllm.sizing.fastgrnn.training import FastGrnnTrainer, Learnt, judges_among
from ruvllm_bench.learn.fastgrnn import measure_fastgrnn

SIZES = [ModelSize(i) for i in range(4)]
NEEDED = (200, 400, 900, 3_000)  # tokens, by size


@cache
def axes() -> np.ndarray:
    """Eight orthonormal directions, (8, 256)."""
    return np.linalg.qr(np.random.default_rng(1).normal(size=(256, 8)))[0].T


def prompts(along: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Unit vectors that differ by where they lie along some direction, (n, 256), beside noise."""
    return unit_rows(random.normal(size=along.shape) + along)


def by_size(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts, and the smallest size that does each: it rises along one direction."""
    random = np.random.default_rng(seed)
    need = random.integers(4, size=n)
    return prompts((need - 1.5)[:, None] * 3.5 * axes()[0], random), need


def hard_or_easy(n: int, label: np.ndarray, context: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts of one context; which of them need the large model lies along `label`."""
    random = np.random.default_rng(seed)
    need = 3 * random.integers(2, size=n)
    return prompts(np.where(need > 0, 4, -4)[:, None] * label + 4 * context, random), need


def tell(replay: Replay, network: FastGrnn, vectors: np.ndarray, need: np.ndarray, seed: int = 5) -> None:
    """Each prompt was answered by a random size."""
    used = np.random.default_rng(seed).integers(4, size=len(need))
    for vector, n, u in zip(vectors, need, used, strict=True):
        replay.label(replay.add(network.inputs(vector)), Outcome(SIZES[u], float(u >= n), tokens=NEEDED[n]))


def chosen(network: FastGrnn, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sizes for prompts of sessions of their own, and whether each choice is sure."""
    choices = [RouterSession(network).decide(vector) for vector in vectors]
    return np.array([c.size for c in choices]), np.array([c.sure for c in choices])


def test_easy_prompts_go_to_the_cheapest_size_and_hard_ones_up():
    network, replay = FastGrnn(), Replay()
    tell(replay, network, *hard_or_easy(1_500, axes()[0], axes()[1], 2))
    held_out, need = hard_or_easy(300, axes()[0], axes()[1], 3)
    assert not chosen(network, held_out)[1].any()
    learnt = run_now(FastGrnnTrainer(network, replay).learn(500))
    assert learnt.accepted
    assert learnt.after < 0.2 * learnt.before
    assert learnt.examples + learnt.judges == 1_500
    assert 120 < learnt.judges < 180
    sizes, sure = chosen(network, held_out)
    assert sure.mean() > 0.97
    assert (sizes >= need).mean() > 0.97  # quality holds
    assert (sizes[need == 0] == 0).mean() > 0.9
    assert (sizes[need == 3] == 3).mean() > 0.97
    contexts = np.array([RouterSession(network).decide(vector).context for vector in held_out])
    assert (contexts[need == 0] == 256).mean() > 0.9
    assert (contexts[need == 3] == 4_096).mean() > 0.97


def test_among_four_sizes_quality_comes_first_and_its_price_can_be_set():
    costs = []
    for weight in (0.25, 1.0):
        network, replay = FastGrnn(cost_weight=weight), Replay()
        tell(replay, network, *by_size(1_500, 2))
        run_now(FastGrnnTrainer(network, replay, rate=3e-3).learn(250))
        held_out, need = by_size(300, 3)
        sizes, _ = chosen(network, held_out)
        used = [network.costs[sizes[need == n]].mean() for n in range(4)]
        assert used == sorted(used)
        assert (sizes >= need).mean() > (0.97 if weight == 0.25 else 0.9)
        costs.append(network.costs[sizes].mean())
    assert costs[1] < costs[0] - 0.05 < 0.65  # the dearest is 1


def test_only_what_was_used_well_is_imitated():
    network, replay = FastGrnn(), Replay()
    vectors, need = hard_or_easy(400, axes()[0], axes()[1], 2)
    for vector, n in zip(vectors, need, strict=True):
        hot, well = n > 0, np.random.default_rng(int(1e6 * abs(vector[0]))).random() < 0.5
        outcome = Outcome(ModelSize.LARGE, float(well), temperature=1.4 if hot == well else 0.2, top_p=0.6)
        replay.label(replay.add(network.inputs(vector)), outcome)
    run_now(FastGrnnTrainer(network, replay, rate=5e-3).learn(300))
    held_out, need = hard_or_easy(40, axes()[0], axes()[1], 3)
    outputs = [network.step(network.inputs(vector), network.start())[0] for vector in held_out]
    heat = np.array([2 / (1 + np.exp(-o[-3])) for o in outputs])
    assert heat[need > 0].mean() == pytest.approx(1.4, abs=0.2)
    assert heat[need == 0].mean() == pytest.approx(0.2, abs=0.2)
    assert np.mean([1 / (1 + np.exp(-o[-2])) for o in outputs]) == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize("explore", [0.0, 0.1])
def test_by_its_own_choices_it_finds_the_cheaper_size_only_if_it_explores(explore):
    network, replay, random = FastGrnn(), Replay(), np.random.default_rng(2)
    trainer, well, cost = FastGrnnTrainer(network, replay), [], []
    for turn in range(7):
        need = np.where(random.random(200) < 0.6, 0, 3)
        vectors = prompts(np.where(need > 0, 4, -4)[:, None] * axes()[0], random)
        for i, (vector, n) in enumerate(zip(vectors, need, strict=True)):
            choice = RouterSession(network, replay, explore=explore, seed=1_000 * turn + i).decide(vector)
            well.append(choice.size >= n)
            cost.append(network.costs[choice.size])
            replay.label(choice.turn, Outcome(choice.size, float(well[-1])))
        run_now(trainer.learn(100))
    assert np.mean(well[:200]) < 0.7  # unsure: the default for all
    assert np.mean(well[-400:]) > 0.9
    # The best there is: 0.6 of the prompts at a cost of 0.13, and 0.4 at 1.
    assert (np.mean(cost[-400:]) < 0.6) == (explore > 0)


def test_what_came_before_in_the_session_decides():
    network, replay, random = FastGrnn(), Replay(), np.random.default_rng(3)

    def say(session: RouterSession, hard: bool):
        """One telling prompt, then two that are alike in all sessions."""
        session.decide(prompts((4 if hard else -4) * axes()[:1], random)[0])
        for _ in range(2):
            last = prompts(6 * axes()[1:2], random)[0]
            choice = session.decide(last)
        return choice, last

    for i in range(700):
        hard, used = i % 2 == 0, SIZES[random.integers(4)]
        choice, _ = say(RouterSession(network, replay), hard)
        replay.label(choice.turn, Outcome(used, float(used == 3 or not hard)))
    run_now(FastGrnnTrainer(network, replay).learn(450))
    right = forgetful = 0
    for i in range(100):
        choice, last = say(RouterSession(network), i % 2 == 0)
        right += choice.sure and (choice.size is ModelSize.LARGE) == (i % 2 == 0)
        forgetful += (RouterSession(network).decide(last).size is ModelSize.LARGE) == (i % 2 == 0)
    assert right >= 90
    assert forgetful <= 70


@cache
def after_one_task() -> tuple[bytes, bytes, bytes]:
    """Network, replay buffer and consolidation."""
    network, replay = FastGrnn(), Replay(capacity=400)
    ewc = EwcPlusPlus(network.shape.size)
    trainer = FastGrnnTrainer(network, replay, ewc)
    for turn in range(5):
        tell(replay, network, *hard_or_easy(128, axes()[0], axes()[1], 10 + turn), seed=turn)
        run_now(trainer.learn(80))
    return network.to_bytes(), replay.to_bytes(), ewc.to_bytes()


def test_consolidation_keeps_an_old_task_that_the_replay_buffer_has_forgotten():
    def old(n: int, seed: int):
        return hard_or_easy(n, axes()[0], axes()[1], seed)

    def new(n: int, seed: int):
        return hard_or_easy(n, 0.95 * axes()[4] - 0.3 * axes()[0], axes()[2], seed)

    def accuracy(network: FastGrnn, task) -> float:
        vectors, need = task(200, 99)
        outputs = [network.step(network.inputs(vector), network.start())[0] for vector in vectors]
        return float(
            np.mean([(network.choose(o).holds[0] < 0.5) == (n > 0) for o, n in zip(outputs, need, strict=True)])
        )

    kept = {}
    for held in (True, False):
        network_bytes, replay_bytes, ewc_bytes = after_one_task()
        network, replay = FastGrnn.from_bytes(network_bytes), Replay.from_bytes(replay_bytes)
        ewc = EwcPlusPlus(network.shape.size)
        ewc.load(ewc_bytes)
        assert ewc.tasks == 0
        assert accuracy(network, old) > 0.97
        trainer = FastGrnnTrainer(network, replay, ewc if held else None)
        for turn in range(9):
            tell(replay, network, *new(128, 20 + turn), seed=turn)
            run_now(trainer.learn(80))
        kept[held] = accuracy(network, old), accuracy(network, new)
        assert ewc.tasks == held  # that a task had ended, it noticed by itself
    assert kept[True][0] > 0.9
    assert kept[True][1] > 0.75
    assert kept[False][0] < kept[True][0] - 0.1


def test_the_same_seed_learns_the_same():
    states = []
    for _ in range(2):
        network, replay = FastGrnn(), Replay()
        tell(replay, network, *by_size(200, 2))
        run_now(FastGrnnTrainer(network, replay, seed=4).learn(30))
        states.append(network.to_bytes())
    assert states[0] == states[1]


def test_below_the_least_feedback_nothing_is_learnt():
    network, replay = FastGrnn(), Replay()
    trainer, before = FastGrnnTrainer(network, replay), network.to_bytes()
    tell(replay, network, *by_size(99, 2))
    assert not trainer.ready
    judges = int(judges_among(np.arange(99)).sum())
    assert run_now(trainer.learn()) == Learnt(0, 0.0, 0.0, False, 99 - judges, judges)
    assert network.to_bytes() == before
    tell(replay, network, *by_size(1, 3))
    assert trainer.ready
    assert run_now(trainer.learn(1)).steps == 1


def test_weights_that_judge_worse_are_not_kept():
    network, replay = FastGrnn(), Replay()
    vectors, need = hard_or_easy(200, axes()[0], axes()[1], 2)
    judge = judges_among(np.arange(200))
    tell(replay, network, vectors, np.where(judge, 3 - need, need))  # those that judge say the opposite
    before = network.to_bytes()
    learnt = run_now(FastGrnnTrainer(network, replay, rate=0.01).learn(200))
    assert learnt.after > learnt.before
    assert not learnt.accepted
    assert FastGrnn.from_bytes(before).theta.tolist() == network.theta.tolist()


def test_stopped_between_two_steps_the_weights_are_as_before():
    network, replay = FastGrnn(), Replay()
    tell(replay, network, *by_size(200, 2))
    steps, before = [], network.theta.copy()

    async def stop():
        steps.append(1)
        if len(steps) == 7:
            raise TimeoutError

    trainer = FastGrnnTrainer(network, replay)
    with pytest.raises(TimeoutError):
        run_now(trainer.learn(pause=stop))
    np.testing.assert_array_equal(network.theta, before)
    assert run_now(trainer.learn()).accepted


def test_the_buffer_may_change_while_it_learns():
    network, replay = FastGrnn(), Replay(capacity=250)
    tell(replay, network, *by_size(250, 2))
    serials = iter(range(250))

    async def change():
        """One turn loses its feedback, ten fall out."""
        replay.label(249 - next(serials), None)
        for _ in range(10):
            replay.add(np.zeros(128, np.float32))

    learnt = run_now(FastGrnnTrainer(network, replay).learn(60, change))
    assert 10 < learnt.steps < 60
    assert learnt.examples == 0
    assert np.isfinite(network.theta).all()


@pytest.mark.parametrize("every", [2, 3, 5, 7, 8, 10, 16, 20])
def test_some_turns_judge_wherever_in_a_session_feedback_comes(every):
    for start in (0, 1, every - 1, 10**12):
        assert 0.03 < judges_among(start + every * np.arange(1_000, dtype=np.int64)).mean() < 0.25


def test_costs_are_those_observed():
    network, replay = FastGrnn(), Replay()
    prior = network.costs.copy()
    assert replay.costs(prior).tolist() == prior.tolist()
    x = network.inputs(np.zeros(256, np.float32))
    for size, cost in ((ModelSize.TINY, 3.0), (ModelSize.TINY, 5.0), (ModelSize.LARGE, 40.0), (ModelSize.SMALL, None)):
        replay.label(replay.add(x), Outcome(size, 1.0, cost=cost))
    costs = replay.costs(prior)
    assert costs[0] == pytest.approx(0.1)
    assert costs[3] == 1
    assert costs[1] == pytest.approx(44 / (prior[0] + 1) * prior[1] / 40)  # between them as its parameters are


def test_the_ring_forgets_the_oldest_and_cuts_their_sessions():
    replay, x = Replay(capacity=300), np.arange(128, dtype=np.float32)
    serials = [-1]
    for i in range(1_000):
        serials.append(replay.add(x + i, serials[-1]))
        assert replay.label(serials[-1], Outcome(ModelSize.SMALL, 1.0))
    assert len(replay) == 300
    assert replay.labelled.tolist() == list(range(700, 1_000))
    assert not replay.label(699, None)
    batch = replay.batch(np.array([999, 700, 702]), 8, np.ones(4))
    assert batch.x.shape == (8, 3, 128)
    assert batch.present[:, :, 0].sum(axis=0).tolist() == [8, 1, 3]
    assert batch.x[:, 0, 0].tolist() == list(range(992, 1_000))
    assert batch.x[-3:, 2, 0].tolist() == [700, 701, 702]
    assert not batch.x[:-1, 1].any()


def test_conversations_of_any_length_are_read_together():
    replay, x = Replay(), np.ones(128, np.float32)
    first = replay.add(x)
    last = replay.add(3 * x, replay.add(2 * x))
    batch = replay.batch(np.array([first, last]), 8, np.ones(4))  # far fewer turns than there is room for
    assert batch.x[:, :, 0].tolist() == [[0, 2], [1, 3]]
    assert batch.present[:, :, 0].tolist() == [[0, 1], [1, 1]]


def test_feedback_can_be_taken_back():
    replay = Replay()
    turn = replay.add(np.zeros(128, np.float32))
    assert replay.labelled.tolist() == []
    replay.label(turn, Outcome(ModelSize.SMALL, 0.0))
    assert replay.labelled.tolist() == [turn]
    assert replay.label(turn, None)
    assert replay.labelled.tolist() == []


def test_a_saved_buffer_goes_on_with_the_same_turns():
    network, replay = FastGrnn(), Replay(capacity=50)
    tell(replay, network, *by_size(120, 2))
    last = replay.add(network.inputs(axes()[0].astype(np.float32)), 119)
    for most, count in ((1_000, 50), (20, 20), (0, 0)):
        again = Replay.from_bytes(replay.to_bytes(most))
        assert len(again) == count
        assert again.add(np.zeros(128, np.float32)) == last + 1
        assert again.label(last, Outcome(ModelSize.TINY, 1.0, tokens=5_000)) == (count > 0)
        for i in range(100):
            again.add(np.full(128, i, np.float32))
        assert len(again) == 50
        assert not again.label(last, None)
    again, ours = (r.batch(np.array([115, 118]), 4, np.ones(4)) for r in (Replay.from_bytes(replay.to_bytes()), replay))
    for theirs, mine in zip(again, ours, strict=True):
        np.testing.assert_array_equal(theirs, mine)


def test_a_damaged_buffer_is_refused():
    replay = Replay(capacity=10)
    tell(replay, FastGrnn(), *by_size(5, 2))
    data = replay.to_bytes()
    changed = [data[:30], data[:-1], b"X" + data[1:], data + data[-290:]]
    for start, what in ((8, b"\0\0\0\0"), (12, b"\xff" * 8), (12, b"\x04"), (20, b"\x00\x7c"), (20 + 256, b"\x07")):
        changed.append(data[:start] + what + data[start + len(what) :])
    for offset, what in ((272, b"\x04"), (273, b"\x05"), (274, b"\x00\x00\x00\x40"), (278, b"\x00\x00\x80\xbf")):
        changed.append(data[: 20 + offset] + what + data[20 + offset + len(what) :])
    for bad in changed:
        with pytest.raises(StoreError, match="no usable replay buffer"):
            Replay.from_bytes(bad)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Outcome(ModelSize.TINY, 1.5),
        lambda: Outcome(ModelSize.TINY, float("nan")),
        lambda: Outcome(ModelSize.TINY, 1.0, cost=-1.0),
        lambda: Outcome(ModelSize.TINY, 1.0, tokens=-1),
        lambda: Outcome(ModelSize.TINY, 1.0, temperature=3.0),
        lambda: Outcome(7, 1.0),
        lambda: Replay(0),
        lambda: FastGrnnTrainer(FastGrnn(), Replay(), rate=0.0),
        lambda: FastGrnnTrainer(FastGrnn(), Replay(), batch=0),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_fix(bad):
    with pytest.raises(InputError) as caught:
        bad()
    assert caught.value.field
    assert caught.value.fix


def test_speed_can_be_measured():
    speed = measure_fastgrnn()
    assert 0 < speed.forward_us < speed.decide_us
    assert speed.step_ms > 0
