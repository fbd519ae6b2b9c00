"""The manager of models where requests come at the same time."""

import asyncio

import pytest
from waiting import PATIENCE, until_async

from ruvllm.errors import BackendError
from ruvllm.inference.echo import Echo
from ruvllm.inference.local_models import ModelManager


class Loader:
    """Loads echoes, slowly, and knows how many there were at once."""

    def __init__(self):
        self.loads, self.alive, self.most_alive = [], 0, 0
        self.held = set()  # names that never come to be loaded

    async def __call__(self, name):
        self.loads.append(name)
        await asyncio.sleep(0.01)
        if name in self.held:
            await asyncio.Event().wait()
        if name == "bad":
            raise BackendError("no such model", kind="refused")
        self.alive += 1
        self.most_alive = max(self.alive, self.most_alive)
        return Model(name, self)


class Model(Echo):
    def __init__(self, name, loader):
        super().__init__(name)
        self.loader, self.open = loader, True

    async def close(self):
        await asyncio.sleep(0.005)
        self.open = False
        self.loader.alive -= 1


async def use(manager, name, seconds=0.01):
    async with manager.use(name) as model:
        for _ in range(3):
            assert model.open
            await asyncio.sleep(seconds / 3)


def test_two_requests_load_a_model_once():
    async def main():
        await asyncio.gather(*(use(manager, "a") for _ in range(9)))

    loader = Loader()
    manager = ModelManager(loader)
    asyncio.run(main())
    assert loader.loads == ["a"]


def test_many_models_share_little_room_and_none_is_closed_in_use():
    async def main():
        await asyncio.wait_for(asyncio.gather(*(use(manager, "abcde"[i * 7 % 5]) for i in range(40))), PATIENCE)

    loader = Loader()
    manager = ModelManager(loader, most=2)
    asyncio.run(main())
    assert loader.most_alive == 2
    assert len(manager.loaded) == 2


def test_a_loaded_model_does_not_wait_for_another_to_load():
    async def main():
        await use(manager, "a")
        loading = asyncio.create_task(use(manager, "b"))
        await until_async(lambda: loader.loads == ["a", "b"])
        await asyncio.wait_for(use(manager, "a", 0), PATIENCE)
        loading.cancel()

    loader = Loader()
    loader.held.add("b")
    manager = ModelManager(loader)
    asyncio.run(main())


def test_who_stops_waiting_or_fails_leaves_nothing_behind():
    async def main():
        async with manager.use("a"):
            waiting = asyncio.create_task(use(manager, "b"))
            await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        with pytest.raises(BackendError):
            await use(manager, "bad")
        await asyncio.wait_for(use(manager, "b"), PATIENCE)

    loader = Loader()
    manager = ModelManager(loader, most=1)
    asyncio.run(main())
    assert (manager.loaded, loader.loads) == (("b",), ["a", "bad", "b"])
