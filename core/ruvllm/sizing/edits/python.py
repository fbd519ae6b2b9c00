"""Edits of Python by the places of its syntax tree, so that layout and comments stay.

Each gives (code, what was changed), or None where it is not certain: the code does not parse, a name means two
things, or a string may mean one. The tree of the result has to be what the tree of the code says it must be.
"""

from __future__ import annotations

import ast
import builtins
import io
import keyword
import re
import symtable
import tokenize
from collections.abc import Callable, Iterator
from functools import wraps
from itertools import groupby

Done = tuple[str, str] | None
Function = ast.FunctionDef | ast.AsyncFunctionDef
_DYNAMIC = frozenset({"eval", "exec", "locals", "globals", "vars", "getattr", "setattr", "hasattr", "delattr"})
_PURE = frozenset({"len", "str", "repr", "type", "round", "abs", "int", "float", "id"})  # others may use up an iterator
_CONSUMING = ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr | ast.Starred | ast.comprehension
_LITERALS = {bool: "bool", int: "int", float: "float", str: "str", bytes: "bytes"}
_SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class _Unsure(Exception):  # noqa: N818 - no error: a model shall do it
    pass


class _Code:
    """A text, its tree, and where a place of the tree is in the text."""

    def __init__(self, text: str) -> None:
        self.text, self.tree = text, ast.parse(text)
        self.lines = text.split("\n")
        owners = (one for one in ast.walk(self.tree) if isinstance(one, ast.Module | _SCOPES) and one.body)
        firsts = (one.body[0] for one in owners)
        self.docstrings = {id(one.value) for one in firsts if isinstance(one, ast.Expr)}
        self._starts = [0]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line) + 1)

    def at(self, line: int, column: int) -> int:
        """The index of a place, whose column counts UTF-8 bytes."""
        return self._starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def start(self, node: ast.stmt | ast.expr | ast.arg) -> int:
        return self.at(node.lineno, node.col_offset)

    def end(self, node: ast.stmt | ast.expr | ast.arg) -> int:
        return self.at(node.end_lineno or node.lineno, node.end_col_offset or 0)

    def line_start(self, line: int) -> int:
        return min(self._starts[line - 1], len(self.text))

    def edited(self, changes: list[tuple[int, int, str]]) -> str:
        """The text with (start, end, replacement) instead."""
        out, since = "", 0
        for start, end, new in sorted(changes):
            if start < since:
                raise _Unsure
            out, since = out + self.text[since:start] + new, end
        return out + self.text[since:]

    def header(self, node: Function | ast.ClassDef) -> tuple[int, int, int]:
        """Of its colon: (index, end of the token before it, line)."""
        before, depth, begin = 0, 0, self.line_start(node.lineno)
        for token in tokenize.generate_tokens(io.StringIO(self.text[begin:]).readline):
            depth += (token.string in "([{") - (token.string in ")]}") if token.type == tokenize.OP else 0
            line, column = token.start
            index = self._starts[node.lineno - 1 + line - 1] + column
            if token.type == tokenize.OP and token.string == ":" and not depth:
                return index, before, node.lineno + line - 1
            before = index + len(token.string)
        raise _Unsure


def _certain(edit: Callable[..., Done]) -> Callable[..., Done]:
    """None in the place of whatever goes wrong with code that somebody wrote."""

    @wraps(edit)
    def tried(text: str, *more: object) -> Done:
        try:
            return edit(text, *more)
        except (_Unsure, SyntaxError, ValueError, RecursionError, MemoryError, IndexError):
            return None

    return tried


def _dumped(tree: ast.AST) -> str:
    return ast.dump(tree, annotate_fields=False)


def _parsed(text: str) -> str:
    return _dumped(ast.parse(text))


