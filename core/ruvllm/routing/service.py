"""Which agent takes a task: the agents of today, what feedback has taught about them, and where that is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from ruvllm.agents.catalog import builtin_agents, unique
from ruvllm.config import Config
from ruvllm.encoders.protocol import Pause, no_pause, pause
from ruvllm.errors import InputError, unknown
from ruvllm.routing.encoders import EncoderSet
from ruvllm.routing.evidence import Votes
from ruvllm.routing.extend import moved_prior
from ruvllm.routing.prebuilt import PrebuiltScorers, RouterArtifacts
from ruvllm.routing.reading import checked_text
from ruvllm.routing.router import Router, SharedModel
from ruvllm.routing.scorer import Scorer
from ruvllm.routing.stored import CachedScorers, is_long, load_scorers, save_scorers
from ruvllm.state.names import REVIEWED, TIERS
from ruvllm.state.store import Store
from ruvllm.text.surrogates import well_formed
from ruvllm.types import Action, Agent, Decision, Feedback, Team

if TYPE_CHECKING:
    from ruvllm.routing.lint import Finding
    from ruvllm.sizing.trained import TrainedTiers


Fit = Callable[[Router], Awaitable[None]]  # warms a new router up in its own way, as a server does in a thread


_DIGITS = 19  # of an id in SQLite
_BLOCK = 2_048  # rows of feedback read at a time
_MUCH, _LONG = 200, 3_600.0  # feedback that waits for a review: so much, or so many seconds
_AT_ONCE = 50  # feedback that a task waits for


class RoutingService:
    """Routes among a set of agents that can change, and learns from feedback, which is stored before it is learnt.

    Args:
        artifacts: what comes with ruvllm: the built-in agents' scorers.
        store: where feedback is stored, and scorers that were fitted to it.
        config: `router` names what decides, and what names the tier of a task; `learning.near_duplicates`.
        votes: of outcomes of similar tasks; None where nobody votes.
        shared: gives what others' feedback taught, where it was pulled.

    Attributes:
        router: decides; another one after each change of agents.

    Raises:
        InputError: two agents of one name, or none at all.
    """

    def __init__(
        self,
        encoders: EncoderSet,
        artifacts: RouterArtifacts,
        store: Store,
        agents: Sequence[Agent],
        config: Config | None = None,
        votes: Votes | None = None,
        shared: Callable[[], SharedModel | None] = lambda: None,
    ) -> None:
        self.encoders, self._artifacts, self._store = encoders, artifacts, store
        self._config, self._votes, self._shared = config or Config(), votes, shared
        self.router = self._router_for(agents)

    @property
    def agents(self) -> tuple[Agent, ...]:
        """The agents routed among."""
        return self.router.agents

    def agent(self, name: str) -> Agent:
        """One of them by its name. Raises InputError: there is none."""
        found = self.router.agent(well_formed(name)) if isinstance(name, str) else None
        if found is None:
            raise unknown("agent", name, (agent.name for agent in self.agents))
        return found

    async def route(self, text: str, top: int = 3, team: bool = False) -> Decision:
        """The agent, confidence and tier for a task.

        Args:
            top: alternatives to name.
            team: whether an unsure decision also says which agents take the task together, if several do.

        Raises:
            InputError: the text is empty or far too large.
        """
        decision = await self.router.route(text, top)
        return await self.with_team(text, decision) if team else decision

    async def route_many(self, texts: Sequence[str], top: int = 3, team: bool = False) -> list[Decision]:
        """The same for each of many, sooner. Raises InputError: as `route`, before the first is routed."""
        found = await self.router.route_many(texts, top)
        return [await self.with_team(*pair) for pair in zip(texts, found, strict=True)] if team else found

    async def with_team(self, text: str, decision: Decision) -> Decision:
        """An unsure one that also says which agents take the task together, if several do."""
        if decision.action == Action.USE:
            return decision
        members = (await self.route_complex(text)).members
        return replace(decision, team=tuple(one.agent for one in members)) if len(members) > 1 else decision

    async def route_complex(self, text: str) -> Team:
        """The agents that take a compound task together. Raises InputError: as `route`."""
        from ruvllm.routing.team import build_team

        return await build_team(checked_text(text), self.router)

    def add_agents(self, agents: Iterable[Agent]) -> None:
        """Route among these too; one of a name that there is takes the other's place."""
        self.use(self._with(agents))

    async def add_agents_warm(self, agents: Sequence[Agent]) -> None:
        """`add_agents`; tasks are routed among the old ones until the new set is fitted."""
        while True:
            before, router = self.router, self._with(agents)
            await router.warm(pause)
            if self.router is before:  # nothing else was added meanwhile
                break
        self.use(router)

    async def replace_agents(self, agents: Sequence[Agent], fit: Fit | None = None) -> None:
        """Route among these and no others, once they are fitted. Raises InputError: there is none."""
        router = self._router_for(agents)
        await (router.warm(pause) if fit is None else fit(router))
        self.use(router)

    async def feedback(self, text: str, agent: str, weight: float = 1.0, right: bool = True) -> None:
        """This text belongs to this agent, or not: stored first, then learnt at once.

        Raises:
            InputError: an unknown agent, an empty text or a weight out of range.
            StoreError: the file takes nothing. What it refuses alone is set aside, and learnt all the same.
        """
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 10:
            raise InputError(f"weight is {weight!r}", field="weight", fix="use a number above 0, up to 10")
        name = well_formed(agent) if isinstance(agent, str) else agent
        feedback = Feedback(checked_text(text), name, float(weight), bool(right))
        self.router.check(feedback)
        self._store.set_aside.write_each(
            "feedback", [feedback], lambda _: [self._store.add_feedback(feedback)], lambda _: name, asdict
        )
        await self.router.learn(feedback)

    async def review(self, pause: Pause = no_pause) -> int:
        """Fit all that feedback taught once more and store the result; how much feedback there is.

        Tasks go on being routed meanwhile.

        Raises:
            StoreError: it cannot be stored; what was learnt stands all the same.
        """
        router, (last, _, _) = self.router, self._unreviewed()
        feedback, end = await self._read_feedback(pause)
        if self._store.outbox.enabled:
            router = await self._refitted(pause)
            self.use(router)
        else:
            await router.review(pause)
        names = {agent.name for agent in router.agents}
        feedback = [one for one in feedback + self._store.feedback_since(end)[0] if one.agent in names]
        save_scorers(self._store, router.learnt, router.agents, feedback, self.encoders.weights)
        self._store.put(REVIEWED, str(last).encode())
        return len(feedback)

    async def _read_feedback(self, pause: Pause) -> tuple[list[Feedback], int]:
        """(all that is stored, in the order of its ids, the last of these), `pause` awaited between blocks of it."""
        found, last, more = list[Feedback](), 0, True
        while more:
            block, last = self._store.feedback_since(last, _BLOCK)
            found += block
            more = bool(block)
            await pause()
        return found, last

    async def _refitted(self, pause: Pause) -> Router:
        """A router fitted from nothing, so that nodes which have the same feedback decide alike."""
        router, rows = self._made(self.agents), self._store.feedback_rows()
        router.note_stored([row.feedback for row in rows], max((row.id for row in rows), default=0))
        router.defer()
        await router.review(pause)
        return router if router.agents == self.agents else await self._refitted(pause)

    @property
    def unreviewed(self) -> int:
        """How much feedback no review has seen."""
        return self._unreviewed()[1]

    def needs_review(self, now: float) -> bool:
        """Whether much feedback waits for a review, or some for long.

        Args:
            now: seconds since 1970.
        """
        _, count, oldest = self._unreviewed()
        return count >= _MUCH or (count > 0 and now - oldest >= _LONG)

    def undo(self, *ids: int) -> list[Feedback]:
        """Take feedback back, by its ids in the state file: learnt from no more. Returns what there was of it."""
        rows = {row.id: row.feedback for row in self._store.feedback_rows(min(ids, default=0) - 1)}
        undone = [rows[id] for id in ids if id in rows and self._store.undo_feedback(id)]
        if undone:
            self.use(self._router_for(self.agents))
        return undone

    async def begin(self, pause: Pause = no_pause) -> bool:
        """Decide at once where the agents are so many that fitting them takes long; whether that is still to be done.

        What was learnt of the built-in ones holds, others are scored by their texts alone. Another service, of the
        same store, is to be warmed up behind this one, and to `keep` what it has fitted.
        """
        if self._config.router.strategy != "hybrid" or not is_long(self.agents):
            return False
        encoders, before = self.encoders, None
        if encoders.custom is None:
            before = self._artifacts.scorers(builtin_agents(), encoders.prebuilt, encoders.weights)
        return await self.router.begin(before, pause)

    def keep(self) -> bool:
        """Store what took long to fit, so that the next start need not; whether there was such.

        Raises:
            StoreError: it cannot be written.
        """
        router = self.router
        if not router.anew or not is_long(router.agents):
            return False
        feedback = self.feedback_for(router.agents)
        save_scorers(self._store, router.learnt, router.agents, feedback, self.encoders.weights)
        return True

    async def reload(self, fit: Fit) -> Router:
        """A router for the same agents from what the store has now; `use` lets it decide."""
        router = self._router_for(self.agents)
        await fit(router)
        return router

    def feedback_for(self, agents: Sequence[Agent]) -> list[Feedback]:
        """All stored feedback for these agents, oldest first."""
        names = {agent.name for agent in agents}
        return [feedback for feedback in self._store.feedback() if feedback.agent in names]

    def lint(self) -> list[Finding]:
        """What to change about the agents: confusable, duplicated, empty ones."""
        from ruvllm.routing.lint import lint_agents

        return lint_agents(self.agents, self.encoders.static)

    def stats(self) -> Mapping[str, int]:
        """Counts of the decision cache and of feedback."""
        return self.router.stats

    def save(self) -> None:
        """Store what a custom encoder took long to read. Raises StoreError: it cannot be written."""
        if self.encoders.custom is not None:
            self.encoders.custom.save(self._store, self.router, self.feedback_for(self.agents))

    def _unreviewed(self) -> tuple[int, int, float]:
        """Of feedback that no review has seen: (id of the last, how much, when the first was given)."""
        seen = self._reviewed()
        sql = "SELECT coalesce(max(id), ?), count(*), coalesce(min(created), 0) FROM feedback WHERE id > ?"
        ((last, count, oldest),) = self._store.read(sql, (seen, seen))
        return int(last), int(count), float(oldest)

    def _reviewed(self) -> int:
        stored = self._store.load(REVIEWED) or b""
        return int(stored) if stored.isdigit() and len(stored) < _DIGITS else 0

    def _with(self, added: Iterable[Agent]) -> Router:
        merged = {agent.name: agent for agent in (*self.agents, *added)}
        return self._router_for(list(merged.values()))

    def use(self, router: Router) -> None:
        """Let a router decide from now on, with what was stored since it was made."""
        last, count = router.noted
        sql = "SELECT count(*) FROM feedback WHERE id <= ? AND NOT undone"
        if self._store.read(sql, (last,))[0][0] != count:  # some was taken back
            router = self._router_for(router.agents)
        else:
            router.note_stored(*self._store.feedback_since(last))
        self.router = router

    def note(self, feedback: Sequence[Feedback]) -> bool:
        """Take in feedback that is stored already, before the next task; false where it is left to a review.

        So much that a task would wait for it is, where a review is due.
        """
        if len(feedback) > _AT_ONCE:
            sql = "SELECT count(*) FROM (SELECT 1 FROM feedback WHERE id > ? LIMIT ?)"
            if self._store.read(sql, (self._reviewed(), _MUCH))[0][0] == _MUCH:
                return False
        for one in feedback:
            if self.router.agent(one.agent) is not None:
                self.router.note(one)
        return True

    def _tiers(self, choice: str) -> TrainedTiers | None:
        if choice == "words" or (choice == "kept" and self._store.load(TIERS) is None):
            return None
        from ruvllm.sizing.trained import load_tiers

        return load_tiers(choice, self._store, self._artifacts.host)

    def _router_for(self, agents: Sequence[Agent]) -> Router:
        """A router with what is prebuilt of these agents, and stored; it learns the rest before it decides."""
        feedback, last = self._store.feedback_since()
        router = self._made(agents, feedback)
        router.note_stored(feedback, last)
        return router

    def _made(self, agents: Sequence[Agent], feedback: Sequence[Feedback] | None = None) -> Router:
        """A router for these agents, with what is stored of one that learnt from this feedback; None: with nothing."""
        encoders, chosen, prebuilt = self.encoders, unique(agents), None
        if self._config.router.strategy != "hybrid":
            bare = [replace(agent, examples=()) for agent in chosen]
            mode = "static" if self._config.router.strategy == "keywords" else encoders.mode
            weights = encoders.weights.only(self._config.router.strategy)
            return Router(bare, encoders.static, encoders.contextual, weights, mode=mode)
        if encoders.custom is None:
            prebuilt = self._artifacts.scorers(agents, encoders.prebuilt, encoders.weights)
        host, names = self._artifacts.host, [one.name for one in (encoders.static, encoders.contextual) if one]
        cached = CachedScorers(host.cache if encoders.custom is None else None, chosen, encoders.weights, names)
        if prebuilt is None and (built := cached.load()):
            prebuilt = PrebuiltScorers(chosen, built)
        bases = prebuilt.bases(chosen, names) if prebuilt else {}
        priors = {name: moved_prior(basis.scorer.fitted.prior, basis.moves) for name, basis in bases.items()}
        found: dict[str, tuple[Scorer, int]] = {}
        if feedback is not None:
            names_of = {agent.name for agent in chosen}
            heard = [one for one in feedback if one.agent in names_of]
            found = load_scorers(self._store, chosen, heard, encoders.weights, priors)
        if found:
            before = prebuilt.scorers if prebuilt and prebuilt.agents == chosen else {}
            prebuilt = PrebuiltScorers(chosen, before | {name: scorer for name, (scorer, _) in found.items()})
        if encoders.custom is not None:
            paths = encoders.custom.saved
            (paths.add if encoders.custom.model.name in found else paths.discard)(self._store.path)
        tiers = self._tiers(self._config.router.tier_model)
        if tiers is not None:  # where it was learnt on other vectors, the words of a task decide
            space = encoders.static_space if tiers.difficulty.encoder == encoders.static.name else encoders.space
            tiers = tiers if tiers.difficulty.space in ("", space) else None
        return Router(
            chosen,
            encoders.static,
            encoders.contextual,
            encoders.weights,
            mode=encoders.mode,
            prebuilt=prebuilt,
            seen={name: count for name, (_, count) in found.items()},
            tiers=tiers,
            built=cached.save,
            shared=self._shared(),
            votes=self._votes,
            near_duplicates=self._config.learning.near_duplicates,
        )
