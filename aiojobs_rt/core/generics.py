"""Generic job classes: what their type parameters stand for.

    class Export(Job, Generic[T]):
        async def perform(self, rows: list[T]) -> None: ...

    class ExportUsers(Export[User]): ...

`Export` is abstract, as nobody says what T is; in `ExportUsers` it is User. Both are read from `__orig_bases__`.
"""

from __future__ import annotations

from typing import Any, Generic, get_args, get_origin

from aiojobs_rt.core.annotations import substitute


def open_parameters(cls: type) -> tuple[Any, ...]:
    """The type parameters that a class itself leaves open."""
    return tuple(
        parameter
        for base in cls.__dict__.get("__orig_bases__", ())
        for parameter in getattr(base, "__parameters__", ())
        if not isinstance(base, type)
    )


def type_arguments(cls: type, owner: type) -> dict[Any, Any]:
    """What the type parameters of `owner`, a base of `cls` or `cls` itself, stand for in `cls`; what nobody says is left out."""
    return _arguments(cls, owner, {}) or {}


def _arguments(cls: type, owner: type, known: dict[Any, Any]) -> dict[Any, Any] | None:
    """`type_arguments` where `known` are those of `cls`; None when `owner` is no base of it."""
    if cls is owner:
        return known
    bases = cls.__dict__.get("__orig_bases__", cls.__bases__)
    for base in bases:
        origin: Any = get_origin(base) or base
        if origin is Generic or not isinstance(origin, type):
            continue
        arguments = (substitute(argument, known) for argument in get_args(base))
        found = _arguments(origin, owner, dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=False)))
        if found is not None:
            return found
    return None


def defining_class(cls: type, method: str) -> type:
    """The class in whose body `method` of `cls` stands."""
    return next(owner for owner in cls.__mro__ if method in owner.__dict__)
