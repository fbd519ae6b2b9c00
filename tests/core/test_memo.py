"""What was worked out for a word is asked for once, and never grows without bound."""

from __future__ import annotations

from ruvllm.text.lexical import Memo


def test_works_a_word_out_once() -> None:
    asked = list[str]()

    def length(word: str) -> int:
        asked.append(word)
        return len(word)

    known = Memo(length, 10)
    assert [known[word] for word in ("one", "three", "one")] == [3, 5, 3]
    assert asked == ["one", "three"]


def test_forgets_everything_when_there_is_too_much() -> None:
    known = Memo(len, 3)
    for size in range(10):
        assert known["x" * size] == size
        assert len(known) <= 3
    assert known["xx"] == 2  # forgotten, and worked out again
