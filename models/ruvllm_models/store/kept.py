"""What is kept in the models' folder."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ruvllm.errors import ArtifactError, ConfigError, RuvllmError
from ruvllm.inference.library import Converted, Wanted, models_folder, read_converted
from ruvllm.inference.local import MANIFEST, read_manifest
from ruvllm_models.store.prepare import DOWNLOADS


@dataclass(frozen=True, slots=True)
class Kept:
    """A model, or what there is of one.

    Attributes:
        state: "ready", "damaged", or "partial" for a download that was broken off.
        problem: what is wrong with a damaged one.
    """

    name: str
    path: Path
    state: str
    bytes: int
    model: Converted | None = None
    problem: str = ""


def kept() -> list[Kept]:
    """Everything there is, by name."""
    root = models_folder()
    folders = sorted(root.iterdir()) if root.is_dir() else []
    found = [_of(folder) for folder in folders if (folder / MANIFEST).is_file() and not folder.name.startswith(".")]
    downloads = root / DOWNLOADS
    partial = sorted(downloads.iterdir()) if downloads.is_dir() else []
    return found + [Kept(folder.name, folder, "partial", _size(folder)) for folder in partial if folder.is_dir()]


def one_kept(text: str) -> Kept:
    """By its name here, or that which it was downloaded by. Raises ConfigError: it is not there."""
    names = [text]
    with suppress(ConfigError):
        names.append(Wanted.of(text).name)
    for one in kept():
        if one.name in names:
            return one
    message = f"no model {text!r} is kept in {models_folder()}"
    raise ConfigError(message[:300], field="model", fix="see `ruvllm models list`")


def delete(one: Kept) -> None:
    """Remove it from the disk; first of all what makes it a model."""
    (one.path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(one.path)


def verify(model: Converted) -> None:
    """Read every file and compare its SHA-256. Raises ArtifactError: one is not what the manifest names."""
    told: Any = read_manifest(model.path)
    for file in told["files"]:
        digest = sha256()
        with (model.path / file["name"]).open("rb") as data:
            while part := data.read(1 << 20):
                digest.update(part)
        if digest.hexdigest() != file.get("sha256"):
            fix = "delete it and download it again"
            raise ArtifactError(f"{model.name}: {file['name']} is damaged", field=file["name"], fix=fix)


def _of(folder: Path) -> Kept:
    try:
        model = read_converted(folder)
    except RuvllmError as bad:
        return Kept(folder.name, folder, "damaged", _size(folder), problem=str(bad))
    return Kept(folder.name, folder, "ready", model.bytes, model)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
