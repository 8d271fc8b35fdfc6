"""`pause` and `resume`: whether a queue is read."""

from __future__ import annotations

from typing import Annotated

import typer

from aiojobs_rt.cli.options import RedisUrl, queue_name, with_admin

Name = Annotated[str, typer.Argument(metavar="QUEUE", callback=queue_name, help="The queue's name.")]


def pause(queue: Name, redis_url: RedisUrl = None) -> None:
    """Stop taking jobs from a queue; running jobs finish, and new ones are enqueued as ever."""
    changed = with_admin(redis_url, lambda admin: admin.pause(queue))
    print(f"Queue {queue} is paused." if changed else f"Queue {queue} was paused already.")


def resume(queue: Name, redis_url: RedisUrl = None) -> None:
    """Take jobs from a paused queue again."""
    changed = with_admin(redis_url, lambda admin: admin.resume(queue))
    print(f"Queue {queue} is read again." if changed else f"Queue {queue} was not paused.")
