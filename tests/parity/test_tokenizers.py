"""WordPiece against its reference, on real lines and on all of Unicode."""

import random
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.implementations import BertWordPieceTokenizer

from ruvllm.text.wordpiece import WordPiece
from ruvllm_models import FOLDER

LINES = 50_000
NO_LIMIT = 10**9
REFERENCE = BertWordPieceTokenizer(str(FOLDER / "vocab.txt"), lowercase=True)
OURS = WordPiece((FOLDER / "vocab.txt").read_text("utf-8").splitlines())


def reference(text: str) -> list[int]:
    return REFERENCE.encode(text).ids


@pytest.fixture(scope="module")
def real_lines() -> list[str]:
    """Lines of the standard library: code, prose, and every script in its tests."""
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    random.Random(0).shuffle(files)
    lines: dict[str, None] = {}
    for file in files:
        lines |= dict.fromkeys(line for line in file.read_text("utf-8", errors="replace").splitlines() if line.strip())
        if len(lines) >= 2 * LINES:
            break
    foreign = [line for line in lines if not line.isascii()]
    return [*foreign, *lines][: LINES + len(foreign)]


def test_real_lines(real_lines):
    assert len(real_lines) >= LINES
    expected = [encoding.ids for encoding in REFERENCE.encode_batch(real_lines)]
    wrong = [line for line, ids in zip(real_lines, expected, strict=True) if OURS.encode(line, NO_LIMIT) != ids]
    assert wrong == []


def test_every_code_point():
    points = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    texts = [" ".join(f"a{chr(code)}b" for code in points[i : i + 512]) for i in range(0, len(points), 512)]
    expected = [encoding.ids for encoding in REFERENCE.encode_batch(texts)]
    wrong = [i for i, (text, ids) in enumerate(zip(texts, expected, strict=True)) if OURS.encode(text, NO_LIMIT) != ids]
    assert wrong == []


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=200))
def test_any_text(text):
    assert OURS.encode(text, NO_LIMIT) == reference(text)
