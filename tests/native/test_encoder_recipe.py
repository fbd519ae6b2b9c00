"""The routing encoder's recipe, where torch and the weights are installed: on a small model and made-up data."""

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
save_file = pytest.importorskip("safetensors.numpy").save_file
sys.path.insert(0, str(Path(__file__).parents[2] / "models"))

from recipes import minilm_onnx  # noqa: E402
from recipes.encoder import bert, checkpoint, cross, data, measures, methods, rerank, train  # noqa: E402
from recipes.encoder.augment import KINDS, augment  # noqa: E402
from recipes.encoder.batches import Batches  # noqa: E402
from recipes.encoder.export import average, restore  # noqa: E402
from recipes.encoder.negatives import ALIKE, mine  # noqa: E402
from recipes.encoder.states import States, encode  # noqa: E402
from recipes.tasks import contrasts  # noqa: E402

CONFIG = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 6,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}
TRADES = ("baker", "plumber", "painter", "florist", "tailor", "baker of cakes", "pilot", "gardener")
WORDS = ("bread", "pipes", "walls", "flowers", "coats", "cakes", "planes", "trees", "tools", "shops", "letters")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder as MiniLM's, random and small."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(1)
    model = bert.Bert(CONFIG)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    save_file(weights | {"pooler.dense.bias": np.ones(32, np.float32)}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Twelve collections' agents, prompts and lines; the collections share one agent's description."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    agents, prompts, descriptions, pairs = {}, [], [], []
    for number in range(4):
        for trade in TRADES:
            key = f"owner{number}/set::{trade}"
            about = " ".join(rng.sample(WORDS, 4)) if trade != "pilot" else "flies the planes of everybody"
            agents[key] = {"name": trade, "description": f"{about} for town {number}" if trade != "pilot" else about}
            descriptions.append(f"{trade}: {agents[key]['description']}")
            lines = [f"{trade} works on {' '.join(rng.sample(WORDS, 3))} in {number}" for _ in range(3)]
            pairs += [[line, len(descriptions) - 1] for line in lines]
            prompts += [{"prompt": f"{number} please do {' '.join(rng.sample(WORDS, 3))}", "agent": key}] * 2
    pairs.append([prompts[0]["prompt"], len(descriptions) - 1])
    (folder / "agent_prompts.json").write_text(json.dumps({"agents": agents, "prompts": prompts}))
    (folder / "agent_weak_pairs.json").write_text(json.dumps({"descriptions": descriptions, "pairs": pairs}))
    return folder


def plan(source, material, out, **changes):
    settings = {"method": "last2", "steps": 6, "stop_early": False} | changes
    return train.Plan(data=material, source=source, out=out, **settings)


def test_torch_gives_what_the_graph_gives(source):
    model = bert.read(source)
    graph = onnxruntime.InferenceSession(minilm_onnx.build(source, int8=False).SerializeToString())
    ids = [np.array(row) for row in ([101, 2, 3, 102], [101, 7, 102], [101, *range(40, 75), 102])]
    found = encode(model, ids)
    for row, vector in zip(ids, found, strict=True):
        feed = {"input_ids": row[None], "attention_mask": np.ones_like(row)[None]}
        assert np.abs(graph.run(None, feed)[0][0] - vector).max() < 1e-4


def test_what_is_written_has_the_names_that_were_read(source, tmp_path):
    from safetensors.numpy import load_file

    model = bert.read(source)
    with torch.no_grad():
        model.encoder.layer[5].output.dense.bias += 1
    bert.write(model, source, tmp_path)
    before, after = load_file(source / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert set(before) == set(after)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {
        "encoder.layer.5.output.dense.bias"
    }


def test_kept_states_give_the_same_vectors(source, tmp_path):
    model = bert.read(source)
    ids = [np.array([101, *range(5, 5 + n), 102]) for n in (3, 30, 8, 1)]
    wanted = encode(model, ids)
    for start in (0, 4):
        states = States(model, ids, start, tmp_path)
        found = states.vectors([2, 0, 1, 3]).detach().numpy()
        assert (found * wanted[[2, 0, 1, 3]]).sum(1).min() > 0.999


@pytest.mark.parametrize("method", ["lora", "last2", "all"])
def test_a_resumed_run_ends_with_the_same_weights(source, material, tmp_path, method):
    whole = train.train(plan(source, material, tmp_path / "whole", method=method))
    assert train.train(plan(source, material, tmp_path / "parts", method=method, minutes=0)) is None
    parts = train.train(plan(source, material, tmp_path / "parts", method=method, resume=True))
    first, second = bert.read(whole).state_dict(), bert.read(parts).state_dict()
    untouched = bert.read(source).state_dict()
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
    assert any(not torch.equal(first[name], untouched[name]) for name in first)


def test_left_out_collections_tell_which_weights_to_keep(source, material, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_EVERY", 1)
    monkeypatch.setattr(train, "_PATIENCE", 2)
    settings = {"without": frozenset({"owner0/set"}), "stop_early": True, "steps": 30}
    folder = train.train(plan(source, material, tmp_path, **settings))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    found = [row["reciprocal"] for row in rows[1:]]
    best = found.index(max(found))
    assert len(found) == min(best + 3, 30)
    model = bert.read(folder)
    held = measures.held_out(material, {"owner0/set"})
    assert measures.score(held, lambda ids: encode(model, ids, short=True)).reciprocal == pytest.approx(max(found))


def test_a_checkpoint_of_another_method_is_refused(source, material, tmp_path):
    train.train(plan(source, material, tmp_path, method="lora", minutes=0))
    with pytest.raises(SystemExit, match="another method"):
        train.train(plan(source, material, tmp_path, method="last2", resume=True))
    with pytest.raises(SystemExit, match="no run to resume"):
        train.train(plan(source, material, tmp_path / "none", resume=True))


def test_only_what_a_method_trains_changes(source):
    model = bert.read(source)
    names = methods.prepare(model, methods.METHODS["last2"], 0)
    assert {name.split(".")[2] for name in names} == {"4", "5"}
    model = bert.read(source)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = methods.prepare(model, methods.METHODS["lora"], 0)
    assert all(name.endswith((".down", ".up")) for name in trained)
    with torch.no_grad():
        for value in trained.values():
            value += 0.01
    ids = [np.array([101, 9, 10, 102])]
    wanted = encode(model, ids)
    merged = methods.merge(model)
    assert set(merged.state_dict()) == set(before)
    assert np.allclose(encode(merged, ids), wanted, atol=1e-5)


def test_losses_prefer_the_right_card():
    cards = torch.eye(4)
    right, alike = torch.tensor([0, 1]), torch.eye(4).bool()
    for loss in (methods.info_nce, methods.triplet):
        assert loss(cards[[0, 1]], cards, right, alike) < loss(cards[[1, 0]], cards, right, alike)
    twice = torch.stack([cards[0], cards[0], cards[2]])
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    assert methods.triplet(twice[:1], twice, torch.tensor([0]), same) == 0


def test_a_collection_is_on_one_side_only(material):
    whole, rest = data.read_corpus(material), data.read_corpus(material, {"owner0/set"})
    assert "owner0/set" in whole.prompts
    assert "owner0/set" not in rest.prompts
    assert all("owner0/set" not in homes for homes in rest.home)
    gone = [text for text in whole.numbers if text not in rest.numbers]
    assert len([text for text in gone if text.endswith("town 0")]) == len(TRADES) - 1
    assert "pilot: flies the planes of everybody" in gone, "another collection's copy of a left-out agent"
    assert not [text for text in rest.numbers if "town 0" in text]
    first = json.loads((material / "agent_prompts.json").read_text())["prompts"][0]["prompt"]
    number = rest.texts.add(first, 40)
    assert all(task[0] != number for task in rest.weak.tasks)


def test_no_run_learns_from_what_encoders_are_judged_by(tmp_path):
    agents = {
        "dotnet/skills::msbuild": {"name": "msbuild", "description": "Builds projects"},
        "more/skills::msbuild": {"name": "msbuild-copy", "description": "builds  Projects"},
        "more/skills::tests": {"name": "tests", "description": "Writes tests"},
    }
    rows = [
        {"prompt": "the build is slow", "agent": "dotnet/skills::msbuild", "collection": "dotnet/skills"},
        {"prompt": "The build is slow", "agent": "more/skills::tests", "collection": "more/skills"},
        {"prompt": "test the parser", "agent": "more/skills::tests", "collection": "more/skills"},
    ]
    found = {name: [key for key in agents if key.startswith(name)] for name in ("dotnet/skills", "more/skills")}
    tools = {"leon-ai/leon::music": {"name": "music", "description": "Plays music"}}
    (tmp_path / "agent_prompts.json").write_text(json.dumps({"agents": {}, "prompts": []}))
    (tmp_path / "agent_weak_pairs.json").write_text(json.dumps({"descriptions": [], "pairs": []}))
    more = {"agents": agents, "prompts": rows, "collections": found}
    (tmp_path / "agent_prompts_2.json").write_text(json.dumps(more))
    asked = [{"prompt": "play a song", "agent": "leon-ai/leon::music", "collection": "leon-ai/leon"}]
    (tmp_path / "tool_queries.json").write_text(json.dumps({"tools": tools, "prompts": asked}))
    corpus = data.read_corpus(tmp_path)
    assert list(corpus.prompts) == ["more/skills"]
    assert [len(rows.cards) for rows in corpus.prompts.values()] == [1], "the prompt that both have is left out"
    assert set(corpus.among) == {"more/skills", "builtin"}
    assert [text for text in corpus.numbers if "build" in text.lower() and "rojects" in text] == []
    assert {held.name for held in measures.held_out(tmp_path, {"agents", "tools"})} == {"dotnet/skills", "leon-ai/leon"}


def test_an_int8_graph_gives_its_weights_back(source, tmp_path):
    graph = tmp_path / "graph.onnx"
    ids = np.array([101, *range(40, 60), 102])
    reaches = minilm_onnx.reaches(source, [ids[None]])
    graph.write_bytes(minilm_onnx.build(source, reaches=reaches).SerializeToString())
    restore(graph, source, tmp_path / "restored")
    before, after = bert.read(source).state_dict(), bert.read(tmp_path / "restored").state_dict()
    for name, value in before.items():
        assert (after[name] - value).abs().max() <= 0.02 * max(float(value.abs().max()), 1e-6), name


def test_a_contrast_is_one_object_under_many_acts():
    for rows in contrasts(3):
        assert len(rows) == len({agent for _, agent in rows}) > 10
    assert contrasts(3) == contrasts(3) != contrasts(3, seed=1)


def test_an_unknown_fold_is_refused(material):
    with pytest.raises(SystemExit, match="no fold 'nobody'"):
        data.read_corpus(material, {"nobody"})


def test_a_hard_negative_is_never_the_right_agent(source, material):
    corpus = data.read_corpus(material)
    cards = encode(bert.read(source), [corpus.texts.ids[i] for i in corpus.cards])
    cards -= cards.mean(0)  # a random model finds all texts alike
    cards /= np.linalg.norm(cards, axis=1, keepdims=True)
    negatives = mine(corpus, cards)
    assert sum(map(len, negatives)) >= 156
    for card, others in enumerate(negatives):
        assert card not in others
        assert all(corpus.home[card] & corpus.home[other] for other in others)
        assert all(cards[card] @ cards[other] <= ALIKE + 1e-6 for other in others)
    batches = Batches(corpus, cards, negatives, 0)
    kinds = [corpus.weak, corpus.catalog, *corpus.contrasts, *corpus.prompts.values()]
    right = {(text, int(rows.cards[i])) for rows in kinds for i, said in enumerate(rows.tasks) for text in said}
    for step in range(4):
        for batch in batches.at(step):
            assert len(set(batch.cards.tolist())) == len(batch.cards)
            assert set(zip(batch.tasks.tolist(), batch.cards[batch.right].tolist(), strict=True)) <= right


def test_augmentations_keep_what_a_task_is_about():
    text = "Could you migrate the payments database to Postgres without downtime?"
    for name, change in KINDS.items():
        said = [change(text, random.Random(seed)) for seed in range(20)]
        assert said == [change(text, random.Random(seed)) for seed in range(20)]
        assert any(each != text for each in said), name
        words = {"migrate", "payments", "database", "postgres", "downtime"}
        for each in said:
            kept = words & set(each.lower().replace("?", " ").replace(".", " ").replace(",", " ").split())
            assert len(kept) >= 3, (name, each)
    assert augment("  ", random.Random(0)) == "  "
    assert all(augment("x", random.Random(seed)) for seed in range(50))


def test_a_text_is_said_the_same_way_in_every_split(material):
    whole, rest = data.read_corpus(material), data.read_corpus(material, {"owner1/set"})
    first, second = ([c.texts.ids[i].tolist() for i in c.prompts["owner2/set"].tasks[0]] for c in (whole, rest))
    assert first == second


def test_an_average_lies_between(source):
    one, other = bert.read(source), bert.read(source)
    with torch.no_grad():
        other.encoder.layer[0].output.dense.bias += 2
    half = average(one, other, 0.5)
    moved = half.encoder.layer[0].output.dense.bias - one.encoder.layer[0].output.dense.bias
    assert torch.allclose(moved, torch.ones_like(moved))


def test_early_stopping_counts_measurements_without_a_better_one():
    state = checkpoint.State().measured(0.4).measured(0.3).measured(0.39)
    assert (state.best, state.waited) == (0.4, 2)
    assert state.measured(0.41).waited == 0
    assert state.measured(None) == state


def _pairs(lengths):
    rng = np.random.default_rng(3)
    return [np.array([101, *rng.integers(1000, 20000, n), 102]) for n in lengths]


def test_apart_a_pair_scores_as_the_encoder_has_it(source):
    model = bert.read(source)
    tasks, cards = _pairs([3, 9]), [_pairs([5, 2, 30]), _pairs([8, 8, 1])]
    found = cross.Cross(model, joined=6).score(tasks, cards)
    for task, own, row in zip(encode(model, tasks), cards, found, strict=True):
        assert np.allclose(row, 20 * encode(model, own) @ task, atol=0.05)


def test_a_pair_scores_the_same_beside_any_other(source):
    scorer = cross.Cross(bert.read(source), joined=4)
    tasks, cards = _pairs([3, 9]), [_pairs([5, 2]), _pairs([40, 8])]
    whole = scorer.score(tasks, cards)
    assert np.allclose(whole[1], scorer.score(tasks[1:], cards[1:])[0], atol=0.05)
    apart = cross.Cross(bert.read(source), joined=6).score(tasks, cards)
    assert np.abs(whole - apart).max() > 0.05, "task and card see each other"


def test_the_cross_encoder_learns_above_the_layer_it_joins_at(source, material, monkeypatch):
    monkeypatch.setattr(cross, "ALIKE", 1.1)  # a random model finds all texts alike
    corpus, model = data.read_corpus(material, {"owner0/set"}), bert.read(source)
    known = cross.read_lists(corpus, model, 0)
    for each in (each for kind in known.values() for each in kind):
        assert each.right not in each.near
        assert all(corpus.home[each.right] & corpus.home[other] for other in each.near)
    monkeypatch.setattr(cross, "_OF_EACH", {"prompts": 4})
    monkeypatch.setattr(cross, "_RATE", 5e-3)
    scorer = cross.Cross(bert.read(source), joined=4)
    losses = cross.teach(scorer, corpus, {"prompts": known["prompts"][:2]}, 40, 0)
    assert np.mean(losses[-5:]) < 0.5 < np.mean(losses[:5])
    after = scorer.model.state_dict()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, after[name])}
    assert {name.rpartition("layer.")[2][0] for name in changed} == {"4", "5"}


def test_late_interaction_finds_the_task_itself(source):
    task, *others = _pairs([6, 6, 20, 3])
    (scores,) = rerank.late_interaction(bert.read(source))([task], [[*others, task]])
    assert scores.argmax() == 3
    assert scores[3] == pytest.approx(1, abs=1e-3)


def test_a_second_score_counts_where_it_helps():
    first = np.array([[2, 1.5, 0, 0, 0], [2, 1.9, 0, 0, 0]], np.float32)
    right = np.array([[False, True, False, False, False], [True, False, False, False, False]])
    lists = [rerank.Shortlist([], [], first, right)]
    assert rerank.top1(lists, [np.zeros((2, 5), np.float32)], 1) == 0.5
    good = [right.astype(np.float32)]
    assert rerank.top1(lists, good, rerank.best_weight(lists, good)) == 1
    assert rerank.best_weight(lists, [-good[0]]) == 0


def test_a_shortlist_holds_the_best_five(source, material):
    model = bert.read(source)
    (held,) = measures.held_out(material, {"owner1/set"})
    found = rerank.shortlist(held, model)
    wanted = measures.score([held], lambda ids: encode(model, ids, short=True))
    assert rerank.top1([found], [np.zeros_like(found.first)], 1) == wanted.hybrid_top1
    assert found.right[:, :3].any(1).mean() == pytest.approx(wanted.hybrid_top3)
    assert all(len(five) == 5 for five in found.cards)


def test_the_table_has_every_group_and_says_what_was_gained(source, material, tmp_path, monkeypatch):
    groups = {group: (f"owner{i}/set",) for i, group in enumerate("abcd")}
    monkeypatch.setattr(rerank, "GROUPS", groups)
    monkeypatch.setattr(data, "_HOMES", 1.0)
    monkeypatch.setattr(cross, "ALIKE", 1.1)
    monkeypatch.setattr(cross, "_OF_EACH", {"prompts": 2})
    for group in groups:
        bert.write(bert.read(source), source, tmp_path / group / "model")
    rows = list(rerank.table(material, source, tmp_path, steps=1, joined=4))
    assert [(row.method, row.group) for row in rows] == [
        *(("late interaction", group) for group in "abcd"),
        *(("cross-encoder", group) for group in "ab"),
    ]
    assert rows[0].first == rows[4].first
    for row in rows:
        assert row.prompts == 2 * len(TRADES)
        assert max(row.first, row.reranked) <= row.hindsight <= row.reachable
        assert row.weight > 0 or row.reranked == row.first
    assert f"{rows[0].reranked - rows[0].first:+.3f}" in rows[0].line()


def test_fewer_layers_take_less_time(source):
    assert 0 < rerank.milliseconds(source, 1) < rerank.milliseconds(source, 6)
