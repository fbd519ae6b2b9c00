"""Why a decision came out as it did, for a person."""

from __future__ import annotations

from ruvllm import Decision
from ruvllm.cli.answers import choice_line
from ruvllm.cli.console import number, show_table

__all__ = ["show_explanation"]


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
