"""The worker command with a file of settings and several processes, as users start it."""

from __future__ import annotations

import os
import re
import signal
import textwrap
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from aiojobs_rt import Job, perform_all_later
from aiojobs_rt.adapters.redis.adapter import RedisAdapter
from tests.support.command import Command
from tests.support.waiting import wait_for, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

JOBS = """
    import asyncio, os
    from pathlib import Path
    from aiojobs_rt import Job

    def note(*words):
        with open("ledger", "a") as ledger:
            print(os.getpid(), *words, file=ledger)

    class ManyNote(Job):
        max_attempts = 1
        async def perform(self, number: int) -> None:
            note("begin", self.queue, number)
            await asyncio.sleep(0.05)
            note("end", self.queue, number)

    class ManyPatient(Job):
        async def perform(self) -> None:
            note("patient", self.queue, self.executions)
            while not Path("go").exists():
                await asyncio.sleep(0.02)
            note("done", self.queue, self.executions)
"""


class ManyNote(Job):
    """What the workers know by this name."""

    async def perform(self, number: int) -> None: ...


class ManyPatient(Job):
    """Likewise; it waits for a file."""

    async def perform(self) -> None: ...


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a module `many_shop`; the environment says nothing."""
    (tmp_path / "many_shop.py").write_text(textwrap.dedent(JOBS))
    (tmp_path / "ledger").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIOJOBS_RT_REDIS_URL")
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Command]]:
    """Start a command."""
    started: list[Command] = []

    def run(*arguments: str, log: str = "output.log") -> Command:
        started.append(Command(folder, *arguments, log=log))
        return started[-1]

    yield run
    for command in started:
        for pid in workers(command):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        command.dispose()


def workers(command: Command) -> list[int]:
    """The processes that began to work, in order."""
    return [int(pid) for pid in re.findall(r"worker: worker \S+-(\d+)-\w+: queues", command.log)]


def both_work(command: Command) -> bool:
    return len(workers(command)) == 2


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def ledger(folder: Path, word: str) -> list[tuple[int, str, str]]:
    lines = [line.split() for line in (folder / "ledger").read_text().splitlines()]
    return [(int(pid), queue, number) for pid, found, queue, number in lines if found == word]


@pytest.mark.acceptance(3, 12, 65)
async def test_processes_of_a_file_share_its_queues_and_never_touch_those_of_another(
    start: Callable[..., Command], folder: Path, redis_url: str
) -> None:
    common = f'modules = ["many_shop"]\nredis_url = "{redis_url}"\nprefetch = 0\nlease = 1\nconcurrency = 1\n'
    (folder / "mail.toml").write_text(common + "processes = 2\nqueues = {mail = 5, urgent = 1}\n")
    (folder / "aiojobs_rt.toml").write_text(common + 'processes = 2\nqueues = ["reports"]\n')
    mail = start("worker", "--config", "mail.toml", log="mail.log")
    reports = start("worker", "--concurrency", "2", log="reports.log")  # the flag comes before the file
    for command in (mail, reports):
        await wait_until(partial(both_work, command), timeout=30, what="two processes to work")
    assert "queues mail, urgent, concurrency 1," in mail.log
    assert "queues reports, concurrency 2," in reports.log

    async with RedisAdapter(redis_url) as adapter:
        for queue in ("mail", "urgent", "reports"):
            await perform_all_later([note(adapter, queue, number) for number in range(16)])
        await wait_until(lambda: len(ledger(folder, "end")) == 48, timeout=30, what="the end of all jobs")
        for command, queues in ((mail, {"mail", "urgent"}), (reports, {"reports"})):
            mine = [line for line in ledger(folder, "end") if line[1] in queues]
            assert {pid for pid, _, _ in mine} == set(workers(command)), "all processes share, and nobody else"
            assert len(set(mine)) == 16 * len(queues), "each once"
        assert len(ledger(folder, "begin")) == 48

        # killed with -9: replaced, and its job runs again
        class_of(ManyPatient, adapter)
        await ManyPatient.set(queue="mail").perform_later()
        await wait_until(lambda: bool(ledger(folder, "patient")), timeout=20, what="the job to start")
        victim = ledger(folder, "patient")[0][0]
        os.kill(victim, signal.SIGKILL)
        (folder / "go").touch()
        await wait_until(lambda: bool(ledger(folder, "done")), timeout=20, what="the job to run elsewhere")
        assert ledger(folder, "done")[0][0] != victim
        await wait_until(lambda: len(workers(mail)) == 3, timeout=20, what="another process")
        assert f"(pid {victim}) ended with signal 9 (SIGKILL); another one starts" in mail.log

    mail.send(signal.SIGTERM)
    assert mail.ends() == 0
    assert not any(alive(pid) for pid in workers(mail))
    assert mail.log.count("SIGTERM: stopping") == 2

    # the parent is killed: nobody else is left to stop them
    os.kill(reports.pid, signal.SIGKILL)
    reports.ends()
    await wait_until(lambda: not any(map(alive, workers(reports))), timeout=20, what="the end of the children")
    assert reports.log.count("the parent process is gone") == 2
    assert reports.log.count("stopped after") == 2
    assert "Traceback" not in mail.log + reports.log


def class_of(job_class: Any, adapter: RedisAdapter) -> Any:
    job_class.adapter = adapter
    return job_class


def note(adapter: RedisAdapter, queue: str, number: int) -> Any:
    return class_of(ManyNote, adapter).set(queue=queue).bind(number)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["many_wrong"], "Error: module many_wrong can't be imported: ValueError: on import\n"),
        (["many_shop", "--redis-url", "embedded://"], "Error: embedded:// is a temporary Redis of one process"),
    ],
    ids=["import", "embedded"],
)
def test_what_keeps_one_from_starting_is_said_once_and_ends_all(
    start: Callable[..., Command], folder: Path, arguments: list[str], said: str
) -> None:
    (folder / "many_wrong.py").write_text("raise ValueError('on import')\n")
    command = start("worker", "--processes", "3", *arguments)
    assert command.ends() == 1
    assert command.log.count("Error:") == 1 + said.count("ValueError")
    assert command.log.count(said) == 1
    assert "can't start: all are stopped" in command.log


async def test_burst_ends_all_when_the_queues_are_drained(
    start: Callable[..., Command], folder: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOJOBS_RT_PROCESSES", "2")
    async with RedisAdapter(redis_url) as adapter:
        await perform_all_later([note(adapter, "default", number) for number in range(100)])
    command = start("worker", "many_shop", "--burst", "-c", "2", "--redis-url", redis_url)
    assert command.ends() == 0, command.log
    assert len(ledger(folder, "end")) == 100
    assert command.log.count("has ended as it was told") == 2


def test_with_reload_the_parent_of_the_processes_is_a_child_and_ends_with_its_parent(
    start: Callable[..., Command], redis_url: str
) -> None:
    pytest.importorskip("watchfiles")
    command = start("worker", "many_shop", "--reload", "--processes", "2", "--redis-url", redis_url)
    wait_for(lambda: len(workers(command)) == 2, timeout=30, what="two processes to work")
    assert command.log.count("watching the .py files") == 1
    os.kill(command.pid, signal.SIGKILL)
    command.ends()
    wait_for(lambda: not any(map(alive, workers(command))), timeout=20, what="the end of the children")
    assert command.log.count("the parent process is gone") == 1


def test_without_modules_it_is_said_where_they_may_stand(start: Callable[..., Command], folder: Path) -> None:
    command = start("worker")
    assert command.ends() == 2
    assert "as modules in aiojobs_rt.toml" in command.log
