"""The kinds of work that a compound task can hold, in working order."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["FACETS", "Facet"]


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
    _facet(
        "research",
        "research|investigate|compare|evaluate options|best practices",
        "research options and best practices for {}",
    ),
    _facet(
        "plan",
        r"plan|roadmap|estimate|break (?:it )?down|prioriti[sz]e",
        "break the work on {} down into a plan with milestones",
    ),
    _facet(
        "design",
        "design|architect(?:ure)?|schema|data model",
        "design the overall system architecture of {}, from client to database",
        builds=True,
    ),
    _facet(
        "api",
        "apis?|backend|back-end|server(?:-side)?|endpoints?|graphql|rest",
        "implement the server-side API and database access of the backend of {}",
        builds=True,
        part=True,
    ),
    _facet(
        "frontend",
        "front-?end|ui|user interface|components?|web ?page|react|vue|svelte|dashboard",
        "build the frontend of {}: its pages and UI components",
        builds=True,
        part=True,
    ),
    _facet(
        "mobile",
        "mobile|ios|android|react native|flutter",
        "build the mobile app screens in React Native for {}",
        part=True,
    ),
    _facet(
        "ml",
        r"machine learning|ml|recommendations?|classifier|predict\w*|train(?:ing)? a model",
        "train and evaluate a machine learning model for {}",
        part=True,
    ),
    _facet("debug", r"fix|debug|bugs?|crash\w*|broken|leak", "find and fix the bug in {}"),
    _facet(
        "refactor",
        r"refactor\w*|clean up|restructure|simplify|rewrite|moderni[sz]e",
        "refactor {} without changing its behaviour",
    ),
    _facet(
        "auth",
        r"auth\w*|log-?in|sign-?in|oauth2?|jwt|security|secure|permissions?|encrypt\w*|vulnerabilit\w*",
        "design secure authentication and authorisation for {} and check it for vulnerabilities",
        part=True,
    ),
    _facet(
        "performance",
        "optimi[sz]e|faster|performance|slow|latency|speed up",
        "optimize {} to make it faster",
    ),
    _facet("qa", "tests?|testing|qa|coverage|e2e", "write unit and integration tests for {}", builds=True),
    _facet("review", "review", "review the code of {}"),
    _facet("docs", r"document\w*|docs|readme|guide", "write the documentation and README of {}"),
    _facet(
        "deploy",
        r"deploy\w*|ci/?cd|pipeline|docker\w*|kubernetes|k8s|infrastructure|hosting|release",
        "set up the CI/CD pipeline and deployment of {}",
    ),
)
