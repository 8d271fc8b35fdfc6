"""Which adapter carries a job: one that a test put over all others, the class's own, or the default one: Redis at the setting `redis_url`."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING

from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Generator

    from aiojobs_rt.adapters.base import Adapter
    from aiojobs_rt.job import Job
    from aiojobs_rt.settings import Settings

_default_adapters: dict[str, Adapter] = {}
_latest: tuple[Settings, Adapter] | None = None
"""The settings that were asked last, and the adapter that they name."""


class _Overrides:
    """Adapters that stand in for all others.

    Attributes:
        active: how many there are; 0 outside tests, and then nobody looks further.
        everywhere: those for the whole process, the latest last.
        here: the one for the running context, its tasks included.
    """

    def __init__(self) -> None:
        self.active = 0
        self.everywhere: list[Adapter] = []
        self.here: ContextVar[Adapter | None] = ContextVar("aiojobs_rt_adapter", default=None)

    def adapter(self) -> Adapter | None:
        """The one that holds here."""
        return self.here.get() or (self.everywhere[-1] if self.everywhere else None)


_overrides = _Overrides()


class _InProcess:
    """Whether this process has made an in-process adapter; else nobody asks an adapter whether it checks arguments."""

    made = False


in_process = _InProcess()


def default_adapter() -> Adapter:
    """The adapter of job classes that name none: Redis at the setting `redis_url`; one object per URL.

    Raises:
        ConfigurationError: the URL is wrong.
    """
    if _overrides.active and (instead := _overrides.adapter()) is not None:
        return instead
    global _latest  # noqa: PLW0603 - see there
    options = settings()
    if _latest is not None and _latest[0] is options:
        return _latest[1]
    url = options.redis_url.get_secret_value()
    adapter = _default_adapters.get(url)
    if adapter is None:
        from aiojobs_rt.adapters.redis.adapter import RedisAdapter  # noqa: PLC0415 - loaded at first use

        adapter = _default_adapters[url] = RedisAdapter(url)
    _latest = options, adapter
    return adapter


def adapter_of(job_class: type[Job]) -> Adapter:
    """The adapter that carries jobs of this class: its own, else the default one."""
    if _overrides.active and (instead := _overrides.adapter()) is not None:
        return instead
    return job_class.adapter or default_adapter()


def checks_arguments(job_class: type[Job]) -> bool:
    """Whether arguments of this class are to be read back and compared when a job is made."""
    return in_process.made and bool(getattr(adapter_of(job_class), "checks_arguments", False))


def stays_in_process(job_class: type[Job]) -> bool:
    """Whether jobs of this class never leave the process: there is nothing to be encrypted for."""
    return in_process.made and bool(getattr(adapter_of(job_class), "stays_in_process", False))


@contextmanager
def overridden(adapter: Adapter, *, everywhere: bool) -> Generator[None]:
    """Have one adapter carry the jobs of all classes, whatever they name, for the length of a block.

    Args:
        adapter: which.
        everywhere: in the whole process, its threads included; else in this context and the tasks that are made in it.
    """
    _overrides.active += 1
    token = None
    if everywhere:
        _overrides.everywhere.append(adapter)
    else:
        token = _overrides.here.set(adapter)
    try:
        yield
    finally:
        _overrides.active -= 1
        if token is None:
            _overrides.everywhere.remove(adapter)
        else:
            _overrides.here.reset(token)


def fresh_context() -> Context:
    """An empty context for a job, which still finds the adapter that holds here."""
    context = Context()
    if _overrides.active and (instead := _overrides.here.get()) is not None:
        context.run(_overrides.here.set, instead)
    return context