@_certain
def rename(text: str, old: str, new: str) -> Done:
    """A name that is bound in one scope, and the new one nowhere: then every use of it is of that."""
    code = _Code(text)
    for name in (old, new):
        if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name) or name.startswith("__"):
            return None
    if hasattr(builtins, old) or hasattr(builtins, new) or keyword.issoftkeyword(new) or old == new:
        return None
    method = _check_scopes(symtable.symtable(text, "code", "exec"), old)
    places = [place for node in ast.walk(code.tree) for place in _places(code, node, old, new, method)]
    if method:
        _check_method(code.tree, old)
    changes = [(place, place + len(old), new) for place in places]
    if not changes or any(text[start:end] != old for start, end, _ in changes):
        return None
    made = code.edited(changes)
    tree = ast.parse(text)
    for node in ast.walk(tree):
        for field in ("id", "arg", "name", "attr"):
            if getattr(node, field, None) == old and not isinstance(node, ast.alias):
                setattr(node, field, new)
    return (made, f"{old} renamed to {new}, {len(places)} places") if _dumped(tree) == _parsed(made) else None


def _check_scopes(top: symtable.SymbolTable, old: str) -> bool:
    """Whether a class binds it. Raises _Unsure: not exactly one scope does, or something else is meant elsewhere."""
    tables, binders = [(top, ())], list[tuple[symtable.SymbolTable, tuple[int, ...]]]()
    users = list[tuple[symtable.Symbol, tuple[int, ...]]]()
    for table, above in tables:
        here = (*above, table.get_id())
        tables += [(child, here) for child in table.get_children()]  # type: ignore[misc]
        if old in table.get_identifiers():
            symbol = table.lookup(old)
            bound = symbol.is_assigned() or symbol.is_parameter() or symbol.is_namespace()
            if symbol.is_imported() or symbol.is_declared_global() or symbol.is_nonlocal():
                raise _Unsure
            if bound:
                binders.append((table, here))
            else:
                users.append((symbol, here))
    if len(binders) != 1:
        raise _Unsure
    table, path = binders[0]
    if any(here[: len(path)] != path for _, here in users):
        raise _Unsure
    if table.get_type() == "class" and users:
        raise _Unsure
    return str(table.get_type()) in ("class", "SymbolTableType.CLASS")


def _check_method(tree: ast.Module, old: str) -> None:
    """Raises _Unsure: it is not a method of a class without bases, called through `self` within that class alone."""
    methods = [(node, one) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for one in node.body]
    found = next((node for node, one in methods if isinstance(one, Function) and one.name == old), None)
    if found is None or found.bases or found.keywords:
        raise _Unsure
    inside, firsts = list(ast.walk(found)), [one.args.args[:1] for one in found.body if isinstance(one, Function)]
    bound = sum(isinstance(one, ast.arg) and one.arg == "self" for one in inside)
    bound += sum(isinstance(one, ast.Name) and one.id == "self" and not isinstance(one.ctx, ast.Load) for one in inside)
    owned = {id(one.value) for one in inside if isinstance(one, ast.Attribute)}
    uses = [one.value for one in ast.walk(tree) if isinstance(one, ast.Attribute) and one.attr == old]
    if bound != sum(one[0].arg == "self" for one in firsts if one):
        raise _Unsure  # there is another `self`
    if any(id(use) not in owned or not isinstance(use, ast.Name) or use.id != "self" for use in uses):
        raise _Unsure


