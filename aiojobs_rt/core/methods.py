"""Whether what a job class defines as `perform`, `__init__`, `lifespan`, `choose_queue` and `choose_priority` can be called as it will be; what to write instead, if not."""

from __future__ import annotations

import inspect
from abc import ABCMeta
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def wrong_perform(owner: type) -> str | None:
    """What is wrong with a class's perform, as the end of the sentence "X.perform ..."; None: nothing."""
    if isinstance(inspect.getattr_static(owner, "perform"), staticmethod | classmethod):
        return "must be a plain method, `async def perform(self, ...)`: take its decorator away"
    found = getattr(owner, "perform")  # noqa: B009 - mypy knows no perform of a type
    if inspect.isasyncgenfunction(found):
        return "must return, not yield: gather what it makes, and return that"
    if not inspect.iscoroutinefunction(found):
        return (
            "must be `async def perform(self, ...)`: jobs run on the event loop; "
            "for blocking work write `await anyio.to_thread.run_sync(...)` inside it"
        )
    first = next(iter(inspect.signature(found).parameters.values()), None)
    if first is None or (first.name != "self" and first.annotation is not first.empty and first.kind in BY_POSITION):
        return "takes no self: write `async def perform(self, ...)`"
    return None


def undefined(owner: type) -> list[str]:
    """The abstract methods that a class leaves to those that derive from it; without ABC nothing but `perform` is."""
    abstract = {name for base in owner.__mro__ for name, value in vars(base).items() if _is_abstract(value)}
    return sorted(
        name
        for name in abstract
        if (name == "perform" or isinstance(owner, ABCMeta)) and _is_abstract(inspect.getattr_static(owner, name))
    )


def _is_abstract(value: Any) -> bool:
    return bool(getattr(value, "__isabstractmethod__", False))


def wrong_lifespan(owner: type) -> str | None:
    """What is wrong with the lifespan that a class defines itself, as the end of "X.lifespan ..."; None: nothing."""
    found = owner.__dict__.get("lifespan")
    if isinstance(found, FunctionType):
        return "is called without an instance: write @staticmethod above @asynccontextmanager, and no self"
    called = found.__func__ if isinstance(found, staticmethod) else found
    if inspect.isasyncgenfunction(called) or inspect.iscoroutinefunction(called):
        return "must be a context manager: write @asynccontextmanager below @staticmethod"
    return None


def wrong_choice(owner: type, name: str) -> str | None:
    """What is wrong with a class's choose_queue or choose_priority, as the end of "X.choose_queue ..."; None: nothing."""
    found = inspect.getattr_static(owner, name)
    if not isinstance(found, FunctionType):
        return f"must be a plain method, `def {name}(self)`"
    if inspect.iscoroutinefunction(found) or inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found):
        return f"must be a plain method, `def {name}(self)`: it is called as the job is bound, where nothing can be awaited"
    try:
        inspect.signature(found).bind(None)
    except TypeError:
        return "must take self, and nothing else; the job's arguments are in self.arguments"
    return None


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function may be called with so many arguments; True for one that does not tell."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def wrong_init(owner: type) -> str | None:
    """What is wrong with a class's __init__, as the end of "X.__init__ ..."; None: nothing."""
    if takes(getattr(owner, "__init__"), 1):  # noqa: B009 - that of an instance would be unsound to mypy
        return None
    return "must need nothing but self: a worker makes the job, and gives its arguments to perform; what jobs share comes from `lifespan`, as self.state"
