"""Typed decisions: the options of a question are agents that nobody has seen before, and feedback teaches it.

A choice is scored as agents are. Yes or no is how near a state is to the statement, and to its negation; the levels
of a score are texts that lie on a line, where a level beside a likely one is likely too.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from os import urandom
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.cache import LruCache
from ruvllm.encoders.protocol import Encoder, Pause, Vectors, no_pause
from ruvllm.errors import InputError, StoreError
from ruvllm.routing.calibration import softmax
from ruvllm.routing.encoders import EncoderSet
from ruvllm.routing.evidence import outcomes_of
from ruvllm.routing.fusion import RouterWeights, lexicon
from ruvllm.routing.head import Examples
from ruvllm.routing.questions import Answer, Answers, Question, read_questions, state_text
from ruvllm.routing.scorer import Scored, Scorer, TaskView
from ruvllm.routing.stored import load_scorers, save_scorers
from ruvllm.routing.teaching import teach
from ruvllm.state.names import DECISIONS, PrefixedStore, question_name
from ruvllm.state.packing import Spec, array_json, json_array, pack, unpack
from ruvllm.state.store import Store
from ruvllm.text.lexical import content, stems
from ruvllm.types import Agent, Feedback

# Chosen on collections of described tools (BANKING77 was not among them) and on one half of tests/data/decide.json.
_SHARPNESS = 1.4  # of the logits of options that are all described
_LIKE, _AGAINST, _BIAS = 10.4, 6.5, -1.8  # log odds of yes: cosine to the statement, its lead over the negation's
_STEP, _NEXT_LEVEL = 40.0, 0.15  # of a level's cosine; of its probability, what a neighbour has

_BUILT, _READ, _MOST_READ = 64, 256, 50_000  # questions in memory; what callers wrote, and how long
_MOST_LOGGED, _STORED = (
    50_000_000,
    100,
)  # characters of the decisions that feedback can name; how many outlive a process
_LONGEST = 4_000  # characters of a state that is remembered
_EACH, _FEWEST, _MOST_EXAMPLES = 20, 200, 4_000  # examples an option, and of a question: the oldest leave
_MOST_QUESTIONS = 500  # that are stored; those taught longest ago leave
_GROWN = 1.5  # times as many examples, from when a question is fitted again
_SOON = 2_000  # examples times options that feedback fits at once, some 0.1 s; more waits for a quiet moment
_SPECS = {"rows": Spec(("bytes",), "uint8"), "vectors": Spec(("examples", "dim"))}

Row = tuple[str, str, Vectors]
Logged = tuple[str, dict[str, Question]]


class _Likeness(Scorer):
    """Scores the two sides of a statement, or the levels of a score, by the cosine of a state and what they say.

    Args:
        texts: float32 (options, dim), what they say.
        blank: of the same options, without an example.
    """

    def __init__(self, question: Question, texts: Vectors, blank: Scorer) -> None:
        super().__init__(blank.vectors, blank.fitted, blank.stage)
        self._yes_or_no, self._texts = question.type == "noul", texts

    def untaught(self, vectors: Vectors, views: Sequence[TaskView]) -> list[Scored]:
        """As `Scorer.untaught`; the one feature is the cosine."""
        return list(map(self._likeness, vectors))

    def _likeness(self, vector: NDArray[np.float32]) -> Scored:
        cosines: NDArray[np.float32] = self._texts @ vector
        zero = cosines * np.float32(_STEP)
        if self._yes_or_no:
            odds = _LIKE * float(cosines[0]) + _AGAINST * float(cosines[0] - cosines[1]) + _BIAS
            zero = np.array([odds / 2, -odds / 2], np.float32)
        return Scored(np.stack([cosines, zero]), zero, np.float32(1))


class _Built:
    """One question under one encoder, with what feedback taught of it.

    Attributes:
        rows: the examples, oldest first: a state, its option and its vector, float32 (dim,).
        fitted: how many of them the scorer was last fitted to.
        digest: of what is stored.
    """

    def __init__(self, question: Question, agents: Sequence[Agent], scorer: Scorer) -> None:
        self.question, self.agents, self.scorer = question, agents, scorer
        self.rows: list[Row] = []
        self.fitted = 0
        self.digest: str | None = None
        self._lexicon = lexicon(agents)
        self._place = {agent.name: i for i, agent in enumerate(agents)}
        self._described = all(agent.description for agent in agents)

    def answer(
        self, question: Question, words: list[str], vector: Vectors, encoder: str, weights: RouterWeights
    ) -> Answer:
        """To the same question, whatever order it has its options in."""
        view = TaskView(words, self._lexicon.scores(content(words)))
        found = self._probabilities(view, vector, encoder, weights)
        if question.type == "choice":
            found = found[[self._place[name] for name in question.names]]
        return Answer.of(question, found)

    def _probabilities(self, view: TaskView, vector: Vectors, encoder: str, weights: RouterWeights) -> Vectors:
        scored = self.scorer.score(vector, view)
        calibration = self.scorer.fitted.calibration
        if calibration is not None:
            out = softmax(scored.logits / np.float32(calibration.temperature))
            return out * np.float32(1 - calibration.lapse) + np.float32(calibration.lapse / len(out))
        if self.question.type != "choice":
            out = softmax(scored.logits)
            return _neighbours_too(out) if self.question.type == "score" else out
        if self._described:
            return softmax(scored.logits * np.float32(_SHARPNESS))
        (outcome,) = outcomes_of(encoder, [scored], self.scorer.fitted, weights, [None])
        out = outcome.probabilities
        return np.asarray(out / out.sum(), np.float32)

    def with_row(self, row: Row) -> list[Row]:
        """The examples together with one; the last word on a state counts, and the oldest leave."""
        most = min(max(_EACH * len(self.agents), _FEWEST), _MOST_EXAMPLES)
        return [*(one for one in self.rows if one[0] != row[0]), row][-most:]

    def learn(self, row: Row) -> None:
        """Move at once so that a state like this one is answered alike."""
        (text, option, vector), rows = row, self.with_row(row)
        self.fitted = max(self.fitted - (len(self.rows) + 1 - len(rows)), 0)
        self.rows, view, head = rows, self._view(text), self.scorer.fitted.head
        offsets = self.scorer.score(vector, view).logits - head.logits(vector, view.words)
        head.learn(vector, view.words, offsets, self._place[option])

    @property
    def grown(self) -> bool:
        """Whether there are so many new examples that fitting them all once more is worth while."""
        return len(self.rows) > self.fitted and len(self.rows) >= _GROWN * self.fitted

    @property
    def small(self) -> bool:
        """Whether that is done in a moment."""
        return len(self.rows) * len(self.agents) <= _SOON

    async def fit(self, slow: bool, pause: Pause) -> None:
        """Fit all examples once more; what is learnt meanwhile is learnt by the result too.

        Args:
            slow: whether the encoder is, so that nearest examples may take their time as well.
        """
        rows = sorted(self.rows, key=lambda row: self._place[row[1]])  # neighbours stand by label
        views = [self._view(text) for text, _, _ in rows]
        vectors = np.stack([vector for _, _, vector in rows])
        labels = np.array([self._place[option] for _, option, _ in rows], np.int64)
        zero = [scored.logits for scored in self.scorer.untaught(vectors, views)]
        words, ones = [view.words for view in views], np.ones(len(rows), np.float32)
        before = {text: option for text, option, _ in rows}
        self.scorer.fitted = await teach(
            Examples(vectors, words, labels, np.stack(zero), ones), neighbours=slow, pause=pause
        )
        self.fitted = len(rows)
        for row in [row for row in self.rows if before.get(row[0]) != row[1]]:
            self.learn(row)

    def feedback(self) -> list[Feedback]:
        return [Feedback(text, option) for text, option, _ in self.rows]

    def _view(self, text: str) -> TaskView:
        words = stems(text)
        return TaskView(words, self._lexicon.scores(content(words)))


class DecisionService:
    """Answers questions, and learns which answers were right.

    Args:
        store: where what was taught is stored, and the latest decisions.
        keep: whether states of decisions may be written down, so that a later process can be given feedback on them.
    """

    def __init__(self, encoders: EncoderSet, store: Store, keep: bool = True) -> None:
        self._encoder: Encoder = encoders.main
        self._weights, self._space, self._store = encoders.weights, encoders.space, store
        self._slow = encoders.main.name != "static"
        self._keep = keep and store.path != ":memory:"
        self._built: OrderedDict[str, _Built] = OrderedDict()
        self._before: LruCache[str, dict[str, Question]] = LruCache(_READ)
        self._log: OrderedDict[str, Logged] = OrderedDict()
        self._logged, self._unsaved = 0, False  # characters in the log

    async def decide(self, state: object, questions: object) -> Answers:
        """Answer all questions about one state, which is read once.

        Args:
            state: text, or JSON whose values are read with their keys; up to 64 KiB.
            questions: by name, as `read_questions` takes them.

        Raises:
            InputError: the state or a question cannot be used; it is named.
        """
        read, text = self._read(questions), state_text(state)
        vector, words = (await self._encoder.encode([text]))[0], stems(text)
        answers = {}
        for name, question in read.items():
            built = await self._question(question)
            answers[name] = built.answer(question, words, vector, self._encoder.name, self._weights)
        id = f"dec-{urandom(8).hex()}"
        self._remember(id, text[:_LONGEST], read)
        return Answers(id, answers, self._encoder.name)

    async def feedback(self, id: str, answer: object) -> dict[str, int]:
        """How a decision's questions should have been answered: on disk when this returns, and learnt at once.

        Args:
            id: of `Answers`.
            answer: where there was one question the right answer to it: an option, true or false, the number of a
                level; else {name: answer} for any of them.

        Returns:
            How many examples each of these questions has now.

        Raises:
            InputError: the decision is not remembered, or the answer is none of the question's.
            StoreError: it cannot be written; nothing has changed then.
        """
        text, questions = self._find(id)
        lessons = _lessons(questions, answer)
        vector = (await self._encoder.encode([text]))[0]
        new = []
        for name, question, option in lessons:
            built = await self._question(question)
            if built.digest != self._store.digest(question_name(question.key)):  # another process has taught it too
                del self._built[question.key]
                built = await self._question(question)
            new.append((name, built, (text, option, vector)))
        with self._store.write():
            for _, built, row in new:
                built.digest = self._save_rows(built.question.key, built.with_row(row))
        counts = {}
        for name, built, row in new:
            built.learn(row)
            if built.grown and built.small:
                await self._fit(built, no_pause)
            counts[name] = len(built.rows)
        return counts

    @property
    def grown(self) -> bool:
        """Whether a question has learnt so much that it is to be fitted once more."""
        return any(built.grown for built in self._built.values())

    async def review(self, pause: Pause = no_pause) -> int:
        """Fit the questions that have learnt much since they were last fitted; how many these were.

        Args:
            pause: awaited between steps; questions go on being answered meanwhile.
        """
        grown = [built for built in self._built.values() if built.grown]
        for built in grown:
            await self._fit(built, pause)
        return len(grown)

    def save(self) -> None:
        """Write the latest decisions, so that a later process can be given feedback. Raises StoreError: it cannot."""
        if not (self._unsaved and self._keep):
            return
        latest = {id: [text, _plain(questions)] for id, (text, questions) in list(self._log.items())[-_STORED:]}
        with self._store.write():
            rows = list((self._stored() | latest).items())[-_STORED:]
            self._store.put(DECISIONS, json.dumps(dict(rows)).encode())
        self._unsaved = False

    def _read(self, questions: object) -> dict[str, Question]:
        """What `read_questions` gives; callers ask the same again and again."""
        try:
            written = json.dumps(questions)
        except (TypeError, ValueError, RecursionError):
            return read_questions(questions)
        read = self._before.get(written)
        if read is None:
            read = read_questions(questions)
            if len(written) <= _MOST_READ:
                self._before.put(written, read)
        return read

    def _remember(self, id: str, text: str, questions: dict[str, Question]) -> None:
        self._log[id], self._unsaved = (text, questions), True
        self._logged += _size(self._log[id])
        while self._logged > _MOST_LOGGED and len(self._log) > 1:
            self._logged -= _size(self._log.popitem(last=False)[1])

    def _find(self, id: object) -> Logged:
        if isinstance(id, str):
            if id in self._log:
                return self._log[id]
            with suppress(ValueError, TypeError):  # what is damaged is as good as forgotten
                text, questions = self._stored().get(id, ())
                return str(text), read_questions(questions)
        fix = "use the id of a recent decision"
        raise InputError(f"no decision {str(id)[:60]!r} is remembered", field="request_id", fix=fix)

    def _stored(self) -> dict[str, Any]:
        """Decisions of earlier processes as `save` writes them; none where they are damaged."""
        try:
            rows = json.loads((self._store.load(DECISIONS) if self._keep else None) or b"{}")
        except (ValueError, RecursionError, StoreError):
            return {}
        return rows if isinstance(rows, dict) else {}

    async def _question(self, question: Question) -> _Built:
        """It, ready to be answered, with all that it was taught."""
        if question.key not in self._built:
            built = await self._build(question)
            self._built[question.key] = built
            while len(self._built) > _BUILT:
                self._built.popitem(last=False)
        self._built.move_to_end(question.key)
        return self._built[question.key]

    async def _build(self, question: Question) -> _Built:
        agents = [Agent(name, text) for name, text in question.meanings()]
        weights, encoder = self._weights, self._encoder
        scorer = await Scorer.build(agents, lexicon(agents), encoder, weights.stages[encoder.name], weights.adapter)
        if question.type != "choice":
            texts = await encoder.encode([agent.description for agent in agents])
            scorer = _Likeness(question, texts, scorer)
        built = _Built(question, agents, scorer)
        name = question_name(question.key)
        built.digest, data = self._store.digest(name), self._store.load(name)
        if data:
            await self._take_up(built, data)
        return built

    async def _take_up(self, built: _Built, data: bytes) -> None:
        """What was taught before, as far as it is of these options; what is damaged is learnt again."""
        key, names = built.question.key, {agent.name for agent in built.agents}
        try:
            arrays = unpack(data, "decision", _SPECS)
            stored = array_json(arrays["rows"], "decision")
            texts = [(str(text), str(option)) for text, option in stored["rows"]]
        except (StoreError, ValueError, TypeError, KeyError):
            return
        vectors = arrays["vectors"]
        if stored.get("space") != self._space or vectors.shape != (len(texts), self._encoder.dim):
            vectors = await self._encoder.encode([text for text, _ in texts])
        rows = [(text, option, v) for (text, option), v in zip(texts, vectors, strict=True) if option in names]
        part: Any = PrefixedStore(self._store, f"{question_name(key)}/")
        built.rows = rows
        found = load_scorers(part, built.agents, built.feedback(), self._weights).get(self._encoder.name)
        if found is not None:
            built.scorer.fitted, built.fitted = found[0].fitted, found[1]
        built.rows = rows[: built.fitted]
        for row in rows[built.fitted :]:
            built.learn(row)
        if built.grown and built.small:
            await built.fit(self._slow, no_pause)

    def _save_rows(self, key: str, rows: Sequence[Row]) -> str | None:
        """Put the examples of a question on disk; their digest. Of very many questions the oldest leave."""
        stored = {"space": self._space, "rows": [row[:2] for row in rows]}
        arrays: dict[str, NDArray[Any]] = {"rows": json_array(stored), "vectors": np.stack([row[2] for row in rows])}
        with self._store.write() as db:
            self._store.put(question_name(key), pack(arrays, "decision"))
            every = "SELECT substr(name, 1, ?) FROM learnt WHERE name LIKE ? GROUP BY 1 ORDER BY max(changed) DESC"
            length, like = len(question_name(key)), question_name("%")
            for (name,) in db.execute(f"{every} LIMIT -1 OFFSET ?", (length, like, _MOST_QUESTIONS)).fetchall():
                db.execute("DELETE FROM learnt WHERE name = ? OR name LIKE ?", (name, f"{name}/%"))
        return self._store.digest(question_name(key))

    async def _fit(self, built: _Built, pause: Pause) -> None:
        await built.fit(self._slow, pause)
        part: Any = PrefixedStore(self._store, f"{question_name(built.question.key)}/")
        seen = {self._encoder.name: (built.scorer, built.fitted)}
        save_scorers(part, seen, built.agents, built.feedback(), self._weights)


def _lessons(questions: Mapping[str, Question], answer: object) -> list[tuple[str, Question, str]]:
    """What an answer teaches which question: (its name, the question, the option)."""
    some = ", ".join(list(questions)[:8])
    if not isinstance(answer, Mapping):
        if len(questions) != 1:
            fix = f"give {{question: answer}} for any of {some}"
            raise InputError("there were several questions", field="answer", fix=fix)
        answer = {next(iter(questions)): answer}
    if strange := [str(name)[:60] for name in answer if name not in questions]:
        raise InputError(f"no question is called {strange[0]!r}", field="answer", fix=f"use {some}")
    if not answer:
        raise InputError("answer is empty", field="answer", fix=f"give {{question: answer}} for any of {some}")
    return [(name, questions[name], questions[name].option(right)) for name, right in answer.items()]


def _plain(questions: Mapping[str, Question]) -> dict[str, Any]:
    return {name: question.to_dict() for name, question in questions.items()}


def _size(logged: Logged) -> int:
    return len(logged[0]) + sum(question.size for question in logged[1].values())


def _neighbours_too(probabilities: Vectors) -> Vectors:
    """A level beside a likely one is likely too: float32 (levels,)."""
    levels = np.arange(len(probabilities))
    near = _NEXT_LEVEL ** np.abs(levels[:, None] - levels)
    return np.asarray((near / near.sum(0)) @ probabilities, np.float32)