def _places(code: _Code, node: ast.AST, old: str, new: str, method: bool) -> Iterator[int]:
    """Indexes of the name in a node. Raises _Unsure: the name is there in another way."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        value = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
        if re.search(rf"\b{old}\b", value) and id(node) not in code.docstrings:
            raise _Unsure
    elif isinstance(node, ast.comprehension):
        if any(isinstance(one, ast.Name) and one.id == old for one in ast.walk(node.target)):
            raise _Unsure
    elif isinstance(node, ast.Name):
        if node.id == new or node.id in _DYNAMIC:
            raise _Unsure
        if node.id == old:
            yield code.start(node)
    elif isinstance(node, ast.arg) and node.arg in (old, new):
        if node.arg == new:
            raise _Unsure
        yield code.start(node)
    elif isinstance(node, _SCOPES) and node.name in (old, new):
        if node.name == new:
            raise _Unsure
        found = re.compile(r"(?:async\s+)?(?:def|class)\s+").match(code.text, code.start(node))
        if found is None:
            raise _Unsure
        yield found.end()
    elif isinstance(node, ast.Attribute) and node.attr in (old, new):
        if not method or node.attr == new:
            raise _Unsure
        yield code.end(node) - len(old)
    elif not isinstance(node, ast.Name | ast.arg | ast.Attribute | _SCOPES):
        names = [getattr(node, field, None) for field in ("arg", "name", "asname", "rest")]
        names += [*getattr(node, "names", []), *getattr(node, "kwd_attrs", [])]
        if any(name in (old, new) for name in names if isinstance(name, str)):
            raise _Unsure


@_certain
def sort_imports(text: str) -> Done:
    """Each block of imports, one a line, by what it is of; blocks and what stands between them stay."""
    code = _Code(text)
    body, changes, moved = code.tree.body, list[tuple[int, int, str]](), 0
    runs = [
        list(run) for imports, run in groupby(body, lambda one: isinstance(one, ast.Import | ast.ImportFrom)) if imports
    ]
    for block in (one for run in runs for one in _blocks(code, run)):
        rows = []
        for node in block:
            last = node.end_lineno or node.lineno
            rest = code.lines[last - 1].encode()[node.end_col_offset :].decode()
            if node.col_offset or not re.fullmatch(r"\s*(?:#.*)?", rest):
                return None
            rows.append((_order(node), "\n".join(code.lines[node.lineno - 1 : last])))
        ranked = sorted(rows, key=lambda row: row[0])
        if ranked != rows:
            moved += sum(a != b for a, b in zip(rows, ranked, strict=True))
            last = block[-1].end_lineno or block[-1].lineno
            end = code.line_start(last) + len(code.lines[last - 1])
            changes.append((code.start(block[0]), end, "\n".join(row for _, row in ranked)))
    whole, single = set[str](), list[str]()  # names of packages; of all else
    for node in (one for run in runs for one in run):
        for alias in node.names:  # type: ignore[attr-defined]
            if isinstance(node, ast.Import) and alias.asname is None:
                whole.add(alias.name.partition(".")[0])
            else:
                single.append(alias.asname or alias.name)
    if not runs or "*" in single or len(single) != len(set(single)) or whole & set(single):
        return None  # the last one of a name is what it means
    made = code.edited(changes)
    before, after = (sorted(map(_dumped, run)) for run in (body, ast.parse(made).body))
    what = f"imports sorted, {moved} moved" if moved else "imports are in order already"
    return (made, what) if before == after else None


def _blocks(code: _Code, run: list[ast.stmt]) -> Iterator[list[ast.stmt]]:
    """Imports on lines that follow each other. Raises _Unsure: a comment stands between two of them."""
    block = run[:1]
    for node in run[1:]:
        between = code.lines[block[-1].end_lineno or 0 : node.lineno - 1]
        if any(line.strip() for line in between):
            raise _Unsure
        if between:
            yield block
            block = []
        block.append(node)
    yield block


def _order(node: ast.stmt) -> tuple[object, ...]:
    """As isort has it: __future__, then `import`, then `from`, relative ones last; names in any case alike."""
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        return (node.level > 0, module != "__future__", 1, -node.level, module.lower(), module)
    name = node.names[0].name  # type: ignore[attr-defined]
    return (False, True, 0, 0, name.lower(), name)


@_certain
def remove_prints(text: str) -> Done:
    """Statements that do nothing but print what takes no deed to compute."""
    code, changes = _Code(text), list[tuple[int, int, str]]()
    gone = set[int]()
    for node in ast.walk(code.tree):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if not isinstance(block, list):
                continue
            printing = [one for one in block if _prints(one)]
            gone |= {id(one.value.func) for one in printing}
            for one in printing:
                alone = len(printing) == len(block) and one is block[0] and not isinstance(node, ast.Module)
                changes.append(_removal(code, one, alone))
    names = [one for one in ast.walk(code.tree) if isinstance(one, ast.Name) and one.id == "print"]
    here = "print" in symtable.symtable(text, "code", "exec").get_identifiers() and _bound(code.tree)
    if not changes or here or any(id(one) not in gone for one in names):
        return None
    made = code.edited(changes)
    tree = _Without().visit(ast.parse(text))
    return (made, f"{len(changes)} prints removed") if _dumped(tree) == _parsed(made) else None


def _bound(tree: ast.Module) -> bool:
    """Whether the code makes a `print` of its own."""
    named = (getattr(node, field, None) for node in ast.walk(tree) for field in ("name", "asname", "arg"))
    return "print" in named


class _Without(ast.NodeTransformer):
    """The tree with prints taken out of every block, and `pass` where nothing is left."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and any(map(_prints, block)):
                rest = [one for one in block if not _prints(one)]
                setattr(node, field, rest or ([] if isinstance(node, ast.Module) else [ast.Pass()]))
        return super().generic_visit(node)


