"""What the log says of jobs: each record made while one runs names it, and never another one."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiojobs_rt import Discard, Job, RedisAdapter, Worker, perform_all_later, retry_on
from aiojobs_rt.cli.logs import JsonLines, Lines
from aiojobs_rt.core import registry
from aiojobs_rt.core.context import JobContextFilter
from tests.support.outcomes import becomes
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence


class LoggingJob(Job):
    """The base of the jobs of these tests, which set its adapter."""


@pytest.fixture(autouse=True)
async def adapter(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisAdapter]:
    monkeypatch.setattr(registry, "_classes", {})
    async with RedisAdapter(redis_url) as adapter:
        monkeypatch.setattr(LoggingJob, "adapter", adapter)
        yield adapter


class Kept(logging.Handler):
    """Keeps the records that pass the filter which users add."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []
        self.addFilter(JobContextFilter())

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def texts(self, job_id: str) -> list[tuple[str, str]]:
        """Level and message of the records that carry this id, the message without id and name."""
        return [
            (record.levelname, record.getMessage().replace(f"job {job_id} ({record.job}) ", ""))
            for record in self.records
            if record.job_id == job_id
        ]


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, logger = Kept(), logging.getLogger("aiojobs_rt")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


@asynccontextmanager
async def working(concurrency: int = 10, queues: Sequence[str] | None = None) -> AsyncGenerator[None]:
    carrier: Any = LoggingJob.adapter
    worker = Worker(queues=queues, adapter=carrier, concurrency=concurrency, lease=5.0, shutdown_timeout=1)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        yield
        worker.stop()


@pytest.mark.acceptance(42)
async def test_what_outlives_its_job_never_names_another_one(kept: Kept) -> None:
    """One slot runs both jobs; a task, a timer and a thread of the first speak while the second one runs."""
    proceed, spoke = asyncio.Event(), asyncio.Event()
    logger = logging.getLogger("aiojobs_rt.test")
    tasks: set[asyncio.Task[None]] = set()

    class Leaves(LoggingJob):
        async def perform(self) -> None:
            async def child() -> None:
                logger.info("child within")
                await proceed.wait()
                logger.info("child after")
                await asyncio.to_thread(logger.info, "thread after")
                asyncio.get_running_loop().call_soon(logger.info, "timer after")
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                spoke.set()

            tasks.add(asyncio.create_task(child()))
            await asyncio.to_thread(logger.info, "thread within")

    class Follows(LoggingJob):
        async def perform(self) -> None:
            logger.info("mine")
            proceed.set()
            await spoke.wait()

    first = await Leaves.perform_later()
    second = await Follows.perform_later()
    async with working(concurrency=1):
        await becomes("succeeded", second)
    by_id: defaultdict[str, list[str]] = defaultdict(list)
    for record in kept.records:
        if record.name == "aiojobs_rt.test":
            by_id[record.job_id].append(record.getMessage())
            assert record.executions == 1
            assert record.queue == "default"
    assert by_id.pop(second.id) == ["mine"]
    assert sorted(by_id.pop(first.id)) == [
        "child after", "child within", "thread after", "thread within", "timer after",
    ]  # fmt: skip
    assert not by_id


@pytest.mark.acceptance(42)
async def test_an_idle_worker_names_no_job(kept: Kept) -> None:
    class Brief(LoggingJob):
        async def perform(self) -> None: ...

    async with working(concurrency=1):
        handle = await Brief.perform_later()
        await becomes("succeeded", handle)
    named = [record.getMessage() for record in kept.records if record.job_id]
    assert named
    assert all(handle.id in text for text in named), named


