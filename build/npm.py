"""Packs web/dist as two npm packages: ruvllm, and ruvllm-assets with the large files that come last.

python build/npm.py [--dist FOLDER] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
WEB = ROOT / "web"
LICENCES = ("LICENSE-APACHE", "LICENSE-MIT", "THIRD_PARTY_NOTICES.md")
BAR = 25_000_000  # bytes of ruvllm's tarball
COMPRESSED = (".br", ".gz")  # npm compresses by itself
INDEX = "simple/"  # of Python packages, which are no npm package's
ABOUT = """# ruvllm-assets

What `ruvllm` fetches last: RuvLTRA, its sentence encoder, and onnxruntime-web, which runs
it and language models. It comes with ruvllm, which finds it by itself.
"""


def main() -> None:
    """Lay out both packages with hard links, and let npm pack them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, default=WEB / "dist")
    parser.add_argument("--out", type=Path, default=WEB / "pack")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    manifest = json.loads((WEB / "package.json").read_text("utf-8"))
    large = _large(json.loads((options.dist / "ruvllm.json").read_text("utf-8")))
    assets = {name: manifest[name] for name in ("version", "license", "engines")}
    assets = {"name": "ruvllm-assets", "description": "The large files of ruvllm", "type": "module", **assets}
    _stage(options.out / assets["name"], assets, ABOUT, {name: options.dist / name for name in large})
    files = {f"dist/{name}": path for name, path in _files(options.dist) if name not in large}
    files["bin/ruvllm.mjs"] = WEB / "bin" / "ruvllm.mjs"
    manifest = {name: value for name, value in manifest.items() if name not in ("scripts", "devDependencies")}
    manifest["dependencies"] = {assets["name"]: manifest["version"]}
    _stage(options.out / manifest["name"], manifest, (WEB / "README.md").read_text("utf-8"), files)
    for name in (manifest["name"], assets["name"]):
        tarball = options.out / f"{name}-{manifest['version']}.tgz"
        subprocess.run(["npm", "pack", "--silent", f"./{name}"], cwd=options.out, check=True, stdout=subprocess.DEVNULL)
        size = tarball.stat().st_size
        print(f"{tarball}  {size / 1e6:.1f} MB")
        if name == manifest["name"] and size > BAR:
            raise SystemExit(f"that is more than {BAR / 1e6:.0f} MB")


def _large(index: dict[str, Any]) -> set[str]:
    """What no first route waits for."""
    late = {name for name, entry in index["files"].items() if entry.get("stage") == "ruvltra"}
    return late | set(index["llm"]["webgpu"].values())


def _files(dist: Path) -> list[tuple[str, Path]]:
    found = ((path.relative_to(dist).as_posix(), path) for path in sorted(dist.rglob("*")) if path.is_file())
    return [(name, path) for name, path in found if path.suffix not in COMPRESSED and not name.startswith(INDEX)]


def _stage(folder: Path, manifest: dict[str, Any], about: str, files: dict[str, Path]) -> None:
    for name, path in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(path, folder / name)
    for name in LICENCES:
        shutil.copy(ROOT / name, folder)
    (folder / "README.md").write_text(about, "utf-8")
    manifest = {key: value for key, value in manifest.items() if key != "files"}
    (folder / "package.json").write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
