"""Locating: the records that the references of a job stand for.

`load` validates the bytes of a job. References that it meets for the first time are located, all of a class together, and it validates
again; so what surrounds a record, and a user's validators, only ever see records.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import ValidationError

from aiojobs_rt.core.references import Reference
from aiojobs_rt.errors import DeserializationError, Directive, RecordNotFound

AT_ONCE = 16
"""How many references of one job are located at the same time by an async `locate`."""


@dataclass(slots=True)
class Located:
    """What is known of the references of one job: the context in which it is validated.

    Attributes:
        records: by reference.
        missing: references that were met and are not among them yet.
    """

    records: dict[str, Any] = field(default_factory=dict[str, Any])
    missing: dict[str, tuple[Reference, int | str]] = field(default_factory=dict[str, tuple[Reference, int | str]])

    async def locate(self) -> None:
        """Locate what is missing, all references of one class together.

        Raises:
            RecordNotFound: a record does not exist.
            DeserializationError: locating failed.
        """
        missing, self.missing = self.missing, {}
        by_reference: dict[Reference, dict[str, int | str]] = {}
        for text, (reference, id_) in missing.items():
            by_reference.setdefault(reference, {})[text] = id_
        for reference, ids in by_reference.items():
            wanted = list(dict.fromkeys(ids.values()))
            found = await _located(reference, wanted)
            gone = [text for text, id_ in ids.items() if found.get(id_) is None]
            if gone:
                more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
                raise RecordNotFound(f"no record for {', '.join(text[:200] for text in gone[:3])}{more}")
            self.records.update((text, found[id_]) for text, id_ in ids.items())


async def load(validate: Callable[..., dict[str, Any]], raw: bytes) -> dict[str, Any]:
    """What `validate` makes of a job's bytes, with the records that they refer to.

    Cancelling it cancels the locating.

    Raises:
        ValidationError: they do not fit.
        RecordNotFound, DeserializationError: see `Located.locate`; a name is not registered, or of another application.
    """
    located = Located()
    while True:
        try:
            values = validate(raw, context=located)
        except ValidationError:
            if not located.missing:
                raise
        else:
            if not located.missing:
                return values
        await located.locate()


async def _located(reference: Reference, ids: list[int | str]) -> dict[int | str, Any]:
    """The records by id; those that do not exist are left out, or None."""
    try:
        if reference.locate_many is not None and (len(ids) > 1 or reference.locate is None):
            found = reference.locate_many(list(ids))
            return _by_id(reference, ids, await found if inspect.isawaitable(found) else found)
        assert reference.locate is not None  # noqa: S101 - one of the two is given
        return await _one_by_one(reference.locate, ids)
    except (DeserializationError, Directive):
        raise
    except LookupError as error:
        raise RecordNotFound(f"a {reference.name} was not found: {type(error).__name__}") from error
    except Exception as error:
        raise DeserializationError(f"locating {reference.name} failed: {type(error).__name__}: {error}") from error


def _by_id(reference: Reference, ids: list[int | str], found: Any) -> dict[int | str, Any]:
    if isinstance(found, Mapping):
        return {id_: found.get(id_) for id_ in ids}
    if not isinstance(found, Sequence) or len(found) != len(ids):
        raise TypeError(
            f"locate_many of {reference.name} must return a mapping by id, or a sequence with a record or None for each id"
        )
    return dict(zip(ids, found, strict=True))


async def _one_by_one(locate: Callable[[Any], Any], ids: list[int | str]) -> dict[int | str, Any]:
    """Locate each; several at a time when `locate` is async. Whatever one raises is raised here, and not through the event loop (G13)."""
    found: dict[int | str, Any] = {}
    failures: list[BaseException] = []
    rest = iter(ids)

    async def some() -> None:
        for id_ in rest:
            try:
                record = locate(id_)
                found[id_] = await record if inspect.isawaitable(record) else record
            except LookupError:
                found[id_] = None
            except BaseException as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    raise
                failures.append(error)
            if failures:
                return

    if len(ids) == 1:
        await some()
    else:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(ids), AT_ONCE)):
                group.create_task(some())
    if failures:
        raise failures[0]
    return found
