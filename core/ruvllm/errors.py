"""Every error ruvllm raises on purpose: each names the field at fault and the fix."""

from __future__ import annotations

from typing import Literal

from ruvllm.reprs import shortened

__all__ = [
    "AgentFileError",
    "ArtifactError",
    "BackendError",
    "BackendFailure",
    "ConfigError",
    "EncoderError",
    "InputError",
    "RuvllmError",
    "StoreError",
]

BackendFailure = Literal["timeout", "unavailable", "rate_limited", "bad_response", "refused"]
REBUILD = "pip install -U ruvllm-models, or run `make models`"


class RuvllmError(Exception):
    """Base of all ruvllm errors.

    Args:
        message: what went wrong, in one sentence.
        field: the name of the argument, file or key at fault.
        fix: what the caller can do about it.
    """

    def __init__(self, message: str, *, field: str = "", fix: str = "") -> None:
        self.message, self.field, self.fix = message, field, fix
        super().__init__(". ".join(part.rstrip(".") for part in (message, fix) if part))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shortened(self.message)}, field={shortened(self.field)})"


class InputError(RuvllmError, ValueError):
    """A value the caller gave cannot be used (empty text, unknown agent, bad shape)."""


class ConfigError(RuvllmError, ValueError):
    """A configuration value is missing or out of range."""


class AgentFileError(RuvllmError, ValueError):
    """An agent file cannot be read; `field` is `path:line`."""


class ArtifactError(RuvllmError):
    """A model artifact is missing, truncated or not the one the manifest names."""


class EncoderError(RuvllmError):
    """An encoder cannot run on this host."""


class StoreError(RuvllmError):
    """The state file cannot be opened, read or written."""


class BackendError(RuvllmError):
    """A backend gave no answer, or only part of one.

    Args:
        kind: "timeout", "unavailable" (no connection, a server error, or its circuit is open), "rate_limited",
            "bad_response" (not what the protocol promises) or "refused" (the request itself: key, model, size).
        retry_after: seconds after which another attempt makes sense, None when nobody said.
        partial: what of the answer came before the failure.
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
    ) -> None:
        super().__init__(message, field=field, fix=fix)
        self.kind, self.retry_after, self.partial = kind, retry_after, partial
