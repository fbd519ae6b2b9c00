"""What comes with the library, for who uses a part of it without a RuvLLM."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ruvllm.encoders.protocol import Encoder

__all__ = ["shipped_encoder"]


@cache
def shipped_encoder() -> Encoder:
    """The static encoder. Raises ArtifactError: it is not there."""
    from ruvllm.runtime import RuvLLM  # which imports the parts that import this

    with RuvLLM(encoder="static") as llm:
        return llm.static
