"""`jobs`: list, show, retry, discard, cancel."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from aiojobs_rt.admin.records import JobPage, ListedState
from aiojobs_rt.cli.options import AsJson, RedisUrl, job_id, optional_queue, with_admin
from aiojobs_rt.cli.output import complain, console, duration, print_json, print_table, printable, when

if TYPE_CHECKING:
    from datetime import datetime

    from aiojobs_rt.admin import Admin
    from aiojobs_rt.admin.records import JobDetails, JobSummary
    from aiojobs_rt.core.progress import Progress

app = typer.Typer(help="List, show, retry, discard and cancel jobs.", no_args_is_help=True, rich_markup_mode=None)

MOST_LISTED = 500

Id = Annotated[str, typer.Argument(metavar="ID", callback=job_id, help="The job's id.")]
OptionalId = Annotated[str | None, typer.Argument(metavar="ID", callback=job_id, help="The job's id.")]
Queue = Annotated[
    str | None,
    typer.Option("--queue", "-q", callback=optional_queue, metavar="NAME", help="The queue. Default: all."),
]
QueueOfDead = Annotated[
    str | None,
    typer.Option("--queue", "-q", callback=optional_queue, metavar="NAME", help="The queue that --all-dead is about."),
]
AllDead = Annotated[bool, typer.Option("--all-dead", help="All dead jobs of the queue (-q).")]


@app.command("list")
def list_(
    *,
    redis_url: RedisUrl = None,
    queue: Queue = None,
    state: Annotated[
        ListedState | None, typer.Option(show_default="all but finished", help="Only jobs in this state.")
    ] = None,
    job: Annotated[str, typer.Option("--job", metavar="NAME", help="Only jobs of this name.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=MOST_LISTED, help="At most so many.")] = 50,
    after: Annotated[
        str, typer.Option(metavar="CURSOR", help="The next page: what the last one ended with. Needs -q and --state.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List jobs: those that run next first; of dead and finished ones, the latest first."""
    if after and (queue is None or state is None):
        raise typer.BadParameter("--after needs --queue and --state: a cursor is of one list")
    states: list[ListedState] = [state] if state else ["waiting", "running", "scheduled", "retrying", "dead"]

    others: list[str] = []

    async def look(admin: Admin) -> tuple[list[JobSummary], str, bool]:
        found: list[JobSummary] = []
        if queue and queue not in (known := await admin.queue_names()):
            others.extend(known or ["none yet"])
        page = JobPage((), "")
        lists: list[tuple[str, ListedState]] = [
            (name, each) for name in ([queue] if queue else await admin.queue_names()) for each in states
        ]
        for number, (name, each) in enumerate(lists, start=1):
            page = await admin.jobs(name, each, job=job, limit=limit - len(found), after=after)
            found += page.jobs
            if len(found) >= limit:
                return found, page.next if len(lists) == 1 else "", bool(page.next) or number < len(lists)
        return found, page.next if len(lists) == 1 else "", bool(page.next)

    found, cursor, more = with_admin(redis_url, look)
    if as_json:
        print_json({"jobs": found, "next": cursor})
        return
    if found:
        print_table(
            ("id", "job", "queue", "state", "when", "failed", "what"),
            [
                (item.id or "-", item.job, item.queue, item.state, when(item.at), _failed(item), _what(item))
                for item in found
            ],
            numbers=("failed",),
        )
    elif not more:
        print("No jobs." if state else "No jobs; finished ones: --state finished")
        if others:
            print(f"No job or worker has named queue {queue} so far: there are {', '.join(others)}.", file=sys.stderr)
    if cursor:
        print(f"There may be more: --after {cursor}")
    elif more:
        print("There may be more: name --queue and --state, or raise --limit.")


