"""Whether what a job class defines as `perform` and `lifespan` can be called as it will be; what to write instead, if not."""

from __future__ import annotations

import inspect
from types import FunctionType


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
    if not inspect.signature(found).parameters:
        return "takes no self: write `async def perform(self, ...)`"
    return None


def wrong_lifespan(owner: type) -> str | None:
    """What is wrong with the lifespan that a class defines itself, as the end of "X.lifespan ..."; None: nothing."""
    found = owner.__dict__.get("lifespan")
    if isinstance(found, FunctionType):
        return "is called without an instance: write @staticmethod above @asynccontextmanager, and no self"
    called = found.__func__ if isinstance(found, staticmethod) else found
    if inspect.isasyncgenfunction(called) or inspect.iscoroutinefunction(called):
        return "must be a context manager: write @asynccontextmanager below @staticmethod"
    return None
