"""Published models as packages of PyPI carry them, beside llama.cpp on the same file and on text of ours."""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tiny_decoder import agreement, perplexity

from ruvllm.inference.backend import Message, Params
from ruvllm.inference.local import open_local
from ruvllm.text.tokenizer_file import read_tokenizer
from ruvllm_models.convert import convert
from ruvllm_models.store.pypi import CARRIED

llama_cpp = pytest.importorskip("llama_cpp")
ROOT = Path(__file__).parents[2]
TEXTS = [ROOT / "docs" / "architecture.md", ROOT / "core" / "ruvllm" / "runtime.py"]
WINDOW = 768  # tokens of each text, more than a layer of Gemma sees
MARKS = "<|im_start|>", "<|im_end|>"
CONVERSATIONS = [
    [Message("user", "Say hello.")],
    [
        Message("system", "Be short."),
        Message("user", "Hi"),
        Message("assistant", "Hi."),
        Message("user", "How are you?"),
    ],
]


def gguf_of(name: str, folder: Path) -> Path:
    """The file, out of the packages that are installed."""
    model = CARRIED[name]
    path = folder / model.file
    if not path.exists():
        with path.open("wb") as out:
            for wheel in model.wheels:
                try:
                    part = Path(str(distribution(wheel.project).locate_file(wheel.member)))
                except PackageNotFoundError:
                    pytest.skip(f"{wheel.project} is not installed")
                out.write(part.read_bytes())
    return path


@pytest.fixture(scope="module", params=list(CARRIED))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """(name, GGUF file, converted folder)."""
    folder = tmp_path_factory.mktemp("real")
    file = gguf_of(request.param, folder)
    convert(file, folder / "converted")
    return request.param, file, folder / "converted"


def llama(file: Path) -> llama_cpp.Llama:
    return llama_cpp.Llama(
        str(file), n_ctx=1024, n_batch=512, logits_all=True, verbose=False, n_threads=1, type_k=0, type_v=0
    )


def test_tokens_greedy_choices_and_perplexity_are_llama_cpps(model: tuple[str, Path, Path]):
    name, file, folder = model
    theirs, words = llama(file), read_tokenizer(json.loads((folder / "tokenizer.json").read_text("utf-8")))
    begin = json.loads((folder / "ruvllm-model.json").read_text("utf-8"))["begin"]
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    inputs = {i.name: i.shape for i in session.get_inputs() if i.name.startswith("past")}
    empty = {
        key: np.zeros([n if isinstance(n, int) else 0 for n in shape], np.float32) for key, shape in inputs.items()
    }
    same, changes, sizes = [], [], []
    for path in TEXTS:
        text = path.read_text("utf-8")[:4000]
        tokens = words.ids(text)
        assert tokens == theirs.tokenize(text.encode(), add_bos=False, special=True), path
        ids = ([] if begin is None else [begin]) + tokens[:WINDOW]
        asked = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
        found = session.run(["logits"], empty | asked | {"num_logits_to_keep": np.zeros(1, np.int64)})[0][0]
        theirs.reset()
        theirs.eval(ids)
        expected = theirs.scores[: len(ids)]
        same.append(agreement([found], [expected]))
        changes.append(np.log(perplexity([found], [ids]) / perplexity([expected], [ids])))
        sizes.append(len(ids))
    equal, change = np.average(same, weights=sizes), np.expm1(np.average(changes, weights=sizes))
    print(f"{name}: {equal:.4f} of {sum(sizes):,} greedy tokens are llama.cpp's; perplexity {change:+.3%}")
    assert equal > 0.92
    assert abs(change) < 0.01


def test_it_is_asked_and_stops_as_by_llama_cpp(model: tuple[str, Path, Path]):
    name, file, folder = model
    theirs, ours = llama(file), open_local(folder, threads=1)
    assert theirs.token_eos() in json.loads((folder / "ruvllm-model.json").read_text("utf-8"))["ends"]
    if not (folder / "chat_template.jinja").exists():
        pytest.skip(f"{name} has no chat template")
    template, (begin, end) = theirs.metadata["tokenizer.chat_template"], MARKS
    form = llama_cpp.llama_chat_format.Jinja2ChatFormatter(template=template, bos_token=begin, eos_token=end)
    for asked in CONVERSATIONS:
        formed = form(messages=[{"role": one.role, "content": one.content} for one in asked]).prompt
        assert ours.prompt(asked, Params()) == theirs.tokenize(formed.encode(), add_bos=False, special=True)
    answer = asyncio.run(ours.generate(CONVERSATIONS[0], Params(temperature=0, repeat_penalty=1, max_tokens=8)))
    assert answer.finish_reason in ("stop", "length")
