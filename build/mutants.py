"""Mutation tests: small faults are put into the code one at a time; those that no test notices are listed.

python build/mutants.py [--sample N] [--seed N] [AREA…]    the exit code is 1 where more than 15 % of an area survive
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import resource
import sys
from collections.abc import Iterator
from copy import deepcopy
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parents[1]
CORE, TESTS = ROOT / "core" / "ruvllm", ROOT / "tests" / "core"
# Code, and the tests that have to notice.
AREAS = {
    "calibration": (("routing/calibration.py",), ("test_calibration.py",)),
    "search": (("memory/memory.py", "memory/hybrid.py"), ("test_memory.py", "test_words.py")),
    "dialects": (("inference/translate/requests.py", "inference/translate/answers.py"), ("test_translate.py",)),
}
MOST, SECONDS = 0.15, 120  # survivors; processor time after which a mutant runs for ever
OTHER: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
}  # fmt: skip


def places(tree: ast.AST) -> Iterator[ast.AST]:
    """What can be changed: not types, docstrings, nor the words of errors."""
    if isinstance(tree, ast.Raise | ast.Import | ast.ImportFrom) or (
        isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Constant)
    ):
        return
    if isinstance(tree, ast.Compare | ast.BoolOp | ast.BinOp | ast.Return | ast.Constant | ast.UnaryOp):
        yield tree
    for name, value in ast.iter_fields(tree):
        if name not in ("annotation", "returns", "decorator_list", "type_params", "format_spec"):
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, ast.AST):
                    yield from places(one)


def change(node: Any) -> str:
    """Change a node; what was done, "" where nothing can be."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
        node.ops[0] = OTHER[type(node.ops[0])]()
        return "comparison"
    if isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in OTHER:
        node.op = OTHER[type(node.op)]()
        return "operator"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        node.operand = ast.UnaryOp(ast.Not(), node.operand)
        return "not"
    if isinstance(node, ast.Return) and not (node.value is None or ast.unparse(node.value) == "None"):
        node.value = ast.Constant(None)
        return "return"
    if isinstance(node, ast.Constant) and node.value is not None and node.value is not Ellipsis:
        value = node.value
        node.value = not value if isinstance(value, bool) else value + ("x" if isinstance(value, str) else 1)
        return f"constant {value!r}"
    return ""


def mutants(path: Path) -> list[tuple[int, str, ast.Module]]:
    """(line, what was done, the module) of each that there can be."""
    whole, found = ast.parse(path.read_text("utf-8")), []
    for i, _ in enumerate(list(places(whole))):
        tree = deepcopy(whole)
        node: Any = list(places(tree))[i]
        if not isinstance(getattr(node, "value", None), bytes) and (what := change(node)):
            found.append((node.lineno, what, ast.fix_missing_locations(tree)))
    return found


def survives(path: Path, tree: ast.Module, tests: list[str]) -> bool:
    """Whether all tests of a process of its own pass with the module changed."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        read = SourceFileLoader.get_code

        def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
            return compile(tree, str(path), "exec") if self.path == str(path) else read(self, fullname)

        SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]
        import pytest

        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])))
    return os.waitpid(child, 0)[1] == 0


def main() -> None:
    """Try a sample of each area, and list what survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("areas", nargs="*", metavar="AREA", help=", ".join(AREAS))
    parser.add_argument("--sample", type=int, default=30, help="mutants of an area")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.areas) - AREAS.keys():
        parser.error(f"no area {', '.join(sorted(unknown))}: use {', '.join(AREAS)}")
    import numpy  # noqa: F401  # once for all children
    import pytest  # noqa: F401

    bad = False
    for area in options.areas or AREAS:
        files, tests = AREAS[area]
        named = [str(TESTS / test) for test in tests]
        every = [(CORE / file, *one) for file in files for one in mutants(CORE / file)]
        sample = random.Random(options.seed).sample(every, min(options.sample, len(every)))
        left = []
        for path, line, what, tree in sample:
            if survives(path, tree, named):
                left.append(f"  {path.relative_to(ROOT)}:{line} {what}")
                print(left[-1], flush=True)
        share = len(left) / max(len(sample), 1)
        print(f"{area}: {len(left)} of {len(sample)} survive, {share:.0%} ({len(every)} there are)", flush=True)
        bad |= share > MOST
    sys.exit(bad)


if __name__ == "__main__":
    main()