@pytest.mark.acceptance(43)
async def test_the_lines_that_one_job_leaves_share_its_id(kept: Kept) -> None:
    class TriesTwice(LoggingJob):
        async def perform(self) -> None:
            if self.executions == 1:
                raise ConnectionError("no route")

    retry_on(ConnectionError, wait=0.01, attempts=2)(TriesTwice)

    class Unwanted(LoggingJob):
        async def perform(self) -> None:
            raise Discard("not any more")

    class Dies(LoggingJob):
        max_attempts = 1

        async def perform(self) -> None:
            raise ValueError("broken")

    class Waits(LoggingJob):
        async def perform(self) -> None:
            await asyncio.Event().wait()

    class Enqueues(LoggingJob):
        async def perform(self) -> None:
            inner.append((await TriesTwice.perform_later()).id)

    inner: list[str] = []
    others = await perform_all_later([TriesTwice.bind() for _ in range(20)])
    unwanted, dies, waits = await perform_all_later([Unwanted.bind(), Dies.bind(), Waits.bind()])
    outer = await Enqueues.perform_later()
    async with working():
        await becomes("discarded", unwanted)
        await becomes("dead", dies)
        await wait_until(lambda: ("DEBUG", "starts") in kept.texts(waits.id))
        assert await waits.cancel()
        await becomes("cancelled", waits)
        for other in others:
            await becomes("succeeded", other)
        await wait_until(lambda: inner and ("DEBUG", "has succeeded") in kept.texts(inner[0]))
    begin = [("DEBUG", "is enqueued"), ("DEBUG", "starts")]
    twice = [
        *begin,
        ("WARNING", "is tried again in 0.0 s: ConnectionError: no route"),
        ("DEBUG", "starts"),
        ("DEBUG", "has succeeded"),
    ]
    for job_id in [*inner, *(other.id for other in others)]:
        assert kept.texts(job_id) == twice
    assert kept.texts(outer.id) == [*begin, ("DEBUG", "has succeeded")]
    assert kept.texts(unwanted.id) == [*begin, ("INFO", "is discarded: not any more")]
    assert kept.texts(waits.id) == [*begin, ("INFO", "is cancelled")]
    assert [level for level, _ in kept.texts(dies.id)] == ["DEBUG", "DEBUG", "ERROR"]


@pytest.mark.acceptance(42, 43)
async def test_one_job_is_followed_by_its_id_and_one_queue_by_its_name(kept: Kept) -> None:
    """As the documents say: grep over lines of text, a filter over lines of JSON."""

    class Speaks(LoggingJob):
        async def perform(self, word: str) -> None:
            self.logger.info("the word is %s", word)
            logging.getLogger("aiojobs_rt.elsewhere").warning("a library has a word too: %s", word)

    words = [Speaks.bind("tea"), Speaks.set(queue="other").bind("cake"), Speaks.bind("salt")]
    handles = await perform_all_later(words)
    async with working(queues=("default", "other")):
        for handle in handles:
            await becomes("succeeded", handle)
    text = [line for record in kept.records for line in Lines().format(record).splitlines()]
    lines = [json.loads(JsonLines().format(record)) for record in kept.records]
    followed = [line.rpartition(": ")[2] for line in text if handles[1].id in line]
    assert followed == [
        f"job {handles[1].id} (Speaks) is enqueued", f"job {handles[1].id} (Speaks) starts", "the word is cake", "cake",
        f"job {handles[1].id} (Speaks) has succeeded",
    ]  # fmt: skip
    assert len([line for line in lines if line.get("job_id") == handles[1].id]) == len(followed)
    (spoken,) = (line for line in lines if line["message"] == "the word is cake")
    (beside,) = (line for line in lines if line["message"] == "a library has a word too: cake")
    for line in (spoken, beside):
        assert (line["job"], line["job_id"], line["queue"], line["executions"]) == ("Speaks", handles[1].id, "other", 1)
    assert {line["job_id"] for line in lines if line.get("queue") == "other"} == {handles[1].id}
    assert {line["job_id"] for line in lines if line.get("queue") == "default"} == {handles[0].id, handles[2].id}


@pytest.mark.acceptance(44)
async def test_a_job_that_logs_its_error_and_raises_it_is_tried_again_once_and_reported_once(kept: Kept) -> None:
    ran: list[int] = []

    async def charge() -> None:
        raise ConnectionError("the bank is away")

    class Reraises(LoggingJob):
        async def perform(self) -> None:
            ran.append(self.executions)
            try:
                await charge()
            except ConnectionError as error:
                self.logger.error("payment failed: %s", error)  # noqa: TRY400 - the traceback is no matter here
                raise

    retry_on(ConnectionError, wait=0.01, attempts=2)(Reraises)
    handle = await Reraises.perform_later()
    async with working():
        await becomes("dead", handle)
    assert ran == [1, 2]
    said = [(level, text) for level, text in kept.texts(handle.id) if level != "DEBUG"]
    assert [level for level, _ in said] == ["ERROR", "WARNING", "ERROR", "ERROR"]
    assert said[0][1] == said[2][1] == "payment failed: the bank is away"
    assert "is tried again" in said[1][1]
    assert "is dead" in said[3][1]
