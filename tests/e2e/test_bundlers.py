"""`npm install ruvllm`, from the packed tarballs: in an app of each bundler, built, served and asked in a browser, and
in the other runtimes.

npm fetches the bundlers, so that a machine without a registry skips this by name.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hosting import hosted
from playwright.sync_api import Page, expect

ROOT = Path(__file__).parents[2]
APP = """import { RuvLLM } from "ruvllm";

const title = document.querySelector("h1");
try {
  const llm = await RuvLLM.load({ %s state: "memory" });
  title.textContent = (await llm.route("add unit tests for the auth module")).agent;
} catch (error) {
  title.textContent = error.fix;
}
"""
HTML = '<!doctype html><html lang="en"><head><title>App</title></head><h1></h1><script type="module" src="%s"></script>'
COPIED = 'baseURL: "/ruvllm/",'
WEBPACK = """export default {
  mode: "production", entry: "./app.js", experiments: { outputModule: true }, performance: { hints: false },
  output: { module: true, filename: "bundle.js", path: new URL("./out", import.meta.url).pathname },
};"""
ROLLUP = """import resolve from "@rollup/plugin-node-resolve";
export default {
  input: "app.js", plugins: [resolve({ browser: true })],
  output: { dir: "out", format: "es", entryFileNames: "bundle.js" },
};"""
VITE = """import ruvllm from "ruvllm/vite";
export default { plugins: [ruvllm()], build: { outDir: "out", target: "es2022" } };"""
NEXT = """export default { output: "export", distDir: "out" };"""
PAGE = """"use client";
import { useEffect, useState } from "react";
import { RuvLLM } from "ruvllm";

export default function Page() {
  const [agent, show] = useState("");
  useEffect(() => {
    const end = new AbortController();
    RuvLLM.load({ baseURL: "/ruvllm/", state: "memory", signal: end.signal })
      .then((llm) => llm.route("add unit tests for the auth module"))
      .then((decision) => show(decision.agent), (error) => end.signal.aborted || show(error.fix));
    return () => end.abort();
  }, []);
  return <h1>{agent}</h1>;
}"""
LAYOUT = """export default function Layout({ children }) { return <html lang="en"><body>{children}</body></html>; }"""
SCRIPT = """import { RuvLLM } from "ruvllm";
await using llm = await RuvLLM.load();
console.log((await llm.route("add unit tests for the auth module")).agent);
"""
_VITE = ["vite@8.3.8", "typescript@6.0.3"]
_REACT_18 = ["react@18.3.1", "react-dom@18.3.1", "@types/react@18.3.32", "@types/react-dom@18.3.7"]
# The example's folder, what npm installs for it, what checks its types.
FRAMEWORKS = {
    "react": (
        "react",
        [*_VITE, "react@19.3.1", "react-dom@19.3.1", "@types/react@19.3.3", "@types/react-dom@19.3.0"],
        "tsc",
    ),
    "react 18": ("react", [*_VITE, *_REACT_18], "tsc"),
    "vue": ("vue", [*_VITE, "vue@3.5.45", "@vitejs/plugin-vue@6.0.11", "vue-tsc@3.3.14"], "vue-tsc"),
}
LINTERS = ["publint@0.3.25", "@arethetypeswrong/cli@0.18.5"]
RUNTIMES = {"deno": ("deno@2.9.6", ["deno", "run", "-A"]), "bun": ("bun@1.4.5", ["bun"])}
# By name: what npm installs, the configuration, the command, what a page is told of where the files are.
BUNDLERS = {
    "vite": (["vite@8.3.8"], {"vite.config.js": VITE}, ["vite", "build"], ""),
    "webpack": (
        ["webpack@5.113.0", "webpack-cli@7.3.1"],
        {"webpack.config.mjs": WEBPACK},
        ["webpack", "--config", "webpack.config.mjs"],
        COPIED,
    ),
    "rollup": (
        ["rollup@4.68.8", "@rollup/plugin-node-resolve@16.0.3"],
        {"rollup.config.mjs": ROLLUP},
        ["rollup", "-c"],
        COPIED,
    ),
    "esbuild": (
        ["esbuild@0.28.2"],
        {},
        ["esbuild", "app.js", "--bundle", "--format=esm", "--outfile=out/bundle.js"],
        COPIED,
    ),
}


def run(folder: Path, *command: str) -> str:
    """What a command says; the test fails with it where the command does."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def tarballs(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Both packages, as `make npm` packs them."""
    out = tmp_path_factory.mktemp("npm") / "pack"
    run(ROOT, sys.executable, "build/npm.py", "--dist", str(dist), "--out", str(out))
    return [str(path) for path in sorted(out.glob("*.tgz"))]


