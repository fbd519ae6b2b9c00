"""Which encoders a runtime reads texts with, and the trained weights that score their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ruvllm.artifacts.shipped import ShippedEncoders
from ruvllm.config import names_a_model
from ruvllm.encoders.families import FAMILIES, MINILM, RUVLTRA
from ruvllm.encoders.protocol import Encoder
from ruvllm.encoders.static import MAX_TOKENS
from ruvllm.errors import InputError
from ruvllm.routing.prebuilt import RouterArtifacts
from ruvllm.routing.router import MODES

if TYPE_CHECKING:
    from ruvllm.routing.custom_encoder import CustomEncoder


class EncoderSet:
    """The static encoder, and a contextual one where there is one.

    Args:
        shipped: what comes with ruvllm.
        artifacts: the trained weights that come with it.
        name: "cascade", "ruvltra", "static", "minilm", or a model on this machine as
            `ruvllm.inference.encoder_model.open_encoder` takes it; "cascade" where RuvLTRA can run when None.

    Attributes:
        mode: which one decides: "cascade" (static first, the contextual one when unsure) or an encoder's name.
        static: always there.
        contextual: None where the static one is alone.
        main: what memories and embeddings are encoded with: the contextual one, else the static one.
        space: the name of the vector space of `main`.
        weights: the router's, for these encoders.
        custom: the user's own model, None with one of ruvllm's.
        prebuilt: artifacts with the built-in agents' scorers for these encoders.

    Raises:
        ArtifactError: an artifact is missing or damaged.
        InputError: there is no such encoder.
    """

    def __init__(self, shipped: ShippedEncoders, artifacts: RouterArtifacts, name: str | None) -> None:
        self.name, self.mode = name, name or ("cascade" if shipped.host.has_sessions() else "static")
        self.static = shipped.static
        self.contextual: Encoder | None = None
        self.custom: CustomEncoder | None = None
        self.static_space = self.space = RUVLTRA.space(self.static.dim)  # distilled from it: one space
        self.prebuilt: tuple[str, ...] = ()
        if not isinstance(self.mode, str):
            raise InputError(f"encoder is {self.mode!r}"[:120], field="encoder", fix="give its name, or a model's path")
        if self.mode in FAMILIES:
            family = FAMILIES[self.mode]
            self.contextual, self.weights = shipped.contextual(family), artifacts.weights(family)
            self.space, self.prebuilt = family.space(self.contextual.dim), (family.builtin,)
        elif self.mode in MODES:
            self.weights, self.prebuilt = artifacts.weights(RUVLTRA), ("builtin.npz",)
            if self.mode != "static":
                # The page begins to answer before it has fetched the second artifact, so they are two.
                self.contextual, self.prebuilt = shipped.contextual(RUVLTRA), ("builtin.npz", RUVLTRA.builtin)
        elif names_a_model(self.mode):
            from ruvllm.routing.custom_encoder import CustomEncoder

            self.custom = CustomEncoder(self.mode)
            # Weights over what an encoder says that was not trained for routing fit another such one best.
            self.contextual, self.weights = self.custom.encoder, self.custom.weights(artifacts.weights(MINILM))
            self.mode = self.contextual.name
            self.space = f"{self.contextual.name}-{self.contextual.dim}"
        else:
            fix = f"use one of {', '.join(MODES)}, or the path of a model"
            raise InputError(f"encoder is {self.mode!r}", field="encoder", fix=fix)

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Of each text, whether `main` reads its beginning alone."""
        if self.custom is not None:
            return [self.custom.model.truncated(text) for text in texts]
        most = MAX_TOKENS if self.contextual is None else MAX_TOKENS - 2  # [CLS] and [SEP]
        return [len(self.static.tokenizer.ids(text, most + 1)) > most for text in texts]

    @property
    def edition(self) -> int:
        """Of the weights that memories are read with: 1 for all but a later RuvLTRA."""
        return RUVLTRA.edition if self.contextual is not None and self.contextual.name == RUVLTRA.name else 1

    @classmethod
    def shared(cls, shipped: ShippedEncoders, artifacts: RouterArtifacts, name: str | None) -> EncoderSet:
        """The set that was made before of the same parts, or a new one."""
        sets: dict[str, EncoderSet] = artifacts.encoder_sets
        return sets.get(repr(name)) or sets.setdefault(repr(name), cls(shipped, artifacts, name))

    @property
    def main(self) -> Encoder:
        """The contextual encoder, the static one where there is no other."""
        return self.contextual or self.static
