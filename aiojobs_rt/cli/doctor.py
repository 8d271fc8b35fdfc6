"""`doctor`: is the server fit for jobs, do the queues run, and would a worker of these modules know their jobs?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from aiojobs_rt.admin import Admin, examine
from aiojobs_rt.cli.modules import load_modules
from aiojobs_rt.cli.options import RedisUrl, use_redis, with_admin
from aiojobs_rt.cli.output import printable
from aiojobs_rt.core import registry
from aiojobs_rt.settings import settings
from aiojobs_rt.worker.startup import choose_queues, find_adapter

if TYPE_CHECKING:
    from aiojobs_rt.adapters.redis.adapter import RedisAdapter


def doctor(
    modules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODULE]...",
            help="Those of the worker: then jobs are looked for whose class is in none of them.",
            show_default=False,
        ),
    ] = None,
    redis_url: RedisUrl = None,
) -> None:
    """Look for what is wrong, and say what to do about it. Exit code 1 when something is an error."""
    use_redis(redis_url)
    modules = modules or settings().modules
    known: set[str] | None = None
    adapter: RedisAdapter | None = None
    if modules:
        load_modules(modules)
        classes = [job_class for _, job_class in registry.job_classes()]
        known = {job_class.name for job_class in classes}
        adapter = find_adapter(classes)
        queues = ", ".join(choose_queues(None, classes)[0]) if classes else "none"
        print(f"{len(classes)} job class(es) from {', '.join(modules)}; their queues: {queues}.")

    async def look(admin: Admin) -> bool:
        print(f"Redis at {admin.adapter.endpoint.display}, keys under {admin.adapter.prefix}:")
        findings = await examine(admin, known)
        for finding in findings:
            print(f"{finding.level:<5}  {printable(finding.subject)}: {printable(finding.text)}")
            if finding.advice:
                print(f"       -> {finding.advice}")
        return all(finding.level != "ERROR" for finding in findings)

    if not with_admin(redis_url, look, adapter):
        raise typer.Exit(1)
