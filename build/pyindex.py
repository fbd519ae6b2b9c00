"""An index of Python packages in the built folder, for pages and notebooks with a Pyodide of their own.

`await micropip.install("ruvllm", index_urls="https://your.site/simple")` takes the core, the models of the static
encoder, PyYAML without its parts in C, and the numpy that the page itself uses.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from importlib.metadata import distribution
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

FOLDER = "simple"
# Of the models, what only a transformer, a conversion or a bench has use for.
_MODELS_DROP = re.compile(r"ruvllm_models/(convert|bench)/|data/(minilm/|space|.*ruvltra)")
_HTML = '<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>\n{links}\n</html>\n'
_WHEEL = "Wheel-Version: 1.0\nGenerator: ruvllm\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_index(out: Path, wheels: Mapping[str, tuple[str, bytes]], files: Mapping[str, str]) -> None:
    """Write the pages that installers read, and wheels beside them.

    Args:
        wheels: package name -> (file name, bytes) of what only this index has.
        files: package name -> a wheel that is in `out` already.
    """
    places: dict[str, Path] = {name: out / file for name, file in files.items()}
    for name, (file, data) in wheels.items():
        places[name] = out / FOLDER / name / file
        places[name].parent.mkdir(parents=True)
        places[name].write_bytes(data)
    for name, file in places.items():
        within = file.relative_to(out).as_posix()
        link = file.name if name in wheels else f"../../{within}"
        folder = out / FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        _page(folder, name, {f"{link}#sha256={sha256(file.read_bytes()).hexdigest()}": file.name})
    _page(out / FOLDER, "ruvllm for Pyodide", {f"{name}/": name for name in sorted(places)})


def _page(folder: Path, title: str, links: Mapping[str, str]) -> None:
    rows = "\n".join(f'<a href="{escape(link)}">{escape(text)}</a><br>' for link, text in links.items())
    (folder / "index.html").write_text(_HTML.format(title=escape(title), links=rows), "utf-8")


def static_models(wheel: tuple[str, bytes]) -> tuple[str, bytes]:
    """The wheel of the models with those of the static encoder alone."""
    with ZipFile(BytesIO(wheel[1])) as archive:
        names = [name for name in archive.namelist() if not _MODELS_DROP.search(name) and not name.endswith("/RECORD")]
        return wheel[0], _wheel({name: archive.read(name) for name in names})


def pure_wheel(name: str) -> tuple[str, bytes]:
    """(file name, bytes) of a wheel of an installed distribution's Python files; what is compiled stays behind."""
    installed = distribution(name)
    files: dict[str, bytes] = {}
    for file in installed.files or ():
        wanted = file.suffix == ".py" or "LICENSE" in file.name or file.name == "METADATA"
        if wanted and ".." not in file.parts:
            files[file.as_posix()] = file.read_binary()
    (metadata,) = (file for file in files if file.endswith("METADATA"))
    stem = metadata.partition(".dist-info/")[0]
    return f"{stem.lower()}-py3-none-any.whl", _wheel(files | {f"{stem}.dist-info/WHEEL": _WHEEL.encode()})


def _wheel(files: Mapping[str, bytes]) -> bytes:
    """The same bytes for the same files, with the record that a wheel has of them."""
    (folder,) = {name.partition("/")[0] for name in files if name.partition("/")[0].endswith(".dist-info")}
    rows = [f"{name},sha256={_record(data)},{len(data)}" for name, data in sorted(files.items())]
    record = {f"{folder}/RECORD": "\n".join([*rows, f"{folder}/RECORD,,\n"]).encode()}
    packed = BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        for name, data in [*sorted(files.items()), *record.items()]:
            archive.writestr(ZipInfo(name), data, ZIP_DEFLATED)
    return packed.getvalue()


def _record(data: bytes) -> str:
    return urlsafe_b64encode(sha256(data).digest()).rstrip(b"=").decode()
