"""Chat templates: a conversation as the text that a model was trained on, by jinja2 in its sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from json import dumps
from typing import Any

from ruvllm.errors import InputError

__all__ = ["ChatTemplate"]

_LONGEST = 200_000  # characters of a template; the longest in use have about 20,000


class ChatTemplate:
    """A template of a model's tokenizer_config.json or GGUF file. It comes from anywhere, so it runs in a sandbox.

    Args:
        source: in jinja2.
        tokens: what it may name: bos_token, eos_token, …
        today: the day that a template may write into its prompt.

    Raises:
        InputError: jinja2 is missing, or the template is broken.
    """

    def __init__(self, source: str, tokens: Mapping[str, str], today: datetime | None = None) -> None:
        try:
            from jinja2 import TemplateSyntaxError
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError:
            raise InputError(
                "a chat template needs jinja2", field="chat_template", fix="pip install 'ruvllm[local]'"
            ) from None
        if len(source) > _LONGEST:
            raise _broken(f"it has {len(source)} characters")
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _json
        environment.globals.update(
            raise_exception=_raise, strftime_now=lambda form: (today or datetime.now()).strftime(form)
        )
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as bad:
            raise _broken(str(bad)) from None
        self._tokens = dict(tokens)

    def render(self, messages: Sequence[Mapping[str, str]], *, answer: bool = True) -> str:
        """The prompt; with `answer` it ends where the model's answer begins.

        Raises:
            InputError: the template refuses these messages, or fails.
        """
        try:
            given = [dict(message) for message in messages]
            return self._template.render(messages=given, add_generation_prompt=answer, **self._tokens)
        except Exception as bad:  # what a template calls may fail in any way
            raise _broken(str(bad)) from None


def _json(value: Any, indent: int | None = None) -> str:
    """Not jinja2's own, which escapes HTML."""
    return dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    raise ValueError(message)


def _broken(what: str) -> InputError:
    fix = "use another order of roles, or the template that belongs to the model"
    return InputError(f"the chat template failed: {what[:200]}", field="chat_template", fix=fix)
