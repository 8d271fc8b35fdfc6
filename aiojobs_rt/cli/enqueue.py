"""`enqueue`: one job, from the command line."""

from __future__ import annotations

import inspect
import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer

from aiojobs_rt.adapters.default import adapter_of
from aiojobs_rt.cli.modules import find_job, load_modules
from aiojobs_rt.cli.options import Modules, RedisUrl, optional_queue, use_redis
from aiojobs_rt.enqueue import deliver
from aiojobs_rt.errors import AiojobsError, ConfigurationError
from aiojobs_rt.handle import JobHandle
from aiojobs_rt.job import Configured
from aiojobs_rt.settings import settings, variable

if TYPE_CHECKING:
    from aiojobs_rt.enqueue import Bound
    from aiojobs_rt.job import Job

ENQUEUE_TIMEOUT = "3"
"""Seconds for which it is tried, unless the settings say otherwise: a person waits."""


def enqueue(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job's name, or package.module:ClassName.")],
    arguments: Annotated[
        str, typer.Argument(metavar="JSON", help="Its arguments: an object by parameter name, or an array by position.")
    ] = "{}",
    *,
    redis_url: RedisUrl = None,
    module: Modules = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue", "-q", callback=optional_queue, metavar="NAME", help="Another queue than the class names."
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", help="Wait for the result and print it as JSON; the class must keep it."
        ),
    ] = None,
) -> None:
    """Enqueue a job and print its id."""
    given = _read(arguments)
    use_redis(redis_url)
    if "enqueue_timeout" not in settings().model_fields_set:
        os.environ[variable("enqueue_timeout")] = ENQUEUE_TIMEOUT
        settings.cache_clear()
    load_modules(module or (() if ":" in job else settings().modules))
    job_class = find_job(job)
    if wait is not None and not job_class.options().keep_ms:
        raise ConfigurationError(
            f"{job_class.name} keeps no result to wait for: set keep_result on its class, or enqueue it without --wait"
        )
    raw = json.dumps(_by_name(job_class, given)).encode()
    args, kwargs = job_class.signature().load(raw)
    configured: Configured[..., Any] = Configured(job_class, queue=queue)
    anyio.run(_enqueue, configured.bind(*args, **kwargs), wait)


async def _enqueue(bound: Bound[Any], wait: float | None) -> None:
    adapter = adapter_of(bound.job)
    try:
        handle = await deliver(bound)
        print(handle.id, flush=True)
        if wait is not None:
            # the result's own bytes: what pydantic makes of them need not be JSON
            raw: JobHandle[bytes] = JobHandle(handle.id, adapter=adapter, load=bytes)
            print((await raw.result(timeout=wait)).decode())
    except TimeoutError as error:
        raise AiojobsError(f"{error}; look at it with jobs show") from None
    finally:
        await adapter.aclose()


def _read(text: str) -> dict[str, Any] | list[Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"the arguments are no JSON: {error}") from None
    if not isinstance(found, dict | list):
        raise typer.BadParameter('the arguments must be a JSON object, {"user_id": 42}, or an array, [42]')
    return found


def _by_name(job_class: type[Job], given: dict[str, Any] | list[Any]) -> dict[str, Any]:
    """Arguments by parameter name, as they are on the wire. What is too many by position is left to be refused."""
    if isinstance(given, dict):
        return given
    found: dict[str, Any] = {}
    parameters = list(inspect.signature(job_class.perform).parameters.values())[1:]
    by_position = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    found.update(zip(by_position, given, strict=False))
    more = given[len(by_position) :]
    if more and rest is None:
        raise typer.BadParameter(
            f"{job_class.name}.perform() takes {len(by_position)} arguments by position, got {len(given)}"
        )
    if more and rest is not None:
        found[rest] = more
    return found
