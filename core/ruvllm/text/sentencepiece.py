"""BPE on characters with bytes to fall back on, as SentencePiece trained it for Llama 1 and 2 and TinyLlama.

Source: Kudo & Richardson 2018. Blanks are written "▁", and a character that is no token becomes its UTF-8 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from ruvllm.text.bpe import ByteBPE, Special, merged

__all__ = ["BLANK", "Prefix", "SentencePiece", "byte_token"]

BLANK = "▁"
Prefix = Literal["never", "first", "always", "each"]


def byte_token(byte: int) -> str:
    """The token of a byte."""
    return f"<0x{byte:02X}>"


class SentencePiece(ByteBPE):
    """Text to token ids and back.

    Args:
        vocab: ids of the tokens.
        merges: pairs of tokens that become one, the first of them first.
        specials: tokens beside the vocabulary's.
        prefix: what gets a blank before it: "first", the text's beginning, "always", each part between specials,
            both unless there is one; "each", each part in any case.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        specials: Sequence[Special] = (),
        prefix: Prefix = "each",
    ) -> None:
        super().__init__(vocab, merges, (), specials=specials)
        bytes_of = {vocab[byte_token(byte)]: bytes([byte]) for byte in range(256) if byte_token(byte) in vocab}
        self._ids = {value[0]: id_ for id_, value in bytes_of.items()}
        words = {id_: token.replace(BLANK, " ").encode("utf-8", "replace") for token, id_ in vocab.items()}
        self._pieces = words | bytes_of | {special.id: special.text.encode() for special in specials}
        self._lead = prefix

    def reader(self) -> Callable[[int], str]:
        """Reads an answer token by token, without the blank that its first word begins with."""
        read, begun = super().reader(), False

        def piece(token: int) -> str:
            nonlocal begun
            text = read(token)
            if begun or not text:
                return text
            begun = True
            return text.removeprefix(" ")

        return piece

    def _ordinary(self, text: str, first: bool) -> Iterable[int]:
        text = text.replace(" ", BLANK)
        wanted = self._lead in ("each", "always") or (self._lead == "first" and first)
        if text and wanted and (self._lead == "each" or not text.startswith(BLANK)):
            text = BLANK + text
        symbols: list[int] = []
        for char in text:
            id_ = self.vocab.get(char)
            if id_ is not None:
                symbols.append(id_)
            else:
                symbols += [self._ids[byte] for byte in char.encode("utf-8", "replace") if byte in self._ids]
        return merged(symbols, self._merges, self.size)
