"""tests/core in CPython and, unchanged, inside Pyodide under Node: every test must be there and end alike on both.

python tests/pyodide/run.py [tests/core] [pytest options]     (after `npm ci` in web/; nothing is fetched)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import Requirement

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PYODIDE = ROOT / "web" / "node_modules" / "pyodide"
WHEELS = ROOT / "build" / "wheels"
# What the tests need inside Pyodide beside numpy; their own requirements follow by themselves.
TOOLS = ("pytest", "hypothesis", "pyyaml")
OPTIONS = ["-p", "outcomes", "-p", "no:cacheprovider", "--tb=short", "--maxfail=20"]
SHOWN = 20
COVERED = 88  # percent; the rest, of hosts' own parts, is run by the tests beside tests/core


def main() -> int:
    """Run both at once; the exit code is 0 if all passed on both and neither left a test out."""
    asked = (
        sys.argv[1:] if any(not option.startswith("-") for option in sys.argv[1:]) else ["tests/core", *sys.argv[1:]]
    )
    with tempfile.TemporaryDirectory() as folder:
        here, there = Path(folder, "cpython.json"), Path(folder, "pyodide.json")
        native = _native([*OPTIONS, *asked], here)
        failed = _inside([*OPTIONS, *asked], there, Path(folder, "site"))
        output, _ = native.communicate()
        if native.returncode:
            print(output)
        short = _covered() if "--cov-report=" in native.args else 0
        return _compare(_read(here), _read(there)) or failed or native.returncode or short


def _covered() -> int:
    """Prints how much of the core the tests of both sides run, without its commands; 0 if that is enough."""
    command = [sys.executable, "-m", "coverage", "report", "--omit=*/cli/*", "--format=total"]
    total = int(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)
    print(f"tests/core runs {total} % of the core's lines, commands aside (at least {COVERED})")
    return int(total < COVERED)


def _native(options: list[str], outcomes: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"RUVLLM_OUTCOMES": str(outcomes), "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-m", "pytest", *options]
    if "tests/core" in options:
        command += ["--cov=core/ruvllm", "--cov-report="]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _inside(options: list[str], outcomes: Path, site: Path) -> int:
    """pytest's exit code in Pyodide; its output goes straight through."""
    for name in sorted(_closure(TOOLS)):
        _copy(name, site)
    job = {
        "pyodide": str(PYODIDE),
        "wheels": [str(wheel) for wheel in sorted(WHEELS.glob("numpy-*.whl"))],
        "site": str(site),
        "repo": str(ROOT),
        "outcomes": str(outcomes),
        "options": options,
    }
    return subprocess.run(["node", str(HERE / "run.mjs")], input=json.dumps(job), text=True, check=False).returncode


def _closure(names: tuple[str, ...]) -> set[str]:
    """Distributions and what they require where there is neither Windows nor an old Python."""
    found: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            needs = [Requirement(line) for line in distribution(name).requires or ()]
            queue += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def _copy(name: str, site: Path) -> None:
    """The Python files of a distribution of this environment; what is compiled for this machine stays behind."""
    for file in distribution(name).files or ():
        path = PurePosixPath(file)
        if ".." in path.parts or "__pycache__" in path.parts or path.suffix == ".so":
            continue
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(Path(str(file.locate())).read_bytes())


def _read(outcomes: Path) -> dict[str, Any]:
    nothing: dict[str, Any] = {"tests": {}}
    return json.loads(outcomes.read_text("utf-8")) if outcomes.exists() else nothing


def _compare(here: dict[str, Any], there: dict[str, Any]) -> int:
    """Say both counts, and name what differs."""
    for host, told in (("CPython", here), ("Pyodide under Node", there)):
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(Counter(told["tests"].values()).items()))
        versions = f"Python {told.get('python', '?')}, numpy {told.get('numpy', '?')}, {told.get('platform', '?')}"
        print(f"{host} ({versions}): {len(told['tests'])} tests, {counts or 'none'}")
    every = sorted(here["tests"] | there["tests"])
    ends = [(name, here["tests"].get(name, "absent"), there["tests"].get(name, "absent")) for name in every]
    differing = [f"  {name}: {one} in CPython, {other} in Pyodide" for name, one, other in ends if one != other]
    print("\n".join(differing[:SHOWN]) or "every test ended alike on both")
    return int(bool(differing) or not every)


if __name__ == "__main__":
    sys.exit(main())
