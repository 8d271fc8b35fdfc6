"""Queues as operators write them: `NAME` or `NAME,WEIGHT`, and tables of weights."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiojobs_rt.core.message import check_queue_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WEIGHTED = re.compile(r"([^,]*),([0-9]{1,6})")


def read_queues(items: Iterable[object]) -> list[str] | dict[str, int]:
    """Items `NAME` or `NAME,WEIGHT`: names in strict order, or names with weights once one has a weight (the others: 1).

    Raises:
        ValueError: one of them is neither, or is there twice.
    """
    found: dict[str, int] = {}
    weighted = False
    for item in items:
        if not isinstance(item, str):
            raise ValueError(f"{item!r}: write NAME or NAME,WEIGHT as text")  # noqa: TRY004 - pydantic reports a ValueError
        name, weight = item, 1
        if "," in item:
            match = _WEIGHTED.fullmatch(item)
            if match is None or int(match[2]) < 1:
                raise ValueError(f"{item!r}: write NAME or NAME,WEIGHT with a weight from 1, such as critical,5")
            name, weight, weighted = match[1], int(match[2]), True
        if check_queue_name(name) in found:
            raise ValueError(f"queue {name!r} is given twice")
        found[name] = weight
    return found if weighted else list(found)


def check_weights(table: Mapping[str, object]) -> dict[str, int]:
    """A table of names and weights, when it is one.

    Raises:
        ValueError: a name or a weight is none.
    """
    found: dict[str, int] = {}
    for name, weight in table.items():
        if type(weight) is not int or weight < 1:
            raise ValueError(f"queue {name!r}: a weight is a whole number from 1, got {weight!r}")
        found[check_queue_name(name)] = weight
    return found
