"""Converted decoders against a plain numpy one: same logits, same tokens, whatever the file they came in."""

import asyncio

import decoders
import gguf
import numpy as np
import onnxruntime
import pytest
from decoders import VOCAB, Decoder, greedy_after, random_decoder, reference_logits, write_folder, write_gguf

from ruvllm.inference.backend import Message, Params
from ruvllm.inference.local import open_local
from ruvllm_models.convert import convert
from ruvllm_models.convert.decoder import Bits

PROMPT = np.random.default_rng(3).integers(3, VOCAB, 24).tolist()
FULL = Bits(32, 32)
Q = gguf.GGMLQuantizationType


class Runner:
    """The graph alone, fed by hand: other names for inputs than the ones used here would show."""

    def __init__(self, folder):
        self.graph = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        self.caches = [i for i in self.graph.get_inputs() if i.name.startswith("past")]
        self.outputs = [output.name for output in self.graph.get_outputs()]

    def empty(self):
        return {i.name: np.zeros([0 if isinstance(n, str) else n for n in i.shape], np.float32) for i in self.caches}

    def step(self, past, ids, total, keep=0):
        feeds = past | {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, total), np.int64),
            "num_logits_to_keep": np.array([keep], np.int64),
        }
        out = dict(zip(self.outputs, self.graph.run(None, feeds), strict=True))
        return out["logits"][0], {
            name: out[name.replace("past_key_values", "present").replace("past_conv", "present_conv")] for name in past
        }

    def greedy(self, ids, count):
        logits, past = self.step(self.empty(), ids, len(ids), 1)
        out = []
        while len(out) < count:
            out.append(int(logits[-1].argmax()))
            logits, past = self.step(past, out[-1:], len(ids) + len(out), 1)
        return out


@pytest.mark.parametrize(
    ("architecture", "layers", "tied", "shards"),
    [("qwen2", 3, True, 1), ("llama", 2, False, 3), ("llama", 4, True, 1), ("lfm2", 4, True, 1)],
)
def test_float32_is_the_model_itself(tmp_path, architecture, layers, tied, shards):
    model = random_decoder(architecture, layers, tied)
    convert(write_folder(model, tmp_path / "hf", shards), tmp_path / "out", bits=FULL)
    runner = Runner(tmp_path / "out")
    logits, _ = runner.step(runner.empty(), PROMPT, len(PROMPT))
    expected = reference_logits(model, PROMPT)
    assert np.abs(expected).max() > 2  # else 1e-4 would say little
    assert np.abs(logits - expected).max() < 1e-4
    answer = runner.greedy(PROMPT, 64)
    assert answer == greedy_after(model, PROMPT, answer)


@pytest.mark.parametrize("architecture", ["qwen2", "lfm2"])
def test_reading_in_parts_and_the_last_logits_alone_change_nothing(tmp_path, architecture):
    model = random_decoder(architecture)
    convert(write_folder(model, tmp_path / "hf"), tmp_path / "out", bits=FULL)
    runner = Runner(tmp_path / "out")
    whole, _ = runner.step(runner.empty(), PROMPT, len(PROMPT))
    _, past = runner.step(runner.empty(), PROMPT[:10], 10)
    rest, _ = runner.step(past, PROMPT[10:], len(PROMPT), 2)
    assert rest.shape == (2, VOCAB)
    np.testing.assert_allclose(rest, whole[-2:], atol=1e-5)


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "lfm2"])
@pytest.mark.parametrize("kind", [Q.F16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q4_K, Q.Q5_K, Q.Q6_K])
def test_gguf_holds_the_same_model(tmp_path, architecture, kind):
    model = random_decoder(architecture)
    inside = write_gguf(model, tmp_path / "m.gguf", kind)
    convert(tmp_path / "m.gguf", tmp_path / "out", bits=FULL)
    runner = Runner(tmp_path / "out")
    logits, _ = runner.step(runner.empty(), PROMPT, len(PROMPT))
    expected = reference_logits(Decoder(architecture, model.layers, model.tied, inside), PROMPT)
    assert np.abs(logits - expected).max() < 1e-4 * max(1, np.abs(expected).max())


