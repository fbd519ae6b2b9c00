"""`ruvllm agents test`: prompts whose agents are known, as a check that a build can fail by."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from xml.sax.saxutils import escape, quoteattr

import click

from ruvllm import Action, InputError, RuvLLM
from ruvllm.cli.console import plain, print_json
from ruvllm.cli.evals.sets import PromptTest, read_prompt_tests
from ruvllm.cli.options import agents_option, encoder_option, json_option, open_llm
from ruvllm.errors import unknown

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # what XML cannot hold


@dataclass(frozen=True, slots=True)
class _Outcome:
    prompt: str
    wanted: tuple[str, ...]
    agent: str
    confidence: float
    seconds: float
    failure: str  # "" where it passed


@click.command("test")
@click.argument("file", type=click.Path(path_type=Path))
@agents_option
@encoder_option
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), metavar="XML", help="Write a JUnit report.")
@click.option("--least", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Share that has to pass.")
@json_option
@click.pass_context
def test(
    ctx: click.Context, file: Path, agents: Path | None, encoder: str | None, junit: Path | None, least: float,
    as_json: bool,
) -> None:  # fmt: skip
    """Route the prompts of FILE and check who gets them; the exit code is 1 when too few pass.

    FILE is {"prompts": [{"prompt": …, "agent": name}]} in JSON or YAML. `agent` may be a list of names, any of which is
    right, or null: no agent is to be sure of it. A prompt may have `min_confidence`, and `name` for the report.

    \b
    Examples:
      ruvllm agents test prompts.json --agents .claude/agents
      ruvllm agents test prompts.yaml --agents auto --junit report.xml --least 0.95
    """
    rows = read_prompt_tests(file)
    with open_llm(agents, encoder) as llm:
        names = {agent.name for agent in llm.agents}
        for i, row in enumerate(rows):
            for name in row.agents:
                if name not in names:
                    error = unknown("agent", name, names)
                    raise InputError(f"prompts[{i}].agent: {error.message}", field=f"prompts[{i}].agent", fix=error.fix)
        outcomes = [_outcome(llm, row) for row in rows]
    failed = [one for one in outcomes if one.failure]
    if junit is not None:
        _write(junit, _report(file.name, rows, outcomes))
    if as_json:
        print_json({"tests": len(outcomes), "failures": len(failed), "prompts": [asdict(one) for one in outcomes]})
    else:
        for one in failed:
            click.echo(f"FAILED {plain(one.prompt)[:100]}: {one.failure}")
        click.echo(f"{len(outcomes) - len(failed)} of {len(outcomes)} passed")
    ctx.exit(0 if len(outcomes) - len(failed) >= least * len(outcomes) else 1)


def _outcome(llm: RuvLLM, row: PromptTest) -> _Outcome:
    began = perf_counter()
    decision = llm.route(row.prompt)
    seconds, said = perf_counter() - began, f"{decision.agent} ({decision.confidence:.2f})"
    failure = ""
    if not row.agents:
        failure = f"{said} is sure of it, but nobody is to be" if decision.action == Action.USE else ""
    elif decision.agent not in row.agents:
        failure = f"{said} instead of {' or '.join(row.agents)}"
    elif decision.confidence < row.min_confidence:
        failure = f"{said} is less sure than {row.min_confidence:g}"
    return _Outcome(row.prompt, row.agents, decision.agent, decision.confidence, seconds, failure)


def _report(name: str, rows: list[PromptTest], outcomes: list[_Outcome]) -> str:
    """As JUnit writes it, which CI servers read."""

    def attribute(text: str) -> str:
        return quoteattr(_CONTROL.sub("\ufffd", plain(text)))

    failures, seconds = sum(bool(one.failure) for one in outcomes), sum(one.seconds for one in outcomes)
    counts = f'tests="{len(outcomes)}" failures="{failures}" errors="0" skipped="0" time="{seconds:.4f}"'
    lines = ['<?xml version="1.0" encoding="utf-8"?>', f"<testsuites {counts}>"]
    lines.append(f"  <testsuite name={attribute(name)} {counts}>")
    for row, one in zip(rows, outcomes, strict=True):
        title = attribute(row.name or row.prompt[:200])
        case = f'    <testcase classname={attribute(name)} name={title} time="{one.seconds:.4f}"'
        if one.failure:
            text = escape(_CONTROL.sub("\ufffd", one.prompt))
            case += f">\n      <failure message={attribute(one.failure)}>{text}</failure>\n    </testcase>"
        else:
            case += "/>"
        lines.append(case)
    return "\n".join([*lines, "  </testsuite>", "</testsuites>", ""])


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        fix = "check the path and its permissions"
        raise InputError(f"{path} cannot be written ({error.strerror})", field="junit", fix=fix) from None
