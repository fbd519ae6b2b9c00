"""CONTRIBUTING's walk is walked: each addition in a copy of the tree, then what is said to work after it.

With RUVLLM_DOCS=1 (`make docs-test`).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ruvllm_models

ROOT = Path(__file__).parents[2]
_STEP = re.compile(
    r'^\*\*(?P<step>[^*]+)\*\*|^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<code>.*?)^```$', re.M | re.S
)
_WALK = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## A walk")[2].partition("## Other changes")[0]


def steps() -> dict[str, list[re.Match[str]]]:
    found = dict[str, list[re.Match[str]]]()
    for one in _STEP.finditer(_WALK):
        if one["step"]:
            found[one["step"]] = []
        else:
            found[list(found)[-1]].append(one)
    return {name: blocks for name, blocks in found.items() if blocks}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    for part in (
        "core/ruvllm",
        "core/catalog",
        "build/catalog.py",
        "edge_server/ruvllm_edge",
        "tests/core/index_suite.py",
    ):
        target = folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, target)
    return folder


def test_the_walk_has_all_that_can_be_added():
    names = " ".join(steps())
    assert all(part in names for part in ("agent", "reader", "index", "learner", "backend", "endpoint"))


@pytest.mark.skipif(not os.environ.get("RUVLLM_DOCS"), reason="make docs-test walks it")
@pytest.mark.parametrize("step", steps())
def test_a_step_does_what_it_says(step: str, tree: Path):
    models = str(Path(ruvllm_models.__file__).parents[1])
    path = os.pathsep.join(str(part) for part in (tree / "core", tree / "edge_server", models, tree / "tests/core"))
    environ = os.environ | {"PYTHONPATH": path, "HOME": str(tree), "RUVLLM_STATE": str(tree / "state.db")}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    for block in steps()[step]:
        if block["title"]:
            file = tree / block["title"]
            before = file.read_text("utf-8") + "\n\n" if file.exists() else ""
            file.write_text(before + block["code"], "utf-8")
        elif block["language"] == "python":
            run(sys.executable, "-c", block["code"])
        elif "serve" in block["code"]:
            url = re.search(r"127\.0\.0\.1:3000(\S+)", block["code"])
            assert url
            code = (
                "from starlette.testclient import TestClient\n"
                "from ruvllm import RuvLLM\nfrom ruvllm_edge.app import make_app\n"
                f"with TestClient(make_app(RuvLLM(encoder='static')), base_url='http://127.0.0.1') as one:\n"
                f"    print(one.get({url[1]!r}).raise_for_status().json())"
            )
            assert "agents" in run(sys.executable, "-c", code)
        else:
            words = shlex.split(block["code"].removeprefix("$ "))
            run(sys.executable, *words[1:])
