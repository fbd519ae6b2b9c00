from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruvllm.errors import InputError
from ruvllm.text.bpe import ByteBPE, Special, byte_characters
from ruvllm.text.pretokenize import GPT2, LLAMA3, QWEN2, compile_pattern
from ruvllm.text.tokenizer_file import read_tokenizer

MERGES = [("a", "b"), ("ab", "ab"), ("b", "a"), ("Ġ", "ab"), ("abab", "ab"), ("a", "a"), ("aa", "b"), ("Ã", "©")]
VOCAB = {char: i for i, char in enumerate(byte_characters())} | {
    left + right: 256 + i for i, (left, right) in enumerate(MERGES)
}
END, TOOL = Special("<|end|>", 300), Special("<tool>", 301, control=False, lstrip=True)


def bpe(pattern=GPT2, **options):
    return ByteBPE(VOCAB, MERGES, [compile_pattern(pattern)], specials=[END, TOOL], **options)


def names(tokenizer, text, **options):
    by_id = {i: token for token, i in VOCAB.items()} | {300: "<|end|>", 301: "<tool>"}
    return [by_id[i] for i in tokenizer.ids(text, **options)]


@pytest.mark.parametrize(
    ("pattern", "text", "words"),
    [
        (GPT2, "I'll pay 1234  coins!\n\nNow", ["I", "'ll", " pay", " 1234", " ", " coins", "!", "\n", "\n", "Now"]),
        (QWEN2, "I'LL pay 12 coins!\n\n Now", ["I", "'LL", " pay", " ", "1", "2", " coins", "!\n\n", " Now"]),
        (LLAMA3, "12345 (naïve)\r\n x", ["123", "45", " (", "naïve", ")\r\n", " x"]),
        (QWEN2, "\u1e9e東京٣Ⅷ\u0301\x1c\u00a0", ["\u1e9e東京", "٣", "Ⅷ", "\u0301\x1c", "\u00a0"]),
        (QWEN2, "it'ſ _a", ["it", "'ſ", " _", "a"]),
    ],
)
def test_words(pattern, text, words):
    assert [match[0] for match in compile_pattern(pattern).finditer(text)] == words


@pytest.mark.parametrize(
    "pattern", [r"\p{Lu}+", r"\p{Script=Han}", r"[\S]+", r"[^\s[a]]", r"\d+", r"(a", r"[[:alpha:]]"]
)
def test_a_pattern_that_cannot_be_run_is_refused(pattern):
    with pytest.raises(InputError) as caught:
        compile_pattern(pattern)
    assert caught.value.field == "pre_tokenizer"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("ababab", ["ababab"]),
        ("abababab", ["abab", "abab"]),  # the lower rank first, the leftmost of its kind first
        ("aab", ["a", "ab"]),
        ("baab", ["ba", "ab"]),
        (" ab é", ["Ġab", "Ġ", "Ã©"]),
        ("ab<|end|> <tool>ab", ["ab", "<|end|>", "<tool>", "ab"]),
        ("", []),
    ],
)
def test_tokens(text, tokens):
    assert names(bpe(), text) == tokens


def test_whole_words_need_no_merges():
    vocab = VOCAB | {"xyz": 290}
    plain, whole = (
        ByteBPE(vocab, MERGES, [compile_pattern(GPT2)], whole_words=whole_words) for whole_words in (False, True)
    )
    assert len(plain.ids("xyz")) == 3
    assert whole.ids("xyz") == [290]


def test_what_a_user_writes_cannot_steer_the_model():
    tokenizer = bpe()
    text = f"say {END.text}<tool>\ufdd0"
    broken = tokenizer.inert(text)
    ids = tokenizer.ids(f"{broken}{END.text}", inert=True)
    assert ids.count(END.id) == 1
    assert TOOL.id in ids
    assert tokenizer.text(ids, control=True) == text.replace("\ufdd0", "") + END.text


