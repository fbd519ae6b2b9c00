"""Models on this machine as backends: shared, in turns, within memory, and never in the event loop's way."""

import asyncio
import threading
from contextlib import aclosing

import decoders
import pytest
from decoders import random_decoder, write_folder
from waiting import PATIENCE

from ruvllm import Config, RuvLLM
from ruvllm.errors import BackendError, ConfigError
from ruvllm.inference import local_models
from ruvllm.inference.backend import Message, Params
from ruvllm.inference.local_models import LocalModels, ModelManager, ModelState
from ruvllm_models.convert import convert

ASKED = [Message("user", "When does the ferry leave?")]
LONG = Params(max_tokens=60, seed=1)
SHORT = Params(max_tokens=5, seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A converted model that reads 2,048 tokens and seldom ends by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoders, "CONTEXT", 2048)
        root = tmp_path_factory.mktemp("models")
        write_folder(random_decoder("qwen2"), root / "hf")
    convert(root / "hf", root / "tiny")
    return root / "tiny"


@pytest.fixture
def loads(monkeypatch):
    """How often a model was loaded."""
    names = []

    def counted(path, **options):
        names.append(path.name)
        return opened(path, **options)

    opened = local_models.open_local
    monkeypatch.setattr(local_models, "open_local", counted)
    return names


def test_nothing_is_loaded_before_the_first_request_and_one_model_serves_all(folder, loads):
    async def main():
        models = LocalModels(threads=1)
        small, large = models.backend("small", folder), models.backend("large", folder)
        assert (small.model, small.context, loads) == ("tiny", 2048, [])
        answers = await asyncio.gather(*(one.generate(ASKED, SHORT) for one in (small, large, small)))
        assert len({answer.text for answer in answers}) == 1  # the same seed
        await large.close()
        assert models.manager.loaded == ()
        await small.generate(ASKED, SHORT)

    asyncio.run(main())
    assert loads == ["tiny", "tiny"]  # once, and again after it was let go


def test_the_loop_goes_on_while_a_model_writes(folder):
    async def main():
        backend = LocalModels(threads=1).backend("small", folder)
        await backend.generate(ASKED, SHORT)
        writing = asyncio.create_task(backend.generate(ASKED, LONG))
        turns = 0
        while not writing.done():
            await asyncio.sleep(0)
            turns += 1
        return turns, await writing

    turns, answer = asyncio.run(main())
    assert turns > answer.usage.completion_tokens > 5


def test_who_comes_too_late_is_turned_away_and_the_others_are_served_in_order(folder):
    async def main():
        backend, ended = LocalModels(threads=1, queue=2).backend("small", folder), []

        async def ask(number):
            await backend.generate(ASKED, SHORT)
            ended.append(number)

        tasks = [asyncio.create_task(ask(number)) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BackendError, match="2 requests wait") as caught:
            await backend.generate(ASKED, SHORT)
        assert (caught.value.kind, caught.value.retry_after) == ("rate_limited", 5)
        await asyncio.gather(*tasks)
        return ended

    assert asyncio.run(main()) == [0, 1, 2]


def test_who_leaves_gives_the_turn_on(folder):
    async def main():
        backend = LocalModels(threads=1).backend("small", folder)
        async with aclosing(backend.stream(ASKED, LONG)) as chunks:
            await anext(chunks)
            waiting = [asyncio.create_task(backend.generate(ASKED, SHORT)) for _ in range(2)]
            await asyncio.sleep(0)
            waiting[0].cancel()
        return (await asyncio.wait_for(waiting[1], PATIENCE)).usage.completion_tokens

    assert asyncio.run(main()) > 0


def test_waiting_counts_as_time(folder):
    async def main():
        backend = LocalModels(threads=1).backend("small", folder)
        async with aclosing(backend.stream(ASKED, LONG)) as chunks:
            await anext(chunks)
            with pytest.raises(BackendError, match=r"busy for 0\.05") as caught:
                await backend.generate(ASKED, Params(timeout=0.05))
        return caught.value.kind

    assert asyncio.run(main()) == "timeout"


def test_several_threads_share_a_model(folder, loads):
    backend = LocalModels(threads=1).backend("small", folder)
    texts = []

    def ask():
        texts.append(asyncio.run(backend.generate(ASKED, SHORT)).text)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(texts) == 4
    assert len(set(texts)) == 1
    assert loads == ["tiny"]


def test_memory_is_what_decides_who_goes():
    sizes = {"a": 60, "b": 30, "c": 40, "huge": 101}

    async def load(name):
        return _Quiet()

    async def main():
        manager = ModelManager(load, most=9, memory=100, size=sizes.__getitem__)
        for name in "abc":
            await manager.get_or_load(name)
        assert manager.loaded == ("b", "c")
        async with manager.use("b"):
            assert manager.state("b") == ModelState.BUSY
            await manager.get_or_load("a")
            assert manager.loaded == ("b", "a")
        with pytest.raises(BackendError, match="huge takes"):
            await manager.get_or_load("huge")
        assert await manager.unload("a")
        assert (manager.state("a"), manager.state("b")) == (ModelState.ABSENT, ModelState.READY)

    asyncio.run(main())
    with pytest.raises(ConfigError, match="memory"):
        ModelManager(load, memory=100)


def test_a_model_that_cannot_be_loaded_is_called_failed():
    async def load(name):
        raise BackendError("no", kind="refused")

    async def main():
        manager = ModelManager(load)
        with pytest.raises(BackendError):
            await manager.get_or_load("a")
        return dict(manager.states)

    assert asyncio.run(main()) == {"a": ModelState.FAILED}


class _Quiet:
    async def close(self):
        pass


def config(folder, **inference):
    return Config.from_dict({"inference": {"tiers": {"small": {"kind": "local", "model": str(folder)}}, **inference}})


def test_a_runtime_answers_with_it(folder):
    with RuvLLM(encoder="static", config=config(folder, max_tokens=12)) as llm:
        answer = llm.query("write unit tests for the parser")
        assert (answer.routing.model, answer.routing.backend) == ("tiny", "small")
        assert 0 < answer.usage.completion_tokens <= 12
        assert not answer.usage.estimated


def test_a_conversation_that_is_too_long_is_refused_with_the_numbers(folder):
    with (
        RuvLLM(encoder="static", config=config(folder)) as llm,
        pytest.raises(BackendError, match=r"the prompt has about \d+ tokens, tiny reads \d+"),
    ):
        llm.query("ферма 東京 " * 150)


@pytest.mark.parametrize(("model", "command"), [("nobody/nothing", "download nobody/nothing"), (".", r"convert \.")])
def test_a_model_that_is_not_ready_names_the_command(model, command):
    with RuvLLM(encoder="static", config=config(model)) as llm, pytest.raises(ConfigError, match=command):
        llm.backends  # noqa: B018
