"""`ruvllm bench loop`: each stream runs, learners can be switched off in it, and what it prints is whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ruvllm import InputError
from ruvllm.cli.evals.sets import read_intents
from ruvllm_bench.cli import bench
from ruvllm_bench.loop import command, epochs
from ruvllm_bench.loop.choosing import best_single, choose, read_prompts
from ruvllm_bench.loop.dialogues import dialogues
from ruvllm_bench.loop.growth import growth
from ruvllm_bench.loop.retrieval import read_conversations, recall
from ruvllm_bench.loop.routing import _said_again, seeded, stream

THINGS = ("invoice", "garden", "guitar", "passport", "oven", "bicycle", "pension", "mortgage", "vaccine", "router")
WANTS = ("renew my", "where is the", "how much for a", "please cancel the", "is there a new", "show me the")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [[f"{want} {thing} number {n}", thing] for thing in THINGS for want in WANTS for n in range(2)]
    (tmp_path / "clinc150.json").write_text(json.dumps({"train": rows, "test": rows[:3], "oos": ["nothing of it"]}))
    prompts = [{"prompt": f"add {n} to {n}", "scores": [n % 2, 1.0]} for n in range(40)]
    (tmp_path / "tiers_nine.json").write_text(json.dumps({"models": ["small-7b", "large-2.5b-19b"], "rows": prompts}))
    turns = [{"id": f"D{n}", "speaker": "Ann", "text": f"I sold my {thing}."} for n, thing in enumerate(THINGS)]
    asked = [
        {"question": "What happened to the guitar?", "evidence": ["D2"], "category": 4},
        {"question": "Nobody said it", "evidence": ["D3"], "category": 5},
        {"question": "A turn that is not there", "evidence": ["D99"], "category": 1},
    ]
    (tmp_path / "locomo_dev.json").write_text(json.dumps({"conversations": [{"turns": turns, "questions": asked}]}))
    return tmp_path


def test_a_stream_begins_with_one_example_a_label(folder: Path):
    agents, rest = seeded(read_intents(folder / "clinc150.json"), 0)
    assert [len(agent.examples) for agent in agents] == [1] * len(THINGS)
    assert len(rest) == len(THINGS) * len(WANTS) * 2 - len(THINGS)
    assert not {text for text, _ in rest} & {text for agent in agents for text in agent.examples}


def test_streams_give_shares_and_take_switches(folder: Path):
    intents = read_intents(folder / "clinc150.json")
    counted = list[int]()
    found = [
        stream(intents, 0, 30, options, advance=lambda: counted.append(1))
        for options in ({}, {"patterns": False}, {"feedback": False})
    ]
    assert all(0 <= one.right <= 1 for one in found)
    assert len(counted) == 90
    grown = growth(folder / "clinc150.json", 30)
    assert grown.feedbacks == 30
    assert 0 < grown.longest <= grown.processor
    assert min(grown.start, grown.route, grown.mb, grown.peak) > 0
    prompts = read_prompts(folder / "tiers_nine.json")
    assert prompts.prices.tolist() == [7, 19]
    best = best_single(prompts)
    assert (prompts.scores[:, best].mean(), prompts.prices[best]) == (1.0, 19.0)
    assert choose(prompts, 0, 20, {"feedback": False}).price <= 19
    conversations = read_conversations(folder / "locomo_dev.json")
    assert [len(one.questions) for one in conversations] == [1]
    assert recall(conversations, 0, 1, {}) in (0.0, 1.0)


def test_dialogues_are_the_same_for_a_seed_and_answer_their_questions():
    one, other = dialogues(3, 5), dialogues(3, 5)
    assert one == other != dialogues(3, 6)
    for dialogue in one:
        for question in dialogue.questions:
            speaker = dialogue.turns[question.turn].partition(":")[0]
            assert speaker in question.text


def test_the_rise_of_curves_has_an_interval():
    curves = np.array([[0, 1, 2, 3], [0, 1, 2, 3.2]])
    rise, half = epochs.slope(curves)
    assert rise == pytest.approx(1.03)
    assert half > 0
    assert np.isnan(epochs.slope(curves[:1])[1])


def test_the_command_prints_each_stream_with_its_changes_and_the_epochs(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "_QUICK", command._Size(20, 20, 1, 1))
    monkeypatch.setattr(epochs, "QUERIES", 5)
    done = CliRunner().invoke(bench, ["loop", "--data", str(folder), "--quick", "--seeds", "2", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.strip().splitlines()[-1])
    arms = {*command._ROUTING, *command._CHOOSING, *command._TURNS, *command._RETRIEVAL}
    assert {arm["name"] for arm in told["arms"]} >= arms
    assert command._ALONE in {arm["name"] for arm in told["arms"]}
    assert [len(curve) for curve in told["epochs"]] == [6, 6]
    assert told["rises"].keys() == {"quality", "routing", "hits", "memory"}
    assert told["rises"]["memory"][0] > 0
    some = ["loop", "--data", str(folder / "clinc150.json"), "--quick", "--json", "--stream"]
    alone = CliRunner().invoke(bench, [*some, "routing", "--stream", "repeats"])
    assert alone.exit_code == 0, alone.output
    told = json.loads(alone.stdout.strip().splitlines()[-1])
    assert {arm["stream"][:7] for arm in told["arms"]} == {"routing", "repeats"}
    assert told["epochs"] == []
    missing = CliRunner().invoke(bench, [*some, "choice"])
    assert missing.exit_code != 0
    assert "tiers_nine.json" in missing.output + str(missing.exception)


def test_what_is_said_again_is_nearly_the_same():
    random = np.random.default_rng(0)
    said = {_said_again("pay my invoice", random) for _ in range(20)}
    assert len(said) > 10
    assert all({*"payminvoice"} <= {*one} for one in said)


@pytest.mark.parametrize("text", ["", "[]", '{"models": ["nameless"], "rows": [{"prompt": "p", "scores": [1]}]}'])
def test_files_that_cannot_be_read_are_named(tmp_path: Path, text: str):
    path = tmp_path / "bad.json"
    path.write_text(text)
    for read in (read_prompts, read_conversations):
        with pytest.raises(InputError, match=r"bad\.json"):
            read(path)


def test_too_few_texts_for_the_epochs_are_refused(folder: Path):
    with pytest.raises(InputError, match="labels"):
        epochs.epochs(read_intents(folder / "clinc150.json"), 0, {})
