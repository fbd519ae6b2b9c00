"""What supersession without a model is worth, on statements of our own that its rules were not made on."""

from __future__ import annotations

from pathlib import Path

import pytest

from ruvllm import RuvLLM
from ruvllm.text.statements import replaces, statement_of
from ruvllm_bench.memory.statements import Pair, pairs

_SURE = 0.8


def superseded(pair: Pair) -> bool:
    old, new = statement_of(pair.old), statement_of(pair.new)
    return old is not None and new is not None and replaces(old, new)[0] >= _SURE


@pytest.mark.parametrize("test", [False, True], ids=["dev", "test"])
def test_contradictions_are_found_and_nothing_else(test: bool):
    labelled = pairs(test)
    assert len(labelled) >= 300
    hits = [(superseded(pair), pair.supersedes) for pair in labelled]
    right = sum(found and true for found, true in hits)
    assert right / sum(found for found, _ in hits) >= 0.95
    assert right / sum(true for _, true in hits) >= 0.70


def blind() -> list[tuple[Pair, str]]:
    """Pairs that were written by who had not seen the code, and a question that the second answers."""
    lines = (Path(__file__).parents[1] / "data" / "supersession_blind.tsv").read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return [(Pair(old, new, "update" if ends == "1" else kind), "".join(ask)) for kind, ends, old, new, *ask in rows]


def test_what_a_stranger_wrote_is_read_no_worse_than_before():
    hits = [(superseded(pair), pair.label == "update") for pair, _ in blind()]
    assert len(hits) == 300
    right = sum(found and true for found, true in hits)
    assert right / sum(found for found, _ in hits) >= 0.93
    assert right / sum(true for _, true in hits) >= 0.56


def test_what_is_superseded_stands_behind_what_holds():
    """Each pair after statements of others, looked for by the older one's own words."""
    labels = ("update", "contradiction", "numbers")
    labelled = [pair for pair in pairs(True) if pair.label in labels and superseded(pair)]
    ahead = first = 0
    with RuvLLM(encoder="static") as llm:
        for number, pair in enumerate(labelled):
            shelf = f"pair {number}"
            llm.memory.add([other.old for other in labelled[number + 1 : number + 31]], collection=shelf)
            (old,), (new,) = (llm.memory.add(text, collection=shelf) for text in (pair.old, pair.new))
            found = [one.memory.id for one in llm.memory.search(pair.old, 40, collection=shelf)]
            ahead += new not in found or found.index(old) < found.index(new)
            first += new in found[:3]
    assert ahead / len(labelled) <= 0.02
    assert first / len(labelled) >= 0.90


def test_what_is_said_again_is_counted():
    with RuvLLM(encoder="static") as llm:
        first = llm.memory.remember(["Ada lives in Porto.", "Ada likes jazz."])
        assert (
            llm.memory.remember(["Ada lives in  porto", "Ada's home is in Porto.", "Ada likes folk."])[:2]
            == first[:1] * 2
        )
        assert llm.memory.validity.counts(first) == {first[0]: 3, first[1]: 1}
        (other,) = llm.memory.remember("Ada lives in Porto.", metadata={"agent_id": "b"})
        assert other not in first
