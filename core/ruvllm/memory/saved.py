"""Arrays of a built index beside the state file: a cache, which can be deleted at any time and is rebuilt.

A header names the arrays' files with their checksums and is replaced by a rename, so that there is one
whole state of the folder at every moment. Whatever does not fit is taken as missing.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SavedArrays"]

_FORMAT = 1
_HEADER = "index.json"
_MOST_HEADER = 1 << 20
_STALE_S = 3_600  # files that no header names may be another process's, which is about to write its own


class SavedArrays:
    """One set of arrays with facts about them.

    Args:
        folder: made when something is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Replace what is there; False where the folder cannot be written."""
        mark, files = secrets.token_hex(8), dict[str, dict[str, Any]]()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            old = self._named()
            for name, array in arrays.items():
                buffer = io.BytesIO()
                np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
                data, file = buffer.getbuffer(), f"{name}-{mark}.npy"
                (self.folder / file).write_bytes(data)
                files[name] = {"file": file, "bytes": len(data), "sha256": sha256(data).hexdigest()}
            content = {"format": _FORMAT, "facts": dict(facts), "arrays": files}
            text = json.dumps(content | {"sha256": _digest(content)})
            fresh = self.folder / f"header-{mark}.part"
            fresh.write_text(text, "utf-8")
            fresh.replace(self.folder / _HEADER)
        except OSError:
            for path in self.folder.glob(f"*-{mark}.*"):
                _remove(path)
            return False
        self._tidy(old, {entry["file"] for entry in files.values()})
        return True

    def read(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """Facts and arrays; None when anything is missing, damaged or of another format."""
        content = self._header()
        if content is None:
            return None
        arrays = dict[str, NDArray[Any]]()
        try:
            for name, entry in content["arrays"].items():
                path = self.folder / Path(entry["file"]).name
                if path.stat().st_size != entry["bytes"]:
                    return None
                data = path.read_bytes()
                if sha256(data).hexdigest() != entry["sha256"]:
                    return None
                arrays[name] = np.load(io.BytesIO(data), allow_pickle=False)
        except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError):
            return None
        return content["facts"], arrays

    def _header(self) -> dict[str, Any] | None:
        path = self.folder / _HEADER
        try:
            if path.stat().st_size > _MOST_HEADER:
                return None
            content = json.loads(path.read_text("utf-8"))
            told = content.pop("sha256")
        except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
            return None
        if told != _digest(content) or content.get("format") != _FORMAT:
            return None
        facts, arrays = content.get("facts"), content.get("arrays")
        if not isinstance(facts, dict) or not isinstance(arrays, dict):
            return None
        sound = all(isinstance(entry, dict) and isinstance(entry.get("file"), str) for entry in arrays.values())
        return dict(content) if sound else None

    def _named(self) -> set[str]:
        """Names of the files that the header there names."""
        content = self._header() or {"arrays": {}}
        return {Path(entry["file"]).name for entry in content["arrays"].values()}

    def _tidy(self, old: set[str], new: set[str]) -> None:
        """Delete what is no longer named."""
        before = time.time() - _STALE_S
        with suppress(OSError):
            for path in self.folder.iterdir():
                stray = path.suffix in (".npy", ".part") and path.stat().st_mtime < before
                if path.name not in new and (path.name in old or stray):
                    _remove(path)


def _digest(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _remove(path: Path) -> None:
    with suppress(OSError):
        os.remove(path)
