"""SentencePiece's BPE against HF `tokenizers`, token for token, in the two ways that files say it."""

import json

import pytest
from decoders import WORDS
from test_bpe_tokenizers import lines
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, trainers
from tokenizers import models as kinds
from tokenizers import pre_tokenizers as cutters

from ruvllm.text.tokenizer_file import read_tokenizer
from ruvllm_models.convert.vocabulary import from_gguf


def trained(style):
    """Trained on characters, then given the bytes and the outside of a Llama file."""
    first = Tokenizer(kinds.BPE())
    first.pre_tokenizer = cutters.Metaspace()
    first.train_from_iterator(WORDS * 3, trainers.BpeTrainer(vocab_size=300, show_progress=False))
    told = json.loads(first.to_str())["model"]
    outside = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens = [*outside, *sorted(told["vocab"], key=told["vocab"].__getitem__)]
    vocab = {token: i for i, token in enumerate(tokens)}
    merges = [tuple(pair) for pair in told["merges"]]
    made = Tokenizer(kinds.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.add_special_tokens([AddedToken(text, normalized=False) for text in outside[:3]])
    if style == "normalizer":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        made.pre_tokenizer = cutters.Metaspace(prepend_scheme=style, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    return made


@pytest.mark.parametrize("style", ["normalizer", "first", "always", "never"])
def test_the_same_tokens(style):
    reference = trained(style)
    ours = read_tokenizer(json.loads(reference.to_str()))
    texts = [text.replace("<|im_start|>", "<s>").replace("<|im_end|>", "</s>") for text in lines(3_000, 7)]
    expected = [encoding.ids for encoding in reference.encode_batch(texts, add_special_tokens=False)]
    assert [text for text, ids in zip(texts, expected, strict=True) if ours.ids(text) != ids] == []


def test_a_gguf_file_has_scores_instead_of_merges():
    reference = trained("normalizer")
    vocab = json.loads(reference.to_str())["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.__getitem__)
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [float(-i) for i in range(len(tokens))],  # a token is the worse the later it was found
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    words = from_gguf("m.gguf", metadata, len(tokens))
    assert (words.begin, words.ends, words.names) == (1, (2,), {"bos_token": "<s>", "eos_token": "</s>"})
    ours, theirs = read_tokenizer(words.tokenizer), Tokenizer.from_str(json.dumps(words.tokenizer))
    for text in WORDS * 2 + lines(500, 8):
        assert ours.ids(text) == theirs.encode(text).ids
    # Only where two merges make the same token may the order differ from the trained one.
    assert [ours.ids(text) for text in WORDS] == [reference.encode(text).ids for text in WORDS]


def test_answers_read_as_the_reference_decodes_them():
    reference = trained("normalizer")
    ours = read_tokenizer(json.loads(reference.to_str()))
    for text in [*WORDS, " two blanks", "𝄞"]:
        ids, read = reference.encode(text).ids, ours.reader()
        assert "".join(map(read, ids)) == reference.decode(ids) == text
