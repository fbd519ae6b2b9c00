"""Why a decision came out as it did, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ruvllm import Decision
from ruvllm.cli.answers import choice_line
from ruvllm.cli.console import number, plain, show_table

if TYPE_CHECKING:
    from ruvllm.memory.subgraph import AttentionSummary


_DRAWN = 10  # memories that are shown


def show_explanation(decision: Decision) -> None:
    """Tables of everything the decision says about itself."""
    _show_summary(decision)
    others = [(other.agent, number(other.confidence)) for other in decision.alternatives]
    _show("Alternatives", "Agent", "Confidence", others)
    nearest = [(text, number(cosine, 3)) for text, cosine in decision.evidence.examples]
    _show("Nearest examples", "Example", "Cosine", nearest)
    _show("Scores", "Feature", "Value", [(name, number(value, 4)) for name, value in decision.evidence.scores.items()])
    timings = [(stage, number(micros, 1)) for stage, micros in decision.timings_us.items()]
    _show("Timings", "Stage", "µs", timings)


def show_attention(summary: AttentionSummary | None, texts: Mapping[int, str]) -> None:
    """Which memories an answer draws on, and along which edges.

    Args:
        texts: of the memories, by id.
    """
    if summary is None:
        click.echo("memory knows nothing of this: the answer draws on none of it", err=True)
        return
    rows = [(str(i), f"{part:.3f}", plain(texts.get(i, ""))) for i, part in summary.ranked[:_DRAWN]]
    show_table("Drawn from", ("Id", "Part", "Text"), rows, right=("Id", "Part"), cut="Text")
    facts = [
        ("entropy", number(summary.entropy, 3)),
        ("mean", number(summary.mean, 3)),
        ("gini", number(summary.gini, 3)),
    ]
    along = [(f"along {kind}", number(part, 3)) for kind, part in summary.influence.items() if part >= 0.0005]
    show_table("Attention", ("", "Value"), facts + along, right=("Value",))


def _show_summary(decision: Decision) -> None:
    rows = [
        ("keywords", ", ".join(decision.evidence.keywords) or "none of the agent's own"),
        ("out of scope", f"{decision.out_of_scope:.2f}"),
        ("action", decision.action),
        *([] if decision.choice is None else [("model", choice_line(decision.choice))]),
        ("encoder", decision.encoder + (" (remembered)" if decision.cached else "")),
    ]
    show_table("Evidence", ("", ""), rows)


def _show(title: str, key: str, value: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        show_table(title, (key, value), rows, right=(value,))
