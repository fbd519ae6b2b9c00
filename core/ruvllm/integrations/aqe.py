"""Agentic QE's names over ruvllm's parts: providers of completions, knowledge of agents, and three agents on top."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from ruvllm.errors import InputError
from ruvllm.memory.found import Found
from ruvllm.query.responses import Response
from ruvllm.reprs import Shown
from ruvllm.runtime import RuvLLM

T = TypeVar("T")
Validator = Callable[[str], bool | float | str | None]
_RIGHT = 0.5  # a number from which an answer counts as right
_MOST_CODE = 200_000  # characters of what agents are given
_FENCE = re.compile(r"```[\w+-]*[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL)
_MARK = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s*")  # of a list
_BRANCHES = (ast.If, ast.For, ast.While, ast.Try, ast.BoolOp, ast.IfExp, ast.Match, ast.comprehension)


@dataclass(frozen=True, slots=True, repr=False)
class Completed(Shown):
    """An answer.

    Attributes:
        confidence: 0 to 1; None where the model tells none.
        metadata: `request_id`, `latency` in milliseconds, `cost` in US dollars, `tier`, `session_id`; after a
            validator `attempts` and whether the answer is `valid`.
    """

    text: str
    model: str
    confidence: float | None
    metadata: Mapping[str, Any] = field(default_factory=dict)


class LLMProvider(ABC):
    """Whatever completes prompts; another one overrides the two methods that are awaited."""

    @abstractmethod
    async def acomplete(self, prompt: str, *, session_id: str | None = None, **constraints: Any) -> Completed:
        """The answer to a prompt."""

    @abstractmethod
    async def acomplete_with_feedback(
        self, prompt: str, validator: Validator, *, session_id: str | None = None, **constraints: Any
    ) -> Completed:
        """The answer, checked; what the check says is learnt."""

    def complete(self, prompt: str, **options: Any) -> Completed:
        """`acomplete`, for who waits. Raises InputError: in an event loop, which would stand still."""
        return self.wait(self.acomplete(prompt, **options), "acomplete")

    def complete_with_feedback(self, prompt: str, validator: Validator, **options: Any) -> Completed:
        """`acomplete_with_feedback`, for who waits."""
        return self.wait(self.acomplete_with_feedback(prompt, validator, **options), "acomplete_with_feedback")

    # As Agentic QE has it.
    completeWithFeedback = complete_with_feedback  # noqa: N815

    def wait(self, work: Coroutine[Any, Any, T], instead: str) -> T:
        """What a coroutine gives. Raises InputError: an event loop is running here; `instead` can be awaited."""
        return asyncio.run(work)


class LocalLLMProvider(LLMProvider):
    """Completes with one tier of a RuvLLM, which learns from what validators say.

    Args:
        llm: its backends answer; its memory and sessions are used.
        model: of its tiers or backends; "small" by default, "auto" lets it choose.
        attempts: of a checked completion.
    """

    TIERS: ClassVar[tuple[str, ...]] = ("small",)

    def __init__(self, llm: RuvLLM, model: str = "", attempts: int = 2) -> None:
        if not isinstance(attempts, int) or attempts < 1:
            raise InputError(f"attempts is {attempts!r}", field="attempts", fix="give 1 or more")
        self.llm, self.attempts, self._models = llm, attempts, (model,) if model else self.TIERS

    def wait(self, work: Coroutine[Any, Any, T], instead: str) -> T:
        """What a coroutine gives, in the loop that the backends are used in."""
        return self.llm.queries.wait(work, instead)

    async def acomplete(self, prompt: str, *, session_id: str | None = None, **constraints: Any) -> Completed:
        """The answer to a prompt.

        Args:
            session_id: of `RuvLLM.new_session`, whose history it takes into account.
            constraints: fields of `Constraints`: max_tokens, temperature, …

        Raises:
            BackendError: no backend gave an answer.
            InputError: an unusable prompt, session or constraint.
        """
        return await self._answer(prompt, self._models[0], session_id, constraints)

    async def acomplete_with_feedback(
        self, prompt: str, validator: Validator, *, session_id: str | None = None, **constraints: Any
    ) -> Completed:
        """The first answer that a validator takes, else the last; each verdict is feedback on its answer.

        Args:
            validator: an answer -> True or False, 0 to 1, or a text: what is wrong with it, which the next attempt is
                given. One that fails says no.
        """
        request, found = prompt, Completed("", "", None)
        for attempt in range(1, self.attempts + 1):
            model = self._models[min(attempt, len(self._models)) - 1]
            found = await self._answer(request, model, session_id, constraints)
            valid, quality, wrong = _verdict(validator, found.text)
            await self.llm.afeedback_request(found.metadata["request_id"], rating=1 + 4 * quality, task_success=valid)
            metadata = {**found.metadata, "attempts": attempt, "valid": valid}
            found = Completed(found.text, found.model, found.confidence, metadata)
            if valid:
                break
            request = f"{prompt}\n\nThe last answer was not right: {wrong}\n\n{found.text[:_MOST_CODE]}"
        return found

    async def _answer(
        self, prompt: str, model: str, session_id: str | None, constraints: Mapping[str, Any]
    ) -> Completed:
        forced = {} if model == "auto" else {"force_model": model}
        response = await self.llm.aquery(prompt, session=session_id, constraints={**forced, **constraints})
        return _completed(response)


class HybridLLMProvider(LocalLLMProvider):
    """The small tier first, the large one where its answer is unsure or a validator does not take it.

    Args:
        threshold: confidence below which the large tier is asked too; a model that tells none is taken at its word.
    """

    TIERS = ("small", "large")

    def __init__(self, llm: RuvLLM, threshold: float = 0.7, attempts: int = 2) -> None:
        super().__init__(llm, attempts=attempts)
        self.threshold = threshold

    async def acomplete(self, prompt: str, *, session_id: str | None = None, **constraints: Any) -> Completed:
        """As `LocalLLMProvider.acomplete`, by either tier."""
        first = await self._answer(prompt, "small", session_id, constraints)
        if first.confidence is None or first.confidence >= self.threshold:
            return first
        second = await self._answer(prompt, "large", session_id, constraints)
        spent = first.metadata["cost"] + second.metadata["cost"]
        return Completed(second.text, second.model, second.confidence, {**second.metadata, "cost": spent})


class AQEMemoryManager:
    """What agents know, each for itself, in a RuvLLM's memory."""

    def __init__(self, llm: RuvLLM) -> None:
        self._memory = llm.memory

    def store_knowledge(self, agent_id: str, knowledge: str, metadata: Mapping[str, Any] | None = None) -> int:
        """Remember a text for an agent; its id, on disk. Raises InputError, StoreError: as `MemoryStore.add`."""
        (id,) = self._memory.add(knowledge, metadata=dict(metadata or {}), collection=_collection(agent_id))
        return id

    def retrieve_knowledge(self, agent_id: str, query: str, k: int = 5) -> list[Found]:
        """What an agent remembers of a text, best first."""
        return self._memory.search(query, k, collection=_collection(agent_id))

    storeKnowledge, retrieveKnowledge = store_knowledge, retrieve_knowledge  # noqa: N815


