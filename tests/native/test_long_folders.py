"""Long folders of agents are read and learnt once, then taken from the user's cache, which may be damaged or gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ruvllm import Agent, RuvLLM, read_agents
from ruvllm.agents import readers
from ruvllm.artifacts.host import NativeHost
from ruvllm.disk_cache import DiskCache, user_cache
from ruvllm.routing.scorer import Scorer

COUNT = 220
TASK = "prune the pear tree of lot 7"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Agents enough to be worth a cache; each fifth has an example."""
    root = tmp_path / "agents"
    root.mkdir()
    for i in range(COUNT):
        example = f"\n<example>user: 'prune the pear tree of lot {i}' assistant: 'ok'</example>\n" if i % 5 == 2 else ""
        (root / f"a{i}.md").write_text(f"---\nname: a{i}\ndescription: Keeps lot {i} of the garden.{example}\n---\n")
    return root


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    """An empty one."""
    return DiskCache(tmp_path / "cache")


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been built or read, as it happens."""
    done = list[str]()
    build, parse = Scorer.build, readers.parse_agents

    async def counted(agents: list[Agent], *args: object, **options: object) -> Scorer:
        done.append("scorer")
        return await build(agents, *args, **options)

    def parsed(text: str, file: str, listed: bool = False) -> readers.Found:
        done.append("file")
        return parse(text, file, listed)

    monkeypatch.setattr(Scorer, "build", counted)
    monkeypatch.setattr(readers, "parse_agents", parsed)
    return done


def routed(folder: Path, cache: DiskCache | None) -> dict[str, object]:
    with RuvLLM(folder, encoder="static", host=NativeHost(cache=cache)) as llm:
        decision = llm.route(TASK).to_dict()
    del decision["timings_us"]
    return decision


def test_a_second_process_reads_and_learns_nothing(folder: Path, cache: DiskCache, work: list[str]):
    first = routed(folder, cache)
    assert [work.count("file"), work.count("scorer")] == [COUNT, 1]
    work.clear()
    assert routed(folder, cache) == first
    assert work == []


def test_without_a_cache_nothing_is_kept(folder: Path, cache: DiskCache, work: list[str]):
    routed(folder, None)
    routed(folder, None)
    assert work.count("scorer") == 2
    assert not cache.folder.exists()


def test_what_has_changed_is_learnt_anew(folder: Path, cache: DiskCache, work: list[str]):
    routed(folder, cache)
    (folder / "a7.md").write_text("---\nname: a7\ndescription: Prunes pear trees.\ntier: premium\n---\n")
    work.clear()
    with RuvLLM(folder, encoder="static", host=NativeHost(cache=cache)) as llm:
        assert llm.agent("a7").description == "Prunes pear trees."
        llm.route(TASK)
    assert [work.count("file"), work.count("scorer")] == [COUNT, 1]
    agents, problems = read_agents(folder, cache)
    assert (agents, [str(one) for one in problems]) == (
        (again := read_agents(folder))[0],
        [str(one) for one in again[1]],
    )
    assert [problem.skipped for problem in problems] == [False]


def test_what_was_taught_is_not_in_the_cache(folder: Path, cache: DiskCache):
    first = routed(folder, cache)
    with RuvLLM(folder, encoder="static", host=NativeHost(cache=cache)) as llm:
        llm.feedback(TASK, "a3")
        assert llm.route(TASK).agent == "a3"
    assert routed(folder, cache) == first


def test_a_damaged_entry_is_made_again(folder: Path, cache: DiskCache, work: list[str]):
    first = routed(folder, cache)
    for file in cache.folder.iterdir():
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    work.clear()
    assert routed(folder, cache) == first
    assert [work.count("file"), work.count("scorer")] == [COUNT, 1]
    work.clear()
    for file in cache.folder.iterdir():
        os.truncate(file, 10)
    assert routed(folder, cache) == first
    assert work.count("scorer") == 1
    work.clear()
    assert routed(folder, cache) == first
    assert work == []


def test_where_nothing_can_be_kept_routing_goes_on(folder: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert routed(folder, DiskCache(tmp_path / "file" / "cache"))["agent"] == routed(folder, None)["agent"]


def test_the_least_recently_used_entries_go(tmp_path: Path):
    cache = DiskCache(tmp_path, most=1_000)
    for i, name in enumerate("abc"):
        cache.put(name, bytes(250))
        os.utime(tmp_path / name, ns=(i, i))
    assert cache.get("a") == bytes(250)
    cache.put("d", bytes(300))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "c", "d"]
    cache.put("e", bytes(2_000))
    assert cache.get("e") is None
    assert cache.get("d") == bytes(300)


def test_the_users_cache_can_be_elsewhere_or_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RUVLLM_CACHE", "")
    assert user_cache() is None
    monkeypatch.delenv("RUVLLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert (user_cache() or DiskCache(Path())).folder == tmp_path / "ruvllm" / "agents"


def test_the_command_keeps_what_it_has_learnt(folder: Path, tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "ruvllm.cli",
        "route",
        "--no-state",
        "--encoder",
        "static",
        "--agents",
        str(folder),
    ]
    environment = os.environ | {"RUVLLM_CACHE": str(tmp_path / "own")}
    outputs = [subprocess.run([*command, TASK], env=environment, check=True, capture_output=True).stdout for _ in "ab"]
    assert outputs[0] == outputs[1]
    assert sorted(file.name.partition("-")[0] for file in (tmp_path / "own").iterdir()) == [
        "agents",
        "scorer",
    ]