def installed(folder: Path, packages: list[str]) -> None:
    """An npm project with these."""
    (folder / "package.json").write_text('{"name": "app", "private": true, "type": "module"}', "utf-8")
    command = ["npm", "install", "--no-audit", "--no-fund", *packages]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip(f"npm cannot install {' '.join(packages)[-200:]}: {done.stderr[-200:]}")


@pytest.mark.parametrize("name", BUNDLERS)
def test_an_app_routes(name: str, tarballs: list[str], tmp_path: Path, page: Page, problems: list[str]) -> None:
    packages, files, command, where = BUNDLERS[name]
    for file, text in files.items():
        (tmp_path / file).write_text(text, "utf-8")
    installed(tmp_path, [*tarballs, *packages])
    (tmp_path / "app.js").write_text(APP % where, "utf-8")
    (tmp_path / "index.html").write_text(HTML % "/app.js", "utf-8")
    run(tmp_path, "npx", "--no-install", *command)
    out = tmp_path / "out"
    if where:
        (out / "index.html").write_text(HTML % "/bundle.js", "utf-8")
        run(tmp_path, "npx", "--no-install", "ruvllm", "copy", "out/ruvllm")
    with hosted(out) as site:
        page.goto(site.url)
        expect(page.locator("h1")).to_have_text("tester")
        assert not problems
        assert not site.violations


def test_a_client_component_of_next_routes(
    tarballs: list[str], tmp_path: Path, page: Page, problems: list[str]
) -> None:
    installed(tmp_path, [*tarballs, "next@16.4.6", "react@19.3.1", "react-dom@19.3.1"])
    (tmp_path / "next.config.mjs").write_text(NEXT, "utf-8")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "page.jsx").write_text(PAGE, "utf-8")
    (tmp_path / "app" / "layout.jsx").write_text(LAYOUT, "utf-8")
    run(tmp_path, "npx", "--no-install", "ruvllm", "copy", "public/ruvllm")
    run(tmp_path, "npx", "--no-install", "next", "build")
    # Next writes scripts into the page itself.
    with hosted(tmp_path / "out", policy="script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'") as site:
        page.goto(site.url)
        expect(page.locator("h1")).to_have_text("tester")
        assert not problems
        assert not site.violations


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_example_has_types_and_routes(
    name: str, tarballs: list[str], tmp_path: Path, page: Page, problems: list[str]
) -> None:
    folder, packages, checker = FRAMEWORKS[name]
    shutil.copytree(ROOT / "examples" / folder, tmp_path, dirs_exist_ok=True)
    installed(tmp_path, [*tarballs, *packages])
    run(tmp_path, "npx", "--no-install", checker, "-p", ".")
    run(tmp_path, "npx", "--no-install", "vite", "build")
    with hosted(tmp_path / "dist") as site:
        page.goto(site.url)
        page.get_by_role("button", name="Who tests?").click()
        expect(page.get_by_text("tester: ")).to_be_visible()
        page.get_by_label("What is to be done?").fill("fix the bug in the payment service")
        page.get_by_role("button", name="Route").click()
        expect(page.locator("[part=summary]")).to_contain_text("debugger")
        if name != "react 18":  # which does not listen to an element's own events
            expect(page.get_by_text("debugger: ")).to_be_visible()
        assert not problems
        assert not site.violations
    (app,) = tmp_path.glob("App.*")
    app.write_text(app.read_text("utf-8").replace("event.detail", "event.agent"), "utf-8")
    wrong = subprocess.run(["npx", "--no-install", checker, "-p", "."], cwd=tmp_path, capture_output=True, text=True)
    assert "'agent' does not exist on type 'CustomEvent<Decision>'" in wrong.stdout


