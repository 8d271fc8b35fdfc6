"""Enqueueing from synchronous code: one background thread, typed handles, and a clear refusal inside a loop."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import Job, JobFailed, Progress, RedisAdapter, blocking
from aiojobs_rt.adapters.redis.keys import queue_keys
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
KEYS = queue_keys("aiojobs", "default")
JOBS = """
    from aiojobs_rt import Job, Snooze

    class InBlockingSteps(Job):
        async def perform(self) -> None:
            async for step in self.step("rows", start=0):
                await step.advance()
                raise Snooze(3600)

    class Add(Job):
        keep_result = 60
        async def perform(self, a: int, b: int = 1) -> int:
            return a + b

    class Boom(Job):
        keep_result = 60
        max_attempts = 1
        async def perform(self) -> None:
            raise ValueError("boom")
"""


class Add(Job):
    keep_result = 60

    async def perform(self, a: int, b: int = 1) -> int:
        return a + b


class Boom(Job):
    keep_result = 60
    max_attempts = 1

    async def perform(self) -> None:
        raise ValueError("boom")


class InBlockingSteps(Job):
    async def perform(self) -> None: ...


@pytest.fixture(autouse=True)
def adapter(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisAdapter]:
    adapter = RedisAdapter(redis_url, enqueue_timeout=5)
    for job in (Add, Boom, InBlockingSteps):
        monkeypatch.setattr(job, "adapter", adapter)
    yield adapter
    blocking.call(adapter.aclose, "")


@pytest.fixture
def worker(redis_url: str, tmp_path: Path) -> Iterator[None]:
    (tmp_path / "blocking_jobs.py").write_text(textwrap.dedent(JOBS))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AIOJOBS_RT_REDIS_URL": redis_url}
    command = [sys.executable, "-m", "aiojobs_rt", "worker", "blocking_jobs"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as process:
        yield
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.usefixtures("worker")
def test_a_job_is_enqueued_and_its_result_awaited_without_a_loop() -> None:
    handle = blocking.perform_later(Add.bind(41))

    assert handle.enqueued
    assert handle.queue == "default"
    assert handle.result(timeout=20) == 42
    assert handle.status() == "succeeded"
    assert handle.cancel() is False
    with pytest.raises(JobFailed, match="boom"):
        blocking.perform_later(Boom.bind()).result(timeout=20)


@pytest.mark.usefixtures("worker")
def test_the_progress_of_a_job_is_told_without_a_loop() -> None:
    handle = blocking.perform_later(InBlockingSteps.bind())
    assert wait_for(handle.progress, timeout=20) == Progress(completed=(), open="rows", cursor=1)


def test_many_threads_share_the_connections(redis_server: RedisServer) -> None:
    def enqueue() -> None:
        for n in range(20):
            blocking.perform_later(Add.bind(n))

    threads = [threading.Thread(target=enqueue) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with redis_server.client() as client:
        assert client.xlen(KEYS.stream) == 160
        names = [each["name"] for each in client.client_list()]
        assert names.count("aiojobs_rt:enqueue") == 1


def test_many_jobs_at_once_and_cancel(redis_server: RedisServer) -> None:
    handles = blocking.perform_all_later([Add.bind(1), Add.set(wait=60).bind(2)])

    assert [handle.status() for handle in handles] == ["queued", "scheduled"]
    assert handles[1].cancel()
    assert handles[1].status() == "cancelled"
    with redis_server.client() as client:
        assert client.zcard(KEYS.scheduled) == 0


async def test_inside_a_running_loop_it_is_refused_with_what_to_await() -> None:
    with pytest.raises(RuntimeError, match=r"await Add\.perform_later"):
        blocking.perform_later(Add.bind(1))
    with pytest.raises(RuntimeError, match=r"await perform_all_later"):
        blocking.perform_all_later([])


def test_what_is_not_bound_is_refused() -> None:
    with pytest.raises(TypeError, match=r"such as SendWelcome\.bind\(42\), got the class Add"):
        blocking.perform_later(Add)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - what is tested
    with pytest.raises(TypeError, match=r"got a coroutine \(write bind in the place of perform_later\)"):
        blocking.perform_later(Add.perform_later(1))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - what is tested
    with pytest.raises(TypeError, match=r"in a list or another iterable; got a single one"):
        blocking.perform_all_later(Add.bind(1))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - what is tested


def test_a_script_ends_by_itself_and_a_forked_child_has_a_thread_of_its_own(
    redis_url: str, redis_server: RedisServer
) -> None:
    script = textwrap.dedent(JOBS) + textwrap.dedent(
        """
        import os
        from aiojobs_rt import blocking

        blocking.perform_later(Add.bind(1))
        child = os.fork()
        blocking.perform_later(Add.bind(2))
        if child:
            _, status = os.waitpid(child, 0)
            assert status == 0, status
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AIOJOBS_RT_REDIS_URL": redis_url, "PYTHONDEVMODE": "1"}
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    with redis_server.client() as client:
        assert client.xlen(KEYS.stream) == 3
