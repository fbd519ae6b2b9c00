"""The cell of the model router: FastGRNN (Kusupati et al. 2018), forwards and backwards over a session.

    n = layer norm of the input,  s = W n + U h
    z = σ(s + b_z),  c = tanh(s + b_h)
    h' = z ⊙ h + (ζ (1 − z) + ν) ⊙ c

Both gates share W, of which each hidden unit reads a tenth of the inputs, and U = A B of low rank. With ζ = 1
and ν = 0 the update is a plain mean of the state and its candidate, weighted by the gate.

All weights lie in one flat vector θ, which is what an optimiser, consolidation and a file need.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, log, log1p, prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.sizing.tiers import DIFFICULTY_CUES, difficulty_of
from ruvllm.text.cues import Cues, words_of

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
        """float32 (128,). Raises InputError: the vector is of another width, or not finite."""
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


Array = NDArray[np.floating]
MODELS_OUT, CONTEXTS_OUT = 4, 5
OUTPUTS = MODELS_OUT + CONTEXTS_OUT + 3  # and temperature, top-p, confidence
EPSILON = 1e-5
_MOST_HIDDEN = 4_096
_UNTAUGHT = (log(0.35 / 0.65), log(0.9 / 0.1), -1.0)  # temperature 0.7, top-p 0.9, confidence 0.27


@dataclass(frozen=True)
class Shape:
    """How large a cell is, and where in θ its weights lie.

    Attributes:
        hidden: units.
        rank: of U.
        sparsity: share of W that is zero.
        seed: of the places in W that are not, and of the first weights.
    """

    hidden: int = 64
    rank: int = 8
    sparsity: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= self.hidden <= _MOST_HIDDEN or not (
            0 <= self.sparsity < 1 and 0 <= self.seed < 1 << 32
        ):
            message = f"hidden {self.hidden}, rank {self.rank}, sparsity {self.sparsity}, seed {self.seed}"
            fix = f"1 <= rank <= hidden <= {_MOST_HIDDEN}, 0 <= sparsity < 1, 0 <= seed < 2**32"
            raise InputError(message, field="shape", fix=fix)

    @cached_property
    def reads(self) -> int:
        """How many inputs a hidden unit reads."""
        return max(round(INPUTS * (1 - self.sparsity)), 1)

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Which inputs each hidden unit reads, (hidden, reads), ascending.

        The units share out the inputs like players the cards of shuffled packs: none is left out while
        there are places.
        """
        random = np.random.default_rng(self.seed)
        chances = random.random((self.hidden, INPUTS))
        taken = np.zeros(INPUTS)
        places = np.zeros((self.hidden, self.reads), np.int64)
        for unit, chance in enumerate(chances):
            places[unit] = np.sort(np.argsort(taken + chance)[: self.reads])
            taken[places[unit]] += 1
        return places

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights, in their order in θ."""
        return {
            "gain": (INPUTS,),
            "shift": (INPUTS,),
            "w": (self.hidden, self.reads),
            "a": (self.hidden, self.rank),
            "b": (self.rank, self.hidden),
            "gate_bias": (self.hidden,),
            "candidate_bias": (self.hidden,),
            "mix": (2,),  # logits of ζ and ν
            "heads": (OUTPUTS, self.hidden),
            "head_bias": (OUTPUTS,),
        }

    @cached_property
    def size(self) -> int:
        """Length of θ."""
        return sum(map(prod, self.shapes.values()))

    def views(self, theta: Array) -> dict[str, Array]:
        """The weights by name: views of θ."""
        named, start = {}, 0
        for name, shape in self.shapes.items():
            named[name] = theta[start : start + prod(shape)].reshape(shape)
            start += prod(shape)
        return named

    def dense(self, w: Array) -> Array:
        """W with its zeros, (hidden, INPUTS)."""
        whole = np.zeros((self.hidden, INPUTS), w.dtype)
        np.put_along_axis(whole, self.places, w, axis=1)
        return whole

    def fresh(self) -> NDArray[np.float32]:
        """θ before training: heads that tell nothing apart, whatever the state."""
        random = np.random.default_rng(self.seed + 1)
        theta = np.zeros(self.size, np.float32)
        named = self.views(theta)
        named["gain"][:] = 1
        for name, fan in (("w", self.reads), ("a", self.rank), ("b", self.hidden)):
            named[name][:] = random.normal(size=named[name].shape) * fan**-0.5
        named["gate_bias"][:] = 1
        named["mix"][:] = 1, -4  # as in the paper
        named["head_bias"][-3:] = _UNTAUGHT
        return theta


class Pass(NamedTuple):
    """What the way back needs; t turns of b sessions, i inputs, h hidden units, r rank."""

    present: Array  # (t, b, 1), 0 before a session starts
    normal: Array  # (t, b, i), before gain and shift
    states: Array  # (t + 1, b, h), the first before any turn
    low: Array  # (t, b, r), B h
    gates: Array  # (t, b, h), z
    candidates: Array  # (t, b, h), c


def forward(shape: Shape, theta: Array, x: Array, present: Array) -> Pass:
    """Run the cell over sessions, from a state of zeros.

    Args:
        x: (t, b, i).
        present: (t, b, 1), 1 for a turn, 0 for what only fills up the time before a session's first.
    """
    named = shape.views(theta)
    centred = x - x.mean(axis=2, keepdims=True)
    spread = 1 / np.sqrt((centred * centred).mean(axis=2, keepdims=True) + EPSILON)
    normal = centred * spread
    read = (normal * named["gain"] + named["shift"]) @ shape.dense(named["w"]).T
    zeta, nu = sigmoid(named["mix"])
    turns, sessions = x.shape[:2]
    states = np.zeros((turns + 1, sessions, shape.hidden), theta.dtype)
    low = np.zeros((turns, sessions, shape.rank), theta.dtype)
    gates, candidates = np.zeros_like(states[1:]), np.zeros_like(states[1:])
    for t in range(turns):
        low[t] = states[t] @ named["b"].T
        total = read[t] + low[t] @ named["a"].T
        gates[t] = sigmoid(total + named["gate_bias"])
        candidates[t] = np.tanh(total + named["candidate_bias"])
        after = gates[t] * states[t] + (zeta * (1 - gates[t]) + nu) * candidates[t]
        states[t + 1] = np.where(present[t] > 0, after, states[t])
    return Pass(present, normal, states, low, gates, candidates)


def back(shape: Shape, theta: Array, trace: Pass, d_states: Array, gradient: Array) -> None:
    """Back through time: add the gradient of θ.

    Args:
        d_states: (t, b, h), of the loss by each state after a turn, through the heads alone.
        gradient: (size,), added to.
    """
    named, grads = shape.views(theta), shape.views(gradient)
    mix = sigmoid(named["mix"])
    d_mix = np.zeros_like(mix)
    d_read = np.zeros_like(trace.gates)
    d_next = np.zeros_like(trace.states[0])
    for t in reversed(range(len(d_read))):
        state, z, c = trace.states[t], trace.gates[t], trace.candidates[t]
        d_after = d_next + d_states[t]
        d_turn = d_after * trace.present[t]
        d_mix += (d_turn * (1 - z) * c).sum(), (d_turn * c).sum()
        d_gate = d_turn * (state - mix[0] * c) * z * (1 - z)
        d_candidate = d_turn * (mix[0] * (1 - z) + mix[1]) * (1 - c * c)
        grads["gate_bias"] += d_gate.sum(axis=0)
        grads["candidate_bias"] += d_candidate.sum(axis=0)
        d_read[t] = d_gate + d_candidate
        d_low = d_read[t] @ named["a"]
        grads["a"] += d_read[t].T @ trace.low[t]
        grads["b"] += d_low.T @ state
        d_next = d_after - d_turn + d_turn * z + d_low @ named["b"]
    grads["mix"] += d_mix * mix * (1 - mix)
    _read_back(shape, named, trace, d_read, grads)


def _read_back(shape: Shape, named: dict[str, Array], trace: Pass, d_read: Array, grads: dict[str, Array]) -> None:
    """Through W, and the gain and shift of the layer norm."""
    flat, normal = d_read.reshape(-1, shape.hidden), trace.normal.reshape(-1, INPUTS)
    d_dense = flat.T @ (normal * named["gain"] + named["shift"])
    grads["w"] += np.take_along_axis(d_dense, shape.places, axis=1)
    d_scaled = flat @ shape.dense(named["w"])
    grads["gain"] += (d_scaled * normal).sum(axis=0)
    grads["shift"] += d_scaled.sum(axis=0)


def sigmoid(x: Array) -> Array:
    """σ(x), by a tangent that never overflows."""
    half = x.dtype.type(0.5)
    out: Array = half * np.tanh(half * x) + half
    return out