def test_vite_serves_it_while_developing(tarballs: list[str], tmp_path: Path, page: Page) -> None:
    packages, files, _, _ = BUNDLERS["vite"]
    installed(tmp_path, [*tarballs, *packages])
    for file, text in {**files, "app.js": APP % "", "index.html": HTML % "/app.js"}.items():
        (tmp_path / file).write_text(text, "utf-8")
    command = ["node", "node_modules/vite/bin/vite.js", "--port", "0", "--host", "127.0.0.1"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ | {"NO_COLOR": "1"}
    ) as vite:
        try:
            url = next(found[0] for line in vite.stdout or () if (found := re.search(r"http://127\.\S+", line)))
            page.goto(url)
            expect(page.locator("h1")).to_have_text("tester")
        finally:
            vite.terminate()


def test_linters_of_packages_find_nothing(tarballs: list[str], tmp_path: Path) -> None:
    installed(tmp_path, LINTERS)
    assets, small = sorted(tarballs, key=lambda path: "assets" not in path)
    assert "All good!" in run(tmp_path, "npx", "--no-install", "publint", "run", small, "--strict")
    run(tmp_path, "npx", "--no-install", "publint", "run", assets)  # onnxruntime's own file has an unusual ending
    run(tmp_path, "npx", "--no-install", "attw", small, "--profile", "esm-only")
    inside = run(tmp_path, "tar", "tzf", small).split()
    assert {"package/README.md", "package/LICENSE-MIT", "package/dist/types/react.d.ts"} <= set(inside)
    assert Path(small).stat().st_size <= 25_000_000


@pytest.mark.parametrize("name", RUNTIMES)
def test_another_runtime_routes(name: str, tarballs: list[str], tmp_path: Path) -> None:
    package, command = RUNTIMES[name]
    installed(tmp_path, [*tarballs, package])
    (tmp_path / "app.js").write_text(SCRIPT, "utf-8")
    assert run(tmp_path, "npx", "--no-install", *command, "app.js").split() == ["tester"]


def test_without_a_bundler_and_without_the_large_files(tarballs: list[str], tmp_path: Path, page: Page) -> None:
    (small,) = [path for path in tarballs if "assets" not in path]
    run(tmp_path, "tar", "xzf", small)
    folder = tmp_path / "package"
    (folder / "app.js").write_text((APP % "").replace('"ruvllm"', '"./dist/ruvllm.js"'), "utf-8")
    (folder / "index.html").write_text(HTML % "/app.js", "utf-8")
    with hosted(folder) as site:
        page.goto(site.url)
        expect(page.locator("h1")).to_have_text("tester")


def test_a_page_without_the_files_is_told_how_to_get_them(tarballs: list[str], tmp_path: Path, page: Page) -> None:
    installed(tmp_path, [*tarballs, *BUNDLERS["esbuild"][0]])
    (tmp_path / "app.js").write_text(APP % "", "utf-8")
    run(tmp_path, "npx", "--no-install", *BUNDLERS["esbuild"][2])
    (tmp_path / "out" / "index.html").write_text(HTML % "/bundle.js", "utf-8")
    with hosted(tmp_path / "out") as site:
        page.goto(site.url)
        expect(page.locator("h1")).to_contain_text("npx ruvllm copy")
