"""A model of one's own as the encoder: routing, memory, and what happens to memories of another."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import decoders
import numpy as np
import pytest
from click.testing import CliRunner
from decoders import random_decoder, write_folder
from onnx import TensorProto, helper, save

from ruvllm import Agent, Config, EncoderError, InputError, RuvLLM, StoreError
from ruvllm.agents.catalog import builtin_agents
from ruvllm.cli.main import main
from ruvllm.encoders.protocol import run_now
from ruvllm.inference.encoder_model import open_encoder, parted
from ruvllm.inference.library import FOLDER
from ruvllm.inference.local import open_local
from ruvllm.inference.local_model import read_model
from ruvllm.memory.reembed import elsewhere, reembed, refuse_strange
from ruvllm.state.repair.check import check
from ruvllm_models.convert import convert
from ruvllm_models.convert.decoder import Bits

FACTS = ["The staging database is reset every Monday.", "Deploys need two approvals.", "Lunch is at noon."]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    model = random_decoder("qwen2")
    write_folder(model, root / "hf")
    convert(root / "hf", root / "tiny", bits=Bits(32, 32))
    write_folder(random_decoder("lfm2", seed=1), root / "other-hf")
    convert(root / "other-hf", root / "other")
    return root, model


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path / "models"))


def states_of(model, ids):
    """float64 (tokens, HIDDEN): a head of identity rows gives back what it is given."""
    told = decoders.Decoder(
        model.architecture, model.layers, False, model.weights | {"lm_head.weight": np.eye(decoders.HIDDEN)}
    )
    return decoders.reference_logits(told, ids)


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_a_vector_is_what_the_model_says_of_its_tokens(models, pooling):
    root, model = models
    encoder = open_encoder(f"{root / 'tiny'}:{pooling}")
    folder = root / "tiny"
    told = read_model(
        "tiny",
        json.loads((folder / "ruvllm-model.json").read_text()),
        json.loads((folder / "tokenizer.json").read_text()),
    )
    states = states_of(model, told.tokenizer.ids(FACTS[0]))
    expected = {"mean": states.mean(0), "max": states.max(0), "last": states[-1]}[pooling]
    assert [encoder.truncated(text) for text in (FACTS[0], "a " * 2_000)] == [False, True]
    np.testing.assert_allclose(encoder.raw(FACTS[0]), expected / np.linalg.norm(expected), atol=1e-4)
    vectors = run_now(encoder.encode([*FACTS, ""]))
    assert encoder.dim == decoders.HIDDEN
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0], atol=1e-6)
    again = open_encoder(f"{root / 'tiny'}:{pooling}")
    np.testing.assert_array_equal(run_now(again.encode(FACTS)), vectors[:3])
    assert again.name == encoder.name


def test_the_middle_of_all_texts_is_taken_away(models):
    encoder = open_encoder(str(models[0] / "tiny"))
    texts = [agent.description for agent in builtin_agents()[40:70]]  # not those that the middle is taken of
    vectors = run_now(encoder.encode(texts))
    raw = np.array([encoder.raw(text) for text in texts])
    plain, centred = (float((rows @ rows.T)[np.triu_indices(30, 1)].mean()) for rows in (raw, vectors))
    assert abs(centred) < plain / 3


def test_names_tell_models_and_poolings_apart(models):
    root, _ = models
    names = {open_encoder(str(root / "tiny")).name, open_encoder(f"{root / 'tiny'}:last").name}
    assert len(names | {open_encoder(str(root / "other")).name}) == 3
    assert parted("a/b:last") == ("a/b", "last")
    assert parted("a/b:file.gguf") == ("a/b:file.gguf", None)


def test_the_loop_is_not_held_up(models):
    async def main():
        encoder = open_encoder(str(models[0] / "tiny"))
        task, turns = asyncio.ensure_future(encoder.encode(FACTS * 10)), 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(main()) > 30


def test_routing_learns_with_it(models, kitchen, tmp_path):
    with RuvLLM(kitchen, encoder=str(models[0] / "tiny"), state=tmp_path / "s.db") as llm:
        decision = llm.route("when do I sow basil?")
        assert decision.encoder == llm.encoders.mode == open_encoder(str(models[0] / "tiny")).name
        assert decision.agent == "gardener"  # by its example
        llm.feedback("polish the copper kettle", "barista")
        assert llm.route("polish the copper kettle").agent == "barista"
        first = llm.route("bake a loaf").confidence
    with RuvLLM(kitchen, encoder=str(models[0] / "tiny"), state=tmp_path / "s.db") as llm:
        assert llm.encoders.custom.saved
        assert llm.route("polish the copper kettle").agent == "barista"
        assert llm.route("bake a loaf").confidence == pytest.approx(first, abs=0.02)
    with RuvLLM(kitchen, encoder="static", state=tmp_path / "s.db") as llm:
        assert llm.route("polish the copper kettle").agent == "barista"


def test_the_builtin_agents_are_read_once(models, monkeypatch):
    agents = [Agent(f"a{i}", f"Handles case {i}.", examples=(f"case {i} please",)) for i in range(4)]
    monkeypatch.setattr("ruvllm.routing.custom_encoder.builtin_agents", lambda: tuple(agents))
    monkeypatch.setattr("ruvllm.services.builtin_agents", lambda: tuple(agents))
    for texts in (12, 0):
        with RuvLLM(encoder=str(models[0] / "tiny")) as llm:
            read = []
            llm.encoders.custom.model.on_encoded = lambda read=read: read.append(1)
            run_now(llm.routing.router.warm())
            assert len(read) == texts


def test_memories_of_another_encoder_are_told_apart(models, kitchen, tmp_path):
    path, encoder = tmp_path / "s.db", str(models[0] / "tiny")
    with RuvLLM(kitchen, encoder="static", state=path) as llm:
        ids = llm.memory.add(FACTS)
        llm.memory.archive(ids[2:])
    with RuvLLM(kitchen, encoder=encoder, state=path) as llm:
        for use in (lambda: llm.memory.search("staging"), lambda: llm.query("when is staging reset?")):
            with pytest.raises(
                StoreError, match=r"2 memories of 'default' are of another encoder \(ruvltra-256\)"
            ) as no:
                use()
            assert "encode the memories anew" in no.value.fix
        with pytest.raises(StoreError, match="another encoder"):
            refuse_strange(llm.memory)
        assert elsewhere(llm.memory) == {"ruvltra-256": 3}
        assert run_now(take_over(llm)) == 3
        assert elsewhere(llm.memory) == {}
        assert llm.memory.search("The staging database is reset")[0].memory.id == ids[0]
        assert llm.query("when is the staging database reset?").sources[0].id == ids[0]
        refuse_strange(llm.memory)
    assert check(path).ok


async def take_over(llm):
    return sum([count async for count in reembed(llm.memory)])


def test_an_empty_memory_and_a_mixed_one_are_searched(models, kitchen, tmp_path):
    path, encoder = tmp_path / "s.db", str(models[0] / "tiny")
    with RuvLLM(kitchen, encoder=encoder, state=path) as llm:
        assert llm.memory.search("anything") == []
        llm.memory.add(FACTS[0])
        llm.query("what?")
    with RuvLLM(kitchen, encoder="static", state=path) as llm:
        llm.memory.add(FACTS[1])
        assert [found.memory.text for found in llm.memory.search("staging")] == [FACTS[1]]
        llm.query("what?")  # what is learnt on the one's vectors does not meet the other's


def test_killed_in_the_middle_nothing_is_lost_and_it_goes_on(models, tmp_path):
    path, encoder = tmp_path / "s.db", str(models[0] / "tiny")
    texts = [
        f"Fact number {i}: the {word} is {i * 7} paces from the gate." for i in range(40) for word in ("oak", "well")
    ]
    with RuvLLM(encoder="static", state=path) as llm:
        ids = llm.memory.add(texts)
    code = (
        "import time\nfrom ruvllm import RuvLLM\nfrom ruvllm.memory.reembed import reembed\n"
        "from ruvllm.encoders.protocol import run_now\n"
        f"llm = RuvLLM(encoder={encoder!r}, state={str(path)!r})\n"
        "async def go():\n    done = 0\n    async for _ in reembed(llm.memory):\n"
        "        print('batch', flush=True); done += 1\n"
        "        if done == 2: time.sleep(3600)\n"
        "run_now(go())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ)
    for _ in range(2):
        assert process.stdout.readline() == b"batch\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with RuvLLM(encoder=encoder, state=path) as llm:
        left = sum(elsewhere(llm.memory).values())
        assert 0 < left < len(texts)
        assert [memory.text for memory in llm.memory.records.get(ids)] == texts
        assert run_now(take_over(llm)) == left
        assert llm.memory.search(texts[-1])[0].memory.id == ids[-1]
    assert check(path).ok


def run(*args, code=0):
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == code, result.output
    return result


def test_the_commands(models, tmp_path, monkeypatch):
    root = models[0]
    monkeypatch.setenv("RUVLLM_STATE", str(tmp_path / "s.db"))
    run("memory", "add", "--encoder", "static", *FACTS)
    refused = run("memory", "search", "staging", "--encoder", root / "tiny", code=2).stderr
    assert "ruvllm memory reembed" in refused
    done = json.loads(run("memory", "reembed", "--encoder", root / "tiny", "--json").stdout)
    assert (done["before"], done["done"], done["left"]) == ({"ruvltra-256": 3}, 3, 0)
    found = json.loads(run("memory", "search", FACTS[0], "--encoder", root / "tiny", "--json").stdout)
    assert found[0]["text"] == FACTS[0]
    run("memory", "add", "--encoder", "static", "Tea is at four.")
    assert "3 of tiny-mean" in run("memory", "search", "tea", "--encoder", "static").stderr
    agents = tmp_path / "agents.json"
    pairs = {"baker": "Bakes bread.", "smith": "Forges."}
    agents.write_text(json.dumps({"agents": [{"name": name, "description": text} for name, text in pairs.items()]}))
    asked = ["route", "--json", "--no-state", "--agents", agents, "--encoder", root / "tiny", "bake bread"]
    routed = json.loads(run(*asked).stdout)
    assert (routed["agent"], routed["encoder"].startswith("tiny-mean")) == ("baker", True)
    assert "none of cascade" in run("route", "--encoder", "bert", "x", code=2).stderr
    assert "no model is called" in run("route", "--encoder", "./none", "x", code=2).stderr


def test_what_cannot_be_an_encoder_says_so(models, tmp_path):
    with pytest.raises(InputError, match="encoder is 'bert'"):
        RuvLLM(encoder="bert")
    assert Config.from_dict({"encoder": "./tiny:last"}).encoder == "./tiny:last"
    folder = onnx_folder(tmp_path / "odd", output="logits")
    with pytest.raises(EncoderError, match="no embedding model"):
        open_encoder(str(folder))


def onnx_folder(folder, output="last_hidden_state", pooling=None):
    """An embedding model that is nothing but a table, with BERT's kind of tokenizer."""
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "staging", "data", "##base", "is", "reset"]
    told = {
        "model": {"type": "WordPiece", "vocab": {w: i for i, w in enumerate(words)}},
        "normalizer": {"lowercase": True},
    }
    (folder / "tokenizer.json").write_text(json.dumps(told))
    table = np.random.default_rng(0).standard_normal((len(words), 48)).astype(np.float32)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [1, "n"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], [output])],
        "g",
        inputs,
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, "n", 48])],
        [helper.make_tensor("table", TensorProto.FLOAT, table.shape, table.tobytes(), raw=True)],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
    if pooling:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


@pytest.mark.parametrize(("pooling", "kind"), [(None, "mean"), ({"pooling_mode_cls_token": True}, "cls")])
def test_an_embedding_models_folder(tmp_path, pooling, kind):
    encoder = open_encoder(str(onnx_folder(tmp_path / "e", pooling=pooling)))
    assert (encoder.dim, encoder.pooling, encoder.centre) == (48, kind, None)
    vectors = run_now(encoder.encode(["staging database is reset", "database"]))
    assert (vectors[0] @ vectors[1] > 0.9) == (kind == "cls")  # both begin with the same token


def test_one_model_can_be_both(models, tmp_path):
    tiers = {"small": {"kind": "local", "model": str(models[0] / "tiny")}}
    config = Config.from_dict({"inference": {"tiers": tiers, "max_tokens": 4}, "encoder": str(models[0] / "tiny")})
    with RuvLLM([Agent("a", "Does a."), Agent("b", "Does b.")], config=config, state=tmp_path / "s.db") as llm:
        llm.memory.add(FACTS)
        assert llm.query("do a").routing.model == "tiny"
    assert open_local(models[0] / "tiny").model == "tiny"
