"""Propagation: context variables that travel with a job, from who enqueues it to its run.

1. `propagate` registers a variable; `locale` and `timezone` are registered here. A `Mirror` is where a framework keeps the same.
2. `capture` takes, as a job is enqueued, what is set; it travels as one object in the job's meta.
3. `Restored` sets it in the task that runs the job, before anything of the job, and takes it back after the run.
"""

from __future__ import annotations

from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import orjson

from aiojobs_rt.core.equality import same
from aiojobs_rt.errors import DeserializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

T = TypeVar("T")

locale: ContextVar[str | None] = ContextVar("locale", default=None)
"""The locale of whom the code works for, such as "de-AT"; travels with the jobs that it enqueues."""
timezone: ContextVar[str | None] = ContextVar("timezone", default=None)
"""The time zone of whom the code works for, such as "Europe/Vienna"; travels with the jobs that it enqueues."""

CONTEXT = "context"
"""The field of meta."""


class Mirror(NamedTuple):
    """Where a framework keeps what a variable stands for.

    Attributes:
        read: what is active there, as plain JSON; None: nothing but the framework's default.
        activate: has a value active there for the length of a block.
    """

    read: Callable[[], Any]
    activate: Callable[[Any], AbstractContextManager[Any]]


class _Propagated(NamedTuple):
    name: str
    var: ContextVar[Any]
    default: Any
    dump: Callable[[Any], Any] | None
    load: Callable[[Any], Any] | None
    mirror: Mirror | None = None


_UNSET: Final = object()
_propagated: list[_Propagated] = []


def propagate(
    var: ContextVar[T],
    *,
    name: str | None = None,
    dump: Callable[[T], Any] | None = None,
    load: Callable[[Any], T] | None = None,
) -> None:
    """Have a context variable travel with jobs: what it holds where a job is enqueued, it holds while the job runs.

    Call it where the variable is made, in a module that producers and workers import. It travels when it is set to something other than
    its default. A worker that does not know the name ignores it; what `load` raises is the job's failure, a DeserializationError.

    Args:
        var: holds JSON (str, int, float, bool, None, lists and dicts of these), unless `dump` and `load` are given.
        name: how it is called on its way; default: `var.name`.
        dump: what it holds to JSON; sync.
        load: the JSON to what it holds; sync. Given together with `dump`.

    Raises:
        TypeError: `var` is no ContextVar, or only one of `dump` and `load` is given.
        ValueError: the name is taken by another variable, the variable has another name already, or it is no name.

    Enqueueing raises TypeError when the variable holds what JSON would change, and whatever `dump` raises.
    """
    if not isinstance(var, ContextVar):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        raise TypeError(f"propagate takes a ContextVar, got {var!r}")
    if (dump is None) != (load is None):
        raise TypeError(f"propagate({var.name}): give dump and load, or neither: one undoes what the other does")
    name = var.name if name is None else name
    if not isinstance(name, str) or not 1 <= len(name) <= 200 or not name.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        raise ValueError(f"propagate: name must be 1 to 200 printable characters, got {name!r}")
    new = _Propagated(name, var, Context().run(_default, var), dump, load)
    for index, known in enumerate(_propagated):
        if known.var is var and known.name == name:
            _propagated[index] = new
            return
        if known.var is var:
            raise ValueError(f"propagate: this variable travels already, as {known.name!r}, and not as {name!r} too")
        if known.name == name:
            raise ValueError(f"propagate: {name!r} is another variable's name on the wire; give this one name=...")
    _propagated.append(new)


def reflect(var: ContextVar[Any], mirror: Mirror) -> None:
    """Have a propagated variable that is not set read from a mirror, and what has travelled active there during the run."""
    for index, known in enumerate(_propagated):
        if known.var is var:
            _propagated[index] = known._replace(mirror=mirror)


def capture() -> dict[str, Any]:
    """What travels with a job that is enqueued here and now, by name.

    Raises:
        TypeError: a variable holds what JSON would change.
        Exception: what a `dump` raised.
    """
    found: dict[str, Any] = {}
    for known in _propagated:
        value = known.var.get(known.default)
        if value is not known.default:
            found[known.name] = _dumped(known.name, value, known.dump)
        elif known.mirror is not None and (value := known.mirror.read()) is not None:
            found[known.name] = value
    return found


def for_another_thread() -> Context:
    """A copy of the running context in which variables hold what their mirrors tell: in another thread these may tell nothing."""
    context = copy_context()
    for known in _propagated:
        if known.mirror is not None and known.var.get(known.default) is known.default:
            value = known.mirror.read()
            if value is not None:
                context.run(known.var.set, value)
    return context


class Restored:
    """The context of a job's message, set in the context of the calling task, as far as it can be loaded; `check` says how far."""

    __slots__ = ("_error", "_undo")

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._error: DeserializationError | None = None
        self._undo: list[Callable[[], object]] = []
        for name, var, _, _, load, mirror in _propagated:
            if name not in context:
                continue
            value = context[name]
            if isinstance(value, (dict, list)):  # what becomes of it must not go into the message
                value = orjson.loads(orjson.dumps(value))
            try:
                if load is not None:
                    value = load(value)
                if mirror is not None:
                    block = mirror.activate(value)
                    block.__enter__()
                    self._undo.append(partial(block.__exit__, None, None, None))
            except DeserializationError as error:
                self._error = error
                continue
            except BaseException as error:  # noqa: BLE001 - user code: the job's failure (G13)
                self._error = DeserializationError(f"the context variable {name!r} could not be loaded")
                self._error.__cause__ = error
                continue
            self._undo.append(partial(var.reset, var.set(value)))

    def check(self) -> None:
        """Raise when a variable could not be loaded.

        Raises:
            DeserializationError: names the variable.
        """
        if self._error is not None:
            raise self._error

    def undo(self) -> None:
        """Take it back, in the same context: the variables are as they were."""
        for undo in reversed(self._undo):
            undo()


def _default(var: ContextVar[Any]) -> Any:
    """What a variable holds where nobody has set it."""
    try:
        return var.get()
    except LookupError:
        return _UNSET


def _dumped(name: str, value: Any, dump: Callable[[Any], Any] | None) -> Any:
    if dump is not None:
        try:
            value = dump(value)
        except Exception as error:
            error.add_note(f"while the context variable {name!r} was dumped to travel with a job")
            raise
    if type(value) is str and value.isascii():  # needs no look
        return value
    try:
        arrives = orjson.loads(orjson.dumps(value))
    except (TypeError, ValueError):
        arrives = _UNSET
    if not same(value, arrives):
        holds = "holds" if dump is None else "is dumped to"
        raise TypeError(
            f"the context variable {name!r} {holds} a {type(value).__qualname__} that JSON can't hold as it is; "
            "give propagate(...) a dump to JSON and the load that undoes it"
        )
    return arrives


propagate(locale)
propagate(timezone)
