"""A download that stops half way goes on where it stopped, in the same visit and in the next one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from time import sleep
from typing import Any, BinaryIO

import hosting
import pytest
from hosting import Site, hosted
from models import beside, tiny_model
from playwright.sync_api import BrowserContext, Page

WEIGHTS = "model.onnx_data"
LOAD = """async (base) => {
  const { LocalModel } = await import(`${base}ruvllm.js`);
  const steps = [];
  try {
    const model = await LocalModel.load(`${base}models/tiny/`, { onProgress: (step) => steps.push(step) });
    const { text } = await model.chat([{ role: "user", content: "Hello" }], { maxTokens: 4, temperature: 0 });
    model.close();
    return { text, info: model.info, steps };
  } catch (error) {
    return { error: error.toJSON(), steps };
  }
}"""


@dataclass
class Line:
    """What becomes of the weights on their way.

    Attributes:
        cuts: after how many bytes each of the next answers stops; what follows is refused while `shut`.
        asked: the Range of each request, "" for none.
    """

    cuts: list[int] = field(default_factory=list)
    shut: bool = False
    asked: list[str] = field(default_factory=list)
    bytes: int = 0


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    """A line that can be cut."""
    line = Line()
    send_head, copyfile = hosting.Recorder.send_head, hosting.Recorder.copyfile

    def head(self: hosting.Recorder) -> BytesIO | BinaryIO | None:
        if self.path.endswith(WEIGHTS):
            line.asked.append(self.headers.get("Range", ""))
            if line.shut and not line.cuts:
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
                return None
        return send_head(self)

    def copy(self: hosting.Recorder, source: BytesIO, outputfile: BinaryIO) -> None:
        if not self.path.endswith(WEIGHTS):
            return copyfile(self, source, outputfile)
        data = source.read(line.cuts[0]) if line.cuts else source.read()
        line.bytes += len(data)
        outputfile.write(data)
        if line.cuts:
            line.cuts.pop(0)
            outputfile.flush()
            sleep(2)  # a browser drops what its page has not read when the line breaks
            self.close_connection = True
        return None

    monkeypatch.setattr(hosting.Recorder, "send_head", head)
    monkeypatch.setattr(hosting.Recorder, "copyfile", copy)
    return line


@pytest.fixture
def site(dist: Path, line: Line, tmp_path: Path) -> Iterator[Site]:
    """The built folder with a model beside it."""
    folder = beside(dist, tiny_model(tmp_path / "tiny"), tmp_path / "site")
    with hosted(folder) as site:
        yield site


def load(page: Page, site: Site) -> dict[str, Any]:
    """What the library says of the model, and of a short answer."""
    page.goto(f"{site.url}blank.html")
    told: dict[str, Any] = page.evaluate(LOAD, site.url)
    return told


def weights(site: Site) -> int:
    """Their bytes."""
    return (site.folder / "models" / "tiny" / WEIGHTS).stat().st_size


def test_a_line_that_breaks_twice(site: Site, line: Line, page: Page) -> None:
    line.cuts = [300_000, 200_000]
    told = load(page, site)
    assert "error" not in told, told
    assert line.asked[0] == ""
    assert all(asked.startswith("bytes=") for asked in line.asked[1:])
    assert line.bytes == weights(site)
    counts = [step["loaded"] for step in told["steps"]]
    assert counts == sorted(counts)
    assert told["steps"][-1] == {"stage": "ready", "loaded": counts[-1], "total": counts[-1], "file": ""}


def test_the_next_visit_goes_on(site: Site, line: Line, context: BrowserContext) -> None:
    line.cuts, line.shut = [300_000], True
    told = load(context.new_page(), site)
    assert told["error"]["name"] == "FetchError"
    assert "goes on where it stopped" in told["error"]["fix"]
    names = context.pages[0].evaluate(NAMES)
    assert any(name.endswith(".part") for name in names)
    context.pages[0].close()
    line.shut, line.asked = False, []
    told = load(context.new_page(), site)
    assert "error" not in told, told
    assert told["info"]["kept"]
    assert [asked.startswith("bytes=") for asked in line.asked] == [True]
    assert line.bytes == weights(site)
    assert not any(name.endswith(".part") for name in context.pages[0].evaluate(NAMES))


def test_a_part_of_another_version_is_fetched_anew(site: Site, line: Line, context: BrowserContext) -> None:
    line.cuts, line.shut = [300_000], True
    load(context.new_page(), site)
    context.pages[0].evaluate(SPOIL)
    line.shut = False
    told = load(context.new_page(), site)
    assert "error" not in told, told
    assert line.bytes == 2 * weights(site)


# Every kept file's name; and the first byte of what is half way changed.
NAMES = """async () => {
  const names = [];
  const walk = async (folder) => {
    for await (const [name, handle] of folder.entries()) handle.kind === "file" ? names.push(name) : await walk(handle);
  };
  await walk(await (await navigator.storage.getDirectory()).getDirectoryHandle("ruvllm-models"));
  return names;
}"""
SPOIL = """async () => {
  const walk = async (folder) => {
    for await (const [name, handle] of folder.entries()) {
      if (handle.kind === "directory") await walk(handle);
      else if (name.endsWith(".part")) {
        const stream = await handle.createWritable({ keepExistingData: true });
        await stream.write(new Uint8Array([255]));
        await stream.close();
      }
    }
  };
  await walk(await (await navigator.storage.getDirectory()).getDirectoryHandle("ruvllm-models"));
}"""
