"""Byte-level BPE against HF `tokenizers`, token for token, on tokenizers trained here."""

import json
import random

import pytest
from decoders import WORDS
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, trainers
from tokenizers import models as kinds
from tokenizers import pre_tokenizers as cutters

from ruvllm.text.pretokenize import LLAMA3, QWEN2
from ruvllm.text.tokenizer_file import read_tokenizer

LINES = 12_500  # for each of four kinds
ODD = "ab1²٣Ⅷ  \t\r\n\u2028\u00a0'sSſTtLlvVREre.,!中文ée\u0301🙂\u200d\x1c\x85\ufdd0_-"
SCRIPTS = (0x20, 0xA0, 0x370, 0x400, 0x5D0, 0x620, 0x900, 0xE00, 0x4E00, 0xAC00, 0x1F600, 0x1D400)


def split_by(pattern):
    byte_level = cutters.ByteLevel(add_prefix_space=False, use_regex=False)
    return cutters.Sequence([cutters.Split(Regex(pattern), "isolated"), byte_level])


def by_digits():
    return cutters.Sequence([cutters.Digits(individual_digits=True), cutters.ByteLevel(add_prefix_space=False)])


KINDS = {
    "gpt2": (lambda: cutters.ByteLevel(add_prefix_space=False), None),
    "prefixed": (lambda: cutters.ByteLevel(add_prefix_space=True), None),
    "qwen2": (lambda: split_by(QWEN2), normalizers.NFC),
    "llama3": (lambda: split_by(LLAMA3), None),
    "smollm": (by_digits, None),
}


def trained(kind, whole_words=False):
    cutter, normaliser = KINDS[kind]
    made = Tokenizer(kinds.BPE(ignore_merges=whole_words))
    made.pre_tokenizer = cutter()
    if normaliser is not None:
        made.normalizer = normaliser()
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = cutters.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, special_tokens=marks, show_progress=False)
    made.train_from_iterator(WORDS * 3, trainer)
    made.add_tokens([AddedToken("<tool>", special=False), AddedToken("<tool>s", special=False, lstrip=True)])
    return made


def lines(count, seed):
    """Prose, code, every script, anything that is a code point, and what pre-tokenizers trip over."""
    rng = random.Random(seed)

    def anything():
        return chr(rng.choice((rng.randrange(0xD800), rng.randrange(0xE000, 0x110000))))

    def scripts():
        return "".join(chr(rng.choice(SCRIPTS) + rng.randrange(80)) for _ in range(rng.randrange(1, 9)))

    makers = (
        lambda: " ".join(rng.choices(" ".join(WORDS).split(" "), k=rng.randrange(1, 20))),
        lambda: "".join(anything() for _ in range(rng.randrange(1, 30))),
        lambda: "".join(rng.choices(ODD, k=rng.randrange(1, 30))),
        lambda: " ".join(scripts() for _ in range(6)),
        lambda: f"<|im_start|>{rng.choice(WORDS)} <tool><tool>s<|im_end|>\n{''.join(rng.choices(ODD, k=5))}",
    )
    return [rng.choice(makers)() for _ in range(count)]


@pytest.mark.parametrize(("kind", "seed"), [("gpt2", 1), ("qwen2", 2), ("llama3", 3), ("smollm", 4)])
def test_the_same_tokens_on_50000_lines(kind, seed):
    reference = trained(kind)
    ours = read_tokenizer(json.loads(reference.to_str()))
    texts = lines(LINES, seed)
    expected = [encoding.ids for encoding in reference.encode_batch(texts, add_special_tokens=False)]
    assert [text for text, ids in zip(texts, expected, strict=True) if ours.ids(text) != ids] == []


@pytest.mark.parametrize(("kind", "whole_words"), [("prefixed", False), ("llama3", True)])
def test_its_other_options(kind, whole_words):
    reference = trained(kind, whole_words)
    ours = read_tokenizer(json.loads(reference.to_str()))
    for text in lines(500, 5):
        assert ours.ids(text) == reference.encode(text, add_special_tokens=False).ids


def test_long_words():
    reference = trained("qwen2")
    ours = read_tokenizer(json.loads(reference.to_str()))
    rng = random.Random(6)
    for text in ("the" * 20_000, "".join(rng.choices("etahsnofr", k=50_000)), "東京の夜" * 5_000):
        assert ours.ids(text) == reference.encode(text).ids


def test_merges_written_as_lines():
    reference = trained("gpt2")
    told = json.loads(reference.to_str())
    told["model"]["merges"] = [" ".join(pair) for pair in told["model"]["merges"]]
    ours = read_tokenizer(told)
    assert all(ours.ids(text) == reference.encode(text).ids for text in WORDS)
