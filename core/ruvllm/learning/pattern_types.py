"""Of what kind a task is, by the nearest of a few sentences of each kind."""

from __future__ import annotations

import numpy as np

from ruvllm.encoders.protocol import Encoder, Vectors

__all__ = ["PATTERN_TYPES", "TypeGuesser"]

_SENTENCES = {
    "Reasoning": (
        "work out step by step why this follows",
        "compare the options and decide which is better",
        "solve this equation and prove the result",
        "plan how to get from the goal back to the first step",
        "analyse the cause of the failure",
        "weigh the arguments for and against it",
    ),
    "Factual": (
        "what is the capital of this country",
        "when did this happen and who was involved",
        "look up the definition of this term",
        "how many people live there",
        "which year was it founded",
        "who was the first person to do it",
    ),
    "Creative": (
        "write a short story about a dragon",
        "compose a poem or song lyrics",
        "invent a name and slogan for a product",
        "imagine a scene and describe it vividly",
        "draft a funny dialogue between two characters",
        "come up with titles for a novel",
    ),
    "CodeGen": (
        "write a function in Python that parses a file",
        "fix the bug in this class and add a unit test",
        "implement an API endpoint with a database query",
        "refactor the module and its types",
        "a shell script that builds and deploys the container",
        "create a component for the login form in JavaScript",
    ),
    "Conversational": (
        "hello, how are you today",
        "thanks a lot, that was kind of you",
        "nice to meet you, tell me about yourself",
        "I feel tired, can we just chat",
        "good morning, have a great day",
        "see you later, that was fun",
    ),
}
PATTERN_TYPES = ("General", *_SENTENCES)
_NEAREST = 2  # sentences of a kind that a task is compared with
_LEAST, _AHEAD = 0.15, 0.02  # mean cosine of the winner, and by how much it wins; else the kind is General


class TypeGuesser:
    """Compares embeddings with the sentences, which the encoder is asked for once."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: Vectors | None = None  # (kinds, sentences, dim)

    async def guess(self, vector: Vectors) -> str:
        """One of `PATTERN_TYPES` for an embedding (dim,), "General" when no kind is clearly nearest."""
        if self._known is None:
            rows = await self._encoder.encode([one for sentences in _SENTENCES.values() for one in sentences])
            self._known = rows.reshape(len(_SENTENCES), -1, rows.shape[1])
        scores = np.sort(self._known @ vector, axis=1)[:, -_NEAREST:].mean(1)  # (kinds,)
        second, first = np.sort(scores)[-2:]
        if first < _LEAST or first - second < _AHEAD:
            return PATTERN_TYPES[0]
        return PATTERN_TYPES[1 + int(scores.argmax())]
