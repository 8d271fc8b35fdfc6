"""`worker`: import the job classes and run a Worker until a signal ends it.

1. `--redis-url` becomes the default adapter's URL, before any module is imported; an explicit adapter on a job class wins.
   What no flag says the settings say: the environment, else a file.
2. With `--reload`, or more than one of `--processes`, this process is a parent, and its children run the same command from here on.
3. The modules are imported, and the Worker made from them: what is wrong with either ends here, with exit code 1.
4. It runs. Once it does, a look at the server and the queues warns of what would lose jobs, or leave them lying.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from importlib.metadata import version
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer
from redis.exceptions import RedisError

from aiojobs_rt.adapters.redis.embedded import SCHEME
from aiojobs_rt.admin import Admin, examine_server
from aiojobs_rt.cli import logs, reload
from aiojobs_rt.cli.leaving import TIDYING, free_forked_children, leave_at_once, leave_by
from aiojobs_rt.cli.modules import load_modules
from aiojobs_rt.cli.options import RedisUrl, prefetch_value, use_redis, weighted_queues
from aiojobs_rt.cli.parent import LOADED, WORKING, find_parent
from aiojobs_rt.cli.processes import supervise
from aiojobs_rt.cli.signals import Signals
from aiojobs_rt.core import registry
from aiojobs_rt.errors import AiojobsError, ConfigurationError
from aiojobs_rt.settings import settings
from aiojobs_rt.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aiojobs_rt.cli.parent import Parent

logger = logging.getLogger("aiojobs_rt.cli")

MOST_WARNED = 10
NO_MODULES = "name the modules that define the job classes: as arguments, or as modules in aiojobs_rt.toml"


def worker(
    modules: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODULE]...", help="Modules that define job classes.", show_default=False),
    ] = None,
    *,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            "-q",
            envvar="AIOJOBS_RT_QUEUE",
            metavar="NAME[,WEIGHT]",
            show_default="every queue that the job classes name",
            help="A queue to serve; several in strict order, or by weight.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            "-c",
            min=1,
            max=100_000,
            envvar="AIOJOBS_RT_CONCURRENCY",
            show_default="100",
            help="How many jobs run at once, in each process.",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=500,
            envvar="AIOJOBS_RT_PROCESSES",
            show_default="1",
            help="How many worker processes run, each with jobs of its own; one that dies is replaced.",
        ),
    ] = None,
    prefetch: Annotated[
        str | None,
        typer.Option(
            envvar="AIOJOBS_RT_PREFETCH",
            metavar="N|auto",
            show_default="auto",
            help="How many jobs are read ahead of the free slots; auto: what they finish in about 50 ms.",
        ),
    ] = None,
    redis_url: RedisUrl = None,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="AIOJOBS_RT_CONFIG",
            metavar="FILE",
            show_default="aiojobs_rt.toml, if it is there",
            help="A file of settings; flags and the environment come before it.",
        ),
    ] = None,
    burst: Annotated[
        bool | None, typer.Option("--burst", envvar="AIOJOBS_RT_BURST", help="Stop when the queues are drained.")
    ] = None,
    shutdown_timeout: Annotated[
        float | None,
        typer.Option(
            min=0,
            envvar="AIOJOBS_RT_SHUTDOWN_TIMEOUT",
            metavar="SECONDS",
            show_default="25",
            help="For how long running jobs may finish at TERM.",
        ),
    ] = None,
    lease: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            envvar="AIOJOBS_RT_LEASE",
            metavar="SECONDS",
            show_default="30",
            help="After so long without a sign this worker counts as dead.",
        ),
    ] = None,
    reload_: Annotated[
        bool | None,
        typer.Option(
            "--reload", envvar="AIOJOBS_RT_RELOAD", help="Start anew when a .py file below this directory changes."
        ),
    ] = None,
    log_level: Annotated[
        logs.LogLevel | None,
        typer.Option(
            case_sensitive=False, envvar="AIOJOBS_RT_LOG_LEVEL", show_default="info", help="The least that is logged."
        ),
    ] = None,
    log_format: Annotated[
        logs.LogFormat | None,
        typer.Option(
            case_sensitive=False, envvar="AIOJOBS_RT_LOG_FORMAT", show_default="text", help="Lines, or JSON lines."
        ),
    ] = None,
) -> None:
    """Run jobs. What no flag says stands in the environment, else in the file of settings.

    TERM or INT: finish the running jobs, and leave; a second time: at once. TSTP: take no more jobs. USR2: log all tasks' stacks.
    """
    over = find_parent()
    use_redis(redis_url, config)
    options = settings()
    logs.set_up(log_level or options.log_level, log_format or options.log_format)
    queues, ahead = weighted_queues(queue) or options.queues or None, prefetch_value(prefetch)
    modules = modules or options.modules
    if not modules:
        raise typer.BadParameter(NO_MODULES)
    if over.role is None and (options.reload if reload_ is None else reload_):
        raise typer.Exit(reload.supervise())
    count = options.processes if processes is None else processes
    if over.role != "processes" and count > 1:
        patience = options.shutdown_timeout if shutdown_timeout is None else shutdown_timeout
        raise typer.Exit(supervise(count, shutdown_timeout=patience))
    load_modules(modules)
    made = Worker(
        queues=queues,
        concurrency=concurrency,
        prefetch=ahead,
        lease=lease,
        shutdown_timeout=shutdown_timeout,
        burst=options.burst if burst is None else burst,
        on_deadline=leave_at_once,
    )
    if over.role == "processes" and made.adapter.endpoint.url == SCHEME:
        raise ConfigurationError(
            "embedded:// is a temporary Redis of one process: each would have its own. Name a directory, embedded://DIR, or start one process"
        )
    _announce(made, modules, redis_url)
    free_forked_children()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = 1
        try:
            _run_through(runner.get_loop(), _run(made, over))
            code = 0
        finally:
            leave_by(max(made.ends_by, time.monotonic()) + TIDYING, code)


def _run_through(loop: asyncio.AbstractEventLoop, running: Coroutine[Any, Any, None]) -> None:
    """Run to the end. What stops a loop, raised in a task that a job started, is that job's failure and no more. (G13)"""
    task = loop.create_task(running)
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                raise
            logger.error("a task that a job started raised %s; the worker goes on", type(error).__name__)  # noqa: TRY400 - the job's own error is kept with it
        except RuntimeError:
            if task.done():
                raise
            logger.error("a job has stopped the event loop (loop.stop()); the worker goes on")  # noqa: TRY400 - as above


