"""One's own agents: dropped as files, told by name and line where they are wrong, then routed among."""

from __future__ import annotations

from pathlib import Path

import pytest
from hosting import Site
from pages import QUICK, agent, ask, load, open_playground, route, view
from playwright.sync_api import Page, expect

GOOD = "---\nname: florist\ndescription: Ties bouquets and wreaths for weddings\n---\nYou tie bouquets.\n"


def folder_of(tmp_path: Path, files: dict[str, str]) -> Path:
    """A folder with these files in it."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return tmp_path


@pytest.mark.usefixtures("folders")
def test_a_folder_is_read_and_what_is_wrong_is_told(page: Page, site: Site, tmp_path: Path) -> None:
    files = {
        "agents/florist.md": GOOD,
        "agents/broken.md": "---\nname: broken\ndescription: Breaks things\ntier: 9\n---\nText\n",
        "agents/empty.md": "",
        "agents/rows.json": '{\n "agents": [\n  {"name": "chimney-sweep", "description": "Sweeps"}\n  oops\n ]\n}',
        "agents/picture.png": "not an agent",
    }
    folder = folder_of(tmp_path / "mine", files)
    open_playground(page, site)
    view(page, "Agents")
    page.get_by_label("Folder of agent files").set_input_files(folder)
    report = page.locator(".report")
    expect(report).to_contain_text("2 new agents from 4 files; 85 to route among.")
    expect(report).to_contain_text("3 problems")
    problems = report.locator(".problems li")
    expect(problems.filter(has_text="broken.md:4")).to_contain_text("tier")
    expect(problems.filter(has_text="rows.json:4")).to_contain_text("not JSON")
    expect(problems.filter(has_text="empty.md:1")).to_contain_text("Begin the file with ---")
    expect(report).not_to_contain_text("/tmp")
    view(page, "Decision")
    route(page, "tie a bouquet for a wedding")
    assert agent(page) == "florist"


def test_a_file_that_is_no_text_is_told(page: Page, site: Site) -> None:
    open_playground(page, site)
    view(page, "Agents")
    noise = {"name": "noise.md", "mimeType": "text/markdown", "buffer": bytes([0xFF, 0xFE, 0xC3, 0x28])}
    page.get_by_label("Agent files", exact=True).set_input_files([noise])
    expect(page.locator(".report")).to_contain_text("noise.md")
    expect(page.locator(".report")).to_contain_text("not readable as UTF-8 text")


def test_files_by_the_library(page: Page, site: Site) -> None:
    files = [
        {"path": "agents/florist.md", "text": GOOD},
        {"path": "agents/x.md", "text": "---\nname: nobody\n"},
    ]
    load(page, site, **QUICK, agents=files)
    told = ask(page, "stats")
    assert told["agents"] == 1
    (problem,) = told["problems"]
    assert problem["field"] == "agents/x.md:1"
    assert problem["fix"] == "close it with a line ---"
    assert ask(page, "route", "a wreath, please")["agent"] == "florist"
