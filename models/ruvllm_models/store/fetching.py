"""A file over HTTP that goes on where it stopped, in this process or in the next one.

The hub's own library throws away what came when a download ends early; with files of gigabytes that is too dear.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

_PIECE = 1 << 18  # bytes
_PATIENCE = 30.0  # seconds without a byte
_PAUSES = (0.2, 0.5, 1.0, 2.0)  # seconds before another attempt; one that brought something starts them anew


def fetch_to(
    path: Path, url: str, size: int, headers: Mapping[str, str], tell: Callable[[int], None] = lambda have: None
) -> None:
    """Add to a file what it lacks of `size` bytes; what came stays when this fails.

    Args:
        tell: told the bytes there are.

    Raises:
        OSError, HTTPException: the server cannot be reached, or refuses.
    """
    failed = 0
    while (have := path.stat().st_size if path.exists() else 0) < size:
        try:
            _more(path, url, have, headers, tell)
        except HTTPError as bad:
            # A server that does not know this range has another file: begin again, once.
            if bad.code == 416 and have:
                path.unlink()
            elif bad.code < 500 and bad.code not in (408, 429):
                raise
        except (OSError, HTTPException):
            if failed == len(_PAUSES):
                raise
        came = (path.stat().st_size if path.exists() else 0) - have
        failed = 0 if came > 0 else failed + 1
        if failed > len(_PAUSES):
            raise ConnectionError("the server sends nothing more")
        if failed:
            time.sleep(_PAUSES[failed - 1])


def _more(path: Path, url: str, have: int, headers: Mapping[str, str], tell: Callable[[int], None]) -> None:
    """One answer's worth."""
    asked = dict(headers) | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with urlopen(Request(url, headers=asked), timeout=_PATIENCE) as answer, path.open("ab") as file:
        if have and answer.status != 206:  # the whole file again
            file.truncate(0)
            have = 0
        while piece := answer.read1(_PIECE):
            file.write(piece)
            have += len(piece)
            tell(have)
