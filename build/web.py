"""Assembles web/dist, which any static host can serve, and prints every byte that a first visit loads.

python build/web.py [--model FOLDER] [--link NAME=URL] [--site URL] [--out FOLDER] [--models FOLDER] [--wheels FOLDER]
    [--source]
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Any

from pyindex import FOLDER, pure_wheel, static_models, write_index
from runtime import (
    ORT,
    PYODIDE,
    TEMPLATES,
    WEBGPU,
    compiled,
    copy_folder,
    core_for_page,
    install,
    packages,
    python_files,
    source_wheel,
)
from webfiles import COMPRESSED, Sizes, compress, digest, table

ROOT = Path(__file__).parent.parent
WEB = ROOT / "web"
BAR = 14_000_000  # brotli bytes up to the first static route
INDEX = "ruvllm.json"
SERVICE_WORKER, BUILD = "sw.js", "%RUVLLM_BUILD%"
NODE = ("node.js", "cli.js", "vite.js")
UNLISTED = ("types/", f"{FOLDER}/")  # for compilers, and for pages with a Python of their own: no visit loads them
PAGE = "page"  # the stage of what no progress is told of: it brings the progress
# An artifact with one of these in its name is for RuvLTRA alone, and fetched behind the first route.
LATER = ("ruvltra", "space")
# The call itself, and the list that vite keeps of what such calls bring with them.
_LATER_IMPORT = re.compile(r"""\bimport\(\s*["'`][^"'`]+["'`]\s*\)|\.f\s*=\s*\[[^\]]*\]""")
STAGES = (PAGE, "python", "packages", "static", "ruvltra")


def main() -> None:
    """Build everything into a fresh folder, then put it in the place of the old one."""
    options = _options()
    out: Path = options.out.resolve()
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    stages: dict[str, str] = {}
    index = _runtime(fresh, options, stages) | {"artifacts": _artifacts(fresh, options.models, stages)}
    if not options.skip_vite:
        _vite(fresh)
        _link(fresh / "index.html", options.link, options.site)
    index["worker"] = _worker(fresh, stages)
    index["llm"]["worker"] = next((file.name for file in fresh.glob("model-worker-*.js")), "")
    index["llm"]["models"] = [_offered(folder) for folder in options.model]
    index["version"] = json.loads((WEB / "package.json").read_text("utf-8"))["version"]
    sizes = _finish(fresh, index, stages)
    for folder in options.model:
        shutil.copytree(folder, fresh / "models" / folder.name)
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
    print(table(_rows(out, sizes, stages), BAR))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    helped = "what `ruvllm models convert` wrote: the page offers to load it"
    parser.add_argument("--model", type=lambda text: Path(text).resolve(), action="append", default=[], help=helped)
    parser.add_argument("--link", action="append", default=[], help="NAME=URL, at the foot of the page: Guide, Source")
    parser.add_argument("--site", help="URL that the page will have: links to it elsewhere show its picture")
    parser.add_argument("--models", type=Path, default=ROOT / "models/ruvllm_models/data", help="folder of artifacts")
    parser.add_argument("--wheels", type=Path, default=ROOT / "build/wheels", help="numpy for Pyodide")
    parser.add_argument("--out", type=Path, default=WEB / "dist")
    parser.add_argument("--source", action="store_true", help="leave all Python as source, whole")
    parser.add_argument("--skip-vite", action="store_true", help="only the runtime and the models, no JavaScript")
    return parser.parse_args()


def _runtime(out: Path, options: argparse.Namespace, stages: dict[str, str]) -> dict[str, Any]:
    """Pyodide, the wheels and onnxruntime-web."""
    modules = WEB / "node_modules"
    python, onnx = modules / "pyodide", modules / "onnxruntime-web" / "dist"
    bytecode = {} if options.source else compiled(python, options.wheels)
    core = {name: (python / name).read_bytes() for name in PYODIDE}
    pyodide = copy_folder(out, "pyodide", core | {name: bytecode[name] for name in PYODIDE if name in bytecode})
    ort = copy_folder(out, "ort", {name: (onnx / name).read_bytes() for name in ORT})
    wheel = source_wheel(ROOT / "core")
    page = wheel if options.source else core_for_page(python, wheel)
    lock, wheels = packages(out, python, options.wheels, page, bytecode)
    yaml = install(out, *pure_wheel("pyyaml"))
    write_index(
        out,
        {"ruvllm": wheel, "ruvllm-models": static_models(source_wheel(ROOT / "models"))},
        {"numpy": wheels["numpy"], "pyyaml": yaml},
    )
    first = [wheels["numpy"], wheels["ruvllm"], yaml]
    stages |= {pyodide + name: "python" for name in PYODIDE} | {lock: "python"}
    stages |= dict.fromkeys(first, "packages")
    stages |= {ort + name: "ruvltra" for name in ORT}
    return {"pyodide": pyodide, "lock": lock, "packages": first, "ort": _ort(ort, ORT), "llm": _llm(out, onnx)}


def _offered(folder: Path) -> dict[str, Any]:
    """A language model as the page offers it: no visit fetches it unasked, so it is in no list of files."""
    if not (folder / "ruvllm-model.json").is_file():
        raise SystemExit(f"{folder} is no converted model: ruvllm models convert MODEL.gguf --out {folder}")
    size = sum(file.stat().st_size for file in folder.iterdir())
    return {"name": folder.name, "place": f"models/{folder.name}/", "bytes": size}


def _ort(folder: str, names: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(("module", "mjs", "wasm"), (folder + name for name in names), strict=True))


def _llm(out: Path, onnx: Path) -> dict[str, Any]:
    """What only a language model needs, and nothing fetches before."""
    webgpu = copy_folder(out, "packages/webgpu", {name: (onnx / name).read_bytes() for name in WEBGPU})
    jinja = install(out, "jinja2.zip", python_files(TEMPLATES))
    return {"jinja": jinja, "webgpu": _ort(webgpu, WEBGPU)}


def _artifacts(out: Path, models: Path, stages: dict[str, str]) -> dict[str, str]:
    """The model artifacts, checked against their manifest, under hashed names."""
    manifest = json.loads((models / "manifest.json").read_text("utf-8"))["artifacts"]
    (out / "models").mkdir()
    files: dict[str, str] = {}
    for name, entry in manifest.items():
        if "/" in name:
            continue  # of another encoder than the page's
        data = (models / name).read_bytes()
        if digest(data) != entry["sha256"]:
            raise SystemExit(f"{models / name} is not the file that its manifest names: run `make models`")
        path = Path(name)
        files[name] = f"models/{path.stem}-{digest(data)[:10]}{path.suffix}"
        (out / files[name]).write_bytes(data)
        stages[files[name]] = "ruvltra" if any(word in name for word in LATER) else "static"
    return files


def _vite(out: Path) -> None:
    """The library, its types, the page and the service worker."""
    subprocess.run(["npm", "run", "--silent", "check"], cwd=WEB, check=True)
    for config in ("vite.config.ts", "vite.page.config.ts", "vite.sw.config.ts"):
        command = ["npx", "vite", "build", "--config", config, "--outDir", str(out), "--logLevel", "warn"]
        subprocess.run(command, cwd=WEB, check=True)
    subprocess.run(["npx", "tsc", "-p", "tsconfig.types.json", "--outDir", str(out / "types")], cwd=WEB, check=True)
    shutil.copytree(WEB / "frameworks", out / "types", dirs_exist_ok=True)  # react and vue are no packages of ours


def _link(page: Path, links: list[str], site: str | None) -> None:
    """Where the guide, the source and the page itself are, which only those know who put the page somewhere."""
    pairs = [tuple(map(escape, link.split("=", 1))) for link in links]
    html = "".join(f'<a href="{url}">{name}</a>' for name, url in pairs)
    text = page.read_text("utf-8").replace("<!-- links -->", html)
    if site:
        url = escape(site if site.endswith("/") else f"{site}/")
        text = text.replace('content="./og.png"', f'content="{url}og.png"')
        text = text.replace("<title>", f'<link rel="canonical" href="{url}" />\n    <title>', 1)
    page.write_text(text, "utf-8")


def _worker(out: Path, stages: dict[str, str]) -> str:
    """The worker's file; it, the page (or the bare library) and the chunks they import make the first stage.

    What is only imported when it is needed, `import("./views.js")`, comes later, and so do the styles it brings.
    """
    workers = [file.name for file in out.glob("worker-*.js")]
    if len(workers) != 1:
        return ""
    reached, queue = set[str](), [workers[0], "index.html" if (out / "index.html").exists() else "ruvllm.js"]
    while queue:
        name = queue.pop()
        if name not in reached:
            reached.add(name)
            text = _LATER_IMPORT.sub("", (out / name).read_text("utf-8"))
            queue += [
                file.name
                for file in out.glob("*.*")
                if file.suffix in (".js", ".css") and re.search(rf"""["'`]\./{re.escape(file.name)}["'`]""", text)
            ]
    stages |= dict.fromkeys(sorted(reached), PAGE)
    return workers[0]


