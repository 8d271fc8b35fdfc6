"""Options that several commands share, and the reading of their values."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, TypeVar

import anyio
import typer

from aiojobs_rt import settings_file
from aiojobs_rt.adapters.default import default_adapter
from aiojobs_rt.adapters.redis.adapter import RedisAdapter
from aiojobs_rt.admin import Admin
from aiojobs_rt.core.message import check_queue_name, queue_of
from aiojobs_rt.core.queues import read_queues
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from aiojobs_rt.settings import Prefetch

T = TypeVar("T")

RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        envvar="AIOJOBS_RT_REDIS_URL",
        metavar="URL",
        show_default="redis://localhost:6379/0",
        help="Where the jobs are: redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// or embedded://DIR.",
    ),
]
Modules = Annotated[
    list[str] | None,
    typer.Option(
        "--module",
        "-m",
        envvar="AIOJOBS_RT_MODULE",
        metavar="MODULE",
        help="A module that defines job classes. May be given several times.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def use_redis(url: str | None, config: Path | None = None) -> None:
    """Make this the default adapter's URL, and this the file of settings, for this process and those that it starts.

    Raises:
        ConfigurationError: the file, or a setting, is wrong.
    """
    if config is not None:
        os.environ[settings_file.VARIABLE] = str(config.absolute())
    if url is not None:
        os.environ["AIOJOBS_RT_REDIS_URL"] = url
    settings.cache_clear()
    settings()


def with_admin(url: str | None, use: Callable[[Admin], Awaitable[T]], own: RedisAdapter | None = None) -> T:
    """Run `use` with an Admin, in an event loop of its own.

    Args:
        url: the default adapter's; None: as the settings say.
        use: gets the Admin.
        own: an adapter that job classes name; None: the default one.

    Raises:
        ConfigurationError: the URL, or another setting, is wrong.
        RedisUnavailable: Redis is not there.
    """
    use_redis(url)
    adapter = default_adapter() if own is None else own
    if not isinstance(adapter, RedisAdapter):
        raise ConfigurationError(f"this command needs Redis; the default adapter is {adapter!r}")

    async def run() -> T:
        async with adapter, Admin(adapter) as admin:
            return await use(admin)

    return anyio.run(run)


def queue_name(name: str) -> str:
    """A queue's name from the command line.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        return check_queue_name(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def optional_queue(name: str | None) -> str | None:
    """As `queue_name`, where none is needed."""
    return None if name is None else queue_name(name)


def job_id(text: str | None) -> str | None:
    """A job's id from the command line.

    Raises:
        typer.BadParameter: it is none.
    """
    if text is not None:
        try:
            queue_of(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return text


def weighted_queues(given: list[str] | None) -> list[str] | dict[str, int] | None:
    """`NAME` or `NAME,WEIGHT`, several times: names in strict order, or names with weights once one has a weight.

    Raises:
        typer.BadParameter: one of them is neither.
    """
    try:
        return read_queues(given or ()) or None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def prefetch_value(given: str | None) -> Prefetch | None:
    """`auto`, or a number of jobs.

    Raises:
        typer.BadParameter: it is neither.
    """
    if given is None:
        return None
    if given == "auto":
        return "auto"
    if not re.fullmatch("[0-9]{1,5}", given):
        raise typer.BadParameter(f"--prefetch {given!r}: write auto, or a number of jobs from 0 to 99999")
    return int(given)
