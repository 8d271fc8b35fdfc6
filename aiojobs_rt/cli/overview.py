"""`queues` and `workers`: all of them, in a table."""

from __future__ import annotations

from aiojobs_rt.admin import Admin
from aiojobs_rt.cli.options import AsJson, RedisUrl, with_admin
from aiojobs_rt.cli.output import duration, print_json, print_table, when


def queues(redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """Show all queues: how many jobs are in which state, how long the oldest has waited, who serves them."""
    found = with_admin(redis_url, Admin.queues)
    if as_json:
        print_json(found)
    elif not found:
        print("No queue has been used yet.")
    else:
        print_table(
            ("queue", "waiting", "running", "scheduled", "retrying", "dead", "latency", "workers"),
            [
                (
                    f"{queue.name} (paused)" if queue.paused else queue.name,
                    *(
                        f"{count:,}"
                        for count in (queue.waiting, queue.running, queue.scheduled, queue.retrying, queue.dead)
                    ),
                    duration(queue.latency) or "-",
                    ", ".join((*queue.workers, *(f"{name} (dead)" for name in queue.dead_workers))) or "none",
                )
                for queue in found
            ],
            numbers=("waiting", "running", "scheduled", "retrying", "dead", "latency"),
        )


def workers(redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """Show all workers, and those that died with jobs in hand."""
    found = with_admin(redis_url, Admin.workers)
    if as_json:
        print_json(found)
    elif not found:
        print("No worker runs.")
    else:
        print_table(
            ("worker", "state", "queues", "running", "finished", "started", "seen"),
            [
                (
                    worker.name,
                    worker.state,
                    ", ".join(worker.queues),
                    f"{worker.running} of {worker.concurrency}" if worker.concurrency else f"{worker.jobs} held",
                    f"{worker.finished:,}",
                    when(worker.started_at),
                    when(worker.seen),
                )
                for worker in found
            ],
            numbers=("running", "finished"),
        )
