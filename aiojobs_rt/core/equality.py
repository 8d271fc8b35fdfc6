"""Equality for the round-trip check: same types all the way down, and nan equals nan."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from typing import Any, cast

from pydantic import BaseModel


def same(one: Any, other: Any) -> bool:
    """Whether two values are of one type and equal, and so is everything they hold; nan equals nan.

    What defines no equality of its own is compared by its attributes.
    """
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping):
        return len(one) == len(other) and all(
            same(*pair) for item in zip(_ordered(one), _ordered(other), strict=True) for pair in zip(*item, strict=True)
        )
    if isinstance(one, AbstractSet):
        ours, theirs = (frozenset(item for item in group if item == item) for group in (one, other))  # noqa: PLR0124 - nan
        return len(one) == len(other) and ours == theirs
    if isinstance(one, BaseModel):
        return same(_state(one), _state(cast("BaseModel", other)))
    if is_dataclass(one) and not isinstance(one, type):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if _compares_by_identity(type(one)) and hasattr(one, "__dict__"):
        return same(vars(one), vars(other))
    return bool(one == other or (one != one and other != other))  # noqa: PLR0124 - only nan differs from itself


def _compares_by_identity(kind: type[Any]) -> bool:
    return all("__eq__" not in vars(base) for base in kind.__mro__[:-1])


def _ordered(mapping: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """Items in an order that does not depend on insertion."""
    return sorted(mapping.items(), key=lambda item: (type(item[0]).__name__, repr(item[0])))


def _state(model: BaseModel) -> tuple[Any, ...]:
    return model.__dict__, model.__pydantic_extra__, model.__pydantic_private__
