"""A cache that grows in its place gives what a fresh one gives, also after cuts and cancelled steps."""

import asyncio

import numpy as np
import pytest
from decoders import HEADS, HIDDEN, KV_HEADS, VOCAB, random_decoder, reference_logits, write_folder

from ruvllm.inference.local import Grown, OnnxSession
from ruvllm.inference.local_model import CacheShape, Reading
from ruvllm_models.convert import convert
from ruvllm_models.convert.decoder import Bits

IDS = np.random.default_rng(4).integers(3, VOCAB, 400).tolist()
SHAPE = CacheShape((True, True), KV_HEADS, HIDDEN // HEADS)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    root = tmp_path_factory.mktemp("model")
    convert(write_folder(random_decoder("qwen2"), root / "hf"), root / "out", bits=Bits(32, 32))
    return OnnxSession(root / "out" / "model.onnx", 1)


@pytest.fixture(scope="module")
def expected():
    return reference_logits(random_decoder("qwen2"), IDS)


def inputs(reading, ids):
    return reading.tensors | {
        "input_ids": np.array([ids], np.int64),
        "attention_mask": np.ones((1, len(reading.ids) + len(ids)), np.int64),
        "num_logits_to_keep": np.ones(1, np.int64),
    }


async def step(session, reading, ids):
    """The next reading, and the logits after its last token."""
    outputs = await session.run(inputs(reading, ids))
    return Reading(SHAPE.following(reading.tensors, outputs), [*reading.ids, *ids]), outputs["logits"].reshape(-1)


def memory(reading):
    """Where each tensor begins."""
    return {name: tensor[:, :, :].__array_interface__["data"][0] for name, tensor in reading.tensors.items()}


def near(logits, expected):
    return np.abs(logits - expected).max() < 1e-4


def test_steps_write_behind_each_other_in_the_same_memory(session, expected):
    async def main():
        reading, logits = await step(session, Reading(SHAPE.empty()), IDS[:20])
        assert near(logits, expected[19])
        moves, place = 0, memory(reading)
        for i in range(20, 400):
            reading, logits = await step(session, reading, IDS[i : i + 1])
            assert near(logits, expected[i])
            moves, place = moves + (memory(reading) != place), memory(reading)
        return moves

    assert asyncio.run(main()) == 0  # the first 512 fit into what was made for the first 20


def test_what_outgrows_its_memory_moves_and_goes_on(session, expected, monkeypatch):
    monkeypatch.setattr("ruvllm.inference.local._ROOM", 8)

    async def main():
        reading, moves = Reading(SHAPE.empty()), 0
        for start in range(0, 400, 5):  # several at a time behind a past, too
            before = memory(reading)
            reading, logits = await step(session, reading, IDS[start : start + 5])
            assert near(logits, expected[start + 4])
            moves += memory(reading) != before
        return moves

    assert 4 < asyncio.run(main()) < 20


def test_a_cut_or_a_second_continuation_leaves_the_first_as_it_was(session, expected):
    async def main():
        first, _ = await step(session, Reading(SHAPE.empty()), IDS[:30])
        cut = Reading(SHAPE.cut(first.tensors, 10), IDS[:10])
        other, _ = await step(session, cut, [5] * 12)
        again, logits = await step(session, Reading(SHAPE.cut(other.tensors, 10), IDS[:10]), IDS[10:20])
        assert near(logits, expected[19])
        later, logits = await step(session, first, IDS[30:31])
        assert near(logits, expected[30])
        beside, _ = await step(session, first, [7])  # `later` has written where this one would
        assert memory(later) != memory(beside)
        _, logits = await step(session, later, IDS[31:32])
        assert near(logits, expected[31])
        _, logits = await step(session, again, IDS[20:21])
        assert near(logits, expected[20])

    asyncio.run(main())


def test_a_cancelled_step_may_still_be_writing_and_harms_nobody(session, expected):
    async def main():
        reading, _ = await step(session, Reading(SHAPE.empty()), IDS[:30])
        lost = asyncio.create_task(session.run(inputs(reading, [9] * 100)))
        await asyncio.sleep(0)
        lost.cancel()
        for i in range(30, 33):
            reading, logits = await step(session, reading, IDS[i : i + 1])
            assert near(logits, expected[i])
        with pytest.raises(asyncio.CancelledError):
            await lost

    asyncio.run(main())


def test_keys_are_there_as_an_array(session):
    reading, _ = asyncio.run(step(session, Reading(SHAPE.empty()), IDS[:30]))
    for tensor in reading.tensors.values():
        assert isinstance(tensor, Grown)
        assert np.asarray(tensor).shape == (1, KV_HEADS, 30, HIDDEN // HEADS)
        np.testing.assert_array_equal(np.asarray(tensor)[:, :, :7], tensor[:, :, :7])
