"""Runs inside Pyodide, for build/pycompile.mjs: an archive's .py as .pyc of the very interpreter that will load them.

Starting from source costs Pyodide 1.3 s of compiling in every page; from this it costs none.
"""

import base64
import importlib.util
import io
import re
from collections.abc import Container
from hashlib import sha256
from importlib._bootstrap_external import _code_to_hash_pyc
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

_TIME = (2026, 1, 1, 0, 0, 0)  # fixed, so that the same input gives the same archive


def compiled(data: bytes, drop: str) -> tuple[bytes, list[str]]:
    """The archive with bytecode for sources, without docstrings and asserts.

    Args:
        data: a wheel or a zip of modules.
        drop: a regular expression of the paths to leave out.

    Returns:
        (archive, paths that were left out)
    """
    left_out: list[str] = []
    written: dict[str, bytes] = {}
    with ZipFile(io.BytesIO(data)) as source:
        for name in sorted(source.namelist()):
            if name.endswith("/"):
                continue
            if drop and re.match(drop, name):
                left_out.append(name)
                continue
            content = source.read(name)
            if name.endswith(".py"):
                content = _bytecode(content, name, 2)
                name += "c"
            written[name] = content
    record = next((name for name in written if name.endswith(".dist-info/RECORD")), None)
    if record is not None:
        written[record] = _record(written, record)
    out = io.BytesIO()
    with ZipFile(out, "w", ZIP_DEFLATED, compresslevel=9) as target:
        _write(target, written)
    return out.getvalue(), left_out


def caches(data: bytes, files: Container[str]) -> bytes:
    """A zip to unpack beside a wheel that stays as it is: its `__pycache__`, without docstrings and asserts.

    Args:
        files: of the wheel, those that are wanted.
    """
    out = io.BytesIO()
    with ZipFile(io.BytesIO(data)) as source, ZipFile(out, "w", ZIP_DEFLATED, compresslevel=9) as target:
        names = [name for name in sorted(source.namelist()) if name.endswith(".py") and name in files]
        _write(
            target, {importlib.util.cache_from_source(name): _bytecode(source.read(name), name, 2) for name in names}
        )
    return out.getvalue()


def _bytecode(content: bytes, name: str, optimize: int) -> bytes:
    """A .pyc that is believed without a look at its source."""
    code = compile(content, name, "exec", dont_inherit=True, optimize=optimize)
    return bytes(_code_to_hash_pyc(code, importlib.util.source_hash(content), False))


def _write(target: ZipFile, written: dict[str, bytes]) -> None:
    for name, content in written.items():
        info = ZipInfo(name, _TIME)
        info.compress_type = ZIP_DEFLATED
        target.writestr(info, content)


def _record(written: dict[str, bytes], record: str) -> bytes:
    """A wheel's list of its own files."""
    lines = [f"{record},,"]
    for name, content in written.items():
        if name != record:
            digest = base64.urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(content)}")
    return ("\n".join(lines) + "\n").encode()


def run(source: str, target: str, drop: str | list[str]) -> int:
    """Compile a file of this file system into another.

    Args:
        drop: a regular expression of what to leave out; or the files whose caches alone are wanted.

    Returns:
        how many files were left out.
    """
    with open(source, "rb") as file:
        data = file.read()
    archive, left_out = compiled(data, drop) if isinstance(drop, str) else (caches(data, drop), [])
    with open(target, "wb") as file:
        file.write(archive)
    return len(left_out)