class _Agent:
    """One that asks a provider, with what it remembers, and remembers what was right.

    Args:
        memory: None remembers nothing.
    """

    ID = ""

    def __init__(self, provider: LLMProvider, memory: AQEMemoryManager | None = None) -> None:
        self._provider, self._memory = provider, memory

    async def _ask(self, about: str, prompt: str, validator: Validator) -> Completed:
        stored = self._memory.retrieve_knowledge(self.ID, about, 3) if self._memory else []
        before = "\n\n".join(one.memory.text[:2000] for one in stored)
        request = f"{prompt}\n\nWhat was right before:\n{before}" if before else prompt
        found = await self._provider.acomplete_with_feedback(request, validator)
        if self._memory and found.metadata.get("valid"):
            self._memory.store_knowledge(self.ID, f"{about}\n\n{found.text}"[:8000], {"model": found.model})
        return found


class TestGeneratorAgent(_Agent):
    """Writes tests."""

    ID = "test-generator"
    __test__ = False  # pytest would take it for one

    async def agenerate(self, code: str, framework: str = "pytest") -> Completed:
        """Tests of a piece of code, as code; of Python's frameworks they are known to parse and to name a function.

        Raises:
            InputError: no code, or too much.
        """
        names = _functions(_checked(code))

        def validator(answer: str) -> bool | str:
            written = _code_in(answer)
            if not re.search(r"\b(?:def test|it\(|test\(|assert|expect)", written):
                return "it holds no test"
            if framework in ("pytest", "unittest"):
                try:
                    ast.parse(written)
                except (SyntaxError, ValueError, RecursionError) as error:
                    return f"it is no Python: {error}"
            return True if not names or any(name in written for name in names) else f"it tests none of {names[:5]}"

        what = f"Write tests with {framework} for this code. Answer with the code alone.\n\n```\n{code}\n```"
        found = await self._ask(f"tests with {framework} of {', '.join(names[:8]) or code[:80]}", what, validator)
        return Completed(_code_in(found.text), found.model, found.confidence, found.metadata)

    def generate(self, code: str, framework: str = "pytest") -> Completed:
        """`agenerate`, for who waits."""
        return self._provider.wait(self.agenerate(code, framework), "agenerate")


