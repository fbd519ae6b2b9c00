"""The chat tab: a model fetched or picked, told apart from a damaged one, talked to and stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hosting import Site, hosted
from models import beside, tiny_model
from pages import fill_number
from playwright.sync_api import Locator, Page, expect

QUESTION = "add unit tests for the auth module"
WEIGHTS = "model.onnx_data"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the converter wrote."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def site(dist: Path, model: Path, tmp_path: Path) -> Iterator[Site]:
    """The built folder with the model beside it."""
    with hosted(beside(dist, model, tmp_path / "site")) as site:
        yield site


STOP_AT_ONCE = """() => new MutationObserver((_, watch) => {
  const writing = [...document.querySelectorAll(".turn .note")].some((note) => note.textContent === "Writing…");
  if (!writing) return;
  watch.disconnect();
  [...document.querySelectorAll("button")].find((button) => button.textContent === "Stop").click();
}).observe(document.querySelector(".talk"), { subtree: true, childList: true, characterData: true })"""


def open_chat(page: Page, site: Site) -> Locator:
    """The tab, and the line that tells how loading goes."""
    page.goto(f"{site.url}#chat")
    expect(page.get_by_role("heading", name="Who answers")).to_be_visible()
    return page.locator(".chat [role=status]")


def load(page: Page, site: Site) -> Locator:
    """Load the model by its address; returns the line that says so."""
    state = open_chat(page, site)
    page.get_by_role("textbox", name="Address of a converted model").fill(f"{site.url}models/tiny/")
    page.get_by_role("button", name="Load", exact=True).click()
    return state


def ask(page: Page, text: str) -> Locator:
    """Ask; returns the turn."""
    page.get_by_role("textbox", name="Question").fill(text)
    page.get_by_role("button", name="Send").click()
    return page.get_by_role("article", name=text)


def fetched(site: Site) -> list[str]:
    """Which of the model's files the server sent."""
    return [sent.path.rpartition("/")[2] for sent in site.sent if "/models/tiny/" in sent.path]


def test_a_conversation(site: Site, page: Page, problems: list[str], shot: Callable[[Page, str], None]) -> None:
    state = load(page, site)
    expect(state).to_contain_text("tiny: qwen2")
    expect(state).to_contain_text("kept in this browser")
    assert sorted(fetched(site)) == sorted(
        ["ruvllm-model.json", "chat_template.jinja", "model_web.onnx", WEIGHTS, "tokenizer.json"]
    )
    fill_number(page.get_by_role("spinbutton", name="At most tokens"), "24")
    first = ask(page, QUESTION)
    expect(first.locator(".role")).to_contain_text("Routed to tester")
    expect(first.locator(".note")).to_contain_text("tokens/s")
    assert first.locator(".answer").inner_text()
    second = ask(page, "and for the cache?")
    expect(second.locator(".note")).to_contain_text(re.compile(r"tokens/s.*\d+ known from before"))
    assert not problems
    assert not site.violations
    shot(page, "chat")  # for which Firefox's driver adds a style


def test_nobody_answers_whether_it_may_be_kept(site: Site, page: Page) -> None:
    """Firefox asks the person, and waits as long as they do."""
    page.add_init_script("StorageManager.prototype.persist = () => new Promise(() => undefined)")
    expect(load(page, site)).to_contain_text("kept in this browser until it needs the space")
    expect(ask(page, QUESTION).locator(".note")).to_contain_text("tokens/s")


