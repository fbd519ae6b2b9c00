"""Options that several commands share, and how they become a RuvLLM."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import click

from ruvllm import AgentFileError, InputError, RuvLLM
from ruvllm.artifacts.host import NativeHost
from ruvllm.cli.console import print_json, warn
from ruvllm.config import Config, names_a_model
from ruvllm.disk_cache import user_cache
from ruvllm.options import CHOICES, RouterConfig
from ruvllm.routing.router import MODES
from ruvllm.routing.stored import is_long
from ruvllm.text.surrogates import well_formed_json

# Of 30 memories, a question about each and 15 about nothing in them, every encoder of ruvllm's own put 93 % or more of
# the pairs that belong together above this cosine, and 93 % or more of all others below.
_LEAST_SCORE = 0.2

agent_option = click.option(
    "--agent", metavar="NAME", help="The agent whose own knowledge it is; a search finds that and what is shared."
)
agents_option = click.option(
    "--agents",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A folder of agents (.claude/agents), an agents file of any format that is known, or sources: auto, claude, "
    "codex, copilot, opencode, cursor, user:PATH, … (see `ruvllm agents list --from`); the built-in catalog when left "
    "out.",
)


def _encoder(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """One of ruvllm's own, or a model that is ready when this returns."""
    if value is not None and value not in MODES and not names_a_model(value):
        raise click.BadParameter(
            f"{value!r} is none of {', '.join(MODES)}, and no path or name of a model.", ctx, param
        )
    if value is not None and value not in MODES:
        from ruvllm.cli.ready import ready_encoder

        ready_encoder(value)
    return value


encoder_option = click.option(
    "--encoder",
    metavar="cascade|ruvltra|static|minilm|MODEL",
    envvar="RUVLLM_ENCODER",
    callback=_encoder,
    help="What reads the text: static (microseconds), ruvltra (trained for routing), cascade (ruvltra only when static "
    "is unsure), minilm (what ruvltra was trained from). Cascade where onnxruntime is installed, else static. Or a "
    "model on this machine, which `--model` names alike, or an embedding model's ONNX folder; MODEL:last takes the "
    "last token's state, not the mean of all.  [env: RUVLLM_ENCODER]",
)
strategy_option = click.option(
    "--strategy",
    type=click.Choice(CHOICES["strategy"]),
    help="What decides: hybrid (all that is known; the default), keywords or embedding alone, without examples.",
)


class _Said:
    """Takes what a command prints for people, and prints it as JSON at its end."""

    def __enter__(self) -> None:
        self._before, sys.stdout = sys.stdout, StringIO()

    def __exit__(self, *_: object) -> None:
        said, sys.stdout = sys.stdout, self._before
        print_json({"said": said.getvalue().splitlines() if isinstance(said, StringIO) else []})


def _say_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.with_resource(_Said())


said_option = click.option(
    "--json",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_json,
    help='Print JSON for programs: {"said": […]}, a line each.',
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
state_option = click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="The file that keeps feedback; RUVLLM_STATE or the user's application folder when left out.",
)


def default_state() -> Path:
    """Where feedback is kept when nobody says otherwise."""
    return Path(click.get_app_dir("ruvllm")) / "state.db"


def state_of(ctx: click.Context, given: Path | None) -> Path | None:
    """The state file somebody asked for: the command's own option, else the group's or RUVLLM_STATE."""
    named: Path | None = ctx.find_root().params.get("state")
    return given or named


def open_llm(
    agents: Path | None,
    encoder: str | None,
    state: Path | None = None,
    config: Config | None = None,
    strategy: str | None = None,
) -> RuvLLM:
    """A RuvLLM for one command; agent files that had to be skipped are mentioned, not fatal."""
    config = config if strategy is None else Config(router=RouterConfig(strategy=strategy))
    llm = RuvLLM(agents, encoder=encoder, state=state, host=caching_host(), config=config)
    warn_of_skipped(llm.services.problems, agents)
    _warm(llm)
    return llm


def warn_of_skipped(problems: Sequence[AgentFileError], agents: str | Path | None) -> None:
    """Say how many agents are missing, if any are."""
    count = sum(problem.skipped for problem in problems)
    if count:
        lint = " ".join(["ruvllm agents lint", *([str(agents)] if agents else [])])
        warn(f"skipped {count} agent(s) or agent file(s); `{lint}` names each line")


def caching_host() -> NativeHost:
    """This machine, where what was learnt of long sets of agents is in the user's cache."""
    return NativeHost(cache=user_cache())


def _warm(llm: RuvLLM) -> None:
    if llm.encoders.custom is not None or is_long(llm.agents):
        from ruvllm.cli.ready import warm_agents

        warm_agents(llm)


def open_memory(
    ctx: click.Context, state: Path | None, encoder: str | None, *, make: bool = True, index: str | None = None
) -> RuvLLM:
    """A RuvLLM for what it remembers, with options of memory from RUVLLM_MEMORY_* variables.

    Args:
        encoder: where no text is read, "static" opens sooner.
        make: a default file that nobody has made yet is made; one that is only asked is not.
        index: the kind of index, before that of the environment.
    """
    memory = Config.from_env().memory
    config = Config(memory=memory if index is None else replace(memory, index=index))
    path = state_of(ctx, state) or (default_state() if make or default_state().exists() else None)
    return RuvLLM(encoder=encoder, state=path, config=config)


def least_score(llm: RuvLLM) -> float:
    """The cosine below which a memory has nothing to do with a query; nobody knows it for an encoder of one's own."""
    return _LEAST_SCORE if llm.encoders.custom is None else -1.0


def json_object(text: str | None, field: str) -> dict[str, Any]:
    """An option's JSON object."""
    try:
        value = well_formed_json(json.loads(text)) if text else {}
        if not isinstance(value, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        fix = """give a JSON object, e.g. '{"team": "web"}'"""
        raise InputError(f"--{field} cannot be read: {error}", field=field, fix=fix) from None
    return value
