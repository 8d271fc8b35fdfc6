"""Mapped classes as references: the primary key travels, the row is selected anew.

register_models(Base, session_factory)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import inspect, select, tuple_
from sqlalchemy.exc import DataError, DBAPIError

from aiojobs_rt.core.references import Reference, register
from aiojobs_rt.errors import ConfigurationError, InvalidArguments
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import DeclarativeBase, InstanceState, Mapper

DATA = "22"
"""What the SQLSTATE of an error about a value begins with."""


def register_models(
    base: type[DeclarativeBase],
    session_factory: Callable[[], AsyncSession],
    *,
    name: Callable[[type[Any]], str] = lambda model: model.__name__,
) -> None:
    """Let records of all mapped classes of `base` be arguments of jobs: see `register_reference`.

    Called after the models are defined, and before the jobs that take them. A record travels by its primary key, of several columns too.
    It arrives detached, as a session of its own loads it: what is lazy has to be loaded by the model's own eager options, or by
    `session.merge`. All records of one class that a job takes come by one SELECT.

    Args:
        base: the declarative base.
        session_factory: an `async_sessionmaker`, in the process that performs.
        name: a class to its name on the wire; default: the class's name.

    Raises:
        ConfigurationError: two classes have one name, or a primary key is of no type that can be text.
    """
    for mapper in base.registry.mappers:
        model = _Model(mapper, session_factory)
        register(Reference(mapper.class_, name(mapper.class_), _app, model.identify, None, model.locate_many, str))


class _Model:
    """One mapped class."""

    def __init__(self, mapper: Mapper[Any], session_factory: Callable[[], AsyncSession]) -> None:
        self._mapper = mapper
        self._session_factory = session_factory
        try:
            self._types = [TypeAdapter[Any](column.type.python_type) for column in mapper.primary_key]
        except NotImplementedError:
            raise ConfigurationError(
                f"the primary key of {mapper.class_.__name__} has no Python type; register the class by register_reference"
            ) from None

    def identify(self, record: Any) -> str:
        """The primary key as text; several columns with slashes between them."""
        state: InstanceState[Any] = inspect(record)
        values = state.identity or self._mapper.primary_key_from_instance(record)
        if any(value is None for value in values):
            raise InvalidArguments(f"the {type(record).__name__} has no primary key yet: flush its session first")
        texts = [str(kind.dump_python(value, mode="json")) for kind, value in zip(self._types, values, strict=True)]
        return texts[0] if len(texts) == 1 else "/".join(quote(text, safe="") for text in texts)

    async def locate_many(self, ids: list[str]) -> dict[str, Any]:
        """The rows by id; one SELECT, but more when the database refuses an id of which it can have no row."""
        keys = {id_: key for id_ in ids if (key := self._key(id_)) is not None}
        by_key = await self._select(list(dict.fromkeys(keys.values()))) if keys else {}
        return {id_: by_key.get(key) for id_, key in keys.items()}

    async def _select(self, keys: list[tuple[Any, ...]]) -> dict[tuple[Any, ...], Any]:
        columns = self._mapper.primary_key
        among = columns[0].in_([key[0] for key in keys]) if len(columns) == 1 else tuple_(*columns).in_(keys)
        try:
            async with self._session_factory() as session:
                records = (await session.scalars(select(self._mapper.class_).where(among))).unique().all()
                return {tuple(inspect(record).identity): record for record in records}
        except (OverflowError, UnicodeError, DBAPIError) as error:
            if not _refuses_value(error):
                raise
        if len(keys) == 1:
            return {}
        half = len(keys) // 2
        return {**await self._select(keys[:half]), **await self._select(keys[half:])}

    def _key(self, id_: str) -> tuple[Any, ...] | None:
        """The primary key that is written so; None: no row can have it."""
        texts = [id_] if len(self._types) == 1 else [unquote(text) for text in id_.split("/")]
        if len(texts) != len(self._types):
            return None
        try:
            return tuple(kind.validate_strings(text) for kind, text in zip(self._types, texts, strict=True))
        except ValidationError:
            return None


def _refuses_value(error: Exception) -> bool:
    """Whether a value is what is wrong, such as a number that no column of its type can hold: the driver or the server says so."""
    if not isinstance(error, DBAPIError):
        return True
    state = getattr(error.orig, "sqlstate", None)
    refused_by_driver = isinstance(getattr(error.orig, "__cause__", None), (ValueError, OverflowError))
    return refused_by_driver or isinstance(error, DataError) or (isinstance(state, str) and state.startswith(DATA))


def _app() -> str:
    return settings().app
