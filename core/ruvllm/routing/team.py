"""Teams for compound tasks: which parts a task has, and which agent takes each (FEATURES.md R7, R8).

A part is a clause of its own ("…, add tests and document it"), a facet that the text names in passing ("with auth"),
or, in any language, what stands between commas and conjunctions and is surely some agent's by itself. Each part is
phrased as a task and routed like any other, so the members are whatever agents the user has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ruvllm.routing.router import Router
from ruvllm.types import Decision, Team, TeamMember, Tier


@dataclass(frozen=True, slots=True)
class Facet:
    """A kind of work.

    Attributes:
        role: what the member of a team does.
        cue: words that call for it by themselves.
        task: how the work is put to the router; {} is the subject.
        builds: whether building a whole product calls for it unasked.
        part: whether it is a part of a product ("the API") rather than something done to one ("test").
    """

    role: str
    cue: re.Pattern[str]
    task: str
    builds: bool = False
    part: bool = False


def _facet(role: str, cue: str, task: str, *, builds: bool = False, part: bool = False) -> Facet:
    return Facet(role, re.compile(rf"\b(?:{cue})\b", re.IGNORECASE), task, builds, part)


FACETS = (
    _facet("research", "research|investigate|compare|evaluate options|best practices",
           "research options and best practices for {}"),
    _facet("plan", r"plan|roadmap|estimate|break (?:it )?down|prioriti[sz]e",
           "break the work on {} down into a plan with milestones"),
    _facet("design", "design|architect(?:ure)?|schema|data model",
           "draw up the overall system architecture of {}, from client to database", builds=True),
    _facet("api", "apis?|backend|back-end|server(?:-side)?|endpoints?|graphql|rest",
           "implement the server-side API and database access of the backend of {}", builds=True, part=True),
    _facet("frontend", "front-?end|ui|user interface|components?|web ?page|react|vue|svelte|dashboard",
           "implement the user interface components and pages of {}", builds=True, part=True),
    _facet("mobile", "mobile|ios|android|react native|flutter",
           "build the mobile app screens in React Native for {}", part=True),
    _facet("ml", r"machine learning|ml|recommendations?|classifier|predict\w*|train(?:ing)? a model",
           "train and evaluate a machine learning model for {}", part=True),
    _facet("debug", r"fix|debug|bugs?|crash\w*|broken|leak", "find and fix the bug in {}"),
    _facet("refactor", r"refactor\w*|clean up|restructure|simplify|rewrite|moderni[sz]e",
           "refactor {} without changing its behaviour"),
    _facet("auth", r"auth\w*|log-?in|sign-?in|oauth2?|jwt|security|secure|permissions?|encrypt\w*|vulnerabilit\w*",
           "design secure authentication and authorisation for {} and check it for vulnerabilities", part=True),
    _facet("performance", "optimi[sz]e|faster|performance|slow|latency|speed up", "optimize {} to make it faster"),
    _facet("qa", "tests?|testing|qa|coverage|e2e", "write unit and integration tests for {}", builds=True),
    _facet("review", "review", "review the code of {}"),
    _facet("docs", r"document\w*|docs|readme|guide", "write the documentation and README of {}"),
    _facet("deploy", r"deploy\w*|ci/?cd|pipeline|docker\w*|kubernetes|k8s|infrastructure|hosting|release",
           "set up the CI/CD pipeline and deployment of {}"),
)  # fmt: skip


_MAX_MEMBERS = 8
_SURE, _SURE_WORD = 0.5, 0.7  # from which a clause, and one of a single word, is somebody's
_MAX_CHARS = 4_000


_BUILD = re.compile(r"\b(?:build|create|develop|make|implement|launch|set up|write)\b", re.IGNORECASE)
_PRODUCT = re.compile(
    r"\b(?:full[- ]?stack|apps?|application|platform|saas|product|web ?site|web ?shop|shop|store|marketplace|portal"
    r"|system|mvp|from scratch|end[- ]to[- ]end)\b",
    re.IGNORECASE,
)
_NARROW = re.compile(r"\b(?:tests?|docs?|documentation|bug|readme|component|function|endpoint|script)\b", re.IGNORECASE)
_CLAUSES = re.compile(
    r"\s*(?:[;\n]|,\s*(?:and\s+)?(?:then\s+)?|\.\s+|\b(?:and then|then|and also|and)\b)\s*", re.IGNORECASE
)
# What may stand between two asks, in the languages that tasks come in.
_BETWEEN = re.compile(
    r"\s*(?:[,;，；、。\n]|\.\s|\b(?:and|then|also|plus|und|dann|y|luego|et|puis|e|poi|en|daarna|oraz|potem|и|затем)\b"
    r"|(?-i:\bi\b)(?=\s\w*(?:uj|aj|isz|aw|óż|dź|ób|uń|ać|ić)\b))[\s*-]*",  # "and" in Polish, "the" in Italian
    re.IGNORECASE,
)
_ITEM = re.compile(r"[-*•]|\d{1,2}[.)]")
_VERB = re.compile(
    r"^(?:please\s+)?(?:add|announce|audit|automate|backport|build|bump|check|clean up|compare|configure"
    r"|containeri[sz]e|convert|create|cut|debug|delete|deploy|design|dockeri[sz]e|document|draft|drop|enable|estimate|explain|extract"
    r"|fix|generate|implement|install|instrument|integrate|investigate|make|merge|migrate|move|optimi[sz]e|plan"
    r"|port|prepare|profile|provision|publish|put|refactor|release|remove|rename|replace|research|review|rewrite|secure"
    r"|set up|speed up|summari[sz]e|switch|test|train|translate|update|upgrade|verify|write)\b",
    re.IGNORECASE,
)
# What is made into something else: the thing itself.
_CHANGED = re.compile(
    r"^(?:please\s+)?(?:convert|migrate|move|port|rewrite|translate|upgrade)\s+(.+?)\s+(?:from|in|into|to)\b",
    re.IGNORECASE,
)
_LOOSE = re.compile(
    r"^(?:(?:and|to|for|with|in|of|on)\b\s*)+|(?:\s*\b(?:and|to|for|with|in|of|on|the|an?|our|my))+$", re.IGNORECASE
)
_EXTRAS = re.compile(r"\b(?:with|using|that|which|including|on top of)\b", re.IGNORECASE)
_LEAD = re.compile(
    r"^(?:please\s+)?(?:(?:can|could) you\s+)?(?:build|create|develop|make|implement|launch|set up|write|add)\s+",
    re.IGNORECASE,
)


def parts(text: str) -> list[tuple[str, str]]:
    """(role, task) of each part of a compound task, in working order; one part for a simple task."""
    text = " ".join(text[:_MAX_CHARS].split())
    clauses = [clause for clause in _CLAUSES.split(text) if clause] or [text]
    first = clauses[0]
    whole = bool(_BUILD.search(first) and _PRODUCT.search(first)) and not _NARROW.search(first)
    if len(clauses) >= 2 and not whole and all(map(_VERB.match, clauses)):
        return [(_role(clause), _anchored(clause, first)) for clause in clauses][:_MAX_MEMBERS]
    wanted = [facet for facet in FACETS if facet.cue.search(text) or (whole and facet.builds)]
    # "test the auth API" is one deed, and its parts are only named; "add auth to the API" is two parts.
    if len(wanted) < 2 or (not whole and not all(facet.part for facet in wanted)):
        return [(_role(text), text)]
    subject = _subject(first)
    others = {facet.role: () if whole else tuple(one for one in wanted if one is not facet) for facet in wanted}
    return [(one.role, one.task.format(_without(subject, others[one.role]))) for one in wanted][:_MAX_MEMBERS]


def _subject(clause: str) -> str:
    """The product itself: "build a full-stack app with auth" is about "a full-stack app"."""
    named = _LEAD.sub("", clause).rstrip(".!? ")
    core = _EXTRAS.split(named)[0].strip()
    return core if _PRODUCT.search(core) else named or clause


def _without(subject: str, others: Sequence[Facet]) -> str:
    """A subject that names several parts, as one of them sees it: "login to the API" is "the API" to the API."""
    left = subject
    for other in others:
        left = other.cue.sub("", left)
    return _LOOSE.sub("", " ".join(left.split())) or subject


def _role(clause: str) -> str:
    """The facet of a clause: the one whose cue comes first."""
    found = [(match.start(), facet.role) for facet in FACETS if (match := facet.cue.search(clause))]
    return min(found)[1] if found else "main"


def _anchored(clause: str, first: str) -> str:
    """A later clause with "it" gets the first one's subject."""
    changed = _CHANGED.match(first)
    subject = changed[1] if changed else _VERB.sub("", first).strip()
    return re.sub(r"\b(?:it|them|that|this)\b\.?$", subject, clause) if subject and clause != first else clause


