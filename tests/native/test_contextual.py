"""The real encoders under onnxruntime, and the cascade that asks one of them."""

from dataclasses import replace

import numpy as np
import pytest

from ruvllm import RuvLLM
from ruvllm.encoders.families import RUVLTRA
from ruvllm_models import FOLDER

TEXTS = [
    "add unit tests",
    "Please find out why the nightly export of the billing data takes four hours and make it faster",
    "deploy",
    "how do I write a good README for a small command line tool?",
]


@pytest.fixture(scope="module")
def llm() -> RuvLLM:
    return RuvLLM()


def test_a_text_has_one_vector_whatever_its_neighbours(llm):
    together = llm.embed(TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(RuvLLM(encoder="ruvltra").embed([text])[0], row, atol=1e-6)


def test_why_texts_run_one_by_one():
    """The trap itself: in a padded batch, dynamic int8 gives another vector."""
    import onnxruntime

    from ruvllm.text.wordpiece import WordPiece

    session = onnxruntime.InferenceSession(str(FOLDER / RUVLTRA.model), providers=["CPUExecutionProvider"])
    words = WordPiece((FOLDER / "vocab.txt").read_text("utf-8").splitlines())
    rows = [words.encode(text) for text in TEXTS]
    width = max(map(len, rows))
    ids = np.array([row + [0] * (width - len(row)) for row in rows], np.int64)
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int64)
    batch = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    row = np.array([rows[0]], np.int64)
    alone = session.run(None, {"input_ids": row, "attention_mask": np.ones_like(row)})[0]
    assert float(batch[0] @ alone[0]) < 0.9999
    assert float(batch[0] @ alone[0]) > 0.9


def test_meaning_counts_not_spelling(llm):
    fix, repair, cake = llm.embed(["fix the memory leak", "repair the heap that grows", "bake a chocolate cake"])
    assert fix @ repair > fix @ cake + 0.1


def test_static_and_ruvltra_share_a_space(llm):
    static = llm.encoders.static.encode_now(TEXTS)
    cosines = (static * llm.embed(TEXTS)).sum(1)
    assert cosines.min() > 0.5
    assert cosines.mean() > (static @ llm.embed(TEXTS).T)[~np.eye(4, dtype=bool)].mean() + 0.3


def test_the_cascade_asks_ruvltra_only_when_unsure(llm):
    sure = llm.route("add unit tests for the auth module")
    assert (sure.encoder, "encode_ruvltra" in sure.timings_us) == ("static", False)
    unsure = llm.route("the thing with the stuff is odd again")
    assert (unsure.encoder, "encode_ruvltra" in unsure.timings_us) == ("ruvltra", True)


@pytest.mark.parametrize("encoder", ["ruvltra", "cascade"])
def test_many_are_read_on_several_cores_and_routed_as_each_alone(llm, encoder, monkeypatch):
    monkeypatch.setattr("ruvllm.artifacts.host.cores", lambda: 3)
    many, alone = (RuvLLM(encoder=encoder, like=llm) for _ in range(2))
    texts = [
        f"{text} number {i}" for i, text in enumerate(["make the odd thing better", "why is it so slow", "no"] * 3)
    ]
    expected = [replace(alone.route(text), timings_us={}) for text in texts]
    llm.encoders.contextual._encoder.cache.clear()  # of which both would take what the other has read
    assert [replace(one, timings_us={}) for one in many.route_many(texts)] == expected
    assert {one.encoder for one in expected} == {"ruvltra"}


def test_a_task_of_9936_that_is_confirmed_does_not_become_95():
    with RuvLLM(encoder="cascade") as llm:
        task = "write unit tests for the parser"
        texts = (task, "add unit tests for the parser", f"{task} please")
        before = [llm.route(text) for text in texts]
        assert min(decision.confidence for decision in before) > 0.95
        llm.feedback(texts[0], before[0].agent)
        for text, then in zip(texts, before, strict=True):
            now = llm.route(text)
            assert (now.agent, now.evidence.keywords) == (then.agent, then.evidence.keywords)
            assert now.confidence > then.confidence
            assert len(now.alternatives) == 3
            assert "memory" in now.evidence.scores


def test_feedback_reaches_all_encoders(kitchen):
    for mode in ("cascade", "ruvltra", "minilm"):
        llm = RuvLLM(kitchen, encoder=mode)
        task = "polish the copper kettle"
        right = next(agent.name for agent in kitchen if agent.name != llm.route(task).agent)
        llm.feedback(task, right)
        assert llm.route(task).agent == right
        assert llm.route("please polish that copper kettle").agent == right