@app.command()
def show(
    id_: Id,
    redis_url: RedisUrl = None,
    args: Annotated[bool, typer.Option("--args", help="Print the job's arguments; they may hold secrets.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show all that is kept of a job: where it is, its times and counts, each failed run with its traceback."""
    found = with_admin(redis_url, lambda admin: admin.job(id_))
    if found is None:
        complain(f"nothing is known of job {id_}: it has ended and is no longer remembered, or never was")
        raise typer.Exit(1)
    if as_json:
        print_json(found if args or found.encrypted else replace(found, args=b"", result=None))
    else:
        _print(found, args=args)


@app.command()
def retry(
    id_: OptionalId = None, redis_url: RedisUrl = None, queue: QueueOfDead = None, all_dead: AllDead = False
) -> None:
    """Run a dead job anew, with its counts reset; or a retrying or scheduled one now."""
    if id_ is None:
        count = with_admin(redis_url, lambda admin: admin.retry_dead(_needed(queue, all_dead=all_dead)))
        print(f"{count:,} dead job(s) of queue {queue} run again.")
        return
    _one(queue, all_dead=all_dead)
    answer = with_admin(redis_url, lambda admin: admin.retry(id_))
    if answer == "retried":
        print(f"Job {id_} runs now.")
        return
    complain(
        {
            "queued": f"job {id_} waits or runs already",
            "malformed": f"job {id_} can't be read, and would die again: look at it with jobs show, and discard it",
            "ended": f"job {id_} has ended; enqueue a new one",
            "unknown": f"nothing is known of job {id_}",
        }[answer]
    )
    raise typer.Exit(1)


@app.command()
def discard(
    id_: OptionalId = None, redis_url: RedisUrl = None, queue: QueueOfDead = None, all_dead: AllDead = False
) -> None:
    """Remove a dead, retrying, scheduled or waiting job for good."""
    if id_ is None:
        count = with_admin(redis_url, lambda admin: admin.discard_dead(_needed(queue, all_dead=all_dead)))
        print(f"{count:,} dead job(s) of queue {queue} are discarded.")
        return
    _one(queue, all_dead=all_dead)
    answer = with_admin(redis_url, lambda admin: admin.discard(id_))
    if answer == "discarded":
        print(f"Job {id_} is discarded.")
        return
    complain(
        {
            "running": f"job {id_} is delivered to a worker: cancel it with jobs cancel",
            "ended": f"job {id_} has ended already",
            "unknown": f"nothing is known of job {id_}",
        }[answer]
    )
    raise typer.Exit(1)


@app.command()
def cancel(id_: Id, redis_url: RedisUrl = None) -> None:
    """Cancel a job: one that waits goes, one that runs is interrupted."""
    if not with_admin(redis_url, lambda admin: admin.cancel(id_)):
        complain(f"job {id_} has ended, or nothing is known of it")
        raise typer.Exit(1)
    print(f"Job {id_} is cancelled.")


def _needed(queue: str | None, *, all_dead: bool) -> str:
    if not all_dead or queue is None:
        raise typer.BadParameter("give a job's ID, or --all-dead with -q QUEUE")
    return queue


def _one(queue: str | None, *, all_dead: bool) -> None:
    if all_dead or queue is not None:
        raise typer.BadParameter("give a job's ID, or --all-dead with -q QUEUE, not both")


def _failed(item: JobSummary) -> str:
    return str(item.failures + item.crashes) if item.failures or item.crashes else ""


def _what(item: JobSummary) -> str:
    parts = (
        f"took {duration(item.took)}" if item.took is not None else "",
        item.worker and f"on {item.worker}",
        item.reason[:200],
    )
    return ", ".join(part for part in parts if part)


def _print(found: JobDetails, *, args: bool) -> None:
    lines = [
        ("id", found.id),
        ("job", found.job),
        ("queue", found.queue),
        ("state", f"{found.state}, marked as cancelled" if found.cancelled else found.state),
        (_TIMES.get(found.state, "ended"), _instant(found.at)),
        ("enqueued", _instant(found.enqueued_at)),
        ("priority", str(found.priority) if found.priority else ""),
        ("failures", str(found.failures) if found.failures else ""),
        ("crashes", str(found.crashes) if found.crashes else ""),
        ("interruptions", str(found.interruptions) if found.interruptions else ""),
        ("worker", found.worker),
        ("took", duration(found.took)),
        ("reason", found.reason),
        ("steps", _reached(found.steps)),
        ("options", _pairs(found.meta.get("options"))),
        ("counted", _pairs(found.meta.get("executions"))),
        (
            "result",
            ""
            if found.result is None
            else found.result.decode(errors="replace")
            if args or found.encrypted
            else "kept; shown with --args",
        ),
        ("args", found.args.decode(errors="backslashreplace") if args or found.encrypted else _size(found)),
    ]
    out = console()
    for name, value in lines:
        if value:
            out.print(f"{name:<14}{printable(value)}", soft_wrap=True)
    for number, attempt in enumerate(found.attempts, start=1):
        out.print(
            f"\nfailure {number} of {len(found.attempts)}, {_instant(attempt.at)}, on {printable(attempt.worker)}",
            soft_wrap=True,
        )
        out.print(printable(attempt.traceback.rstrip() or f"{attempt.error}: {attempt.message}"), soft_wrap=True)


_TIMES = {"waiting": "could run", "running": "could run", "scheduled": "due", "retrying": "due", "dead": "died"}


def _instant(instant: datetime | None) -> str:
    return "" if instant is None else f"{instant.isoformat(timespec='milliseconds')} ({when(instant)})"


def _pairs(value: object) -> str:
    return ", ".join(f"{key} = {item}" for key, item in value.items()) if isinstance(value, dict) else ""


def _reached(steps: Progress | None) -> str:
    if steps is None:
        return ""
    complete = [f"{name} complete" for name in steps.completed]
    running = [f"{steps.open} at {orjson.dumps(steps.cursor).decode()[:200]}"] if steps.open else []
    return ", ".join((*complete, *running))


def _size(found: JobDetails) -> str:
    return f"{len(found.args):,} bytes; shown with --args" if found.args else ""
