import pytest

from ruvllm import Agent, Config, RuvLLM
from ruvllm.encoders.protocol import no_pause, run_now
from ruvllm.errors import BackendError, StoreError
from ruvllm.learning.federated import FederatedCoordinator, Update
from ruvllm.state.names import FEDERATED_SENT, PULLED

TEXTS = {
    "ada": ["fire the kiln", "mix a glaze", "wedge the clay", "throw a bowl", "trim the pots", "sieve the glaze"],
    "ben": ["open the hive", "feed the bees", "harvest honey", "catch the swarm", "smoke the hive", "move the bees"],
}
AGENTS = [Agent(name, "A colleague.") for name in TEXTS]


class Hub:
    """A coordinator in this process, as seen from elsewhere; it may take an update and lose its answer."""

    def __init__(self, dim):
        self.held, self.updates, self.loses = FederatedCoordinator(dim), [], 0

    async def push(self, data):
        self.updates.append(Update.from_bytes(data))
        accepted = self.held.aggregate(data)
        if self.loses:
            self.loses -= 1
            raise BackendError("the answer was lost", kind="unavailable")
        return accepted

    async def pull(self):
        self.held.consolidate()
        return self.held.model().to_bytes()


def opened(state=None, names="ada ben", **options):
    llm = RuvLLM(AGENTS, encoder="static", state=state, config=Config.from_dict({"federated": options}))
    for name in names.split():
        for text in TEXTS[name]:
            llm.feedback(text, name)
    return llm, Hub(llm.encoders.static.dim)


def texts_at(hub):
    hub.held.consolidate()
    return hub.held.stats().texts


def test_what_travels_is_confirmed_and_each_text_once():
    llm, hub = opened(names="ada")
    llm.feedback("FIRE  the kiln", "ada")  # the same text: it shall not count twice for k
    llm.feedback("sieve the glaze", "ada", right=False)
    llm.feedback("open the hive", "ben")
    pushed = run_now(llm.federated.push(hub))
    assert (pushed.texts, pushed.waiting) == (5, 1)
    assert run_now(llm.federated.push(hub)).updates == 0
    llm.feedback("mix a glaze", "ben")  # it has travelled already, whatever came of it since
    assert run_now(llm.federated.push(hub)).updates == 0
    assert run_now(llm.federated.push(hub, everything=True)).waiting == 6


def test_fewer_texts_than_a_group_needs_wait_for_others():
    llm, hub = opened(least=7)
    assert (run_now(llm.federated.push(hub)).texts, len(hub.updates)) == (0, 0)
    llm.feedback("stack the kiln", "ada")
    assert run_now(llm.federated.push(hub)).texts == 7


def test_a_lost_answer_is_followed_by_the_same_update(tmp_path):
    llm, hub = opened(tmp_path / "a.db")
    hub.loses = 1
    with pytest.raises(BackendError):
        run_now(llm.federated.push(hub))
    llm.close()
    again, _ = opened(tmp_path / "a.db", "")
    run_now(again.federated.push(hub))
    assert [update.serial for update in hub.updates] == [hub.updates[0].serial] * 2
    assert texts_at(hub) == 12


def test_two_that_push_from_one_file_at_once_send_each_text_once(tmp_path):
    llm, hub = opened(tmp_path / "a.db")
    other = RuvLLM(AGENTS, encoder="static", state=tmp_path / "a.db")
    beside = []

    async def meanwhile():
        if not beside:
            beside.append(await other.federated.push(hub))

    pushed = run_now(llm.federated.push(hub, meanwhile))
    assert (beside[0].texts, pushed.texts) == (12, 0)
    assert texts_at(hub) == 12


def test_noise_hides_words_and_numbers():
    llm, hub = opened(epsilon=8.0)
    run_now(llm.federated.push(hub))
    (update,) = hub.updates
    assert update.noise.epsilon == 8.0
    assert not any(group.terms for group in update.groups)


