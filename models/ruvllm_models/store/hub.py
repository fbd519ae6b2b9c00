"""Files of a Hugging Face hub, or of any server with its layout: named, fetched with resume, and checked."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ruvllm.errors import ArtifactError, BackendError, ConfigError
from ruvllm.inference.library import Tell, Wanted
from ruvllm_models.store.fetching import fetch_to

PARTIAL = ".partial"  # what has not come whole yet

_BESIDE = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
# Of the files of one repository: the most exact of those that run fast, then the rest.
_PREFERRED = ("q4_k_m", "q4_k_s", "q4_0", "q5_k_m", "q8_0", "q6_k", "f16")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file of a repository; `sha256` is "" where the hub does not tell it."""

    path: str
    bytes: int
    sha256: str = ""

    @property
    def name(self) -> str:
        """Without its folders."""
        return self.path.rpartition("/")[2]


class Hub:
    """A hub.

    Args:
        endpoint: its address; HF_ENDPOINT or huggingface.co when None.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        try:
            import huggingface_hub
            import huggingface_hub.constants
            import huggingface_hub.errors
        except ImportError:
            message = "downloads need a package that is not installed: huggingface_hub"
            raise ConfigError(message, field="download", fix="pip install 'ruvllm-models[hub]'") from None
        self._library = huggingface_hub
        self._endpoint = endpoint

    @cached_property
    def address(self) -> str:
        """Where it is."""
        return str(self._endpoint or self._library.constants.ENDPOINT).rstrip("/")

    def files(self, repo: str) -> tuple[str, list[Remote]]:
        """The commit that is newest now, and its files.

        Raises:
            BackendError: the hub cannot be reached, or has no such repository.
        """
        with self._told(repo):
            about = self._library.HfApi(endpoint=self.address).model_info(repo, files_metadata=True)
        found = [Remote(one.rfilename, one.size or 0, _digest(one)) for one in about.siblings or []]
        return str(about.sha or "main"), found

    def fetch(self, repo: str, commit: str, files: Sequence[Remote], folder: Path, tell: Tell) -> None:
        """Bring files into a folder; one that was broken off before is gone on with, one that is there is kept.

        Under its own name a file is only when all of it is there and is what the hub says that it is.

        Raises:
            BackendError: the hub cannot be reached.
            ArtifactError: what came is not what the hub names.
        """
        total, before = sum(file.bytes for file in files), 0
        check_room(folder, total)
        for file in files:
            if not (folder / file.name).exists():
                self._fetch(repo, commit, file, folder, partial(_tell, tell, before, total))
            before += file.bytes

    def _fetch(self, repo: str, commit: str, file: Remote, folder: Path, tell: Callable[[int], None]) -> None:
        library = self._library
        with self._told(repo, file.path):
            url = library.hf_hub_url(repo, file.path, revision=commit, endpoint=self.address)
            found = library.get_hf_file_metadata(url, endpoint=self.address)
        # What is told with the file itself, which small files are not in the list with.
        size = file.bytes or found.size or 0
        part = folder / PARTIAL / f"{file.name}.{(file.sha256 or found.etag or commit)[:16]}"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()  # an empty file needs no bytes
        own = urlsplit(found.location).netloc == urlsplit(self.address).netloc
        headers = library.utils.build_hf_headers() if own else {}  # a token is for the hub, not for where files lie
        with self._told(repo, file.path):
            fetch_to(part, found.location, size, headers, tell)
        wrong = _difference(part, file)
        if wrong:
            part.unlink()
            fix = "download it again; if it stays so, the file on the hub is damaged"
            raise ArtifactError(f"{repo}:{file.path} {wrong}", field=file.name, fix=fix)
        part.replace(folder / file.name)

    @contextmanager
    def _told(self, repo: str, file: str = "") -> Iterator[None]:
        """The library's errors as ours."""
        errors, what = self._library.errors, f"{repo}:{file}" if file else repo
        try:
            yield
        except errors.GatedRepoError:
            fix = "accept its terms on its page, and set HF_TOKEN to a token of yours"
            raise _refused(f"{what} is given to registered users only", fix) from None
        except (errors.RepositoryNotFoundError, errors.RemoteEntryNotFoundError, errors.RevisionNotFoundError):
            fix = "check the spelling; a private one needs HF_TOKEN"
            raise _refused(f"{self.address} has no {what}", fix) from None
        except errors.HFValidationError as bad:
            message = f"{what} is no name of a repository: {bad}"
            raise ConfigError(message[:200], field="model", fix="give owner/repo") from None
        except Exception as bad:
            message = f"{what} cannot be fetched from {self.address}: {_reason(bad)}"
            fix = "check the network and try again: what has come is kept. A file of your own needs none: give its path"
            raise BackendError(message, kind="unavailable", field="model", fix=fix) from None