class CoverageAnalyzerAgent(_Agent):
    """Says what is not tested, and what to test next."""

    ID = "coverage-analyzer"

    async def aanalyze(self, code: str, missing: Sequence[int]) -> dict[str, Any]:
        """Of Python code and the lines that no test ran.

        Returns:
            {"coverage": share of the code's lines that ran, "uncovered": [functions with lines that did not],
            "suggestions": what the model says to test, "completion": its answer}.
        """
        lines = {number for number, line in enumerate(_checked(code).splitlines(), 1) if line.strip()}
        gone = lines & {int(one) for one in missing}
        spans = [(one.name, range(one.lineno, (one.end_lineno or one.lineno) + 1)) for one in _definitions(code)]
        uncovered = [name for name, span in spans if gone & set(span)]
        what = f"These lines are not tested: {sorted(gone)[:200]}, in {', '.join(uncovered[:20]) or 'no function'}."
        prompt = f"{what} Say in a list which tests would run them.\n\n```\n{code}\n```"
        found = await self._ask(what, prompt, lambda answer: bool(answer.strip()))
        suggestions = [_MARK.sub("", line).strip() for line in found.text.splitlines() if line.strip()]
        coverage = 1 - len(gone) / len(lines) if lines else 1.0
        return {"coverage": coverage, "uncovered": uncovered, "suggestions": suggestions, "completion": found}

    def analyze(self, code: str, missing: Sequence[int]) -> dict[str, Any]:
        """`aanalyze`, for who waits."""
        return self._provider.wait(self.aanalyze(code, missing), "aanalyze")


class DefectPredictorAgent(_Agent):
    """Says where defects are likely."""

    ID = "defect-predictor"

    async def apredict(self, code: str) -> dict[str, Any]:
        """Of a piece of code.

        Returns:
            {"risk": 0 to 1 as the model says, None where it says none, "reasons": [texts],
            "complexity": {function: branches + 1, of Python}, "completion": its answer}.
        """
        branches = {
            one.name: 1 + sum(isinstance(node, _BRANCHES) for node in ast.walk(one))
            for one in _definitions(_checked(code))
        }
        prompt = (
            'How likely has this code a defect? Answer with JSON alone: {"risk": 0 to 1, "reasons": ["…"]}.\n'
            f"Branches by function: {json.dumps(branches)}\n\n```\n{code}\n```"
        )
        about = f"defects in {', '.join(branches) or code[:80]}"
        found = await self._ask(about, prompt, lambda answer: _risk(answer) is not None or "it is no such JSON")
        risk, reasons = _risk(found.text) or (None, [])
        return {"risk": risk, "reasons": reasons, "complexity": branches, "completion": found}

    def predict(self, code: str) -> dict[str, Any]:
        """`apredict`, for who waits."""
        return self._provider.wait(self.apredict(code), "apredict")


def _completed(response: Response) -> Completed:
    metadata = {
        "request_id": response.request_id, "latency": response.latency.get("total", 0.0) / 1000, "cost": response.cost,
        "tier": response.tier.name.lower(), "session_id": response.session_id,
    }  # fmt: skip
    return Completed(response.text, response.routing.model, response.confidence, metadata)


def _verdict(validator: Validator, text: str) -> tuple[bool, float, str]:
    """(whether it is right, how good it is, what is wrong)."""
    try:
        said = validator(text)
    except Exception as error:  # a validator runs what a model wrote
        return False, 0.0, f"{type(error).__name__}: {error}"[:500]
    if isinstance(said, str):
        return False, 0.0, said[:2000]
    quality = min(max(float(said or 0), 0.0), 1.0)
    return quality >= _RIGHT, quality, "it did not pass the check"


def _collection(agent_id: str) -> str:
    if not isinstance(agent_id, str) or not agent_id.strip():
        raise InputError(f"agent_id is {agent_id!r}"[:80], field="agent_id", fix="name an agent")
    return f"agent:{agent_id}"


def _checked(code: object) -> str:
    if not isinstance(code, str) or not code.strip() or len(code) > _MOST_CODE:
        fix = f"give the code as text, up to {_MOST_CODE} characters"
        raise InputError("there is no code, or too much", field="code", fix=fix)
    return code


def _definitions(code: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Python's functions; none where it is another language."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _functions(code: str) -> list[str]:
    found = [one.name for one in _definitions(code)]
    return found or re.findall(r"\b(?:function|def|fn|func)\s+(\w+)", code)


def _code_in(answer: str) -> str:
    """The first block of code, or all of it."""
    found = _FENCE.search(answer)
    return (found[1] if found else answer).strip()


def _risk(answer: str) -> tuple[float, list[str]] | None:
    try:
        written = _code_in(answer)
        found = json.loads(written[written.index("{") : written.rindex("}") + 1])
        risk = float(found["risk"])
        reasons = [str(one) for one in found.get("reasons") or ()]
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError):
        return None
    return (risk, reasons) if 0 <= risk <= 1 else None