def _announce(made: Worker, modules: list[str], redis_url: str | None) -> None:
    display = made.adapter.endpoint.display
    count = len(list(registry.job_classes()))
    logger.info(
        "aiojobs_rt %s: %d job class(es) from %s; Redis %s, queues %s, concurrency %d",
        version("aiojobs_rt"),
        count,
        ", ".join(modules),
        display,
        ", ".join(made.queues),
        made.concurrency,
    )
    if not count:
        logger.warning("no job class is defined in %s: every job ends as of an unknown class", ", ".join(modules))
    if redis_url is not None and made.adapter.endpoint.url != redis_url:
        logger.warning("the given Redis URL is not used: the job classes name an adapter of their own, at %s", display)


async def _run(made: Worker, over: Parent) -> None:
    running = _Started(over)
    looking = asyncio.create_task(_look_around(made, running), name="aiojobs_rt look around")
    with Signals(made, running) as signals:
        over.tell(LOADED)
        try:
            await signals.until_done(made.run(task_status=running))
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


async def _look_around(made: Worker, running: _Started) -> None:
    """Warn of what would lose jobs, or leave them lying."""
    await running.wait()
    async with Admin(made.adapter) as admin:
        try:
            for finding in await examine_server(admin):
                if finding.level != "OK":
                    logger.warning("%s %s", finding.text, finding.advice)
            idle = [queue for queue in await admin.queues() if queue.waiting and not queue.workers]
        except (AiojobsError, RedisError) as error:
            logger.info("the server could not be looked at: %s", error)
            return
    for queue in idle[:MOST_WARNED]:
        logger.warning("queue %s: %d job(s) wait, and no worker serves it", queue.name, queue.waiting)
    if len(idle) > MOST_WARNED:
        logger.warning("%d more queues have jobs that no worker serves", len(idle) - MOST_WARNED)


class _Started(asyncio.Event):
    """Set once the worker works: what `Worker.run` calls as its `task_status`."""

    def __init__(self, over: Parent) -> None:
        super().__init__()
        self._over = over

    def started(self, value: object = None) -> None:  # noqa: ARG002 - the interface of anyio's TaskStatus
        """The worker has its leases, and begins to work."""
        _calm_collector()
        self._over.tell(WORKING)
        self.set()


def _calm_collector() -> None:
    """Leave what was loaded so far out of garbage collection, and collect the rest less often.

    A full collection walks over every module there is, 30 ms at a time; measured, it was a fifth of the CPU of a job that does nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """A loop of uvloop's, when it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - an optional dependency
    except ImportError:
        return None
    factory: Any = uvloop.new_event_loop
    return factory  # type: ignore[no-any-return] # typed as its own Loop


__all__ = ["worker"]
