"""Every page says true things: its links lead somewhere, its commands have these options, its code runs.

All pages are run with RUVLLM_DOCS=1 (`make docs-test`); else README.md alone.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest
from pages import PAGES, ROOT, Shell, blocks, can_run, commands, shown, steps, text_of, without_code

from ruvllm.cli.main import main

ALL = os.environ.get("RUVLLM_DOCS")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"`(ruvllm [^`]+)`")
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
GENERATED = ("docs/reference/", "docs/llms.txt", "docs/llms-full.txt")  # made by `make docs`


def anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", without_code(path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.replace("`", "").lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    dead = []
    for link in LINK.findall(without_code(text_of(page))):
        if re.match(r"https?://", link):
            continue
        place, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / place).resolve() if place else ROOT / page
        if str(target.relative_to(ROOT)).startswith(GENERATED):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def simple(command: str) -> list[list[str]]:
    """The simple commands that a line of shell consists of, without variables set before them."""
    lexer = shlex.shlex(command.replace("$(", ";("), posix=True, punctuation_chars=";&|()")
    lexer.whitespace_split, lexer.commenters = True, "#"
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set(";&|()"):
            found.append([])
        elif found[-1] or not re.match(r"\w+=", word):
            found[-1].append(word)
    return [one for one in found if one]


def missing(line: str) -> str:
    """The command or option of a line that ruvllm has not; "" when it has all."""
    try:
        words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
    except ValueError as error:
        return str(error)
    command: click.Command = main
    context = click.Context(main)
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    known = {"--help", "--version"}
    while True:
        known |= {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        while words and words[0] in ("--state",):
            words = words[2:]
        if not isinstance(command, click.Group) or not words or not re.fullmatch(r"[a-z][\w-]*", words[0]):
            break
        found = command.get_command(context, words[0]) or command.get_command(context, " ".join(words[:2]))
        if found is None:
            return words[0]
        words = words[len((found.name or words[0]).split()) if " " in (found.name or "") else 1 :]
        command = found
    return " ".join(sorted(options - known))


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_sound_and_commands_have_these_options(page: str) -> None:
    lines = INLINE.findall(without_code(text_of(page)))
    for block in blocks(page):
        if block.language in ("console", "sh"):
            for command, _ in commands(block):
                lines += [shlex.join(one) for one in simple(command) if one[0].endswith("ruvllm")]
                made = re.match(r"make ([\w-]+)", command)
                assert made is None or made[1] in TARGETS, f"{block}: {command}"
        elif block.language == "python":
            compile(block.code, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        elif block.language == "toml":
            tomllib.loads(block.code)
        elif block.language == "json":
            json.loads(block.code)
        elif block.language == "html":
            HTMLParser().feed(block.code)
        else:
            assert block.language in ("js", "text", "markdown"), f"{block}: say which language it is"
    assert {line: missing(line) for line in lines if missing(line)} == {}


def test_every_fence_is_a_block_that_is_seen() -> None:
    for page in PAGES:
        assert len(re.findall(r"^```", text_of(page), re.MULTILINE)) == 2 * len(blocks(page)), page


@pytest.mark.parametrize("page", [page for page in PAGES if any(not block.why for block in blocks(page))])
def test_code_of_a_page_runs_in_an_empty_home(page: str, tmp_path: Path) -> None:
    if not ALL and page != "README.md":
        pytest.skip("make docs-test runs every page")
    shell = Shell(tmp_path)
    try:
        for block in blocks(page):
            if can_run(block):
                continue
            for command, expected in steps(block, shell):
                status, printed = shell.run(command)
                assert status == 0, f"{block}: {command}\n{printed[-3000:]}"
                assert shown(expected, printed) == "", f"{block}: {command}\n{printed[-3000:]}"
    finally:
        shell.close()


def test_every_public_name_of_the_core_says_what_it_is() -> None:
    """The guide's Python pages are made of these."""
    silent = []
    for path in (ROOT / "core" / "ruvllm").rglob("*.py"):
        waiting = list(ast.parse(path.read_text("utf-8")).body)
        while waiting:
            node = waiting.pop()
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            marks = [] if isinstance(node, ast.ClassDef) else [ast.unparse(mark) for mark in node.decorator_list]
            if not ast.get_docstring(node) and not any(one.endswith((".setter", "overload")) for one in marks):
                silent.append(f"{path.relative_to(ROOT)}: {node.name}")
            waiting += node.body if isinstance(node, ast.ClassDef) else []
    assert [one for one in silent if "/cli/" not in one] == []


SKIPPED = [(block, can_run(block)) for page in PAGES for block in blocks(page) if can_run(block)]


@pytest.mark.parametrize(("block", "why"), SKIPPED, ids=[str(block) for block, _ in SKIPPED])
def test_code_that_is_not_run(block: object, why: str) -> None:
    """Named one by one, with the reason."""
    pytest.skip(why)
