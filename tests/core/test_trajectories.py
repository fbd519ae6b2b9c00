import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from ruvllm.errors import InputError, StoreError
from ruvllm.learning.trajectories import Step, Trajectory, TrajectoryBuffer, TrajectoryBuilder
from ruvllm.state.packing import Spec as Shape
from ruvllm.state.packing import json_array, pack, unpack

DIM = 4


def trajectory(id, **about):
    vector = np.eye(DIM, dtype=np.float32)[id % DIM]
    steps = (Step("the oven is cold 🔥", "heat it", 0.5), Step("warm", "bake", -1.0))
    told = Trajectory(id, vector, steps, ("kitchen",), "baker", 0.8, True, 0.8, True, "General", {"hot": True}, 12.5)
    return replace(told, **about)


def test_a_builder_collects_steps_contexts_and_facts():
    builder = TrajectoryBuilder()
    builder.add_step("knead the dough", "knead", 1)
    builder.add_step("it sticks", "flour", 0.25)
    builder.add_context("bakery")
    builder.add_context("bakery")
    builder.add_context({"batch": 3})
    builder.add_context({"oven": "stone", "batch": 4})
    builder.set_route("baker")
    assert builder.text == "knead the dough"
    made = builder.trajectory(7, np.ones(DIM, np.float32) / 2, "General", 3.0)
    assert (made.id, made.route, made.contexts, made.ended) == (7, "baker", ("bakery",), 3.0)
    assert made.rewards == (1.0, 0.25)
    assert made.metadata == {"batch": 4, "oven": "stone"}


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), 10**400, True, "1"])
def test_a_reward_is_a_finite_number(reward):
    with pytest.raises(InputError) as error:
        TrajectoryBuilder().add_step("a", "b", reward)
    assert error.value.field == "reward"


@pytest.mark.parametrize(
    "facts", [{"deep": {}}, {1: "a"}, {"list": [1]}, {"x": float("nan")}, {str(i): i for i in range(99)}]
)
def test_facts_are_flat_and_few(facts):
    with pytest.raises(InputError) as error:
        TrajectoryBuilder().add_context(facts)
    assert error.value.field == "metadata"


def test_steps_and_contexts_are_bounded():
    builder = TrajectoryBuilder()
    for _ in range(256):
        builder.add_step("x" * 1000, "y", 0)
    assert len(builder.steps[0].input) == 200
    assert len(builder.text) == 1000, "the task itself is encoded as a whole"
    with pytest.raises(InputError, match="256 steps"):
        builder.add_step("a", "b", 0)
    for i in range(32):
        builder.add_context(str(i))
    with pytest.raises(InputError, match="32 contexts"):
        builder.add_context("one more")
    with pytest.raises(InputError) as error:
        builder.set_route("r" * 201)
    assert error.value.field == "route"


def test_the_oldest_leaves_a_full_buffer():
    buffer = TrajectoryBuffer(3)
    for id in range(1, 6):
        buffer.add(trajectory(id))
    assert [one.id for one in buffer] == [3, 4, 5]
    assert (len(buffer), buffer.dropped) == (3, 2)
    assert [one.id for one in buffer.latest(2)] == [4, 5]
    buffer.learnt(4)
    assert [one.id for one in buffer] == [5]
    assert buffer.dropped == 2, "what was learnt is not lost"


def test_text_is_bounded_too():
    buffer = TrajectoryBuffer(1000, most_text=2000)
    for id in range(1, 100):
        buffer.add(trajectory(id))
    assert 2 < len(buffer) < 20
    assert buffer.dropped == 99 - len(buffer)


def test_a_buffer_comes_back_as_it_was():
    buffer, other = TrajectoryBuffer(3), TrajectoryBuffer(3)
    for id in range(1, 6):
        buffer.add(trajectory(id, quality=None if id == 4 else 0.5, success=None))
    other.load(buffer.to_bytes(DIM), DIM)
    for before, after in zip(buffer, other, strict=True):
        assert asdict(replace(after, vector=None)) == asdict(replace(before, vector=None))
        assert (after.vector == before.vector).all()
    assert other.dropped == 2
    with pytest.raises(StoreError):
        other.load(buffer.to_bytes(DIM), DIM + 1)


def damaged(change):
    buffer = TrajectoryBuffer()
    for id in (1, 2):
        buffer.add(trajectory(id))
    specs = {"vectors": Shape(("n", DIM)), "records": Shape(("bytes",), "uint8")}
    found = unpack(buffer.to_bytes(DIM), "trajectories", specs)
    told = json.loads(found["records"].tobytes())
    change(told)
    return pack(found | {"records": json_array(told)}, "trajectories")


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.pop(),
        lambda told: told[1].pop(),
        lambda told: told[1][0].update(id=2),
        lambda told: told[1][0].update(id=True),
        lambda told: told[1][0].update(quality=7),
        lambda told: told[1][0].update(score=10**400),
        lambda told: told[1][0].update(success="yes"),
        lambda told: told[1][0].update(success=[]),
        lambda told: told[1][0].update(contexts=5),
        lambda told: told[1][0].update(steps=[["a", "b"]]),
        lambda told: told[1][0].update(steps=[["a" * 999, "b", 0]]),
        lambda told: told[1][0].update(metadata=[1]),
        lambda told: told[1][0].update(metadata={"a": []}),
        lambda told: told[1][0].pop("route"),
        lambda told: told[1][0].update(more=1),
        lambda told: told.__setitem__(0, -1),
    ],
)
def test_damaged_records_are_refused_and_change_nothing(change):
    buffer = TrajectoryBuffer()
    buffer.add(trajectory(9))
    with pytest.raises(StoreError):
        buffer.load(damaged(change), DIM)
    assert [one.id for one in buffer] == [9]