def _prints(node: ast.AST) -> bool:
    """Whether it is such a statement. Raises _Unsure: it is one whose arguments may do something."""
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != "print":
        return False
    for one in ast.walk(call):
        inner = isinstance(one, ast.Call) and one is not call
        pure = inner and isinstance(one.func, ast.Name) and one.func.id in _PURE  # type: ignore[attr-defined]
        if (inner and not pure) or isinstance(one, _CONSUMING):
            raise _Unsure
        if isinstance(one, ast.keyword) and one.arg not in ("end", "sep", "flush"):
            raise _Unsure
    return True


def _removal(code: _Code, node: ast.stmt, alone: bool) -> tuple[int, int, str]:
    """A statement's lines, or `pass` in its place. Raises _Unsure: it is not alone on its lines."""
    last = node.end_lineno or node.lineno
    start, end = code.line_start(node.lineno), code.line_start(last) + len(code.lines[last - 1])
    before, after = code.text[start : code.start(node)], code.text[code.end(node) : end]
    if ";" in before or not re.fullmatch(r"\s*;?\s*(?:#.*)?", after) or (before.strip() and not alone):
        raise _Unsure
    if alone:
        return code.start(node), code.end(node), "pass"
    return start, min(end + 1, len(code.text)), ""


@_certain
def add_types(text: str, returns: bool = False) -> Done:
    """Of parameters, by their defaults; of returns, where all are literals of a type or there are none.

    Args:
        returns: only what functions return is asked for.
    """
    code, changes = _Code(text), list[tuple[int, int, str]]()
    if set(_LITERALS.values()) & {getattr(one, field, "") for one in ast.walk(code.tree) for field in ("name", "arg")}:
        return None  # such a name may mean another thing here
    for node in ast.walk(code.tree):
        if not isinstance(node, Function):
            continue
        if not returns:
            changes += _of_parameters(code, node)
        if node.returns is None and (said := _returned(node)) is not None:
            changes.append((code.header(node)[1],) * 2 + (f" -> {said}",))
        elif node.returns is None and returns:
            return None
    if not changes:
        return None
    made = code.edited(changes)
    tree = ast.parse(made)
    old = {(one.lineno, one.name): one for one in ast.walk(ast.parse(text)) if isinstance(one, Function)}
    for node in ast.walk(tree):
        if isinstance(node, Function):
            before = old[node.lineno, node.name]
            node.returns = before.returns
            for was, now in zip(_parameters(before), _parameters(node), strict=True):
                now.annotation = was.annotation
    same = _dumped(tree) == _parsed(text)
    return (made, f"{len(changes)} type hints added, as defaults and returns have them") if same else None


def _parameters(node: Function) -> list[ast.arg]:
    a = node.args
    return [*a.posonlyargs, *a.args, *([a.vararg] if a.vararg else []), *a.kwonlyargs, *([a.kwarg] if a.kwarg else [])]