def test_a_closed_model_says_so(site: Site, page: Page) -> None:
    """And weights that are not converted yet, and `new`; all with names that no minifier has changed."""
    page.goto(f"{site.url}blank.html")
    told = page.evaluate(
        """async (base) => {
          const { LocalModel, RuvLLM, RuvllmError } = await import(`${base}ruvllm.js`);
          const ask = [{ role: "user", content: "Hello" }];
          const model = await LocalModel.load(`${base}models/tiny/`, { device: "wasm" });
          const errors = [];
          const tell = (error) => {
            const { name, message, fix } = error;
            errors.push([error instanceof RuvllmError, error.constructor.name, name, message, fix]);
          };
          await model.chat(null).catch(tell);
          const waiting = model.chat(ask, { maxTokens: 400 }).catch(tell);
          model.close();
          await waiting;
          await model.chat(ask, { signal: AbortSignal.abort() }).catch(tell);
          await LocalModel.load("models/x.gguf").catch(tell);
          for (const one of [LocalModel, RuvLLM]) try { new one({}); } catch (error) { tell(error); }
          return errors;
        }""",
        site.url,
    )
    assert [error[:2] for error in told] == [[True, "RuvllmError"]] * 6
    assert [error[2] for error in told] == [
        "InputError",
        "ClosedError",
        "ClosedError",
        "ArtifactError",
        *["InputError"] * 2,
    ]
    assert "x.gguf has to be converted" in told[3][3]
    assert "ruvllm models convert x.gguf" in told[3][4]
    assert [error[4] for error in told[4:]] == ["await LocalModel.load(model)", "await RuvLLM.load({ … })"]


def test_the_next_visit_fetches_no_weights(site: Site, page: Page) -> None:
    expect(load(page, site)).to_contain_text("tiny: qwen2")
    site.sent.clear()
    page.reload()
    expect(load(page, site)).to_contain_text("tiny: qwen2")
    assert {*fetched(site)} <= {"ruvllm-model.json"}


def test_stop(site: Site, page: Page) -> None:
    expect(load(page, site)).to_contain_text("tiny: qwen2")
    page.evaluate(STOP_AT_ONCE)  # so small a model may be through before a click comes from outside
    turn = ask(page, "tell me everything")
    expect(turn.locator(".note")).to_contain_text("stopped")
    after = ask(page, "again")
    expect(after.locator(".answer")).not_to_be_empty()


@pytest.mark.usefixtures("folders")
def test_a_picked_folder(site: Site, page: Page, model: Path, tmp_path: Path) -> None:
    state = open_chat(page, site)
    page.locator("#model-folder").set_input_files(model)
    expect(state).to_contain_text("tiny: qwen2")
    expect(state).to_contain_text("pick it again next time")
    assert fetched(site) == []
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "model.gguf").write_bytes(b"GGUF")
    page.locator("#model-folder").set_input_files(raw)
    expect(state).to_contain_text("ruvllm models convert model.gguf")


def test_a_damaged_file_is_named_and_not_kept(site: Site, page: Page) -> None:
    weights = site.folder / "models" / "tiny" / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    expect(load(page, site)).to_contain_text(f"{WEIGHTS} is not the file that the manifest names")
    weights.write_bytes(whole)
    expect(load(page, site)).to_contain_text("tiny: qwen2")


def test_no_model_there(site: Site, page: Page) -> None:
    (site.folder / "models" / "tiny" / "ruvllm-model.json").unlink()
    expect(load(page, site)).to_contain_text("ruvllm models convert")


def test_without_a_model_memory_answers_and_what_the_site_brings_is_offered(site: Site, page: Page) -> None:
    """As `build/web.py --model FOLDER` names it in the index."""
    index = site.folder / "ruvllm.json"
    told = json.loads(index.read_text("utf-8"))
    told["llm"]["models"] = [{"name": "tiny", "place": "models/tiny/", "bytes": 1_500_000}]
    for old in site.folder.glob("ruvllm.json*"):
        old.unlink()
    index.write_text(json.dumps(told), "utf-8")
    state = open_chat(page, site)
    nothing = ask(page, QUESTION)
    expect(nothing.locator(".role")).to_contain_text("Routed to tester")
    expect(nothing.locator(".note")).to_contain_text("Nothing is remembered yet")
    expect(page.locator(".picker")).to_contain_text("1.5\u202fMB, once; some")
    page.get_by_role("button", name="Load tiny").click()
    expect(state).to_contain_text("tiny: qwen2")
    expect(ask(page, "and for the cache?").locator(".note")).to_contain_text("tokens/s")
