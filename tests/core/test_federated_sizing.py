"""What outcomes say of models travels as sums over prompts, and is chosen by where nothing was seen."""

import numpy as np
import pytest

from ruvllm import Config, RuvLLM
from ruvllm.encoders.protocol import run_now
from ruvllm.errors import InputError
from ruvllm.learning.federated import EphemeralAgent, FederatedCoordinator, Privacy, SharedModel, Update
from ruvllm.learning.federated.wire import outcome_arrays
from ruvllm.sizing.bandit import shared_width
from ruvllm.sizing.selector import BackendProfile
from ruvllm.state.packing import json_array, pack

DIM = 8
WIDTH = shared_width(DIM)
BACKENDS = (BackendProfile("mini", 0.001, 400), BackendProfile("maxi", 0.03, 3_000))


class Hub:
    """A coordinator in this process."""

    def __init__(self, dim):
        self.held, self.updates = FederatedCoordinator(dim), []

    async def push(self, data):
        self.updates.append(Update.from_bytes(data))
        return self.held.aggregate(data)

    async def pull(self):
        self.held.consolidate()
        return self.held.model().to_bytes()


def opened(like=None, **options):
    return RuvLLM(encoder="static", like=like, config=Config.from_dict({"federated": options}))


def taught(llm, count=24, task="prove theorem {} of topology", good=("maxi",)):
    selector = llm.orchestrator(BACKENDS)
    for n in range(count):
        for name in ("mini", "maxi"):
            selector.record_outcome(name, name in good, prompt=task.format(n))
    return selector


def test_who_saw_nothing_expects_what_others_saw(static_llm):
    llm, hub = opened(static_llm), Hub(static_llm.encoders.static.dim)
    taught(llm)
    pushed = run_now(llm.federated.push(hub))
    assert (pushed.outcomes, pushed.texts, pushed.updates) == (48, 0, 1)
    assert run_now(llm.federated.push(hub)).updates == 0
    llm.sizing.orchestrator.record_outcome("mini", True, prompt="prove theorem 99 of topology")
    assert run_now(llm.federated.push(hub)).updates == 0  # it waits for others of its model
    assert run_now(llm.federated.push(hub, everything=True)).outcomes == 49
    with opened(static_llm) as other:
        selector = other.orchestrator(BACKENDS)
        inputs = run_now(selector._inputs("prove theorem 70 of topology"))
        before = selector.bandit.expected(inputs)
        assert selector.preferred(inputs, ["mini", "maxi"], [1.0, 1.0]) is None
        assert run_now(other.federated.pull(hub)).models == ("maxi", "mini")
        mini, maxi = selector.bandit.expected(inputs)
        assert (mini, maxi) == pytest.approx([0.05, 0.95], abs=0.1)
        assert selector.preferred(inputs, ["mini", "maxi"], [1.0, 1.0])[0] == "maxi"
        again = other.orchestrator(BACKENDS)  # made anew
        assert again.bandit.expected(inputs) == pytest.approx([mini, maxi], abs=1e-6)
        for _ in range(40):  # what happens here counts too
            again.record_outcome("maxi", False, prompt="prove theorem 70 of topology")
        assert again.bandit.expected(inputs)[1] < maxi - 0.2
        run_now(other.federated.undo_pull())
        assert not again.bandit.pulled.any()
        fresh = other.orchestrator([*BACKENDS, BackendProfile("third", 1)])
        assert fresh.bandit.expected(inputs)[:2] == pytest.approx(before, abs=1e-3)


def test_a_prompt_counts_once_and_few_prompts_wait(static_llm):
    llm, hub = opened(static_llm, least=5), Hub(static_llm.encoders.static.dim)
    selector = taught(llm, 4)
    for _ in range(9):
        selector.record_outcome("mini", True, prompt="prove theorem 0 of topology")
    assert run_now(llm.federated.push(hub)).updates == 0
    selector.record_outcome("mini", False, prompt="prove theorem 4 of topology")
    assert run_now(llm.federated.push(hub)).outcomes == 5
    (group,) = hub.updates[0].outcomes
    assert (group.route.split()[1], group.count, group.quality, group.terms) == ("mini", 5.0, 1.0, {})