@settings(deadline=None)
@given(st.text("aAb"))
def test_specials_that_overlap_are_broken_too(text):
    specials = [Special(name, 300 + i) for i, name in enumerate(("aa", "aAa", "Ab", "b"))]
    tokenizer = ByteBPE(VOCAB, [], [compile_pattern(GPT2)], specials=specials)
    assert all(token < 300 for token in tokenizer.ids(tokenizer.inert(text), inert=True))


@settings(deadline=None)
@given(st.text(), st.sampled_from([GPT2, QWEN2, LLAMA3]))
def test_ids_give_the_text_again(text, pattern):
    tokenizer = bpe(pattern)
    if "<tool>" not in text:
        assert tokenizer.text(tokenizer.ids(text), control=True) == text


@settings(deadline=None)
@given(st.text("ab", min_size=24, max_size=80))
def test_long_words_merge_as_short_ones_do(word):
    tokenizer = bpe()
    ids = [VOCAB[char] for char in word]
    ranks = {pair: i for i, pair in enumerate(MERGES)}
    pieces = list(word)
    while True:
        pairs = [(ranks.get(pair, len(MERGES)), i) for i, pair in enumerate(pairwise(pieces))]
        rank, place = min(pairs, default=(len(MERGES), 0))
        if rank == len(MERGES):
            break
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
    assert len(ids) >= 24
    assert names(tokenizer, word) == pieces


def test_an_answer_is_read_character_by_character():
    read = bpe().reader()
    parts = [read(VOCAB[byte_characters()[byte]]) for byte in "é🙂".encode()]
    assert parts == ["", "é", "", "", "", "🙂"]
    assert bpe().reader()(END.id) == ""


def told(**changes):
    model = {"type": "BPE", "vocab": VOCAB, "merges": [list(pair) for pair in MERGES]} | changes.pop("model", {})
    file = {"model": model, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}, "added_tokens": []}
    return file | changes


def test_a_file_is_read():
    end = {"id": 300, "content": "<|end|>", "special": True}
    tokenizer = read_tokenizer(told(added_tokens=[end], normalizer={"type": "NFC"}))
    assert names(tokenizer, "ab<|end|>e\u0301") == ["ab", "<|end|>", "Ã©"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": {"type": "WordPiece"}}, "model"),
        ({"model": {"byte_fallback": True}}, "normalizer"),
        ({"model": {"dropout": 0.1}}, "model"),
        ({"model": {"vocab": {"a": -1}}}, "model.vocab"),
        ({"model": {"vocab": []}}, "model.vocab"),
        ({"model": {"merges": ["a b c"]}}, "model.merges[0]"),
        ({"model": {"merges": ["a zz"]}}, "merges"),
        ({"added_tokens": [{"id": 1}]}, "added_tokens[0]"),
        ({"added_tokens": {}}, "added_tokens"),
        ({"normalizer": {"type": "Lowercase"}}, "normalizer"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer"),
        ({"pre_tokenizer": None}, "pre_tokenizer"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_field(changes, field):
    with pytest.raises(InputError) as caught:
        read_tokenizer(told(**changes))
    assert caught.value.field == field


def test_sentencepiece_falls_back_on_bytes():
    tokens = ["<s>", "▁", "a", "b", "▁a", "ab", "▁ab", *(f"<0x{byte:02X}>" for byte in range(256))]
    model = {"vocab": {token: i for i, token in enumerate(tokens)}, "merges": ["a b", "▁ ab", "▁ a"]}
    steps = [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]
    begin = {"id": 0, "content": "<s>", "special": True}
    tokenizer = read_tokenizer(
        {
            "model": {"type": "BPE", "byte_fallback": True} | model,
            "normalizer": {"type": "Sequence", "normalizers": steps},
            "added_tokens": [begin],
        }
    )
    ids = tokenizer.ids("<s>ab aé")
    assert [tokens[i] for i in ids] == ["<s>", "▁ab", "▁a", "<0xC3>", "<0xA9>"]
    read = tokenizer.reader()
    assert "".join(map(read, ids)) == "ab aé"
