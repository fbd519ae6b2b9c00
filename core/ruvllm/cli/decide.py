"""`ruvllm decide`: typed questions about a text or JSON, answered with probabilities."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ruvllm import InputError
from ruvllm.cli.console import number, plain, print_json, show_table
from ruvllm.cli.options import encoder_option, json_option, open_memory, state_option


@click.command()
@click.argument("state_text", metavar="[STATE]", required=False)
@click.option("--questions", type=click.Path(path_type=Path), metavar="FILE", help="Questions by name, as JSON.")
@click.option("--choice", metavar="TEXT", help="A question with --option for each answer.")
@click.option("--option", "options", multiple=True, metavar="NAME[=MEANING]", help="An answer to --choice.")
@click.option("--yes-no", "nouls", multiple=True, metavar="TEXT", help="A question or a statement that may be true.")
@click.option("--score", metavar="TEXT", help="A question with --level for each step.")
@click.option("--level", "levels", multiple=True, metavar="TEXT", help="A level of --score, the lowest first.")
@encoder_option
@state_option
@json_option
@click.pass_context
def decide(
    ctx: click.Context,
    state_text: str | None,
    questions: Path | None,
    choice: str | None,
    options: Sequence[str],
    nouls: Sequence[str],
    score: str | None,
    levels: Sequence[str],
    encoder: str | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Answer typed questions about STATE, a text or JSON; from stdin without it.

    The id that is printed can be given feedback: `ruvllm feedback --request ID --answer billing`, or, of several
    questions, `--answer NAME=ANSWER`. The question learns it at once, and it stays in the state file.

    \b
    Examples:
      ruvllm decide "I was charged twice" --choice "Which team?" --option billing="Payments, refunds" --option support
      ruvllm decide "The site is down!" --yes-no "Is it urgent?" --score "How angry?" --level calm --level furious
      ruvllm decide --questions triage.json --json < ticket.json
    """
    given: dict[str, Any] = _file(questions) if questions else {}
    if options or choice is not None:
        criteria = {name: meaning or None for name, _, meaning in (one.partition("=") for one in options)}
        given["choice"] = {"type": "choice", "instructions": choice, "criteria": criteria}
    given |= {text: {"type": "noul", "instructions": text} for text in nouls}
    if levels or score is not None:
        given["score"] = {"type": "score", "instructions": score, "criteria": list(levels)}
    if not given:
        raise click.UsageError("Ask something: --questions FILE, --choice with --option, --yes-no or --score.", ctx)
    if state_text is None:
        if sys.stdin.isatty():
            raise click.UsageError("Give STATE, or pipe it in.", ctx)
        state_text = sys.stdin.read()
    with open_memory(ctx, state, encoder) as llm:
        answers = llm.decide(_json_or_text(state_text), given)
        out = answers.to_dict()
    if as_json:
        print_json(out)
        return
    rows = [(name, *_shown(answer)) for name, answer in out["answers"].items()]
    show_table(out["id"], ("Question", "Answer", "Probabilities"), rows)
    click.secho(f"feedback: ruvllm feedback --request {out['id']} --answer …", dim=True)


def decision_answer(given: Sequence[str]) -> Any:
    """What `--answer` says: NAME=ANSWER for questions by name, or the one answer; true, false and numbers as such."""
    if len(given) == 1 and "=" not in given[0]:
        return _value(given[0])
    pairs = [one.rpartition("=") for one in given]
    if bad := [right for name, _, right in pairs if not name]:
        raise InputError(f"answer {bad[0]!r} names no question", field="answer", fix="write --answer NAME=ANSWER")
    return {name: _value(right) for name, _, right in pairs}


def _value(text: str) -> Any:
    words = {"true": True, "yes": True, "false": False, "no": False}
    return words.get(text.lower(), int(text) if text.isdecimal() and len(text) < 3 else text)


def _file(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        fix = 'write {"urgent": {"type": "noul", "instructions": "Is it urgent?"}}'
        raise InputError(f"{path} cannot be read: {error}"[:200], field="questions", fix=fix) from None
    return data if isinstance(data, dict) else {"questions": data}


def _json_or_text(text: str) -> Any:
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    return text


def _shown(answer: dict[str, Any]) -> tuple[str, str]:
    if answer["type"] == "noul":
        return ("yes" if answer["noul"] >= 0.5 else "no"), f"yes {number(answer['noul'])}"
    ranked = sorted(answer["probabilities"].items(), key=lambda one: -one[1])[:4]
    legend = answer.get("legend", {})
    shown = ", ".join(f"{plain(str(legend.get(name, name)))} {number(value)}" for name, value in ranked)
    value = answer[answer["type"]]
    return (plain(value) if isinstance(value, str) else number(value)), shown
