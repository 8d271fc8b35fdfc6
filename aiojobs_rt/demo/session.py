"""The demo from beginning to end.

1. A temporary embedded Redis starts, and a real worker process on it.
2. Pictures are drawn.
3. The jobs are enqueued, and watched until they have ended.
4. The worker is told to stop (TERM).
5. What the jobs returned, and the files they wrote, are compared with the plan.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from anyio.to_thread import run_sync

from aiojobs_rt.adapters.redis.adapter import RedisAdapter
from aiojobs_rt.adapters.redis.embedded import acquire
from aiojobs_rt.admin import Admin
from aiojobs_rt.demo import pictures
from aiojobs_rt.demo.jobs import PictureJob
from aiojobs_rt.demo.scenario import BROKEN, Ended, Gallery, faults_of, pictures_of, plan, sum_up
from aiojobs_rt.demo.show import Counts, Screen
from aiojobs_rt.errors import JobError, JobFailed
from aiojobs_rt.job import perform_all_later

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from aiojobs_rt.demo.jobs import Run
    from aiojobs_rt.demo.scenario import Planned
    from aiojobs_rt.handle import JobHandle

PREFIX = "aiojobs"
LOOK_EVERY = 0.1
STOP_TIMEOUT = 10.0


class DemoError(Exception):
    """Something did not come out as it should; the message says what."""


async def play(*, jobs: int, folder: Path, concurrency: int) -> None:
    """Run the demo. Cancelling it, and TERM, stop the worker and end the wait.

    Raises:
        DemoError: something did not come out as it should.
    """
    gallery, screen = Gallery(folder), Screen()
    planned = plan(jobs, gallery)
    with _cancelled_by_signals(), acquire("embedded://") as server:
        async with RedisAdapter(server.url, prefix=PREFIX) as adapter, Admin(adapter) as admin:
            PictureJob.adapter = adapter
            screen.say(f"Redis: a private redis-server in {server.directory}")
            log = _prepare(gallery, planned)
            async with _worker(f"embedded://{server.directory}", concurrency=concurrency, log=log) as worker:
                screen.say(f"worker: process {worker.pid}, {concurrency} jobs at once, log in {log}")
                await _draw(gallery, planned)
                screen.say(f"pictures: {pictures_of(planned)} drawn; now {len(planned)} jobs are enqueued")
                began = time.time()
                handles = await perform_all_later([item.job for item in planned])
                with screen.progress(len(handles)) as show:
                    async for counts in _watch(admin, len(handles)):
                        show(counts)
                        _check_alive(worker, log)
                        _check_time(time.time() - began, counts)
            ended = [await _ask(admin, item, handle) for item, handle in zip(planned, handles, strict=True)]
    faults = await run_sync(faults_of, ended)
    screen.sum_up(sum_up(ended, began=began, folder=gallery.thumbnails))
    if faults:
        raise DemoError(f"{len(faults)} fault(s), the first: {faults[0]}")


def _prepare(gallery: Gallery, planned: list[Planned]) -> Path:
    """Make the folders, and remove what an earlier demo left under the same names; where the worker's log goes."""
    for folder in (gallery.pictures, gallery.thumbnails):
        folder.mkdir(parents=True, exist_ok=True)
    for item in planned:
        item.target.unlink(missing_ok=True)
    return gallery.folder / "worker.log"


async def _draw(gallery: Gallery, planned: list[Planned]) -> None:
    for number in range(1, pictures_of(planned) + 1):
        await run_sync(lambda seed: pictures.draw(gallery.picture(seed), seed=seed), number)
    (gallery.pictures / BROKEN).write_text("This is no image.")


async def _watch(admin: Admin, total: int) -> AsyncGenerator[Counts]:
    """Look where the jobs are, again and again, until all have ended."""
    while True:
        queue = await admin.queue(PictureJob.queue)
        counts = Counts(
            total=total,
            waiting=queue.waiting,
            scheduled=queue.scheduled,
            running=queue.running,
            retrying=queue.retrying,
            dead=queue.dead,
        )
        yield counts
        if not counts.open:
            return
        await asyncio.sleep(LOOK_EVERY)


async def _ask(admin: Admin, planned: Planned, handle: JobHandle[Run]) -> Ended:
    try:
        run = await handle.result(timeout=5)
    except JobFailed as error:
        details = await admin.job(handle.id)
        return Ended(planned, error.outcome, retries=details.failures - 1 if details else 0, error=error.error)
    except (JobError, TimeoutError) as error:
        return Ended(planned, "lost", error=str(error))
    return Ended(planned, "succeeded", run, retries=run.executions - 1)


# -- the worker process --------------------------------------------------------------------------


@asynccontextmanager
async def _worker(url: str, *, concurrency: int, log: Path) -> AsyncGenerator[Process]:
    """A worker process of its own session, so that Ctrl-C in the terminal reaches us alone; stopped at the end, whatever happens."""
    command = [sys.executable, "-m", "aiojobs_rt", "worker", "aiojobs_rt.demo.jobs", "--redis-url", url]
    own = {name: value for name, value in os.environ.items() if not name.startswith("AIOJOBS_RT_")}
    own["AIOJOBS_RT_CONFIG"] = os.devnull  # no file of settings that lies about here
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, "-c", str(concurrency), "--shutdown-timeout", "5",
            env=own, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
        _check_alive(process, log)
    finally:
        await _stop(process)
    if process.returncode:
        raise DemoError(f"the worker did not stop as told, its exit code is {process.returncode}; {_tail(log)}")


async def _stop(process: Process) -> None:
    try:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _check_alive(process: Process, log: Path) -> None:
    if process.returncode is not None:
        raise DemoError(f"the worker ended by itself with exit code {process.returncode}; {_tail(log)}")


def _check_time(seconds: float, counts: Counts) -> None:
    if seconds > 20 + counts.total / 20:
        raise DemoError(f"after {seconds:.0f} s not all jobs have ended: {counts}")


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-5:]
    return f"{log} ends with:\n" + "\n".join(lines)


@contextmanager
def _cancelled_by_signals() -> Generator[None]:
    """Have TERM, and the end of the terminal, end the demo in good order, as Ctrl-C does."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - we run in one
    numbers = (signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
