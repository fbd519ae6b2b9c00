"""Makes a release: checks, one version everywhere, the changelog, a commit and a tag. It publishes nothing.

python build/release.py 0.2.0 [--dry-run]

The version is `__version__` of core/ruvllm; every other place is written from it, and tests/native/test_release.py
holds them together.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = "core/ruvllm/__init__.py"
# A file, and what stands before each version in it.
PLACES = {
    SOURCE: (r'^__version__ = "',),
    "core/pyproject.toml": (r'^version = "', r'"ruvllm-models=='),
    "models/pyproject.toml": (r'^version = "',),
    "edge_server/pyproject.toml": (r'^version = "', r'"ruvllm\[http\]=='),
    "tests/bench/pyproject.toml": (r'^version = "', r'"ruvllm\[plots\]==', r'"ruvllm-edge=='),
    "web/package.json": (r'^  "version": "',),
}
_VERSION = r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?"
_HEADING = re.compile(r"^## Unreleased.*$", re.MULTILINE)
CHECKS = (["make", "check"], ["make", "test"], ["make", "install-test"])


def versions(root: Path = ROOT) -> dict[str, set[str]]:
    """The versions that each file names."""
    found = dict[str, set[str]]()
    for name, befores in PLACES.items():
        text = (root / name).read_text("utf-8")
        found[name] = {one for before in befores for one in re.findall(f"{before}({_VERSION})", text, re.MULTILINE)}
    return found


def write(version: str, root: Path = ROOT, today: date | None = None) -> None:
    """One version in every place, and what was unreleased under it in the changelog. Raises SystemExit: it cannot be.

    Args:
        today: of the release; the day of the call when None.
    """
    if not re.fullmatch(_VERSION, version):
        sys.exit(f"{version!r} is no version: give one like 0.2.0 or 1.0.0rc1")
    path = root / "CHANGELOG.md"
    log = path.read_text("utf-8")
    heading = _HEADING.search(log)
    notes = "" if heading is None else re.split(r"^## ", log[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    if heading is None or not re.search(r"^- ", notes, re.MULTILINE):
        sys.exit("CHANGELOG.md has nothing under `## Unreleased`: say there what is new")
    day = today or date.today()
    fresh = f"## Unreleased\n\n## {version} ({day:%Y-%m-%d})"
    made = {"CHANGELOG.md": log[: heading.start()] + fresh + log[heading.end() :]}
    for name, befores in PLACES.items():
        text = (root / name).read_text("utf-8")
        for before in befores:
            text, count = re.subn(f"({before}){_VERSION}", rf"\g<1>{version}", text, flags=re.MULTILINE)
            if not count:
                sys.exit(f"{name} has no version after {before}")
        made[name] = text
    before = {name: (root / name).read_text("utf-8") for name in made}
    try:
        for name, text in made.items():
            (root / name).write_text(text, "utf-8")
    except BaseException:  # all or none
        for name, text in before.items():
            (root / name).write_text(text, "utf-8")
        raise


def main() -> None:
    """Check, write, commit and tag."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version")
    parser.add_argument("--dry-run", action="store_true", help="write the files, but check, commit and tag nothing")
    options = parser.parse_args()
    if not options.dry_run:
        if _git("status", "--porcelain"):
            sys.exit("the working tree has changes: commit them first")
        if _git("tag", "--list", f"v{options.version}"):
            sys.exit(f"there is a tag v{options.version} already")
        for command in CHECKS:
            subprocess.run(command, cwd=ROOT, check=True)
    write(options.version)
    if not options.dry_run:
        before = _git("rev-parse", "HEAD")
        try:
            _git("commit", "--all", "--message", f"Release {options.version}")
            _git("tag", "--annotate", f"v{options.version}", "--message", f"ruvllm {options.version}")
        except BaseException:
            _git("reset", "--hard", before)  # the tree had no changes of anybody
            raise
    print(f"{options.version}: `make dist npm` builds it; nothing was published, and nothing pushed")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