def test_what_others_taught_decides_but_is_never_to_be_used_unasked(tmp_path):
    taught, hub = opened(names="ben")
    run_now(taught.federated.push(hub))
    llm, _ = opened(tmp_path / "a.db", "ada")
    before = [llm.route(text) for text in TEXTS["ben"]]
    pulled = run_now(llm.federated.pull(hub))
    assert (pulled.routes, pulled.agents, pulled.texts, pulled.changed) == (1, ("ben",), 6, True)
    assert not run_now(llm.federated.pull(hub)).changed
    after = [llm.route(text) for text in TEXTS["ben"]]
    assert sum(one.agent == "ben" for one in before) <= 3
    assert sum(one.agent == "ben" for one in after) >= 5
    assert {one.action for one in after} <= {"confirm", "escalate"}
    assert all(one.evidence.scores["shared"] > 0 for one in after if one.agent == "ben")
    llm.close()
    later, _ = opened(tmp_path / "a.db", "")
    assert [later.route(text).agent for text in TEXTS["ben"]] == [one.agent for one in after]
    assert run_now(later.federated.undo_pull())
    assert [later.route(text).confidence for text in TEXTS["ben"]] == [one.confidence for one in before]
    assert not run_now(later.federated.undo_pull())


def test_agents_that_are_not_here_and_a_review_change_nothing_of_it(tmp_path):
    taught, hub = opened(names="ben")
    run_now(taught.federated.push(hub))
    llm, _ = opened(tmp_path / "a.db", "ada")
    run_now(llm.federated.pull(hub))
    llm.review()
    assert sum(llm.route(text).agent == "ben" for text in TEXTS["ben"]) >= 5
    llm.add_agents([Agent("cyd", "Weaves on a loom.")])
    assert llm.route(TEXTS["ben"][0]).agent == "ben"
    llm.close()
    other = RuvLLM([AGENTS[0], Agent("cyd", "Weaves on a loom.")], encoder="static", state=tmp_path / "a.db")
    assert other.route("weave linen on the loom").agent == "cyd"


def test_a_damaged_model_leaves_what_was_learnt_here(tmp_path):
    llm, _ = opened(tmp_path / "a.db", "ada")
    llm.store.put(PULLED, b"nonsense")
    llm.close()
    llm, _ = opened(tmp_path / "a.db", "")
    assert llm.route(TEXTS["ada"][0]).agent == "ada"
    assert llm.stats()["failures"] == {"federated": 1}
    llm.store.put(FEDERATED_SENT, b"nonsense")
    with pytest.raises(StoreError, match="--all"):
        run_now(llm.federated.push(Hub(llm.encoders.static.dim), no_pause))


def searched(state=None, times=20):
    """One whose searches were rated: who asks for a colour wants a fruit, which shares no word with it."""
    llm = RuvLLM(AGENTS, encoder="static", state=state)
    ids = llm.memory.add(["cherries and strawberries", "bananas and lemons", "a bicycle with red paint", "a red car"])
    for n in range(times):
        llm.memory.rate(f"something red for visitor {n}", [ids[0]])
    return llm, Hub(llm.encoders.static.dim)


def test_what_rated_searches_taught_moves_the_searches_of_others(tmp_path):
    llm, hub = searched()
    pushed = run_now(llm.federated.push(hub))
    assert (pushed.texts, pushed.updates) == (0, 1)
    assert hub.updates[0].adapter is not None
    assert run_now(llm.federated.push(hub)).updates == 0  # each rating travels once
    path = tmp_path / "state.db"
    with RuvLLM(AGENTS, encoder="static", state=path) as other:
        cherries, _ = other.memory.add(["cherries and strawberries", "a red car"])
        before = other.memory.search("something red for a stranger", 2)
        assert run_now(other.federated.pull(hub)).changed
        after = other.memory.search("something red for a stranger", 2)
        cosine = {one.memory.id: one.score for one in before}[cherries]
        moved = {one.memory.id: one.score for one in after}[cherries]
        assert moved > cosine + 0.05
    with RuvLLM(AGENTS, encoder="static", state=path) as other:
        again = {one.memory.id: one.score for one in other.memory.search("something red for a stranger", 2)}
        assert again[cherries] == pytest.approx(moved, abs=1e-5)
        assert run_now(other.federated.undo_pull())
        undone = {one.memory.id: one.score for one in other.memory.search("something red for a stranger", 2)}
        assert undone[cherries] == pytest.approx(cosine, abs=1e-5)


def test_few_rated_searches_wait_and_other_vectors_are_left_alone():
    llm, hub = searched(times=4)
    assert run_now(llm.federated.push(hub)).updates == 0
    config = Config.from_dict({"learning": {"query_adapter": False}})
    llm, hub = searched()
    run_now(llm.federated.push(hub))
    with RuvLLM(AGENTS, encoder="static", config=config) as other:
        (car,) = other.memory.add(["a red car"])
        (before,) = other.memory.search("something red", 1)
        run_now(other.federated.pull(hub))
        (after,) = other.memory.search("something red", 1)
        assert (before.memory.id, before.score) == (car, pytest.approx(after.score))
