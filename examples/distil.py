"""What sessions taught, as examples of agents.

0 4 * * *  ruvllm report --learn && ruvllm learn dataset said.jsonl && python distil.py said.jsonl agents.json

The file of agents stays valid and whole: it is replaced at once, and an agent gets no example twice.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

MOST = 40  # examples of an agent; more teach little


def distil(said: Path, agents: Path) -> int:
    """How many examples were added."""
    rows = [json.loads(line) for line in said.read_text("utf-8").splitlines() if line]
    data, added = json.loads(agents.read_text("utf-8")), 0
    for agent in data["agents"]:
        examples = agent.setdefault("examples", [])
        for row in rows:
            fits = row["agent"] == agent["name"] and row["right"] and row["text"] not in examples
            if fits and len(examples) < MOST and len(row["text"]) < 400:
                examples.append(row["text"])
                added += 1
    fresh = agents.with_suffix(".part")
    fresh.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")
    fresh.replace(agents)
    return added


if __name__ == "__main__":
    print(f"{distil(Path(sys.argv[1]), Path(sys.argv[2]))} example(s) added")
