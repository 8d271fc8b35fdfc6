"""`pause` and `resume`: whether a queue is read."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from aiojobs_rt.cli.options import RedisUrl, queue_name, with_admin

if TYPE_CHECKING:
    from aiojobs_rt.admin import Admin

Name = Annotated[str, typer.Argument(metavar="QUEUE", callback=queue_name, help="The queue's name.")]


def pause(queue: Name, redis_url: RedisUrl = None) -> None:
    """Stop taking jobs from a queue; running jobs finish, and new ones are enqueued as ever."""

    async def run(admin: Admin) -> tuple[bool, list[str]]:
        known = [found.name for found in await admin.queues()]
        return await admin.pause(queue), known

    changed, known = with_admin(redis_url, run)
    print(f"Queue {queue} is paused." if changed else f"Queue {queue} was paused already.")
    if queue not in known:
        others = f"there are {', '.join(known)}" if known else "there is none yet"
        print(
            f"No job or worker has named this queue so far: {others}. (`resume {queue}` takes it back.)",
            file=sys.stderr,
        )


def resume(queue: Name, redis_url: RedisUrl = None) -> None:
    """Take jobs from a paused queue again."""
    changed = with_admin(redis_url, lambda admin: admin.resume(queue))
    print(f"Queue {queue} is read again." if changed else f"Queue {queue} was not paused.")
