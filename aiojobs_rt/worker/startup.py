"""Before a worker works: which Redis and which queues, and whether Redis will do; the lifespans of the job classes."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis import exceptions

from aiojobs_rt import encryption
from aiojobs_rt.adapters.default import adapter_of
from aiojobs_rt.adapters.redis.adapter import RedisAdapter
from aiojobs_rt.adapters.redis.connection import Away, Wire
from aiojobs_rt.adapters.redis.keys import queues_key
from aiojobs_rt.adapters.redis.shards import registered_parts
from aiojobs_rt.core.message import check_queue_name
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.job import Job
from aiojobs_rt.worker.served import Served

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence
    from contextlib import AsyncExitStack

    from aiojobs_rt.adapters.redis.routing import Wires
    from aiojobs_rt.worker.state import WorkerState

logger = logging.getLogger("aiojobs_rt.worker")

OLDEST_REDIS = (6, 2)


def find_adapter(classes: Sequence[type[Job]]) -> RedisAdapter:
    """The one adapter of these job classes; without any, the default one.

    Raises:
        ConfigurationError: they use several, or one that needs no worker.
    """
    adapters = {id(adapter): adapter for adapter in (adapter_of(job_class) for job_class in classes or [Job])}
    if len(adapters) > 1:
        named = ", ".join(sorted(repr(adapter) for adapter in adapters.values()))
        raise ConfigurationError(
            f"the job classes use several adapters ({named}): give the worker the one it is to serve"
        )
    (adapter,) = adapters.values()
    if not isinstance(adapter, RedisAdapter):
        raise ConfigurationError(f"a worker needs a RedisAdapter, the job classes use {adapter!r}")
    return adapter


def choose_queues(
    queues: Sequence[str] | Mapping[str, int] | None, classes: Sequence[type[Job]]
) -> tuple[list[str], dict[str, int]]:
    """The names of the queues to serve, in order, and their weights, if they have any.

    Raises:
        ConfigurationError: there is none, or a name or a weight is wrong.
    """
    if isinstance(queues, str):
        raise ConfigurationError(f"queues is a list of names, or names with weights, not one name: [{queues!r}]")
    names = list(dict.fromkeys(sorted({job.options().queue for job in classes}) if queues is None else queues))
    if not names:
        why = "queues is empty" if queues is not None else "no job class is defined in the modules that were imported"
        raise ConfigurationError(f"no queue to serve: {why}; name queues (-q), or modules that define job classes")
    weights = dict(queues) if isinstance(queues, dict) else {}
    for name in names:
        try:
            check_queue_name(name)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        if weights.get(name, 1) < 1:
            raise ConfigurationError(f"queue {name}: the weight must be at least 1, got {weights[name]}")
    return names, weights


def check_keys(classes: Sequence[type[Job]]) -> None:
    """See that the keys are keys; say which classes can't run here because there are none: their jobs wait for a worker that has some.

    Raises:
        ConfigurationError: the setting encryption_keys holds no keys, or `cryptography` is missing.
    """
    if encryption.current() is None and (wanting := [job.name for job in classes if encryption.is_wanted(job)]):
        logger.warning(
            "%s: encrypted jobs can't run here, as this worker has no key, and wait for another one: %s",
            ", ".join(sorted(wanting)),
            encryption.NO_KEYS,
        )


async def await_redis(state: WorkerState, wire: Wire, stopping: asyncio.Event) -> None:
    """Wait for Redis, however long it is away, unless the worker is stopped meanwhile; see that it is new enough.

    Raises:
        ConfigurationError: it is too old, or refuses.
    """
    display = state.adapter.endpoint.display
    while not stopping.is_set():
        try:
            reply: list[Any] = await wire.call("HELLO")
        except Away as error:
            await state.redis.failed(error)
            continue
        except exceptions.ResponseError as error:
            raise ConfigurationError(f"{display}: {error}; Redis 6.2 or newer is needed") from None
        state.redis.succeeded()
        version = dict(zip(reply[::2], reply[1::2], strict=False)).get(b"version", b"0").decode()
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
            raise ConfigurationError(f"{display} is Redis {version}; 6.2 or newer is needed")
        return


async def add_registered_shards(state: WorkerState, wires: Wires, names: Sequence[str]) -> dict[str, Served]:
    """The queues to serve, and with each the shards that it once had and that may still hold jobs."""
    registry = queues_key(state.adapter.prefix)
    registered: list[bytes] = []
    with suppress(Away, exceptions.ResponseError):  # then those that are configured
        registered = await wires.of(registry).call("SMEMBERS", registry)
    found: dict[str, Served] = {}
    for name in names:
        parts = dict.fromkeys([*state.adapter.shards.parts(name), *registered_parts(name, registered)])
        for part in parts:
            found[part] = state.queues.get(part) or Served(
                part, worker=state.name, prefix=state.adapter.prefix, lease=state.lease
            )
    return found


async def enter_lifespans(classes: Sequence[type[Job]], stack: AsyncExitStack) -> dict[type[Job], Any]:
    """Enter each lifespan once; for each class that has one, what its own yielded."""
    entered: dict[Any, Any] = {}
    states: dict[type[Job], Any] = {}
    for job_class in classes:
        lifespan = job_class.lifespan
        if lifespan is Job.lifespan:
            continue
        if lifespan not in entered:
            entered[lifespan] = await stack.enter_async_context(lifespan())
        states[job_class] = entered[lifespan]
    return states
