"""What the library promises, one line a name: tests/data/api.txt, so that a change of it is seen and meant.

python build/api.py [--check]
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import ruvllm
from ruvllm.memory.memory import MemoryStore
from ruvllm.options import (
    BackendConfig,
    FederatedConfig,
    InferenceConfig,
    LearningConfig,
    MemoryConfig,
    RouterConfig,
    SessionsConfig,
)

FILE = Path(__file__).parents[1] / "tests" / "data" / "api.txt"
_GROUPS = (BackendConfig, FederatedConfig, InferenceConfig, LearningConfig, MemoryConfig, RouterConfig, SessionsConfig)


def lines() -> Iterator[str]:
    """Every public name with its signature, sorted."""
    named = [(name, getattr(ruvllm, name)) for name in ruvllm.__all__]
    named += [(f"memory.{MemoryStore.__name__}", MemoryStore), *((f"options.{one.__name__}", one) for one in _GROUPS)]
    for name, what in sorted(named):
        yield f"{name}{_signature(what)}"
        if inspect.isclass(what):
            members = {one for base in what.__mro__ if base.__module__.startswith("ruvllm") for one in vars(base)}
            members -= {one.name for one in fields(what)} if is_dataclass(what) else set()
            public = sorted(one for one in members if not one.startswith("_"))
            yield from (f"{name}.{one}{_signature(getattr(what, one, None))}" for one in public)


def _signature(what: object) -> str:
    if not callable(what):
        return ""
    try:
        signature = inspect.signature(what)
    except (ValueError, TypeError):
        return "(…)"
    return re.sub(r"<function (\w+) at 0x\w+>", r"\1", str(signature))


def main() -> None:
    """Write the file, or say whether it is as it should be."""
    text = "".join(f"{line}\n" for line in lines())
    if "--check" not in sys.argv:
        FILE.write_text(text, "utf-8")
    elif FILE.read_text("utf-8") != text:
        sys.exit("the public API has changed: if that is meant, `make api` and a line in CHANGELOG.md")


if __name__ == "__main__":
    main()
