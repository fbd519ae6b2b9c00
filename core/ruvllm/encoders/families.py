"""The transformer encoders that ruvllm has models of, and which artifacts are whose."""

from __future__ import annotations

from ruvllm.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """An encoder and all that was fitted to its vectors.

    Attributes:
        name: of the encoder; `--encoder` takes it.
        folder: of its artifacts, within that of all.
        edition: of its weights. The next one's vectors lie so near that both can be searched together; what an
            earlier one has read is read anew in idle time (`memory.reembed.renew`).
    """

    name: str
    title: str
    folder: str = ""
    edition: int = 1

    @property
    def model(self) -> str:
        """The artifact that is the encoder's graph."""
        return self.artifact(f"{self.name}-int8.onnx")

    @property
    def builtin(self) -> str:
        """The artifact with the built-in agents as this encoder sees them."""
        return self.artifact(f"builtin-{self.name}.npz")

    def artifact(self, name: str) -> str:
        """What an artifact is called that each family has of its own."""
        return f"{self.folder}{name}"

    def space(self, dim: int) -> str:
        """The name of its vector space in a state file."""
        return f"{self.name}-{dim}"


RUVLTRA = Family("ruvltra", "RuvLTRA", edition=2)  # the static table was distilled from it: they share a space
MINILM = Family("minilm", "MiniLM", "minilm/")
FAMILIES = {family.name: family for family in (RUVLTRA, MINILM)}
