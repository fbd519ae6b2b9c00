"""Every error ruvllm raises on purpose: each names the field at fault and the fix."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Literal

from ruvllm.reprs import shortened

BackendFailure = Literal["timeout", "unavailable", "rate_limited", "bad_response", "refused"]
# Fixes that a host may know a command for: a program that reads them has none.
CONVERT, LINT = "convert the model again", "mend what is named"
REEMBED, REPAIR, TRAIN = "encode the memories anew", "repair the state file", "train the tiers again"
REBUILD = "pip install -U ruvllm-models, or run `make models`"
_COMPARED, _NAMED = 2_000, 8  # names that another may have meant, and of them those that are listed where none is near


class RuvllmError(Exception):
    """Base of all ruvllm errors.

    Args:
        message: what went wrong, in one sentence.
        field: the name of the argument, file or key at fault.
        fix: what the caller can do about it.
        code: what went wrong in a word for programs, as "context_length_exceeded"; "" where there is none.

    >>> try:
    ...     llm.route("")
    ... except RuvllmError as error:
    ...     print(error.field, "-", error.fix)
    text - say what is to be done
    """

    def __init__(self, message: str, *, field: str = "", fix: str = "", code: str = "") -> None:
        self.message, self.field, self.fix, self.code = message, field, fix, code
        super().__init__(". ".join(part.rstrip(".") for part in (message, fix) if part))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shortened(self.message)}, field={shortened(self.field)})"


class InputError(RuvllmError, ValueError):
    """A value the caller gave cannot be used (empty text, unknown agent, bad shape).

    >>> llm.agent("barista")
    Traceback (most recent call last):
    ruvllm.errors.InputError: ...
    """


class ConfigError(RuvllmError, ValueError):
    """A configuration value is missing or out of range.

    >>> Config(encodr="static")
    Traceback (most recent call last):
    ruvllm.errors.ConfigError: no option 'encodr'. did you mean encoder?
    """


class AgentFileError(RuvllmError, ValueError):
    """An agent file, or a part of it, cannot be read; `field` is `path:line`.

    Args:
        skipped: whether an agent is missing for it; False where only a field was left out.

    >>> read_agents("no/such/folder")
    Traceback (most recent call last):
    ruvllm.errors.AgentFileError: no/such/folder does not exist. give a folder of agents or an agents file
    """

    def __init__(self, message: str, *, field: str = "", fix: str = "", skipped: bool = True) -> None:
        super().__init__(message, field=field, fix=fix)
        self.skipped = skipped


class ArtifactError(RuvllmError):
    """A model artifact is missing, truncated or not the one the manifest names.

    >>> error = ArtifactError("static.npz is damaged", field="static.npz", fix="install it again")
    >>> str(error)
    'static.npz is damaged. install it again'
    """


class EncoderError(RuvllmError):
    """An encoder cannot run on this host.

    >>> issubclass(EncoderError, RuvllmError)
    True
    """


class StoreError(RuvllmError):
    """The state file cannot be opened, read or written.

    >>> RuvLLM(state="/dev/null/state.db")
    Traceback (most recent call last):
    ruvllm.errors.StoreError: ...
    """


class BackendError(RuvllmError):
    """A backend gave no answer, or only part of one.

    Args:
        kind: "timeout", "unavailable" (no connection, a server error, or its circuit is open), "rate_limited",
            "bad_response" (not what the protocol promises) or "refused" (the request itself: key, model, size).
        retry_after: seconds after which another attempt makes sense, None when nobody said.
        partial: what of the answer came before the failure.
        status: of HTTP, 400 to 499, where the request itself is at fault and the same one will fail again; else 0.

    >>> BackendError("no answer", kind="timeout", retry_after=2).retry_after
    2
    """

    def __init__(
        self,
        message: str,
        *,
        kind: BackendFailure,
        retry_after: float | None = None,
        partial: str = "",
        field: str = "backend",
        fix: str = "",
        code: str = "",
        status: int = 0,
    ) -> None:
        super().__init__(message, field=field, fix=fix, code=code)
        self.kind, self.retry_after, self.partial, self.status = kind, retry_after, partial, status


def unknown(what: str, name: object, names: Iterable[str]) -> InputError:
    """For a name that nothing has: its fix names those most like it, or some that there are.

    Args:
        what: what would be called so, e.g. "agent"; also the field.
    """
    from difflib import get_close_matches  # only an error needs it

    there = list(islice(names, _COMPARED))
    near = get_close_matches(str(name)[:200], there, 3, 0.6)
    some = ", ".join(there[:_NAMED]) + (", …" if len(there) > _NAMED else "")
    fix = f"did you mean {' or '.join(near)}?" if near else f"use {some}" if there else f"there is no {what} yet"
    return InputError(f"no {what} is called {name!r}"[:240], field=what, fix=fix[:600])
