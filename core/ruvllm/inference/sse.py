"""Server-sent events out of bytes that come in any pieces."""

from __future__ import annotations

__all__ = ["MOST_EVENT", "EventReader"]

MOST_EVENT = 4 << 20  # bytes that an event may have before its sender counts as broken
_BOM = b"\xef\xbb\xbf"


class EventReader:
    """The data of each event, as the HTML standard reads them: comments, ids and event names are left out.

    Pieces may end anywhere, inside a character too. Bytes that are no UTF-8 become U+FFFD.
    """

    def __init__(self) -> None:
        self._rest = b""  # of a line that has no end yet
        self._lines: list[bytes] = []  # of the event that has no end yet
        self._size = 0
        self._began = False

    def feed(self, piece: bytes) -> list[str]:
        """The events that this piece ends.

        Raises:
            ValueError: an event of more than MOST_EVENT bytes.
        """
        data = self._rest + piece
        if not self._began:
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._rest = data
                return []
            self._began, data = True, data.removeprefix(_BOM)
        # A \r at the end may be half of \r\n: it waits for what follows.
        cut = max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1)) + 1
        self._rest = data[cut:]
        events = [event for line in data[:cut].splitlines() if (event := self._line(line)) is not None]
        if self._size + len(self._rest) > MOST_EVENT:
            raise ValueError(f"an event of more than {MOST_EVENT} bytes")
        return events

    def close(self) -> list[str]:
        """The event that the stream ended in without a blank line, if there is one."""
        # The standard drops it; servers that close right after their last line are common.
        rest, self._rest = self._rest, b""
        found = [self._line(line) for line in (*rest.splitlines(), b"")]
        return [event for event in found if event is not None]

    def _line(self, line: bytes) -> str | None:
        if line.startswith(b"data"):
            name, _, value = line.partition(b":")
            if name == b"data":
                self._lines.append(value.removeprefix(b" "))
                self._size += len(value)
        elif not line and self._lines:
            event = b"\n".join(self._lines).decode("utf-8", "replace")
            self._lines, self._size = [], 0
            return event
        return None