def test_gemma_3_sees_a_window_in_most_layers_and_all_in_one_of_six(tmp_path):
    model = random_decoder("gemma3", layers=7)
    write_gguf(model, tmp_path / "m.gguf", Q.F32)
    convert(tmp_path / "m.gguf", tmp_path / "out", bits=FULL)
    runner = Runner(tmp_path / "out")
    logits, _ = runner.step(runner.empty(), PROMPT, len(PROMPT))
    expected = reference_logits(model, PROMPT)
    assert len(PROMPT) > 2 * decoders.SEEN
    assert np.abs(logits - expected).max() < 1e-4 * max(1, np.abs(expected).max())
    answer = runner.greedy(PROMPT, 16)
    assert answer == greedy_after(model, PROMPT, answer)


@pytest.mark.parametrize(
    ("kind", "bits", "error"),
    # Bounds on what a 4- or 8-bit grid costs random weights; an exact takeover costs nothing.
    [
        *((Q.Q4_0, 4, 0), (Q.Q5_0, 8, 0), (Q.Q8_0, 8, 0)),
        *((Q.Q4_1, 4, 0.006), (Q.Q4_K, 4, 0.006), (Q.F16, 4, 0.09)),
        *((Q.Q5_1, 8, 0.006), (Q.Q5_K, 8, 0.006), (Q.Q6_K, 8, 0.006)),
    ],
)
def test_what_requantising_costs_is_measured(tmp_path, kind, bits, error):
    model = random_decoder("llama")
    inside = write_gguf(model, tmp_path / "m.gguf", kind)
    manifest = convert(tmp_path / "m.gguf", tmp_path / "out")
    told = {tensor["name"]: tensor for tensor in manifest["tensors"]}
    assert told["blk.1.attn_v.weight"]["bits"] == bits
    assert told["token_embd.weight"]["bits"] == (4 if kind == Q.Q4_0 else 8)
    assert (manifest["worst"]["relative"] == 0) == (error == 0)
    assert manifest["worst"]["relative"] <= error
    runner = Runner(tmp_path / "out")
    logits, _ = runner.step(runner.empty(), PROMPT, len(PROMPT))
    expected = reference_logits(Decoder("llama", model.layers, model.tied, inside), PROMPT)
    lost = np.sqrt(((logits - expected) ** 2).mean() / (expected**2).mean())
    # Activations are int8 in the kernel: about 1 % for each matrix on the way, and what the weights lost adds up.
    assert lost < 0.05 + 5 * error


def test_a_converted_folder_answers_and_goes_on_from_what_it_has_read(tmp_path):
    model = random_decoder("qwen2")
    convert(write_folder(model, tmp_path / "hf"), tmp_path / "out", bits=FULL, shard=1 << 20)
    assert (tmp_path / "out" / "model.onnx_data_1").exists()
    params = Params(max_tokens=12, temperature=0, repeat_penalty=1)
    first = [Message("system", "Be brief."), Message("user", "When does the ferry leave?")]

    async def two_turns(keep):
        backend = open_local(tmp_path / "out", threads=1, keep=keep)
        answer = await backend.generate(first, params)
        again = [*first, Message("assistant", answer.text), Message("user", "And the last one?")]
        prompt = backend.prompt(first, params)
        tokens = [token async for token, _ in backend.tokens(prompt, params, 12)]
        return answer, await backend.generate(again, params), prompt, tokens

    answer, second, prompt, tokens = asyncio.run(two_turns(2))
    assert tokens == greedy_after(model, prompt, tokens)
    assert answer.usage.prompt_tokens == len(prompt)
    assert 0 < (answer.confidence or 0) < 1
    fresh = asyncio.run(two_turns(0))  # nothing kept, nothing changed but rounding
    assert (fresh[0].text, fresh[1].text, fresh[3]) == (answer.text, second.text, tokens)