def test_noise_hides_how_many_there_are(static_llm):
    llm, hub = opened(static_llm, epsilon=8.0), Hub(static_llm.encoders.static.dim)
    taught(llm, 40)
    run_now(llm.federated.push(hub))
    (update,) = hub.updates
    assert update.noise.epsilon == 8.0
    assert all(group.count != round(group.count) for group in update.outcomes)


def agent(name="a", quality=1.0, count=6, **options):
    made = EphemeralAgent(name, DIM, **options)
    for n in range(count):
        inputs = np.zeros(WIDTH, np.float32)
        inputs[n % DIM], inputs[-1] = 0.5, quality / 2
        made.process_outcome("space mini", inputs, quality)
    return made


def test_bad_answers_travel_and_a_liar_is_left_out():
    hub = FederatedCoordinator(DIM)
    for name in "abcd":
        hub.aggregate(agent(name, 0.0 if name < "d" else 1.0).export_state().to_bytes())
    hub.consolidate()
    assert (hub.stats().answers, hub.stats().outliers) == (18, 1)
    model = SharedModel.from_bytes(hub.model().to_bytes())
    assert sum(group.quality for group in model.outcomes) == 0.0
    again = FederatedCoordinator(DIM)
    again.load(hub.to_bytes())
    assert again.model().to_bytes() == hub.model().to_bytes()


def forged(groups, changes, left_out=""):
    sent = Update.from_bytes(groups.to_bytes())
    arrays = outcome_arrays(sent.outcomes) | {f"outcome_{name}": value for name, value in changes.items()}
    arrays.pop(left_out, None)
    header = {"agent": "a", "serial": 1, "k": 5, "noise": None, "held_back": 0, "refused": 0}
    header |= {"names": {"routes": [], "tags": []}, "outcomes": {"routes": ["space mini"], "tags": [[]]}}
    empty = {"totals": np.zeros((0, DIM), np.float32), "route": np.zeros(0, np.int32)}
    empty |= {name: np.zeros(0) for name in ("counts", "quality")}
    empty |= {"ends": np.zeros(0, np.int64), "terms": np.zeros(0, np.int64), "uses": np.zeros(0, np.int32)}
    return pack(arrays | empty | {"header": json_array(header)}, "federated")


@pytest.mark.parametrize(
    ("changes", "left_out", "field"),
    [
        ({"totals": np.full((1, WIDTH), np.nan, np.float32)}, "", "outcome_totals"),
        ({"totals": np.full((1, WIDTH), 9.0, np.float32)}, "", "outcome_totals"),
        ({"totals": np.zeros((1, WIDTH + 1), np.float32)}, "", "outcome_totals"),
        ({"totals": np.zeros((2, WIDTH), np.float32)}, "", "outcome_counts"),
        ({"counts": np.array([1e12])}, "", "outcome_counts"),
        ({"counts": np.array([np.inf])}, "", "outcome_counts"),
        ({"counts": np.array([4.0])}, "", "outcome_counts"),
        ({"quality": np.array([7.0])}, "", "outcome_quality"),
        ({"quality": np.array([-1.0])}, "", "outcome_quality"),
        ({"route": np.array([3], np.int32)}, "", "outcome_route"),
        ({}, "outcome_counts", "outcomes"),
    ],
)
def test_hostile_outcomes_are_refused_by_their_field(changes, left_out, field):
    assert FederatedCoordinator(DIM).aggregate(forged(agent().export_state(), {})).outcomes == 6
    hub = FederatedCoordinator(DIM)
    with pytest.raises(InputError) as refused:
        hub.aggregate(forged(agent().export_state(), changes, left_out))
    assert field in (refused.value.field, *str(refused.value).split("'"))
    assert hub.stats().agents == 0


def test_what_is_no_outcome_is_refused():
    private = agent(count=0, privacy=Privacy(), routes=["north"], models=["space mini"])
    for call in (
        lambda: agent().process_outcome("m", np.ones(WIDTH, np.float32), 1.0),
        lambda: agent().process_outcome("m", np.zeros(WIDTH - 1, np.float32), 1.0),
        lambda: agent().process_outcome("m", np.full(WIDTH, np.nan, np.float32), 1.0),
        lambda: agent().process_outcome("m", np.zeros(WIDTH, np.float32), 2.0),
        lambda: agent().process_outcome("", np.zeros(WIDTH, np.float32), 1.0),
        lambda: private.process_outcome("space other", np.zeros(WIDTH, np.float32), 1.0),
    ):
        with pytest.raises(InputError):
            call()
