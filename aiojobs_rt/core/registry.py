"""The registry: job names to job classes.

A name from the wire is looked up here and nowhere else; nothing is ever imported by it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from aiojobs_rt.errors import DuplicateJob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiojobs_rt.job import Job

_classes: dict[str, type[Job]] = {}


def register(name: str, job_class: type[Job]) -> None:
    """Make a job class known by its name.

    A second class of the same name is refused, unless it is the same one again: reloaded, or imported as `__main__` and as a module. A
    class local to a function, as tests define them, makes way for any other of its name, but takes no other's.

    Raises:
        DuplicateJob: another class has this name.
    """
    known = _classes.get(name)
    if known is not None and not _same(known, job_class):
        raise DuplicateJob(
            f"the job name {name!r} is taken by {known.__module__}.{known.__qualname__}; "
            f'give {job_class.__module__}.{job_class.__qualname__} a name of its own: name = "..."'
        )
    _classes[name] = job_class


def resolve(name: str) -> type[Job] | None:
    """The job class of this name, or None."""
    return _classes.get(name)


def job_classes() -> Iterator[tuple[str, type[Job]]]:
    """All names and their classes, sorted by name."""
    yield from sorted(_classes.items())


def _same(known: type, new: type) -> bool:
    if "<locals>" in known.__qualname__:
        return True
    if known.__qualname__ != new.__qualname__:
        return False
    if known.__module__ == new.__module__:
        return True
    return "__main__" in (known.__module__, new.__module__) and _file(known) == _file(new) is not None


def _file(job_class: type) -> str | None:
    return getattr(sys.modules.get(job_class.__module__), "__file__", None)
