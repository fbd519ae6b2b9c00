"""The house as docs/architecture.md draws it: floors, circles, reach, sizes, words."""

from __future__ import annotations

import ast
import io
import keyword
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType

from ruvllm import RuvLLM

ROOT = Path(__file__).resolve().parents[2]
CORE, EDGE, PAGE = ROOT / "core" / "ruvllm", ROOT / "edge_server" / "ruvllm_edge", ROOT / "web" / "src" / "python"
# From the ground up; a room may import what lies below it, and its neighbours on the same floor without a circle.
FLOORS: tuple[set[str], ...] = (
    {"errors", "types", "reprs", "lazy_dataclass"},
    {"text", "config", "options", "hints", "disk_cache"},
    {"encoders", "index", "agents"},
    {"state", "artifacts"},
    {"memory"},
    {"routing", "sizing", "inference"},
    {"learning"},
    {"query", "rlm"},
    {"runtime", "services", "jobs"},
    {"integrations"},
    {"cli"},
)
# Reached by no host's main path, each with its reason.
EXTRAS: dict[str, str] = {
    f"ruvllm.integrations{name}": "programs import it: other frameworks' names over what hosts reach"
    for name in (
        "",
        ".aqe",
        ".agentdb",
        ".langgraph",
        ".openai_agents",
        ".pydantic_ai",
        ".crewai",
        ".langgraph_store",
        ".llama_index",
        ".semantic_router",
    )
}
FORBIDDEN = [
    "told",
    "taught",
    "known",
    "kept",
    "asked",
    "own",
    "apart",
    "strangers",
    "shelf",
    "share",
    "judge",
    "drawing",
    "dearest",
    "hopeful",
]  # words that stand for nothing in the glossary
WIRE = {"kept", "own_agents", "share_answers"}  # fields of the server's answers and settings
LINES, MODULES, LONGEST = 45_555, 208, 475  # they may only get smaller
FRAMES = 13  # so may this
# Calls of JavaScript that its engine takes part in: they change what it keeps beside Python.
CHANGING = {"add_agents", "record_outcome", "reset_agents", "run_jobs", "save_backends", "undo_feedback"}


@cache
def modules() -> dict[str, Path]:
    """Modules of the core, of the server and of the page's Python by name."""
    found = {}
    for root, package in ((CORE, "ruvllm"), (EDGE, "ruvllm_edge"), (PAGE, "page")):
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


@cache
def imports(name: str) -> frozenset[str]:
    """Modules that a module imports, wherever in it, or names as "module:attribute"."""
    found = set[str]()
    tree = ast.parse(modules()[name].read_text("utf-8"))
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in modules() else node.module for one in whole}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
            found.add(node.value.partition(":")[0])
    return frozenset(found & modules().keys() - {name})


def at_import(name: str) -> set[str]:
    """Modules that are imported with a module, not by a function of it."""
    tree = ast.parse(modules()[name].read_text("utf-8"))
    found = set[str]()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in modules() else node.module for one in whole}
    return found & modules().keys() - {name}


def core() -> list[str]:
    return [name for name in modules() if name.startswith("ruvllm.")]


def floor(name: str) -> int:
    room = name.split(".")[1]
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_a_floor_and_arrows_go_down():
    assert len(FLOORS) <= 11
    up = [(name, one) for name in core() for one in imports(name) if one != "ruvllm" and floor(one) > floor(name)]
    assert [(name, one) for name, one in up if not one.startswith("ruvllm.cli")] == []


def test_there_is_no_circle():
    open_, done = list[str](), set[str]()

    def visit(name: str) -> None:
        assert name not in open_, " -> ".join([*open_[open_.index(name) :], name])
        if name in done:
            return
        open_.append(name)
        for one in sorted(at_import(name) - {"ruvllm"}):
            visit(one)
        done.add(open_.pop())

    for name in core():
        visit(name)


def test_rooms_have_no_circle():
    """Neighbours on one floor may know each other one way only."""
    ways = {(a.split(".")[1], b.split(".")[1]) for a in core() for b in imports(a) if b.startswith("ruvllm.")}
    assert [(a, b) for a, b in ways if a < b and (b, a) in ways] == []


def test_a_host_reaches_every_module():
    waiting = [
        "ruvllm",
        "ruvllm.runtime",
        "ruvllm.cli.main",
        "ruvllm.cli.__main__",
        *(name for name in modules() if not name.startswith("ruvllm.")),
    ]
    reached = set[str]()
    while waiting:
        name = waiting.pop()
        if name in reached or name not in modules():
            continue
        reached.add(name)
        parts = name.split(".")
        waiting += [*imports(name), *(".".join(parts[:end]) for end in range(1, len(parts)))]
    lost = {name for name in core() if name not in reached and not name.endswith("__main__")}
    assert lost == EXTRAS.keys()


_EXAMPLE = re.compile(r"\n *\n *>>> .*?\n *(?=\"{3})", re.DOTALL)  # at the end of a docstring


