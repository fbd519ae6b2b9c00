"""What runs in the page and is not ours: the Pyodide core, the wheels, onnxruntime-web. And the core's own wheel."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from packaging.requirements import Requirement
from webfiles import CACHE, digest, folder_digest

PYODIDE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
ORT = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
# The build that knows WebGPU; a page fetches it when it runs a language model on one.
WEBGPU = ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
TEMPLATES = ("jinja2", "markupsafe")  # what a language model's chat template is written in
# sqlite3, which the core's state needs, is part of Pyodide 314's own standard library.
# PyYAML comes without its parts in C, the models as files of their own.
ELSEWHERE = ("pyyaml", "ruvllm-models")
WHEELS = {
    "numpy": {"depends": [], "imports": ["numpy"]},
}


# Of the standard library, what has no use in a page: servers and clients of other protocols, debuggers, desktop and
# tty modules, processes, markup, and the codecs of single languages. numpy imports all of the rest.
_STDLIB_DROP = r"""(?x)
    (pydoc_data|xmlrpc|wsgiref|xml|html|multiprocessing|turtledemo|ensurepip|idlelib|tkinter|venv|dbm|curses)/
  | (doctest|pdb|bdb|_pyio|_pydatetime|mailbox|imaplib|smtplib|poplib|ftplib|turtle|webbrowser|antigravity|this
    |pickletools|modulefinder|pyclbr|trace|tabnanny|rlcompleter|pty|tty|netrc|wave|cmd|socketserver|_markupbase
    |zipapp|nturl2path|plistlib|shelve|profile|cProfile|pstats|timeit|sched|optparse|compileall|colorsys)\.py$
  | http/(server|cookiejar|cookies)\.py$ | logging/(config|handlers)\.py$ | json/tool\.py$ | unittest/mock\.py$
  | urllib/robotparser\.py$ | ctypes/(wintypes|_aix|macholib/.*)\.py$ | pyodide/console\.py$
  | _pyrepl/(?!__init__|pager|types).*\.py$
  | concurrent/(futures/(process|interpreter)\.py$|interpreters/)
  | encodings/(?!__init__|aliases|ascii|latin_1|utf_|cp1252|cp437|idna|punycode|raw_unicode|unicode_escape
    |base64_codec|hex_codec|charmap|undefined).*\.py$
  | asyncio/(windows_.*|proactor_events|tools|__main__)\.py$
"""
_CORE_DROP = r"ruvllm/(?:cli|integrations)/"  # a page has no terminal, and none of other frameworks
_NUMPY_DROP = r"numpy/(distutils|_pyinstaller|doc|f2py)/|numpy/conftest\.py$|numpy/.*\.(pyi|h|a|pxd)$"


def source_wheel(package: Path) -> tuple[str, bytes]:
    """(file name, bytes) of a package's wheel, built as anyone builds it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "-w", folder, str(package)], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        return wheel.name, wheel.read_bytes()


def compiled(pyodide: Path, wheels: Path) -> dict[str, bytes]:
    """The standard library and numpy as bytecode, by file name: a page starts 1.7 s sooner than from source."""
    (numpy,) = wheels.glob("numpy-*.whl")
    stdlib = pyodide / "python_stdlib.zip"
    jobs = [(stdlib, _STDLIB_DROP), (numpy, _NUMPY_DROP)]
    return dict(zip((stdlib.name, numpy.name), _bytecode(pyodide, jobs), strict=True))


# What a page does before anything else; modules that this does not import are compiled when they are.
_FIRST = """
import json, sys
from ruvllm import RuvLLM
from ruvllm.routing import stored as keeping
with RuvLLM(encoder="static") as llm:
    llm.route("add tests"), llm.route_complex("write the code, then test it")
    llm.feedback("water the plants", llm.agents[0].name), llm.route("water the plants")
found = [name for name in sys.modules if name.partition(".")[0] == "ruvllm"]
print(json.dumps([sys.modules[name].__file__.rpartition("/ruvllm/")[2] for name in found]))
"""


def core_for_page(pyodide: Path, core: tuple[str, bytes]) -> tuple[str, bytes]:
    """The core's wheel with bytecode for what a page begins with, bare source for the rest, and no commands."""
    command = [sys.executable, "-c", _FIRST]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    first = sorted(f"ruvllm/{file}" for file in json.loads(told))
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder) / core[0]
        wheel.write_bytes(core[1])
        return core[0], _bytecode(pyodide, [(wheel, _CORE_DROP)], first)[0]


