"""One version in every place, a release that writes them all, the promised API, an SBOM, a Dockerfile."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from ruvllm import __version__

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "build"))

import api  # noqa: E402
import release  # noqa: E402
import sbom  # noqa: E402


def test_every_place_has_the_same_version():
    assert set(map(frozenset, release.versions().values())) == {frozenset({__version__})}


def test_a_release_writes_each_place_and_the_changelog(tmp_path: Path):
    for name in (*release.PLACES, "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    release.write("9.8.7", tmp_path, date(2026, 1, 2))
    assert set(map(frozenset, release.versions(tmp_path).values())) == {frozenset({"9.8.7"})}
    assert "## Unreleased\n\n## 9.8.7 (2026-01-02)\n" in (tmp_path / "CHANGELOG.md").read_text("utf-8")
    log, package = tmp_path / "CHANGELOG.md", tmp_path / "web" / "package.json"
    log.write_text(
        text := log.read_text("utf-8").replace("## Unreleased\n", "## Unreleased\n\n- One thing.\n"), "utf-8"
    )
    package.write_text("{}", "utf-8")
    with pytest.raises(SystemExit, match="has no version"):
        release.write("9.9.9", tmp_path)
    assert log.read_text("utf-8") == text  # all or nothing
    assert set(map(frozenset, release.versions(tmp_path).values())) == {frozenset({"9.8.7"}), frozenset()}
    log.write_text(text.replace("- One thing.\n", ""), "utf-8")
    for version, says in (("9.9.9", "nothing under"), ("next", "no version")):
        with pytest.raises(SystemExit, match=says):
            release.write(version, tmp_path)


def test_the_public_api_is_the_promised_one():
    found, promised = set(api.lines()), set(api.FILE.read_text("utf-8").splitlines())
    assert (found - promised, promised - found) == (set(), set()), "if that is meant: make api, and CHANGELOG.md"


def test_an_sbom_names_packages_models_and_licences(tmp_path: Path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT / "core", check=True, capture_output=True)
    manifest = ROOT / "models" / "ruvllm_models" / "data" / "manifest.json"
    told = json.loads(sbom.sbom(tmp_path.glob("*.whl"), manifest))
    parts = {one["name"]: one for one in told["components"]}
    assert {"ruvllm", "numpy", "ruvllm-models", "ruvltra-int8.onnx"} <= parts.keys()
    assert parts["ruvllm"]["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    assert f"pkg:pypi/ruvllm@{__version__}" in {one["ref"] for one in told["dependencies"]}


def test_the_dockerfile_copies_what_there_is_and_runs_as_nobody_special():
    text = (ROOT / "edge_server" / "deploy" / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert {step for step, _ in steps} <= {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE",
                                           "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT"}  # fmt: skip
    for step, rest in steps:
        if step == "COPY":
            source = rest.split()[-2]
            assert (ROOT / source).exists() or source == "web/dist", source
        if step == "FROM":
            assert re.search(r":[\w.-]+", rest), "an image without a version"
        if step == "RUN" and "pip" in rest:
            assert "--no-cache-dir" in rest
    named = [rest for step, rest in steps if step == "USER"]
    assert named == ["ruvllm"]
    assert json.loads(next(rest for step, rest in steps if step == "ENTRYPOINT")) == ["ruvllm", "serve"]