async def build_team(text: str, router: Router) -> Team:
    """The agents for a task's parts; a simple task gets a team of one.

    Two parts that fall to one agent become one member with both roles.
    """
    members: dict[str, TeamMember] = {}
    tier = Tier.BOOSTER
    text, found = text[:_MAX_CHARS], _listed(text) or parts(text)
    for role, task in found if len(found) > 1 else await _asks(found[0], text, router):
        decision: Decision = await router.route(task)
        tier = max(tier, decision.tier)
        held = members.get(decision.agent)
        if held is None:
            members[decision.agent] = TeamMember(decision.agent, role, task, decision.confidence)
        else:
            roles, tasks = f"{held.role} + {role}", f"{held.task}; {task}"
            members[decision.agent] = TeamMember(held.agent, roles, tasks, max(held.confidence, decision.confidence))
    return Team(tuple(members.values()), tier)


def _listed(text: str) -> list[tuple[str, str]]:
    """(role, task) of each line of a list with bullets or numbers; nothing for other texts."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marks = [_ITEM.match(line) for line in lines]
    items = [line[mark.end() :].strip() for line, mark in zip(lines, marks, strict=True) if mark]
    found = [(_role(item), _anchored(item, items[0])) for item in items if item]
    return found[:_MAX_MEMBERS] if 1 < len(found) == len(lines) else []


async def _asks(whole: tuple[str, str], text: str, router: Router) -> list[tuple[str, str]]:
    """(role, task) of clauses that are rather some agent's each, and not all the same one's; else the whole."""
    text = text.strip(" *-\n.")
    between = [match.span() for match in _BETWEEN.finditer(text)]
    clauses = zip([0, *(end for _, end in between)], [*(start for start, _ in between), len(text)], strict=True)
    spans = [(start, end) for start, end in clauses if text[start:end].strip()]
    found, agents = list[tuple[str, int, int]](), set[str]()
    for start, end in spans[: 2 * _MAX_MEMBERS] if len(spans) > 1 else ():
        clause = text[start:end]
        decision = await router.route(_anchored(clause, text[slice(*spans[0])]))
        if decision.confidence >= (_SURE if " " in clause.strip() else _SURE_WORD):
            found.append((_role(clause), start, end))
            agents.add(decision.agent)
        elif found:  # more of what the one before it says
            found[-1] = (*found[-1][:2], end)
        else:
            return [whole]
    tasks = [(role, _anchored(text[start:end], text[slice(*spans[0])])) for role, start, end in found]
    return tasks[:_MAX_MEMBERS] if len(agents) > 1 else [whole]
