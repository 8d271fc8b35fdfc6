"""The rows of the acceptance table, and what a run of the suite showed of them.

A test shows rows by `@pytest.mark.acceptance(N, ...)`. `pytest -m acceptance` runs these tests and ends with the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

ROWS = dict(
    enumerate(
        (
            "a job and its arguments go onto a queue",
            "an enqueued job outlives its producer",
            "several workers share the jobs, each is performed once",
            "concurrency is bounded",
            "waiting, running, finished and failed jobs are listed, failed ones retried",
            "failing and hanging jobs and a restart of Redis are survived and visible",
            "a request does not wait for its job",
            "job, queue and worker are the words",
            "an example for each named use",
            "one job class on every adapter",
            "the worker is a process of its own",
            "queues, concurrency and processes are configured",
            "one API to inspect jobs on every adapter",
            "settings and handlers are inherited from a base class",
            "perform with positional, *args and **kwargs",
            "perform_later gives a handle that says whether it enqueued",
            "perform_now runs here, with callbacks and handlers",
            "set(wait=...)",
            "set(wait_until=...) in any time zone",
            "options combined in one set, before perform_later",
            "the queue by class, or chosen per job",
            "a worker takes the queues it was given",
            "retry_on: waits and attempts",
            "retry_on: each declaration counts for itself",
            "discard_on: no retry, not dead, after_discard",
            "callbacks in order, and Abort",
            "async callbacks in perform's own task",
            "rescue_from, inherited; handlers that fail are reported",
            "every supported type arrives as it was sent",
            "custom serialisers, and old payloads after a change",
            "references travel, fresh objects arrive",
            "a missing record is not an outage of the database",
            "locale and time zone travel",
            "the in-process adapter",
            "the test adapter",
            "a misconfigured adapter or queue is told of",
            "generate job: the job and a test that passes",
            "names of jobs, and autodiscovery of a package",
            "deliver_later and deliver_now of a mailer",
            "enqueue after commit",
            "enqueued from a view or from a model's callback",
            "log records carry the job, as JSON too",
            "logs are filtered by job",
            "a raise after logging is retried and reported once",
            "Sidekiq's features and names mapped",
            "cron: one enqueue per tick with several schedulers",
            "Resque's and Delayed Job's words mapped",
            "batches, concurrency, cron and dashboard as in GoodJob",
            "limits, recurring jobs, pause and dashboard as in Solid Queue",
            "adapters are pluggable",
            "schedules in words, and the next runs of a cron line",
            "the page of a job: traceback, attempts, next retry",
            "metrics and traces exported",
            "unique until executed",
            "Redis without persistence is warned of",
            "a class without perform is abstract, a sync one is refused",
            "options per class",
            "perform_async, perform_in and perform_at mapped",
            "Job().perform(...) is a plain call",
            "job classes that no worker would know are warned of",
            "a scheduled job takes no arguments",
            "enqueue, then process: one poison record stops no other",
            "perform_all_later: slices of 1,000, a handle per job",
            "TERM: what is not finished in time is back in the queue",
            "kill -9: another worker runs the job",
            "idempotence, and its key",
            "iteration resumes at its cursor",
            "unreliable steps first: no mark is lost",
            "sub-jobs, and a batch over them",
            "the recipe's samples, corrected",
            "check-then-act races, and a lock removes the race",
            "large payloads are refused",
            "unlimited retries must be said",
            "doctor finds stuck jobs, dead workers and unlistened queues",
            "locks and the retry policy on the page of a job",
            "published throughput and durability",
            "a restart of Redis and the workers loses nothing",
        ),
        start=1,
    )
)
"""Number -> what the row is about."""

MISSING = {
    5: "the lists of the dashboard",
    6: "rows of the dashboard",
    9: "scheduled tasks: cron",
    16: "a uniqueness lock that is held",
    45: "a table of features",
    46: "cron",
    47: "their words",
    48: "batches, limits, cron and the dashboard",
    49: "limits, cron and the dashboard",
    51: "cron",
    52: "the dashboard",
    53: "OpenTelemetry and Prometheus",
    54: "uniqueness",
    57: "tags and unique, as options",
    61: "cron",
    69: "a batch with a callback for both",
    71: "unique, in the place of a unique column",
    72: "sizes on the dashboard",
    74: "locks that are stuck",
    75: "the dashboard",
}
"""Of which rows no test shows all: what is not there yet. A row with tests and an entry here counts as shown in part."""


def unknown_rows(rows: Iterable[object]) -> list[object]:
    """Those that the table does not have."""
    return [row for row in rows if row not in ROWS]


def table(passed: Counter[int], wrong: Counter[int]) -> Iterator[str]:
    """The lines of the table: each row with the number of tests that passed, and those that did not.

    Args:
        passed: tests by row.
        wrong: the same of those that failed.
    """
    for row, title in ROWS.items():
        count = passed[row]
        state = f"{count:3} test{'s' if count > 1 else ' '}" if count else "open     "
        missing = f"  [{'in part, ' if count else ''}missing: {MISSING[row]}]" if row in MISSING else ""
        yield f"{row:3}  {state}  {title}{missing}" + (f"  ({wrong[row]} FAILED)" if wrong[row] else "")
    covered = sum(bool(passed[row]) and row not in MISSING for row in ROWS)
    in_part = sum(bool(passed[row]) and row in MISSING for row in ROWS)
    yield (
        f"{covered} of {len(ROWS)} rows are covered by the tests of this run, {in_part} more in part; "
        f"{len(ROWS) - covered - in_part} are open."
    )
