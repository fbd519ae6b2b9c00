"""How deeply JSON nests, before it is parsed: parsers end with Python's stack, and in a browser with the page's."""

from __future__ import annotations

import numpy as np

_QUOTE, _OPEN, _CLOSE = np.uint8(ord('"')), np.frombuffer(b"[{", np.uint8), np.frombuffer(b"]}", np.uint8)
_OTHERS = bytes(set(range(256)) - set(b'[]{}"'))


def deeper(text: str | bytes, levels: int) -> bool:
    """Whether lists and objects lie in each other more than `levels` deep; linear, and at once where few open.

    Args:
        text: JSON, or what is taken for it.
    """
    marks = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    if sum(map(text.count, marks)) <= levels:  # type: ignore[arg-type]
        return False
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    # Without escaped quotes, a quote begins or ends a string.
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _OTHERS)
    signs = np.frombuffer(bare, np.uint8)
    outside = ~np.logical_xor.accumulate(signs == _QUOTE)
    steps = (np.isin(signs, _OPEN) & outside).astype(np.int32) - (np.isin(signs, _CLOSE) & outside)
    return bool(np.cumsum(steps, dtype=np.int32).max(initial=0) > levels)
