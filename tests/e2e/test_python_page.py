"""`micropip.install("ruvllm")` from the index in the built folder: in pages and programs with a Pyodide of their own.

pip fetches micropip and npm PyScript, so that a machine without a registry skips this by name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import ROOT
from hosting import Site, hosted
from playwright.sync_api import Page, expect

PYODIDE = ROOT / "web" / "node_modules" / "pyodide"
CELL = """
import micropip
await micropip.install("ruvllm", index_urls="%s")
from ruvllm import RuvLLM
with RuvLLM() as llm:
    llm.feedback("polish the copper kettle", "coder")
    said = " ".join(llm.route(task).agent for task in ("add unit tests for the parser", "polish the copper kettle"))
said
"""
RUN = """import {{ loadPyodide }} from "{pyodide}/pyodide.mjs";
const pyodide = await loadPyodide({{ {options} }});
await pyodide.loadPackage("micropip");
const said = await pyodide.runPythonAsync({cell});
"""
HTML = '<!doctype html><html lang="en"><title>Notes</title><h1></h1>{body}'


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Pyodide as npm has it, and micropip where Pyodide's own site would have it."""
    folder = tmp_path_factory.mktemp("notebook")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version=3.14", "-d", str(folder), "micropip"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"pip cannot fetch micropip: {done.stderr[-200:]}")
    (wheel,) = folder.glob("micropip-*.whl")
    for file in PYODIDE.iterdir():
        os.link(file, folder / file.name)
    lock = folder / "pyodide-lock.json"
    told = json.loads(lock.read_text("utf-8"))
    digest = sha256(wheel.read_bytes()).hexdigest()
    told["packages"]["micropip"] |= {"file_name": wheel.name, "sha256": digest, "version": wheel.name.split("-")[1]}
    lock.unlink()  # a link to npm's own
    lock.write_text(json.dumps(told), "utf-8")
    return folder


@pytest.fixture
def index(dist: Path) -> Iterator[str]:
    """The address of the index, on another origin than the page's."""
    with hosted(dist, any_origin=True) as site:
        yield f"{site.url}simple"


@pytest.fixture
def site(notebook: Path) -> Iterator[Site]:
    """A page of somebody's own, without a policy."""
    with hosted(notebook, policy="") as site:
        yield site


def test_in_node(notebook: Path, index: str, tmp_path: Path) -> None:
    script = tmp_path / "cell.mjs"
    options = f'packageBaseUrl: "{notebook}/"'
    run = RUN.format(pyodide=notebook, options=options, cell=json.dumps(CELL % index))
    script.write_text(f"{run}console.log(said);", "utf-8")
    done = subprocess.run(["node", script], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1:] == ["tester coder"], done.stderr[-2000:]


def test_in_a_page(page: Page, site: Site, index: str) -> None:
    run = RUN.format(pyodide=".", options="", cell=json.dumps(CELL % index))
    script = f'<script type="module">{run}document.querySelector("h1").textContent = said;</script>'
    site.pages["/notes.html"] = HTML.format(body=script)
    page.goto(f"{site.url}notes.html")
    expect(page.locator("h1")).to_have_text("tester coder")


def test_in_pyscript(page: Page, site: Site, notebook: Path, index: str, tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text("{}", "utf-8")
    command = ["npm", "install", "--no-audit", "--no-fund", "@pyscript/core@0.7.31"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot install PyScript: {done.stderr[-200:]}")
    if not (notebook / "pyscript").exists():
        (notebook / "pyscript").symlink_to(tmp_path / "node_modules" / "@pyscript" / "core" / "dist")
    cell = f'{CELL % index}\nfrom pyscript import document\ndocument.querySelector("h1").textContent = said'
    config = json.dumps({"interpreter": f"{site.url}pyodide.mjs", "packages": ["micropip"]})
    head = '<script type="module" src="/pyscript/core.js"></script>'
    site.pages["/notes.html"] = HTML.format(body=f"{head}<script type='py' config='{config}'>{cell}</script>")
    page.goto(f"{site.url}notes.html")
    expect(page.locator("h1")).to_have_text("tester coder")