def _of_parameters(code: _Code, node: Function) -> Iterator[tuple[int, int, str]]:
    """Raises _Unsure: there is one whose default tells no type."""
    a = node.args
    positional = [*a.posonlyargs, *a.args]
    pairs: list[tuple[ast.arg, ast.expr | None]] = list(
        zip(positional[len(positional) - len(a.defaults) :], a.defaults, strict=True)
    )
    pairs += zip(a.kwonlyargs, a.kw_defaults, strict=True)
    given = {id(one): default for one, default in pairs}
    for place, one in enumerate(_parameters(node)):
        if one.annotation is not None or (place == 0 and one.arg in ("self", "cls")):
            continue
        default = given.get(id(one))
        kind = None if default is None else _literal(default)
        if default is None or kind is None:
            raise _Unsure
        gap = code.text[code.end(one) : code.start(default)]
        if not re.fullmatch(r"[ \t]*=[ \t]*", gap):
            raise _Unsure
        yield code.end(one), code.start(default), f": {kind} = "


def _literal(node: ast.expr) -> str | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        node = node.operand
    if isinstance(node, ast.JoinedStr):
        return "str"
    return _LITERALS.get(type(node.value)) if isinstance(node, ast.Constant) else None


def _returned(node: Function) -> str | None:
    """What it returns; None where that does not follow from what is written."""
    found, waiting = list[ast.Return](), list[ast.AST](node.body)
    while waiting:
        one = waiting.pop()
        if isinstance(one, ast.Yield | ast.YieldFrom):
            return None
        if isinstance(one, ast.Return):
            found.append(one)
        if not isinstance(one, _SCOPES | ast.Lambda):
            waiting += ast.iter_child_nodes(one)
    values = [one.value for one in found]
    stub = all(isinstance(one, ast.Pass | ast.Raise) or _is_text(one) for one in node.body)
    if node.decorator_list or stub:
        return None
    if all(value is None for value in values):
        return "None"
    kinds = {None if value is None else _literal(value) for value in values}
    return kinds.pop() if len(kinds) == 1 and isinstance(node.body[-1], ast.Return) else None


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@_certain
def add_docstrings(text: str) -> Done:
    """A skeleton for every class and function without one that is not within a function."""
    code, changes = _Code(text), list[tuple[int, int, str]]()
    waiting: list[ast.stmt] = list(code.tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ClassDef):
            waiting += node.body
        elif not isinstance(node, Function):
            waiting += [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.stmt)]
            continue
        if ast.get_docstring(node, clean=False) is None:
            _, _, line = code.header(node)
            first = min([node.body[0].lineno, *(one.lineno for one in getattr(node.body[0], "decorator_list", []))])
            if first <= line or re.search(r"\\\s*$", code.lines[line - 1]):
                return None
            place = code.line_start(line + 1)
            changes.append((place, place, _skeleton(node, code.lines[first - 1][: node.body[0].col_offset])))
    if not changes:
        return None
    made = code.edited(changes)
    tree = ast.parse(made)
    for one in ast.walk(tree):
        if isinstance(one, _SCOPES) and (ast.get_docstring(one, clean=False) or "").startswith(_SUMMARY):
            del one.body[0]
    same = _dumped(tree) == _dumped(code.tree)
    return (made, f"{len(changes)} docstring skeletons added") if same else None


_SUMMARY = "_summary_"


def _skeleton(node: Function | ast.ClassDef, indent: str) -> str:
    lines = [_SUMMARY]
    if isinstance(node, Function):
        names = [one.arg for one in _parameters(node)]
        names = names[1:] if names[:1] in (["self"], ["cls"]) else names
        lines += ["", "Args:", *(f"    {name}: _description_" for name in names)] if names else []
        inner = [one for one in ast.walk(node) if not isinstance(one, ast.Lambda)]
        if any(isinstance(one, ast.Yield | ast.YieldFrom) for one in inner):
            lines += ["", "Yields:", "    _description_"]
        elif any(isinstance(one, ast.Return) and one.value is not None for one in inner):
            lines += ["", "Returns:", "    _description_"]
    if len(lines) == 1:
        return f'{indent}"""{_SUMMARY}"""\n'
    return "\n".join(f"{indent}{line}".rstrip() for line in ['"""' + lines[0], *lines[1:], '"""']) + "\n"
