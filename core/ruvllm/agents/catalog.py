"""The built-in agents, and how a mapping becomes an Agent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any
from zlib import decompress

from ruvllm.errors import InputError
from ruvllm.reprs import shortened
from ruvllm.text.surrogates import well_formed
from ruvllm.types import Agent, Tier

MAX_AGENTS = 10_000
_MAX_TEXT = 20_000
_MAX_NAME = 200
_MAX_NUMBER = 1e15  # a longer one is no name
_MAX_EXAMPLES = 2_000
_MAX_BODY = 8_000
KINDS = ("agent", "skill", "command", "tool")
_TOOL = re.compile(r"(?:[^,(]|\([^()]*\)?)+")  # a comma in brackets, as in Bash(a, b), parts none
_GIVE = 'give Agent("name", "what it does"), mappings with a `name`, or the path of a folder or a file'
_MODEL_TIERS = {"haiku": Tier.SMALL, "sonnet": Tier.LARGE, "opus": Tier.LARGE}


# A path, a text that names sources, or agents from code; a list may hold sources (`agents.sources`) instead.
Agents = str | Path | Agent | Mapping[str, Any] | Iterable[Any]


def as_agents(given: object) -> list[Agent]:
    """Agents as code gives them: one or several, each an Agent or a mapping with its fields, which are checked.

    Raises:
        InputError: something else is among them, or a field is unusable.
    """
    given = [given] if isinstance(given, Agent | Mapping) else given
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InputError(f"agents is {shortened(given)}", field="agents", fix=_GIVE)
    return [_as_agent(one, f"agents[{number}]") for number, one in enumerate(islice(given, MAX_AGENTS + 1))]


def _as_agent(one: object, where: str) -> Agent:
    if isinstance(one, Agent):
        one = {name: getattr(one, name) for name in Agent.__dataclass_fields__}
    if not isinstance(one, Mapping):
        raise InputError(f"{where} is {shortened(one)}", field="agents", fix=_GIVE)
    return agent_from(one, where)


def agent_from(data: Mapping[str, Any], where: str = "agent") -> Agent:
    """An Agent from loose data, every field checked.

    Args:
        data: `name` and any of description, category, keywords, examples, tier, model, tools,
            requires, kind, scope, body; other keys are ignored.
            Keywords, tools and requires may also be one comma-separated string, examples one with a line for each.
        where: what to call it in an error.

    Raises:
        InputError: a field is missing, too long or of the wrong type.
    """
    agent, notes = read_agent(data, where)
    if notes:
        raise notes[0]
    return agent


def read_agent(data: Mapping[str, Any], where: str = "agent", name: str = "") -> tuple[Agent, list[InputError]]:
    """As `agent_from`, but what cannot be used costs its field only.

    Args:
        name: what to call one without a usable name.

    Returns:
        (agent, what was left out or cut).

    Raises:
        InputError: it has no name.
    """
    row = _Row(data, where)
    called = " ".join(row.text("name", _MAX_NAME).split())
    if name and not re.search(r"\w|[^ -~]", called):
        row.note("name", f"it has no usable name and is called {name!r}", "give it a `name`")
        called = name[:_MAX_NAME]
    if not called:
        raise next(iter(row.notes), InputError(f"{where} has no name", field="name", fix="give it a `name`"))
    model = row.text("model", _MAX_NAME).lower()
    model = "" if model == "inherit" else model
    agent = Agent(
        name=called,
        description=row.text("description", _MAX_TEXT),
        category=row.text("category", _MAX_NAME) or "custom",
        keywords=row.texts("keywords", lambda text: text.split(",")),
        examples=row.texts("examples", str.splitlines),
        tier=row.tier() or next((tier for key, tier in _MODEL_TIERS.items() if key in model), None),  # FEATURES.md R10
        model=model or None,
        tools=row.texts("tools", _TOOL.findall),
        source=row.text("source", _MAX_TEXT),
        requires=row.texts("requires", lambda text: text.split(",")),
        kind=row.kind(),
        scope=row.text("scope", _MAX_NAME),
        body=row.body(),
    )
    return agent, row.notes


class _Row:
    """Loose data, and what of it could not be used."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self._data, self._where, self.notes = data, where, list[InputError]()

    def note(self, field: str, why: str, fix: str) -> None:
        self.notes.append(InputError(f"{self._where}: {why}" if self._where else why, field=field, fix=fix))

    def text(self, field: str, most: int) -> str:
        value = self._data.get(field)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER:
            self.note(field, f"`{field}` is a number", "put it in quotes")
            value = str(value)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.note(field, f"`{field}` is a {type(value).__name__}", "make it a string")
            return ""
        if len(value) > most:
            self.note(field, f"`{field}` has {len(value)} characters", f"keep it under {most}")
        return well_formed(value[:most]).strip()

    def texts(self, field: str, split: Callable[[str], list[str]]) -> tuple[str, ...]:
        value = self._data.get(field)
        if isinstance(value, Mapping) and field == "tools":  # as in {bash: true, write: false}
            value = [key for key, on in value.items() if on not in (False, None, "false", "no", "off")]
        if value is None:
            return ()
        if isinstance(value, str):
            value = split(value)
        if not isinstance(value, list | tuple):
            self.note(field, f"`{field}` is a {type(value).__name__}", "write a list of strings")
            return ()
        found = [item for item in value if isinstance(item, str)]
        if len(found) < len(value):
            odd = type(next(item for item in value if not isinstance(item, str))).__name__
            self.note(field, f"`{field}` is not a list of strings: a {odd} is in it", "write a list of strings")
        if field == "tools":  # YAML has parted [Bash(a, b)] in two
            found = split(", ".join(found))
        if len(found) > _MAX_EXAMPLES:
            self.note(field, f"{len(found)} {field}", f"keep at most {_MAX_EXAMPLES}")
        some = (well_formed(item[:_MAX_TEXT]).strip() for item in found[:_MAX_EXAMPLES])
        return tuple(dict.fromkeys(item for item in some if item))

    def kind(self) -> str:
        value = self._data.get("kind")
        if value is None or value in KINDS:
            return value or KINDS[0]
        self.note("kind", f"the kind is none of {', '.join(KINDS)}", "use one of these")
        return KINDS[0]

    def body(self) -> str:
        """Its beginning, where it is long: a manual is no fault."""
        value = self._data.get("body")
        return well_formed(value[:_MAX_BODY]).strip() if isinstance(value, str) else ""

    def tier(self) -> Tier | None:
        value = self._data.get("tier")
        if value is None:
            return None
        number = value.strip() if isinstance(value, str) else "" if isinstance(value, bool) else value
        found = next((tier for tier in Tier if number in (tier, str(int(tier)))), None)
        if found is None:
            self.note("tier", "the tier is none of 1, 2 and 3", "use 1 (booster), 2 (small) or 3 (large)")
        return found


