"""Builds the guide, a static site without a remote request, into web/guide: `ruvllm serve` has it at /guide.

python build/docs.py [--out FOLDER] [--stage FOLDER]    the latter only lays out the Markdown that the site is made of
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from reference import references

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "docs" / "mkdocs.yml"
# Pages that lie elsewhere in the repository, and their place in the guide.
OUTSIDE = {
    "edge_server/README.md": "server.md",
    "web/README.md": "npm.md",
    "models/ruvllm_models/MODEL_CARD.md": "model-card.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
}
# How much more than other pages the site's search thinks of pages, by the first part of their place.
BOOSTS = {
    "how-to": 4,
    "tutorials": 3,
    "start.md": 3,
    "faq.md": 3,
    "troubleshooting.md": 3,
    "concepts": 2,
    "integrations.md": 0.5,
}
_BOOSTED = "---\nsearch:\n  boost: {}\n---\n"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
_NAV = re.compile(r"^ +- (?:(?P<title>[^:{]+): )(?P<page>[\w/-]+\.md)$", re.MULTILINE)
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_COMMENT = re.compile(r"^<!-- not run: .*? -->\n", re.MULTILINE)


def main() -> None:
    """Lay out, build, and put all scripts and styles into files, as the server's content security policy wants them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "web" / "guide")
    parser.add_argument("--stage", type=Path)
    options = parser.parse_args()
    if options.stage:
        stage(options.stage)
        return
    with tempfile.TemporaryDirectory() as folder:
        pages, site = Path(folder) / "pages", Path(folder) / "site"
        stage(pages)
        environment = os.environ | {"DOCS_DIR": str(pages), "SITE_DIR": str(site), "NO_MKDOCS_2_WARNING": "1"}
        config = Path(folder) / "mkdocs.yml"
        config.write_text(CONFIG.read_text("utf-8") + "".join(_unnamed(pages)), "utf-8")
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config)]
        subprocess.run(command, env=environment, check=True)
        for page in site.rglob("*.html"):
            page.write_text(_without_inline(page, site), "utf-8")
        shutil.rmtree(options.out, ignore_errors=True)
        shutil.copytree(site, options.out)
    for path in [*options.out.rglob("*.map"), options.out / "sitemap.xml", options.out / "sitemap.xml.gz"]:
        path.unlink(missing_ok=True)
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {len(list(options.out.rglob('*.html')))} pages, {size / 1e6:.1f} MB")


def stage(out: Path) -> None:
    """All Markdown of the guide, links between the pages as they lie there."""
    places = {path.resolve(): path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*") if path.is_file()}
    places.pop(CONFIG)
    places |= {(ROOT / name).resolve(): Path(place) for name, place in OUTSIDE.items()}
    for source, place in places.items():
        target = out / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source == ROOT / "README.md":
            continue  # links to it lead to the first page
        if source.suffix == ".md":
            text = _COMMENT.sub("", source.read_text("utf-8"))
            text = _LINK.sub(lambda link: _moved(link, source, place, places), text)  # noqa: B023
            target.write_text(_BOOSTED.format(BOOSTS.get(place.parts[0], 1)) + text, "utf-8")
        else:
            shutil.copy(source, target)
    for place, text in references().items():
        (out / place).parent.mkdir(exist_ok=True)
        (out / place).write_text(text if text.startswith("---") else _BOOSTED.format(0.2) + text, "utf-8")
    _for_programs(out)


def _unnamed(out: Path) -> Iterator[str]:
    """Lines of the navigation for pages that it does not name."""
    named = {found["page"] for found in _NAV.finditer(CONFIG.read_text("utf-8"))}
    for page in sorted(out.rglob("*.md")):
        place = page.relative_to(out).as_posix()
        if place not in named and not place.startswith("reference/"):
            yield f"      - {json.dumps(_body(page).partition(chr(10))[0].lstrip('# '))}: {place}\n"


def _moved(link: re.Match[str], source: Path, place: Path, places: dict[Path, Path]) -> str:
    """A link of a page in the repository as it is in the guide; of what is not there only its words."""
    shown, words, path, anchor = link[1], link[2], link[3], link[4] or ""
    if not path or re.match(r"\w+:", path):
        return link[0]
    target = (source.parent / path).resolve()
    if target not in places and ROOT / "docs" in target.parents:
        return link[0]  # of a generated page
    if target not in places:
        return words
    return f"{shown}[{words}]({os.path.relpath(places[target], place.parent)}{anchor})"


def _for_programs(out: Path) -> None:
    """llms.txt, which names all pages, and llms-full.txt, which holds them (references but for the configuration's)."""
    pages = [(found["title"], found["page"]) for found in _NAV.finditer(CONFIG.read_text("utf-8"))]
    lines = ["# ruvllm", "", "> A routing, memory and learning runtime for LLM agents.", "", "## Pages", ""]
    lines += [
        f"- [{title}]({page.removesuffix('.md').removesuffix('index')}): {_first(out / page)}" for title, page in pages
    ]
    (out / "llms.txt").write_text("\n".join(lines) + "\n", "utf-8")
    large = ("reference/python.md", "reference/javascript.md", "reference/http.md", "reference/cli.md")
    full = [f"<!-- {page} -->\n{_body(out / page)}" for _, page in pages if page not in large]
    (out / "llms-full.txt").write_text("\n\n".join(full) + "\n", "utf-8")


def _first(page: Path) -> str:
    """The first sentence of a page."""
    parts = re.split(r"\n\s*\n", _body(page))
    prose = (part for part in parts if re.match(r"[A-Z*`]", part))
    return re.split(r"(?<=[.:])\s", _LINK.sub(r"\2", " ".join(next(prose, "").split())))[0]


def _body(page: Path) -> str:
    return re.sub(r"^---.*?---\n", "", page.read_text("utf-8"), flags=re.DOTALL).strip()


def _without_inline(page: Path, site: Path) -> str:
    """A page of the site whose scripts and styles lie in files of their own."""
    text = page.read_text("utf-8")
    up = os.path.relpath(site, page.parent)

    def file(code: str, end: str) -> str:
        name = f"assets/inline-{sha256(code.encode()).hexdigest()[:10]}.{end}"
        (site / name).write_text(code, "utf-8")
        return f"{up}/{name}"

    text = _SCRIPT.sub(lambda found: f'<script src="{file(found[1], "js")}"></script>', text)
    return _STYLE.sub(lambda found: f'<link rel="stylesheet" href="{file(found[1], "css")}">', text)


if __name__ == "__main__":
    main()