def _bytecode(pyodide: Path, jobs: Sequence[tuple[Path, str]], first: Sequence[str] = ()) -> list[bytes]:
    """Archives compiled by Pyodide itself, kept by the hash of all that goes in.

    Args:
        jobs: (archive, a pattern of what to leave out).
        first: where it names any, the only files whose bytecode is wanted; of others the source without docstrings.
    """
    scripts = [Path(__file__).with_name(name) for name in ("pycompile.mjs", "pycompile.py")]
    files = [*scripts, pyodide / "pyodide.asm.wasm", *(file for file, _ in jobs)]
    key = folder_digest(
        {file.name: file.read_bytes() for file in files} | {"": repr(([drop for _, drop in jobs], first)).encode()}
    )
    made = CACHE / f"bytecode-{key[:16]}"
    if not made.exists():
        CACHE.mkdir(exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=CACHE))
        work = [
            {"source": str(file), "target": str(fresh / file.name), "drop": drop, "first": list(first)}
            for file, drop in jobs
        ]
        subprocess.run(["node", str(scripts[0]), str(pyodide)], input=json.dumps(work).encode(), check=True)
        fresh.rename(made)
    return [(made / file.name).read_bytes() for file, _ in jobs]


def copy_folder(out: Path, kind: str, files: Mapping[str, bytes]) -> str:
    """Write files that find each other by name into a folder whose own name is the hash of them all."""
    folder = f"{kind}-{folder_digest(files)[:10]}/"
    (out / folder).mkdir(parents=True)
    for name, data in files.items():
        (out / folder / name).write_bytes(data)
    return folder


def install(out: Path, name: str, data: bytes) -> str:
    """Write a wheel under its own name (installers parse it), in a folder named by its hash."""
    file = out / "packages" / digest(data)[:10] / name
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    return file.relative_to(out).as_posix()


def python_files(names: Sequence[str]) -> bytes:
    """A zip of the Python files of installed distributions with their licences; what is compiled stays behind."""
    packed = BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        for name in names:
            for file in sorted(distribution(name).files or (), key=str):
                if (file.suffix == ".py" or "LICENSE" in file.name) and ".." not in file.parts:
                    archive.writestr(ZipInfo(file.as_posix()), file.read_binary(), ZIP_DEFLATED)
    return packed.getvalue()


def _entry(name: str, file: str, data: bytes, depends: list[str], imports: list[str]) -> dict[str, Any]:
    return {
        "depends": depends,
        "file_name": file,
        "imports": imports,
        "install_dir": "site",
        "name": name,
        "package_type": "package",
        "sha256": digest(data),
        "unvendored_tests": False,
        "version": Path(file).name.split("-")[1],
    }


def packages(
    out: Path, pyodide: Path, wheels: Path, core: tuple[str, bytes], compiled: Mapping[str, bytes]
) -> tuple[str, dict[str, str]]:
    """Install the wheels and write the lock file that names just them.

    Args:
        compiled: what to ship in place of a wheel of that name.

    Returns:
        (lock file, package name -> wheel file), relative to `out`.
    """
    info = json.loads((pyodide / "pyodide-lock.json").read_text("utf-8"))["info"]
    entries: dict[str, dict[str, Any]] = {}
    recorded = _recorded(wheels)
    for name, facts in WHEELS.items():
        (wheel,) = wheels.glob(f"{name}-*-pyemscripten_{info['abi_version']}_wasm32.whl")
        data = wheel.read_bytes()
        if wheel.name in recorded and recorded[wheel.name] != digest(data):
            raise SystemExit(f"{wheel} is not the file that {wheels / 'SHA256SUMS'} names")
        data = compiled.get(wheel.name, data)
        entries[name] = _entry(name, install(out, wheel.name, data), data, facts["depends"], facts["imports"])
    name, data = core
    entries["ruvllm"] = _entry("ruvllm", install(out, name, data), data, _needs(out, name, data), ["ruvllm"])
    lock = json.dumps({"info": info, "packages": entries}, indent=1, sort_keys=True).encode()
    file = f"pyodide-lock-{digest(lock)[:10]}.json"
    (out / file).write_bytes(lock)
    return file, {name: entry["file_name"] for name, entry in entries.items()}


def _recorded(wheels: Path) -> dict[str, str]:
    """File name -> SHA-256 of the wheels that we built; other wheels have none."""
    sums = wheels / "SHA256SUMS"
    lines = sums.read_text("utf-8").splitlines() if sums.exists() else []
    return {name.lstrip("*"): value for value, name in (line.split(maxsplit=1) for line in lines)}


def _needs(out: Path, name: str, data: bytes) -> list[str]:
    """What the core's own metadata requires of wheels, beside what a page has otherwise, or no use for."""
    file = out / "packages" / digest(data)[:10] / name
    with ZipFile(file) as archive:
        (metadata,) = (entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA"))
        lines = archive.read(metadata).decode("utf-8").splitlines()
    required = [Requirement(line.partition(":")[2]) for line in lines if line.startswith("Requires-Dist:")]
    here = {"sys_platform": "emscripten", "extra": ""}
    names = sorted(one.name.lower() for one in required if one.marker is None or one.marker.evaluate(here))
    missing = [one for one in names if one not in WHEELS and one not in ELSEWHERE]
    if missing:
        raise SystemExit(f"the core needs {', '.join(missing)}, which build/wheels does not hold")
    return [one for one in names if one in WHEELS]
