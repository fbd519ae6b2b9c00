"""`ruvllm bench sessions` and `proxy`: what is written is a conversation, what is counted is what the server did."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner

from ruvllm import InputError
from ruvllm_bench.cli import bench
from ruvllm_bench.serve.coding import asks, conversation
from ruvllm_bench.serve.sessions import measured, written

MODELS = ["llama-3.1-8b-instruct", "llama-3.1-nemotron-51b-instruct", "other-7b"]


def test_a_conversation_grows_and_calls_tools_only_after_an_ask():
    texts, hardness = asks(np.random.default_rng(0), 50)
    assert (len(texts), hardness.min() >= 0, hardness.max() <= 1) == (50, True, True)
    for i in range(20):
        turns = list(conversation(np.random.default_rng(i), "x", texts))
        assert 5 <= len(turns) <= 40
        assert not turns[0].looping
        for before, after in pairwise(turns):
            assert after.messages[: len(before.messages)] == before.messages
            assert after.looping == (after.messages[-1]["role"] == "tool") == (after.ask == before.ask)


def test_no_text_is_both_learnt_from_and_asked(tmp_path):
    rows = [{"prompt": f"task {i}", "scores": [i % 2, 1, 0]} for i in range(40)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"models": MODELS, "rows": rows}))
    for source in (written(100), measured(path)):
        learnt, asked = source.halves(0)
        assert {*learnt.texts} | {*asked.texts} == {*source.texts}
        assert not {*learnt.texts} & {*asked.texts}
    assert measured(path).prices == (8, 51)
    path.write_text(json.dumps({"models": MODELS[1:], "rows": [{"prompt": "a", "scores": [1, 1]}]}))
    with pytest.raises(InputError, match="lacks models"):
        measured(path)


def test_a_small_run_is_safe_and_says_what_it_saw():
    done = CliRunner().invoke(bench, ["sessions", "--conversations", "3", "--json"])
    assert done.exit_code == 0, done.output
    arms = {arm["name"]: arm for arm in json.loads(done.stdout.splitlines()[-1])["arms"]}
    assert arms["ruvllm"]["unsafe"] == 0
    assert arms["always the large"]["switches"] == arms["always the small"]["switches"] == 0
    assert arms["always the small"]["cost"] < arms["ruvllm"]["cost"] <= arms["always the large"]["cost"]
    assert arms["each request anew"]["unsafe"] <= arms["each request anew"]["switches"]


def test_what_the_server_adds_is_measured_beside_direct_calls():
    done = CliRunner().invoke(bench, ["proxy", "--requests", "3", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert all(found[name] > 0 for name in ("first", "direct_first", "event", "decision", "decision_http"))
    assert found["added_first"] == pytest.approx(found["first"] - found["direct_first"])
