"""Writes the label of the issue in GITHUB_EVENT_PATH to GITHUB_OUTPUT, "" where it is unsure."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ruvllm import RuvLLM


def main() -> None:
    issue = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text("utf-8"))["issue"]
    question = {"type": "choice", "instructions": "What kind of issue is it?"}
    question["criteria"] = json.loads(os.environ["LABELS"])
    said = {"title": issue["title"], "body": (issue.get("body") or "")[:4_000]}
    with RuvLLM(encoder="static") as llm:
        answer = llm.decide(said, {"label": question})["label"]
    sure = answer.confidence >= float(os.environ.get("LEAST", "0.6"))
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as file:
        file.write(f"label={answer.value if sure else ''}\n")


if __name__ == "__main__":
    main()
