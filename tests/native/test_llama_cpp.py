"""A quantised file says what its weights say, and what llama.cpp says that they do, where that is installed."""

import ctypes

import gguf
import numpy as np
import onnxruntime
import pytest
import tiny_decoder
from decoders import Decoder, reference_logits, write_gguf
from tiny_decoder import WINDOW, agreement, perplexity, trained

from ruvllm_models.convert import convert

Q = gguf.GGMLQuantizationType
# Share of equal greedy tokens, at least, and relative difference of perplexities, at most.
BARS = {"Q8_0": (0.99, 0.01), "Q4_K": (0.95, 0.03)}
FILE_TYPES = {"Q8_0": 7, "Q4_K": 15}  # llama.cpp's LLAMA_FTYPE_MOSTLY_Q8_0 and _Q4_K_M


@pytest.fixture(autouse=True)
def _shape(monkeypatch):
    tiny_decoder.shape(monkeypatch)


def converted_logits(file, folder):
    """float32 (WINDOW, vocabulary) for each window, by the graph that is run natively."""
    convert(file, folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
    inputs = {i.name: i.shape for i in session.get_inputs() if i.name.startswith("past")}
    empty = {
        name: np.zeros([n if isinstance(n, int) else 0 for n in shape], np.float32) for name, shape in inputs.items()
    }
    empty |= {"attention_mask": np.ones((1, WINDOW), np.int64), "num_logits_to_keep": np.zeros(1, np.int64)}
    return [session.run(["logits"], empty | {"input_ids": np.array([ids], np.int64)})[0][0] for ids in trained()[1]]


def llama_logits(file, windows, cache):
    """The same by llama.cpp, with keys and values of one of GGML's types."""
    import llama_cpp

    model = llama_cpp.Llama(
        str(file), n_ctx=512, n_batch=512, logits_all=True, verbose=False, n_threads=1, type_k=cache, type_v=cache
    )
    found = []
    for ids in windows:
        model.reset()
        model.eval(ids)
        found.append(np.array(model.scores[:WINDOW]))
    return found


def test_the_model_knows_its_language_and_has_opinions():
    model, windows = trained()
    logits = [reference_logits(model, ids) for ids in windows]
    assert perplexity(logits, windows) < 512 / 6  # of 512 tokens; it was never shown this text
    ordered = np.sort(np.concatenate(logits), -1)
    assert np.median(ordered[:, -1] - ordered[:, -2]) > 0.3


@pytest.mark.parametrize("kind", [Q.Q8_0, Q.Q4_K])
def test_int8_arithmetic_on_the_weights_of_a_file_changes_little(tmp_path, kind):
    model, windows = trained()
    inside = write_gguf(model, tmp_path / "m.gguf", kind)
    exact = [reference_logits(Decoder("qwen2", model.layers, True, inside), ids) for ids in windows]
    ours = converted_logits(tmp_path / "m.gguf", tmp_path / "out")
    assert agreement(ours, exact) > 0.97
    assert abs(perplexity(ours, windows) / perplexity(exact, windows) - 1) < 0.005


@pytest.mark.parametrize("kind", BARS)
def test_llama_cpp_reads_the_same_model_from_the_same_file(tmp_path, kind):
    llama_cpp = pytest.importorskip("llama_cpp")
    model, windows = trained()
    write_gguf(model, tmp_path / "f32.gguf", Q.F32)
    file = tmp_path / "m.gguf"
    how = llama_cpp.llama_model_quantize_default_params()
    how.ftype, how.nthread = FILE_TYPES[kind], 1
    paths = [str(path).encode() for path in (tmp_path / "f32.gguf", file)]
    assert llama_cpp.llama_model_quantize(*paths, ctypes.byref(how)) == 0
    theirs, finer = (llama_logits(file, windows, cache) for cache in (1, 0))  # GGML's float16, its default, and float32
    ours = converted_logits(file, tmp_path / "out")
    same, change = agreement(ours, theirs), perplexity(ours, windows) / perplexity(theirs, windows) - 1
    # A half-precision cache alone turns some of llama.cpp's own tokens: only the others have a bar.
    firm = np.concatenate(theirs).argmax(-1) == np.concatenate(finer).argmax(-1)
    of_firm = agreement([np.concatenate(ours)[firm]], [np.concatenate(theirs)[firm]])
    print(f"{kind}: {same:.4f} of the greedy tokens are llama.cpp's, {of_firm:.4f} of those that its cache's precision")
    print(f"does not change, which are {firm.mean():.4f}; perplexity {change:+.3%}")
    least, most = BARS[kind]
    assert of_firm >= least
    assert same >= firm.mean() - 0.02
    assert abs(change) <= most
