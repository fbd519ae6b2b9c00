"""What to call, where a name or a way of calling is another system's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Self, TypeVar, cast

from ruvllm.errors import ConfigError, InputError, RuvllmError
from ruvllm.reprs import one_line

P = ParamSpec("P")
T = TypeVar("T")


def snake_case(name: str) -> str:
    """ "hiddenDim" as "hidden_dim"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def nearest(name: object, choices: Iterable[str], otherwise: str = "") -> str:
    """The fix for an unknown name: the one that looks like it, or else what to do otherwise, or all names."""
    from difflib import get_close_matches  # only an error needs it

    names = sorted(choices)
    near = get_close_matches(snake_case(str(name)[:100]), names, 1, 0.7)
    return f"did you mean {near[0]}?" if near else otherwise or f"use {', '.join(names)}"


class Hinting:
    """Its missing attributes say what takes their place.

    Attributes:
        INSTEAD: by names that other systems have, in snake_case.
    """

    INSTEAD: ClassVar[Mapping[str, str]] = {}

    if not TYPE_CHECKING:  # a type checker shall go on to miss them

        def __getattr__(self, name: str) -> Any:
            snake = snake_case(name)
            instead = self.INSTEAD.get(snake) or (snake if snake != name and hasattr(type(self), snake) else None)
            if instead is None:
                return object.__getattribute__(self, name)  # which says what is missing, also inside a property
            raise AttributeError(f"{type(self).__name__} has no {name!r}: use {instead}", name=name, obj=self)


class Options:
    """A dataclass whose unknown options are an error that names the nearest."""

    __slots__ = ()
    __repr__ = one_line
    ERROR = cast(type[RuvllmError], ConfigError)  # not annotated: it is no option

    def __new__(cls, *_: Any, **options: Any) -> Self:
        """Raises ConfigError, or what ERROR says: there is no such option."""
        fields = cast(Any, cls).__dataclass_fields__
        for name in options:
            if name not in fields:
                raise cls.ERROR(f"no option {name!r}", field=name, fix=cls.instead(name))
        return object.__new__(cls)

    @classmethod
    def instead(cls, name: str) -> str:
        """What to use where there is no such option.

        >>> Constraints.instead("temprature")
        'use temperature'
        """
        return nearest(name, cast(Any, cls).__dataclass_fields__)

    def check_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Raises what ERROR says: an option is no number, or out of its range; None is one where it is the default.

        Args:
            ranges: (least, most) by name; a whole least asks for a whole number.

        >>> Constraints(temperature=0.5).check_ranges({"temperature": (0, 2)})
        """
        fields = cast(Any, self).__dataclass_fields__
        for name, (least, most) in ranges.items():
            value, whole = getattr(self, name), isinstance(least, int)
            if value is None and fields[name].default is None:
                continue
            number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not number or not least <= value <= most:
                fix = f"give a {'whole ' * whole}number, {least:g} to {most:g}"
                raise self.ERROR(f"{name} is {value!r}"[:100], field=name, fix=fix)


def deprecated(instead: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Marks a name that still stands: whoever calls it is warned, and its documentation says what to use.

    Args:
        instead: what takes its place.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            import warnings

            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        message = f"{function.__qualname__} is deprecated: use {instead}"
        call.__doc__ = f"Deprecated: use `{instead}`. {function.__doc__ or ''}".strip()
        call.__deprecated__ = message  # type: ignore[attr-defined]  # where type checkers and editors look
        return call

    return decorate


def by_object(
    leading: str = "", spelt: Mapping[str, str] | None = None, *, objects: bool = True, otherwise: str = ""
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Lets a method be called with an object of its arguments too, and with what it belongs to in front.

    `end(7, {"quality": 0.9})` and `end(7, 0.9)` are then `end(quality=0.9, trajectory=7)`. A number in front is
    `leading` where another argument follows that is neither a truth value nor None.

    Args:
        leading: the argument that other systems have in front, a whole number.
        spelt: names that arguments have in objects, in snake_case, beside their own.
        objects: whether a mapping at the end holds arguments; else it is one.
        otherwise: the fix where an object has a key that is nothing like an argument.
    """

    def decorate(method: Callable[P, T]) -> Callable[P, T]:
        code = cast(Any, method).__code__
        names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]

        @wraps(method)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            self, *given = args
            named: dict[str, Any] = dict(kwargs)
            if leading and given and type(given[0]) is int:
                follows = len(given) > 1 and not isinstance(given[1], bool | None)
                if follows or names[0] in named:
                    named[leading] = given.pop(0)
            if objects and given and isinstance(given[-1], Mapping):
                for key, value in cast(Mapping[Any, Any], given.pop()).items():
                    name = snake_case(str(key))
                    name = (spelt or {}).get(name, name)
                    if name not in names:
                        message = f"{method.__name__} has no argument {str(key)[:60]!r}"
                        raise InputError(message, field=str(key)[:60], fix=nearest(name, names, otherwise))
                    named[name] = value
            return cast(Callable[..., T], method)(self, *given, **named)

        return call

    return decorate
