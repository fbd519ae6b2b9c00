"""`dataclass` whose methods are made when they are first needed: a process that routes once needs few of them.

The one of `dataclasses` compiles six methods a class as its module is imported. With 40 classes that took a third of
the time to import what a route needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses
    from operator import attrgetter

    def dataclass(*, frozen: bool = False, slots: bool = False, eq: bool = True, repr: bool = True):
        """As that of `dataclasses`, whose fields, replace, asdict … take it alike; of no other dataclass."""

        def made(cls: type) -> type:
            cls.__doc__ = cls.__doc__ or cls.__name__  # else `dataclasses` would work its signature out
            there, cls = vars(cls), dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(cls)
            params = cls.__dataclass_params__
            params.init, params.eq, params.repr, params.frozen = True, eq, repr, frozen
            cls.__init__ = _Init(cls, frozen)
            methods = {"__repr__": _repr} if repr else {}
            if eq:
                methods |= {"__eq__": _eq, "__hash__": _hash if frozen else None}
            if frozen:
                methods |= {"__setattr__": _refuse, "__delattr__": _refuse}
                methods |= {"__getstate__": _values, "__setstate__": _restore}
            for name, method in methods.items():
                if name not in there:
                    setattr(cls, name, method)
            cls.__record_values__ = _Values(cls)
            return cls

        return made

    class _Init:
        """`__init__` of a class until it is looked up for the first time."""

        def __init__(self, cls: type, frozen: bool) -> None:
            self._cls, self._frozen = cls, frozen

        def __get__(self, one: Any, owner: type | None = None) -> Any:
            function = _init_of(self._cls, self._frozen)
            self._cls.__init__ = function
            return function if one is None else function.__get__(one, owner)

    class _Values:
        """The getter of a class's fields that are compared, until it is looked up for the first time."""

        def __init__(self, cls: type) -> None:
            self._cls = cls

        def __get__(self, one: Any, owner: type | None = None) -> Any:
            names = [field.name for field in dataclasses.fields(self._cls) if field.compare]
            get = attrgetter(*names) if len(names) > 1 else lambda one: tuple(getattr(one, name) for name in names)
            self._cls.__record_values__ = staticmethod(get)
            return get

    def _init_of(cls: type, frozen: bool) -> Any:
        space: dict[str, Any] = {"_set": object.__setattr__, "_fresh": _FRESH}
        arguments, lines, annotations = list[str](), list[str](), dict[str, Any]()
        for field in dataclasses.fields(cls):
            name, value = field.name, field.name
            if field.default_factory is not dataclasses.MISSING:
                space[f"_of_{name}"], default = field.default_factory, "=_fresh"
                value = f"_of_{name}() if {name} is _fresh else {name}" if field.init else f"_of_{name}()"
            elif field.default is not dataclasses.MISSING:
                space[f"_of_{name}"], default = field.default, f"=_of_{name}"
                value = name if field.init else f"_of_{name}"
            else:
                default = ""
            if field.init:
                arguments.append(f"{name}{default}")
                annotations[name] = field.type
            elif not default:
                continue
            lines.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
        lines += ["self.__post_init__()"] * hasattr(cls, "__post_init__")
        body = "\n    ".join(lines or ["pass"])
        exec(f"def __init__(self, {', '.join(arguments)}):\n    {body}", space)  # names of fields, of our own code
        function = space["__init__"]
        function.__qualname__, function.__annotations__ = f"{cls.__qualname__}.__init__", annotations | {"return": None}
        return function

    _FRESH = type("_Fresh", (), {"__repr__": lambda _: "<factory>"})()

    def _eq(self: Any, other: Any) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return self.__record_values__(self) == self.__record_values__(other)

    def _hash(self: Any) -> int:
        return hash(self.__record_values__(self))

    def _repr(self: Any) -> str:
        parts = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
        return f"{type(self).__qualname__}({', '.join(parts)})"

    def _refuse(self: Any, name: str, *_: Any) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _values(self: Any) -> list[Any]:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    def _restore(self: Any, state: list[Any]) -> None:
        for field, value in zip(dataclasses.fields(self), state, strict=True):
            object.__setattr__(self, field.name, value)
