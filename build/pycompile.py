"""Runs inside Pyodide, for build/pycompile.mjs: an archive's .py as .pyc of the very interpreter that will load them.

Starting from source costs Pyodide 1.3 s of compiling in every page; from this it costs none.
"""

import ast
import base64
import importlib.util
import io
import re
from collections.abc import Container
from hashlib import sha256
from importlib._bootstrap_external import _code_to_hash_pyc
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

_WITH_DOCSTRINGS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_TIME = (2026, 1, 1, 0, 0, 0)  # fixed, so that the same input gives the same archive


def compiled(data: bytes, drop: str, first: Container[str] = ()) -> tuple[bytes, list[str]]:
    """The archive with bytecode for sources, without docstrings and asserts.

    Args:
        data: a wheel or a zip of modules.
        drop: a regular expression of the paths to leave out.
        first: where it names any, the only sources to compile; others stay sources, without docstrings and comments.

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
                bare = bool(first) and name not in first
                content = _bare(content) if bare else _bytecode(content, name, 2)
                name += "" if bare else "c"
            written[name] = content
    record = next((name for name in written if name.endswith(".dist-info/RECORD")), None)
    if record is not None:
        written[record] = _record(written, record)
    out = io.BytesIO()
    with ZipFile(out, "w", ZIP_DEFLATED, compresslevel=9) as target:
        _write(target, written)
    return out.getvalue(), left_out


def _bare(content: bytes) -> bytes:
    """A source without its docstrings and comments: half of it."""
    tree = ast.parse(content)
    for node in ast.walk(tree):
        if isinstance(node, _WITH_DOCSTRINGS) and ast.get_docstring(node, False) is not None:
            node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
    return ast.unparse(ast.fix_missing_locations(tree)).encode()


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


def run(source: str, target: str, drop: str, first: Container[str] = ()) -> int:
    """Compile a file of this file system into another.

    Args:
        drop, first: as `compiled` takes them.

    Returns:
        how many files were left out.
    """
    with open(source, "rb") as file:
        archive, left_out = compiled(file.read(), drop, first)
    with open(target, "wb") as file:
        file.write(archive)
    return len(left_out)
