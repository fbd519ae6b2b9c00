"""core/catalog as `ruvllm.agents.catalog` reads it at every start: python build/catalog.py [--check].

Reading the TOML files, and the stems of what they say, would take a quarter of the time to a first answer.
"""

from __future__ import annotations

import json
import sys
import tomllib
import zlib
from collections.abc import Sequence
from dataclasses import astuple
from hashlib import sha256
from pathlib import Path

from ruvllm.agents import catalog
from ruvllm.routing.fusion import words_of_agent

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(catalog.__file__).with_name("builtin.json.z")


def compiled() -> str:
    """All of it as JSON. Raises InputError: an agent is unusable, or there are two of a name."""
    texts = {file.name: file.read_text("utf-8") for file in sorted((ROOT / "core" / "catalog").glob("*.toml"))}
    files = {name: tomllib.loads(text) for name, text in texts.items()}
    # What stands above a file's agents is said of each of them.
    rows = ((data | row, name) for name, data in files.items() for row in data["agent"])
    agents = catalog.unique(catalog.agent_from(row, name) for row, name in rows)
    digest = sha256("\0".join(part for pair in texts.items() for part in pair).encode()).hexdigest()
    words = list(map(words_of_agent, agents))
    return json.dumps({"digest": digest, "agents": list(map(astuple, agents)), "words": words}, separators=(",", ":"))


def main(options: Sequence[str]) -> None:
    """Write it, or fail where it is stale."""
    text = compiled()
    if "--check" not in options:
        FILE.write_bytes(zlib.compress(text.encode(), 9))
    elif text != zlib.decompress(FILE.read_bytes()).decode():
        sys.exit("core/ruvllm/agents/builtin.json.z is stale: run `python build/catalog.py`")


if __name__ == "__main__":
    main(sys.argv[1:])
