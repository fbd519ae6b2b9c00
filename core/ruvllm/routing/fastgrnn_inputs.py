"""What the model router sees of a prompt: 112 numbers of its meaning and 16 of its form.

The meaning is the encoder's vector, rotated by a randomised Hadamard transform of which some rows are kept
(Ailon & Chazelle 2006; Tropp 2011): orthonormal, made of signs alone, and so the same to the bit on every
host without being stored. The forms are counts and shares read off the text.
"""

from __future__ import annotations

import re
from math import isfinite, log, log1p

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.routing.tiers import DIFFICULTY_CUES, difficulty_of
from ruvllm.text.cues import Cues, words_of

__all__ = ["FORMS", "INPUTS", "PromptInputs", "forms_of"]

INPUTS = 128
FORMS = (
    "words",
    "sentences",
    "lines",
    "word length",
    "variety",  # distinct words, of all
    "digits",
    "capitals",
    "foreign",  # characters outside ASCII
    "code",
    "question",
    "clauses",
    "difficulty",
    "reasoning",
    "brevity",
    "creativity",
    "follow-up",
)
_MEANINGS = INPUTS - len(FORMS)
_READ = 20_000  # characters of a text
_MOST_DIM = 16_384
_DIGIT, _CAPITAL, _FOREIGN = re.compile(r"\d"), re.compile(r"[A-Z]"), re.compile(r"[^\x00-\x7f]")
_SENTENCE = re.compile(r"[.!?;](?:\s|$)")
_CODE_SIGN = re.compile(r"[`{};(=]")  # without one there is no code but its words
_CODE = re.compile(r"```|[{};]\s*$|\w\(|=>|==|\b(?:def|class|function|import|return|select|const)\b", re.MULTILINE)
_ASKS = re.compile(r"\s*(?:who|what|when|where|which|why|how|is|are|can|does|do)\b")
_GOES_ON = re.compile(r"\s*(?:and|but|so|then|also|now|ok|yes|no)\b")
_CUES = Cues(
    *DIFFICULTY_CUES,
    ("def", "class", "function", "import", "return", "select", "const"),  # of code
    ("and", "then", "while", "after", "including"),  # of clauses
    (
        *("why", "prove", "explain", r"deriv\w+", r"reason\w*", "step by step", r"analy[sz]\w+", r"compar\w+"),
        *(r"evaluat\w+", "trade-?offs?", r"calculat\w+", r"infer\w*", r"plan\w*"),
    ),
    (r"short\w*", r"brief\w*", r"quick\w*", "one (?:line|word|sentence)", "yes or no", r"concise\w*", r"summar\w+"),
    (
        *("story", "stories", r"poem\w*", r"imagin\w+", r"creativ\w+", r"brainstorm\w*", r"invent\w*", r"slogan\w*"),
        *(r"fiction\w*", r"joke\w*"),
    ),
    ("it", "that", "this", "those", "again", "instead", "continue", "same", "above", "previous"),  # of what was said
)


def forms_of(text: str) -> NDArray[np.float32]:
    """The sixteen FORMS of a text, each about -2 to 2, float32 (16,); all 0 without a text."""
    text = text[:_READ]
    low = text.lower()
    words = words_of(low)
    if not words:
        return np.zeros(len(FORMS), np.float32)
    n, size = len(words), len(text)
    *cues, code, clauses, reasons, brief, creates, refers = _CUES.counts(low, words)
    clauses += low.count(",") + low.count(";") + low.count(":")
    forms = (
        log(n / 12) / 1.5,
        log1p(len(_SENTENCE.findall(low))) - 0.7,
        log1p(text.count("\n")) / 2,
        sum(map(len, words)) / n / 2 - 2.3,
        2 * len(set(words)) / n - 1,
        10 * len(_DIGIT.findall(text)) / size,
        0.0 if low == text else 5 * len(_CAPITAL.findall(text)) / size,
        0.0 if text.isascii() else 2 * len(_FOREIGN.findall(text)) / size,
        log1p(len(_CODE.findall(low)) if _CODE_SIGN.search(low) else code),
        1.0 if "?" in low or _ASKS.match(low) else -1.0,
        log1p(clauses) - 0.7,
        4 * difficulty_of(low, cues) - 1,
        _weighed(reasons),
        _weighed(brief),
        _weighed(creates),
        _weighed(bool(_GOES_ON.match(low)) + refers),
    )
    return np.array([form if -4 <= form <= 4 else min(max(form, -4.0), 4.0) for form in forms], np.float32)


def _weighed(count: int) -> float:
    return 1.5 * log1p(count)


class PromptInputs:
    """A prompt's vector and text as the router's 128 inputs.

    Args:
        dim: width of the encoder's vectors.
        seed: of the rotation.

    Attributes:
        projection: float32 (112, dim); signs alone: orthonormal rows times √dim, so that a unit vector
            gives numbers with a mean square of 1. Where dim is no power of 2, in expectation.
    """

    def __init__(self, dim: int = 256, seed: int = 0) -> None:
        if not (1 <= dim <= _MOST_DIM and 0 <= seed < 1 << 32):
            fix = f"use a width of 1 to {_MOST_DIM}, and a seed of 0 to 2**32 - 1"
            raise InputError(f"vectors of width {dim}, seed {seed}", field="dim", fix=fix)
        self.dim, self.seed = dim, seed
        random = np.random.default_rng(seed)
        wide = max(1 << (dim - 1).bit_length(), INPUTS)
        signs = np.where(random.random(wide) < 0.5, -1.0, 1.0)
        rows = np.sort(np.argsort(random.random(wide))[:_MEANINGS])
        hadamard = _parity(rows[:, None] & np.arange(wide)[None, :])  # Sylvester's order
        self.projection = np.ascontiguousarray((hadamard * signs)[:, :dim], np.float32)

    def __call__(self, vector: NDArray[np.float32], text: str = "") -> NDArray[np.float32]:
        """float32 (128,).

        Raises:
            InputError: the vector is of another width, or not finite.
        """
        # Most often the square tells, in a third of the time.
        if vector.shape != (self.dim,) or not (isfinite(vector.dot(vector)) or np.isfinite(vector).all()):
            fix = f"give the encoder's vector, {self.dim} finite numbers"
            raise InputError(f"a vector of shape {vector.shape}", field="vector", fix=fix)
        out = np.empty(INPUTS, np.float32)
        out[:_MEANINGS] = self.projection.dot(vector.astype(np.float32, copy=False))
        out[_MEANINGS:] = forms_of(text)
        return out


def _parity(bits: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 where an even number of bits is set, else -1."""
    for shift in (16, 8, 4, 2, 1):
        bits = bits ^ (bits >> shift)
    return np.where(bits & 1, -1.0, 1.0)
