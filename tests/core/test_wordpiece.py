import pytest

from ruvllm.text.wordpiece import WordPiece

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "cafe", "σ", "!", "中", "a", "##b"]


@pytest.fixture
def words() -> WordPiece:
    return WordPiece(VOCAB)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("unaffable", ["un", "##aff", "##able"]),
        ("UNAFFABLE!", ["un", "##aff", "##able", "!"]),
        ("Café", ["cafe"]),  # the accent goes
        ("Σ", ["σ"]),
        ("a中a", ["a", "中", "a"]),  # CJK stands apart
        ("a\u200bb", ["a", "##b"]),  # a format character vanishes
        ("a\x00b\ta", ["a", "##b", "a"]),
        ("zzz", ["[UNK]"]),
        ("a" * 101, ["[UNK]"]),  # longer than the reference takes
        ("[SEP]a", ["[SEP]", "a"]),  # special tokens in a text stay what they are, as in the reference
        ("", []),
    ],
)
def test_pieces(words, text, tokens):
    assert [VOCAB[i] for i in words.ids(text)] == tokens


def test_encode_wraps_and_truncates(words):
    assert words.encode("a a a a", 4) == [2, 11, 11, 3]
    assert words.ids("a " * 1000, 7) == [11] * 7


def test_ids_spell_the_text_they_were_read_from(words):
    assert words.text(words.ids("unaffable café!")) == "unaffable cafe !"
    for wrong in ([-1], [len(VOCAB)]):
        with pytest.raises(IndexError):
            words.text(wrong)


def test_what_is_too_long_for_a_word_is_not_remembered(words):
    words.ids("a")
    held = len(words._cache)
    for i in range(5):
        assert words.ids("a" * (1_000 + i)) == [VOCAB.index("[UNK]")]
    assert len(words._cache) == held
