"""What is known of models by name: size, context, what for, under which licence."""

from __future__ import annotations

from typing import NamedTuple


class Known(NamedTuple):
    """One model.

    Attributes:
        parameters: of the weights.
        context: tokens that it was made for.
        licence: as its makers name it; "" where their page has to tell.
    """

    parameters: str
    context: int
    purpose: str
    licence: str = ""


_K = 1024
ON_DEVICE = {
    "ruvltra": Known("494M", 32 * _K, "code and agents, the default on the device"),
    "ruvltra-small": Known("494M", 32 * _K, "the same, for any text"),
    "ruvltra-medium": Known("1.1B", 128 * _K, "longer contexts, better answers"),
    "smollm2-135m": Known("135M", 8 * _K, "the smallest; tries and tests", "Apache-2.0"),
    "qwen2.5-0.5b": Known("494M", 32 * _K, "short answers in many languages", "Apache-2.0"),
    "tinyllama": Known("1.1B", 2 * _K, "short chats", "Apache-2.0"),
    "lfm2-350m": Known("354M", 32 * _K, "fast answers on weak machines", "LFM Open License 1.0"),
    "lfm2-700m": Known("742M", 32 * _K, "the same, better", "LFM Open License 1.0"),
    "lfm2-1.2b": Known("1.2B", 32 * _K, "the same, better still", "LFM Open License 1.0"),
    "lfm2-2.6b": Known("2.6B", 32 * _K, "the largest here; 2 GB of memory", "LFM Open License 1.0"),
    "gemma3-270m": Known("270M", 32 * _K, "no chat: to go on with a text, or to be trained", "Gemma Terms of Use"),
}
BEHIND_A_SERVER = {
    "devstral-small-2": Known("24B", 256 * _K, "coding agents; the one to begin with", "Apache-2.0"),
    "rnj-1": Known("8B", 32 * _K, "code, fast", "Apache-2.0"),
    "qwen3-coder:30b": Known("30B, 3B at a time", 256 * _K, "coding agents, fast for its size", "Apache-2.0"),
    "devstral-2": Known("123B", 256 * _K, "the large tier", "modified MIT"),
}
