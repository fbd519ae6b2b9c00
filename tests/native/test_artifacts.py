"""A missing, truncated or tampered artifact: an error that says which file and how to get it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from ruvllm import ArtifactError, RuvLLM
from ruvllm.artifacts.host import NativeHost, load_npz, map_npz
from ruvllm.artifacts.machine import cores, memory_limit
from ruvllm_models import FOLDER


def files() -> set[str]:
    return {file.relative_to(FOLDER).as_posix() for file in FOLDER.rglob("*") if file.is_file()}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder of links to the artifacts, each of which a test may replace."""
    for name in files():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.symlink(FOLDER / name, tmp_path / name)
    return tmp_path


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def test_a_table_is_mapped_and_not_copied():
    mapped = map_npz(FOLDER / "static.npz")
    for name, array in load_npz((FOLDER / "static.npz").read_bytes(), "static.npz").items():
        np.testing.assert_array_equal(mapped[name], array)
        assert not mapped[name].flags.writeable or name == "scale"
    if os.name != "nt":
        assert isinstance(mapped["table"].base, np.memmap)


def test_a_containers_limits_count(tmp_path: Path):
    assert (cores(tmp_path) >= 1, memory_limit(tmp_path)) == (True, None)
    for name, text in (("cpu.max", "50000 100000"), ("memory.max", "max")):
        (tmp_path / name).write_text(text)
    assert (cores(tmp_path), memory_limit(tmp_path)) == (1, None)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "cpu.max").write_text("max 100000")
    assert (cores(tmp_path), memory_limit(tmp_path)) == (cores(tmp_path / "none"), 1_000_000)


def test_the_manifest_has_a_line_for_each_artifact():
    manifest = json.loads((FOLDER / "manifest.json").read_text())["artifacts"]
    assert set(manifest) == files() - {"manifest.json"}
    for name, entry in manifest.items():
        assert {"source", "licence", "sha256", "bytes", "built_by", "quality"} <= set(entry), name
        NativeHost().artifact(name)
    assert manifest["static.npz"]["bytes"] <= 12_000_000


@pytest.mark.parametrize("name", ["minilm/router.npz", "minilm/space.npz"])
def test_plain_minilm_has_files_of_its_own(copy, name):
    replace(copy / name, (FOLDER / name).read_bytes()[:-1])
    RuvLLM(host=NativeHost(copy), encoder="cascade").close()
    with pytest.raises(ArtifactError, match="truncated") as error:
        RuvLLM(host=NativeHost(copy), encoder="minilm")
    assert error.value.field == name


@pytest.mark.parametrize("name", ["static.npz", "router.npz", "vocab.txt", "builtin.npz"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "SHA-256"),
    ],
)
def test_damage_is_named(copy, name, damage, message):
    replace(copy / name, damage((FOLDER / name).read_bytes()))
    with pytest.raises(ArtifactError, match=message) as error:
        RuvLLM(host=NativeHost(copy), encoder="static")
    assert error.value.field == name
    assert "ruvllm-models" in error.value.fix


def test_a_missing_artifact_and_a_missing_manifest(copy):
    (copy / "router.npz").unlink()
    with pytest.raises(ArtifactError, match=r"router\.npz is missing"):
        RuvLLM(host=NativeHost(copy), encoder="static")
    replace(copy / "manifest.json", b"[]")
    with pytest.raises(ArtifactError, match="manifest"):
        RuvLLM(host=NativeHost(copy), encoder="static")


def test_the_folder_can_be_named_in_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RUVLLM_MODELS", str(tmp_path))
    with pytest.raises(ArtifactError, match="manifest"):
        RuvLLM()


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "evil.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(ArtifactError, match=r"evil\.npz"):
        load_npz((tmp_path / "evil.npz").read_bytes(), "evil.npz")
