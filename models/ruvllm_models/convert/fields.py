"""Fields of metadata that came from anywhere, checked as they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ruvllm.errors import ArtifactError


class Fields:
    """A model's metadata under the names of its format.

    Args:
        file: for messages.
        prefix: of every name, e.g. "llama.".
    """

    def __init__(self, file: str, values: Mapping[str, Any], prefix: str = "") -> None:
        self._file, self._values, self._prefix = file, values, prefix

    def int(self, name: str, default: int | None = None) -> int:
        """A whole number from 0 to 2^31. Raises ArtifactError: it is missing or none."""
        value = self._get(name, default)
        if type(value) is not int or not 0 <= value < 1 << 31:
            raise self.refuse(name, f"is {str(value)[:60]!r}, not a whole number")
        return value

    def float(self, name: str, default: float | None = None) -> float:
        """A finite number. Raises ArtifactError: it is missing or none."""
        value = self._get(name, default)
        if type(value) not in (int, float) or not abs(value) < 1e30:
            raise self.refuse(name, f"is {str(value)[:60]!r}, not a number")
        return float(value)

    def get(self, name: str, default: Any = None) -> Any:
        """Whatever is there."""
        value = self._values.get(self._prefix + name)
        return default if value is None else value

    def refuse(self, name: str, what: str) -> ArtifactError:
        """The error for a field."""
        field = self._prefix + name
        fix = "use a qwen2, llama, lfm2 or gemma3 model as it was published"
        return ArtifactError(f"{self._file}: {field} {what}", field=field, fix=fix)

    def _get(self, name: str, default: Any) -> Any:
        value = self.get(name, default)
        if value is None:
            raise self.refuse(name, "is missing")
        return value
