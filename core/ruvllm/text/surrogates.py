"""Half a character: JSON and JavaScript can carry one, UTF-8 and SQLite cannot."""

from __future__ import annotations

from typing import Any


def well_formed(text: str) -> str:
    """The text as UTF-8 can hold it: two surrogates that belong together are joined, a lone one becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def well_formed_json(value: Any) -> Any:
    """`well_formed` for each text and key within what `json.loads` gave, whose depth is already bounded."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [well_formed_json(item) for item in value]
    if isinstance(value, tuple):
        return tuple(well_formed_json(item) for item in value)
    if isinstance(value, dict):
        return {well_formed_json(key): well_formed_json(item) for key, item in value.items()}
    return value


class Joiner:
    """`well_formed` for a text that comes in pieces, which may end between the halves of a character."""

    def __init__(self) -> None:
        self._half = ""

    def feed(self, piece: str) -> str:
        """What is certain now; half a character at the end waits for the other half."""
        text, self._half = self._half + piece, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return well_formed(text)

    def close(self) -> str:
        """What waited, when nothing follows."""
        half, self._half = self._half, ""
        return well_formed(half)