def unique(agents: Iterable[Agent]) -> tuple[Agent, ...]:
    """The agents as a set that can be routed to. Raises InputError: none, too many, or two of one name."""
    out: dict[str, Agent] = {}
    for agent in agents:
        if agent.name in out:
            raise InputError(f"two agents are called {agent.name!r}", field="name", fix="rename or drop one of them")
        out[agent.name] = agent
    if not out:
        raise InputError("there is no agent to route to", field="agents", fix="give at least one agent")
    if len(out) > MAX_AGENTS:
        raise InputError(f"{len(out)} agents", field="agents", fix=f"route among at most {MAX_AGENTS}")
    return tuple(out.values())


def spoken_name(name: str) -> str:
    """ "cicd-engineer" as words: "cicd engineer"."""
    return " ".join(name.replace("-", " ").replace("_", " ").replace("/", " ").split())


def card(agent: Agent) -> str:
    """What an encoder reads of an agent."""
    return f"{agent.name}: {agent.description}" if agent.description else spoken_name(agent.name)


def agent_of(row: Sequence[Any]) -> Agent:
    """From its fields in their order, as JSON gives them."""
    values: list[Any] = [tuple(value) if isinstance(value, list) else value for value in row]
    agent = Agent(*values)
    return agent if agent.tier is None else replace(agent, tier=Tier(agent.tier))


@cache
def _builtin() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(decompress(Path(__file__).with_name("builtin.json.z").read_bytes()))
    return found


@cache
def builtin_agents() -> tuple[Agent, ...]:
    """The built-in catalog, as `python build/catalog.py` read it from core/catalog."""
    return tuple(map(agent_of, _builtin()["agents"]))


@cache
def builtin_words() -> dict[Agent, tuple[dict[str, float], list[list[str]]]]:
    """Of each built-in agent what `routing.fusion.words_of_agent` says."""
    return dict(zip(builtin_agents(), map(tuple, _builtin()["words"]), strict=True))


def builtin_digest() -> str:
    """SHA-256 of the catalog's files: artifacts made from it name it."""
    return str(_builtin()["digest"])
