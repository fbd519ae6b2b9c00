"""A dataclass whose methods are made later is like one of the standard library."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle

import pytest

from ruvllm.lazy_dataclass import dataclass


class _Parts:
    name: str
    size: int = 3
    words: list[str] = dataclasses.field(default_factory=list, compare=False)
    place: float = dataclasses.field(default=0.5, repr=False)
    seen: dict[str, int] = dataclasses.field(default_factory=dict, init=False)

    def __post_init__(self):
        self.seen["made"] = 1


def _made(decorate, name, **options):
    space = {key: value for key, value in vars(_Parts).items() if key not in ("__dict__", "__weakref__")}
    return decorate(slots=True, **options)(type(name, (), space | {"__qualname__": name}))


OPTIONS = [{}, {"frozen": True}, {"repr": False}, {"frozen": True, "eq": False}]
PAIRS = [
    (_made(dataclass, f"Part{i}", **o), _made(dataclasses.dataclass, f"Part{i}", **o)) for i, o in enumerate(OPTIONS)
]
Part0, Part1, Part2, Part3 = (ours for ours, _ in PAIRS)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_it_is_made_shown_compared_and_copied_like_one_of_the_library(ours, theirs):
    assert inspect.signature(ours).parameters.keys() == inspect.signature(theirs).parameters.keys()
    a, b = ours("x", words=["y"]), theirs("x", words=["y"])
    assert dataclasses.asdict(a) == dataclasses.asdict(b)
    assert str(ours.__dataclass_params__) == str(theirs.__dataclass_params__)
    assert ours.__match_args__ == theirs.__match_args__
    assert (repr(a) == repr(b)) is ours.__dataclass_params__.repr
    assert dataclasses.replace(a, size=4).size == 4
    for other in (ours("x"), ours("x", 4)):
        assert (a == other) is (b == theirs(other.name, other.size))
    assert a != b
    for twin in (copy.copy(a), copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert dataclasses.asdict(twin) == dataclasses.asdict(a)
    assert a.words is not ours("x").words
    with pytest.raises(TypeError, match="name"):
        ours()


def test_a_frozen_one_refuses_and_hashes():
    one = Part1("x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.size = 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.size
    with pytest.raises(TypeError, match="unhashable"):
        hash(Part0("x"))


@dataclass(frozen=True, slots=True)
class _One:
    name: str


def test_one_of_one_field():
    assert {_One("a"), _One("a"), _One("b")} == {_One("b"), _One("a")}
    assert repr(_One("a")) == "_One(name='a')"