def chosen(wanted: Wanted, files: Sequence[Remote]) -> list[Remote]:
    """What to fetch of a repository: the file asked for, its best GGUF, or a model's folder.

    Raises:
        BackendError: it has no such file, or nothing that can be converted.
    """
    if wanted.file:
        found = [file for file in files if wanted.file in (file.path, file.name)][:1]
        if not found:
            near = ", ".join(file.path for file in files if file.path.endswith(".gguf"))[:300]
            fix = f"use one of {near}" if near else "leave the file out"
            raise _refused(f"{wanted.repo} has no {wanted.file}", fix)
        return found
    ggufs = [file for file in files if file.path.endswith(".gguf") and "-of-" not in file.path]
    if ggufs:
        return [min(ggufs, key=_rank)]
    folder = [file for file in files if file.path in _BESIDE or file.path == "model.safetensors.index.json"]
    weights = [file for file in files if "/" not in file.path and file.path.endswith(".safetensors")]
    if weights and {"config.json", "tokenizer.json"} <= {file.path for file in folder}:
        return folder + weights
    fix = "use a repository with a GGUF file, or with config.json, tokenizer.json and *.safetensors"
    raise _refused(f"{wanted.repo} has nothing that can be converted", fix)


def _refused(message: str, fix: str) -> BackendError:
    return BackendError(message, kind="refused", field="model", fix=fix)


def _rank(file: Remote) -> tuple[int, int]:
    name = file.name.lower()
    return next((i for i, kind in enumerate(_PREFERRED) if kind in name), len(_PREFERRED)), file.bytes


def _digest(sibling: Any) -> str:
    large = getattr(sibling, "lfs", None)
    digest = large.get("sha256") if isinstance(large, dict) else getattr(large, "sha256", None)
    return str(digest or "")


def _difference(path: Path, file: Remote) -> str:
    """What is wrong with a file that came, "" if nothing."""
    size = path.stat().st_size
    if file.bytes and size != file.bytes:
        return f"has {size:,} bytes, not {file.bytes:,}"
    if not file.sha256:
        return ""
    digest = sha256()
    with path.open("rb") as data:
        while part := data.read(1 << 20):
            digest.update(part)
    return "" if digest.hexdigest() == file.sha256 else "is damaged: its SHA-256 is not the one that the hub names"


def check_room(folder: Path, needed: int) -> None:
    """Make a folder. Raises ConfigError: its disk has not so many bytes left."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        message = f"the download takes {needed / 1e6:,.0f} MB, and {folder} has {free / 1e6:,.0f} MB left"
        raise ConfigError(message, field="folder", fix="make room, or set RUVLLM_LLM_FOLDER to another disk")


def _reason(bad: Exception) -> str:
    """An error's first line; what it was caused by says more than a library's advice."""
    deepest: BaseException = bad
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    return (str(deepest).splitlines() or [type(deepest).__name__])[0][:160] or type(deepest).__name__


def _tell(tell: Tell, before: int, total: int, have: int) -> None:
    """One file's part of a download's progress."""
    tell("downloading", before + have, total)