def test_sizes():
    """In lines, but for the examples of docstrings, which tests/native/test_docstrings.py asks for."""
    sizes = {name: len(_EXAMPLE.sub("", modules()[name].read_text("utf-8")).splitlines()) for name in core()}
    sizes = {name: lines for name, lines in sizes.items() if lines > 2 and not name.startswith("ruvllm.cli")}
    assert {name: lines for name, lines in sizes.items() if lines > LONGEST} == {}
    assert len(sizes) <= MODULES
    assert sum(sizes.values()) <= LINES
    assert 120 <= sorted(sizes.values())[len(sizes) // 2] <= 250


def test_what_only_posix_has_is_asked_for_where_there_is_another_way():
    """Modules that ask first whether this system has it; any other that uses it would fail on Windows."""
    careful = {
        "ruvllm.cli.hook.resident",
        "ruvllm.cli.hook.resident_server",
        "ruvllm.state.repair.rescue",
    }
    careful |= {"ruvllm.artifacts.machine", "ruvllm_edge.keyfile", "ruvllm_edge.serve", "ruvllm_edge.workers"}
    posix = re.compile(
        r"^\s*(?:import|from) (?:fcntl|pwd|grp|resource)\b|\b(?:AF_UNIX|SIGKILL|SIGHUP)\b"
        r"|\bos\.(?:fork|getuid|geteuid|mkfifo|sched_getaffinity)\b",
        re.MULTILINE,
    )
    assert {name for name, path in modules().items() if posix.search(path.read_text("utf-8"))} - careful == set()


def identifiers(path: Path) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            yield token.string


def test_names_are_the_words_of_the_glossary():
    found = set[tuple[str, str]]()
    for path in modules().values():
        for name in identifiers(path):
            words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
            if name not in WIRE and any(word.lower() in FORBIDDEN for word in words):
                found.add((str(path.relative_to(ROOT)), name))
    assert found == set()


def test_the_drawing_names_files_that_there_are():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| [A-Z]\d+(?: [A-Z]\d+)* \|", text, re.MULTILINE)
    assert len(rows) > 50
    named = set(re.findall(r"`((?:core|edge_server|web|models|tests|build)/[^`]+)`", text))
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_a_first_route_waits_for_nothing_that_it_does_not_need():
    """What a process imports until it has routed by the static encoder."""
    code = "import sys, ruvllm; ruvllm.RuvLLM(encoder='static').route('add tests'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    rooms = {name.rpartition(".")[0] or name for name in loaded if name.startswith("ruvllm.")}
    assert rooms.isdisjoint({"ruvllm.memory", "ruvllm.index", "ruvllm.inference", "ruvllm.learning", "ruvllm.rlm"})
    assert {"asyncio", "scipy", "onnxruntime", "yaml", "click", "ssl"}.isdisjoint(loaded)


def test_a_route_is_a_short_way():
    """Frames of ruvllm between the call and the deepest one, of a task with a new word and a misspelt one."""
    llm, deepest = RuvLLM(encoder="static"), list[str]()
    llm.route("reword the tokeniser's xylophne")  # what the first one gets ready counts as the start

    def note(frame: FrameType, event: str, _: object) -> None:
        at: FrameType | None = frame
        chain = list[str]()
        while event == "call" and at is not None:
            name = at.f_code.co_qualname
            # Python 3.12 has no frames of comprehensions any more.
            if at.f_globals.get("__name__", "").startswith("ruvllm") and not name.endswith(">"):
                chain.append(name)
            at = at.f_back
        if len(chain) > len(deepest):
            deepest[:] = chain

    sys.setprofile(note)
    try:
        llm.route("rephrase the zugzwang of our parser")
    finally:
        sys.setprofile(None)
    assert 0 < len(deepest) <= FRAMES, deepest


def test_a_new_endpoint_touches_two_files_by_hand():
    """Where it is answered and, where its errors look otherwise than ruvllm's, the table of these."""
    texts = {path: path.read_text("utf-8") for path in EDGE.rglob("*.py")}
    paths = {found for text in texts.values() for found in re.findall(r'Operation\(\s*"[A-Z]+", "([^"]+)"', text)}
    assert len(paths) > 40
    assert {one for one in paths if sum(f'"{one}"' in text for text in texts.values()) > 2} == set()


def test_a_new_method_of_javascript_touches_two_files_by_hand():
    """`Runtime` and the page's Python; the types between them are made by `make contract`."""
    source = PAGE.parent
    files = [path for path in source.rglob("*") if path.suffix in (".ts", ".py") and path.name != "contract.ts"]
    texts = [path.read_text("utf-8") for path in files]
    calls = re.findall(r'"(\w+_\w+)"', (source / "contract.ts").read_text("utf-8").rpartition("export type Call")[2])
    assert len(calls) > 20
    touched = {one: sum(f'"{one}"' in text or f"def {one}(" in text for text in texts) for one in calls}
    assert {one for one, files in touched.items() if files > 2} <= CHANGING