def _finish(out: Path, index: dict[str, Any], stages: dict[str, str]) -> dict[str, Sizes]:
    """Compress all, write the index of it, and name the build in the service worker, which no index can list."""
    names = sorted(file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file())
    names = [name for name in names if name not in (*NODE, SERVICE_WORKER) and not name.startswith(UNLISTED)]
    with ThreadPoolExecutor(2) as pool:  # brotli works without Python's lock
        sizes = dict(zip(names, pool.map(lambda name: compress(out / name), names), strict=True))
    index["files"] = {
        name: {"bytes": sizes[name].raw, "sha256": digest((out / name).read_bytes())}
        | ({"stage": stages[name]} if stages.get(name, PAGE) != PAGE else {})
        for name in names
    }
    worker = out / SERVICE_WORKER
    script = worker.read_text("utf-8") if worker.exists() else ""
    index["build"] = digest((json.dumps(index, sort_keys=True) + script).encode())[:16]
    if script:
        assert script.count(BUILD) == 1, worker
        worker.write_text(script.replace(BUILD, index["build"]), "utf-8")
        sizes[SERVICE_WORKER] = compress(worker)
    (out / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True), "utf-8")
    sizes[INDEX] = compress(out / INDEX)
    stages[INDEX] = PAGE
    return sizes


def _rows(out: Path, sizes: dict[str, Sizes], stages: dict[str, str]) -> Iterator[tuple[str, str, Sizes]]:
    assert not any(name.endswith(COMPRESSED) for name in sizes), out
    for stage in STAGES:
        for name in sorted(sizes):
            if stages.get(name) == stage:
                yield stage, name, sizes[name]


if __name__ == "__main__":
    main()
