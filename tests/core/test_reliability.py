"""What decisions were worth, as it is stored."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from ruvllm.learning.reliability import note, reliability
from ruvllm.state.names import RELIABILITY
from ruvllm.state.store import Store
from ruvllm.types import Decision, Feedback


def test_the_latest_thousand_are_stored_and_those_of_an_older_file_with_them(tmp_path: Path) -> None:
    decision = cast(Decision, SimpleNamespace(agent="tester", confidence=0.75))
    with closing(Store(tmp_path / "state.db")) as store:
        store.put(RELIABILITY, json.dumps([[0.25, False]] * 1_000).encode())
        store.add_feedback(Feedback("seen", "tester"))
        note(store, "seen", decision, "tester")
        assert reliability(store)["right"] == 0
        for i in range(3):
            note(store, f"new {i}", decision, "tester")
        found = reliability(store)
        assert (found["decisions"], found["right"]) == (1_000, 3)
        assert [(row["from"], row["count"], row["confidence"]) for row in found["bins"]] == [
            (0.2, 997, 0.25),
            (0.7, 3, 0.75),
        ]
