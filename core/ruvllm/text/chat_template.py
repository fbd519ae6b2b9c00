"""Chat templates: a conversation as the text that a model was trained on, by jinja2 in a sandbox with limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from ruvllm.errors import InputError

_LONGEST = 64_000  # characters of a template; the longest in use have about 20,000
_DATE = 100  # characters of a form of dates
_MESSAGE = 250  # what a message is worth beside its characters: templates look at each many times


class ChatTemplate:
    """A template of a model's tokenizer_config.json or GGUF file. It comes from anywhere: see `LimitedJinja`.

    Args:
        source: in jinja2.
        tokens: what it may name: bos_token, eos_token, …
        today: the day that a template may write into its prompt.

    Raises:
        InputError: jinja2 is missing, or the template is broken.
    """

    def __init__(self, source: str, tokens: Mapping[str, str], today: datetime | None = None) -> None:
        try:
            from ruvllm.text.limited_jinja import LimitedJinja
        except ImportError:
            raise InputError(
                "a chat template needs jinja2", field="chat_template", fix="pip install 'ruvllm[local]'"
            ) from None
        if len(source) > _LONGEST:
            raise _broken(f"it has {len(source)} characters")
        self._jinja = LimitedJinja()
        self._jinja.globals.update(
            raise_exception=_raise, strftime_now=lambda form: (today or datetime.now()).strftime(str(form)[:_DATE])
        )
        try:
            self._template = self._jinja.from_string(source)
        except Exception as bad:  # also of a source that nests more deeply than Python's stack
            raise _broken(str(bad)) from None
        self._tokens = dict(tokens)

    def render(self, messages: Sequence[Mapping[str, str]], *, answer: bool = True) -> str:
        """The prompt; with `answer` it ends where the model's answer begins.

        Raises:
            InputError: the template refuses these messages, fails, or takes more than a template may.
        """
        given = [dict(message) for message in messages]
        size = sum(len(text) for message in given for text in message.values())
        self._jinja.start(size + _MESSAGE * len(given))
        try:
            return self._template.render(messages=given, add_generation_prompt=answer, **self._tokens)
        except Exception as bad:  # what a template calls may fail in any way
            raise _broken(str(bad)) from None


def _raise(message: str) -> None:
    raise ValueError(message)


def _broken(what: str) -> InputError:
    fix = "use another order of roles, or the template that belongs to the model"
    return InputError(f"the chat template failed: {what[:200]}", field="chat_template", fix=fix)
