"""The commands against a real Redis: in this process where a process is not the point, else as `python -m aiojobs_rt`."""

from __future__ import annotations

import json
import logging
import signal
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from aiojobs_rt.adapters.redis.endpoint import Endpoint
from aiojobs_rt.cli.app import app
from aiojobs_rt.core import registry
from aiojobs_rt.settings import settings
from tests.support.command import Command
from tests.support.raw_queue import RawQueue, dead
from tests.support.redis_server import SUITE_UNDER_ACL
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOWHERE = "redis://:hunter2@127.0.0.1:1/0"
JOBS = """
    import asyncio
    from pathlib import Path
    from aiojobs_rt import Job

    class ShopJob(Job):
        async def perform(self, *args: int) -> None: ...

    class Add(Job):
        keep_result = 60
        async def perform(self, a: int, b: int = 1) -> int:
            self.logger.info("adding")
            return a + b

    class Boom(Job):
        max_attempts = 1
        async def perform(self) -> None:
            raise ValueError("boom")

    class Slow(Job):
        queue = "slow"
        async def perform(self, seconds: float) -> None:
            Path("slow.started").touch()
            await asyncio.sleep(seconds)
            Path("slow.done").touch()

    class Stubborn(Job):
        queue = "slow"
        async def perform(self) -> None:
            Path("stubborn.started").touch()
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with a module `cli_shop` of jobs; afterwards its classes, and the environment, are as before."""
    (tmp_path / "cli_shop.py").write_text(textwrap.dedent(JOBS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("AIOJOBS_RT_REDIS_URL", "AIOJOBS_RT_ENQUEUE_TIMEOUT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    known = dict(registry._classes)
    yield tmp_path
    registry._classes.clear()
    registry._classes.update(known)
    sys.modules.pop("cli_shop", None)
    settings.cache_clear()


@pytest.fixture
def shop(folder: Path, redis_url: str) -> Callable[..., Any]:
    """Run a command in this process; its result."""

    def run(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--redis-url", redis_url])
        assert result.exit_code == code, result.output
        if code:
            assert result.stderr.startswith("Error: ")
            assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def start(folder: Path, redis_url: str) -> Iterator[Callable[..., Command]]:
    """Start a command."""
    started: list[Command] = []

    def run(*arguments: str, url: str = redis_url) -> Command:
        started.append(Command(folder, *arguments, "--redis-url", url))
        return started[-1]

    yield run
    for command in started:
        command.dispose()


# -- in this process -------------------------------------------------------------------------------


def test_enqueue_by_class_and_by_name(shop: Callable[..., Any], redis_url: str) -> None:
    first = shop("enqueue", "cli_shop:Add", '{"a": 1, "b": 2}').stdout.strip()
    second = shop("enqueue", "-m", "cli_shop", "Add", "[5]", "-q", "other").stdout.strip()
    assert first.startswith("default.")
    assert second.startswith("other.")
    with RawQueue(redis_url, "other") as queue:
        ((_, fields),) = queue.client.xrange(queue.keys.stream)
    assert fields[b"job"] == b"Add"
    assert fields[b"args"] == b'{"a":5}'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cli_shop:Add", '{"a": "x"}'], "Add.perform() got arguments that do not fit"),
        (["cli_shop:Add", "{}"], "missing 1 required positional argument: 'a'"),
        (["cli_shop:Add", '{"c": 1}'], "unexpected keyword argument 'c'"),
        (["-m", "cli_shop", "Nope"], "there is no job named 'Nope'; there are: "),
        (["-m", "nope", "Add"], "there is no module 'nope'"),
        (["cli_shop:Nope"], "'Nope' in module cli_shop is no job class; there are: Add, "),
        (["cli_shop.Add"], "or write cli_shop:Add"),
        (["cli_shop:"], "'cli_shop:' names no job: write MODULE:CLASS"),
        ([":Add"], "':Add' names no job: write MODULE:CLASS"),
        (["cli_shop:Boom", "--wait", "1"], "Boom keeps no result to wait for"),
    ],
)
def test_what_cannot_be_enqueued_is_one_sentence(
    shop: Callable[..., Any], redis_url: str, arguments: list[str], said: str
) -> None:
    result = shop("enqueue", *arguments, code=1)
    assert said in result.stderr
    assert result.stdout == ""
    with RawQueue(redis_url, "default") as queue:
        assert not queue.leftovers()


def test_the_tables_and_their_json(shop: Callable[..., Any], redis_url: str) -> None:
    assert shop("queues").stdout == "No queue has been used yet.\n"
    assert shop("workers").stdout == "No worker runs.\n"
    assert shop("jobs", "list").stdout == "No jobs; finished ones: --state finished\n"
    assert "has named queue mailer so far: there are none yet" in shop("jobs", "list", "-q", "mailer").stderr
    job_id = shop("enqueue", "cli_shop:Add", '{"a": 41}').stdout.strip()
    with RawQueue(redis_url, "default") as queue:
        queue.register("w-1.0")
        assert job_id in shop("jobs", "list").stdout
        assert "has named queue mailer so far: there are default." in shop("jobs", "list", "-q", "mailer").stderr
        assert shop("jobs", "list", "-q", "default", "--state", "dead").stderr == ""
        (row,) = [line.split() for line in shop("queues").stdout.splitlines() if "default" in line]
        assert row[:6] == ["default", "1", "0", "0", "0", "0"]
        assert row[-1] == "w-1"
        (found,) = json.loads(shop("queues", "--json").stdout)
        assert (found["name"], found["waiting"], found["workers"]) == ("default", 1, ["w-1"])
        listed = json.loads(shop("jobs", "list", "--json", "--state", "waiting").stdout)
        assert [job["id"] for job in listed["jobs"]] == [job_id]
        assert json.loads(shop("workers", "--json").stdout)[0]["name"] == "w-1"
        assert "w-1" in shop("workers").stdout


def test_arguments_are_shown_only_when_asked_for(shop: Callable[..., Any]) -> None:
    job_id = shop("enqueue", "cli_shop:Add", '{"a": 4242}').stdout.strip()
    assert "4242" not in shop("jobs", "show", job_id).stdout
    assert "4242" not in shop("jobs", "show", job_id, "--json").stdout
    assert '{"a":4242}' in shop("jobs", "show", job_id, "--args").stdout
    assert json.loads(shop("jobs", "show", job_id, "--json", "--args").stdout)["args"] == '{"a":4242}'
    assert "nothing is known of job default.nobody" in shop("jobs", "show", "default.nobody", code=1).stderr


def test_retry_discard_and_cancel(shop: Callable[..., Any], redis_url: str) -> None:
    with RawQueue(redis_url, "default") as queue:
        queue.register("w-1.0")
        queue.enqueue("default.a", "default.b", "default.c")
        queue.settle("w-1.0", *map(dead, queue.read("w-1.0", count=3)))
        assert "ValueError: boom" in shop("jobs", "show", "default.a").stdout
        assert shop("jobs", "retry", "default.a").stdout == "Job default.a runs now.\n"
        assert "waits or runs already" in shop("jobs", "retry", "default.a", code=1).stderr
        assert shop("jobs", "cancel", "default.a").stdout == "Job default.a is cancelled.\n"
        assert "has ended" in shop("jobs", "cancel", "default.a", code=1).stderr
        assert shop("jobs", "discard", "default.b").stdout == "Job default.b is discarded.\n"
        assert "has ended already" in shop("jobs", "discard", "default.b", code=1).stderr
        assert (
            shop("jobs", "retry", "--all-dead", "-q", "default").stdout == "1 dead job(s) of queue default run again.\n"
        )
        queue.settle("w-1.0", *map(dead, queue.read("w-1.0")))
        assert (
            shop("jobs", "discard", "--all-dead", "-q", "default").stdout
            == "1 dead job(s) of queue default are discarded.\n"
        )
        assert not queue.leftovers()


def test_pause_and_resume(shop: Callable[..., Any], redis_url: str) -> None:
    with RawQueue(redis_url, "default") as queue:
        queue.client.sadd("aiojobs:queues", "default")
        assert shop("pause", "default").stdout == "Queue default is paused.\n"
        assert shop("pause", "default").stdout == "Queue default was paused already.\n"
        assert "default (paused)" in shop("queues").stdout
        assert shop("resume", "default").stdout == "Queue default is read again.\n"
        assert shop("resume", "default").stdout == "Queue default was not paused.\n"
        assert "(paused)" not in shop("queues").stdout

        unknown = shop("pause", "defualt")
        assert unknown.stdout == "Queue defualt is paused.\n"
        assert unknown.stderr.startswith("No job or worker has named this queue so far: there are default.")
        shop("resume", "defualt")


def test_a_list_says_how_it_goes_on(shop: Callable[..., Any], redis_url: str) -> None:
    with RawQueue(redis_url, "default") as queue:
        queue.client.sadd("aiojobs:queues", "default")
        queue.enqueue(*(f"default.{number}" for number in range(5)), route="+60000")
        page = ("jobs", "list", "-q", "default", "--state", "scheduled", "--limit", "3")
        assert shop(*page).stdout.endswith("There may be more: --after 3\n")
        rest = shop(*page, "--after", "3").stdout
        assert rest.count("default.") == 2
        assert "more" not in rest
        assert "There may be more: name --queue and --state" in shop("jobs", "list", "--limit", "3").stdout


@pytest.mark.skipif(SUITE_UNDER_ACL, reason="it looks at CONFIG and INFO, which no role may")
@pytest.mark.acceptance(36)
def test_the_doctor_says_what_to_do_and_ends_with_1_on_an_error(folder: Path, redis_url: str) -> None:
    with RawQueue(redis_url, "default") as queue:
        arguments = ["doctor", "--redis-url", redis_url]
        healthy = CliRunner().invoke(app, arguments)
        assert healthy.exit_code == 0, healthy.output
        assert "OK     eviction: maxmemory-policy is noeviction." in healthy.stdout
        queue.client.sadd("aiojobs:queues", "default")
        queue.enqueue("default.a")
        sick = CliRunner().invoke(app, arguments)
        assert sick.exit_code == 1
        assert "ERROR  queue default: No worker serves it: 1 job waiting" in sick.stdout
        assert "-> Start one: python -m aiojobs_rt worker MODULE -q default" in sick.stdout


@pytest.mark.acceptance(36, 60)
def test_the_doctor_finds_jobs_that_a_worker_of_these_modules_would_not_know(
    shop: Callable[..., Any], redis_url: str
) -> None:
    shop("enqueue", "cli_shop:Add", "[1]")
    with RawQueue(redis_url, "default") as queue:
        queue.enqueue("default.a")  # of a class Job
        queue.enqueue("default.b", "default.c", route="+60000")
        shown = CliRunner().invoke(app, ["doctor", "cli_shop", "--redis-url", redis_url])
        assert "5 job class(es) from cli_shop; their queues: default, slow." in shown.stdout
        assert f"Redis at {Endpoint(redis_url).display}, keys under aiojobs:" in shown.stdout
        told = "queue default: 3 jobs of classes that these modules do not define: Job (3)."
        assert f"WARN   {told}\n       -> Name their modules too" in shown.stdout
        assert told not in CliRunner().invoke(app, ["doctor", "--redis-url", redis_url]).stdout


def test_the_doctor_says_where_it_has_looked_at_the_first_jobs_only(
    shop: Callable[..., Any], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiojobs_rt.admin.doctor.MOST_JOBS", 3)
    for number in range(3):
        shop("enqueue", "cli_shop:Add", f"[{number}]")
    arguments = ["doctor", "cli_shop", "--redis-url", redis_url]
    assert "were looked at" not in CliRunner().invoke(app, arguments).stdout
    shop("enqueue", "cli_shop:Add", "[3]")
    told = "queue default: No job of an unknown class was found. Only the first 3 jobs waiting were looked at."
    assert f"OK     {told}" in CliRunner().invoke(app, arguments).stdout
    with RawQueue(redis_url, "default") as queue:
        queue.enqueue(*(f"default.{letter}" for letter in "abcd"), route="+60000")
    shown = CliRunner().invoke(app, arguments).stdout
    told = "Job (3). Only the first 3 jobs waiting and scheduled were looked at."
    assert f"3 jobs of classes that these modules do not define: {told}" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        "queues", "workers", "doctor", "doctor cli_shop", "jobs list", "jobs show default.a", "jobs retry default.a", "jobs discard default.a",
        "jobs cancel default.a", "jobs retry --all-dead -q default", "enqueue cli_shop:Add [1]",
    ],
)  # fmt: skip
def test_without_redis_a_command_fails_in_seconds_and_shows_no_password(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    monkeypatch.setenv("AIOJOBS_RT_ENQUEUE_TIMEOUT", "0.5")
    result = CliRunner().invoke(app, [*arguments.split(), "--redis-url", NOWHERE])
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert "redis://:***@127.0.0.1:1/0" in result.stderr
    assert "hunter2" not in result.output


def test_without_redis_it_is_said_how_another_is_named() -> None:
    result = CliRunner().invoke(app, ["queues", "--redis-url", NOWHERE])
    assert result.stderr.endswith(
        " Is Redis running there? --redis-url, AIOJOBS_RT_REDIS_URL or redis_url in aiojobs_rt.toml names another.\n"
    )


def test_a_refused_password_is_not_shown(shop: Callable[..., Any], redis_url: str) -> None:
    url = redis_url.replace("//", "//someone:hunter2@")
    result = CliRunner().invoke(app, ["doctor", "--redis-url", url])
    assert result.exit_code == 1
    assert "hunter2" not in result.output
    assert "WRONGPASS" in result.stderr or "invalid username-password" in result.stderr


# -- as a process ----------------------------------------------------------------------------------


@pytest.mark.acceptance(11, 36, 55)
def test_a_worker_runs_jobs_obeys_signals_and_ends_with_0(
    start: Callable[..., Command], shop: Callable[..., Any], folder: Path, redis_url: str
) -> None:
    slow = shop("enqueue", "cli_shop:Slow", '{"seconds": 1.5}').stdout.strip()
    worker = start("worker", "cli_shop", "-q", "slow,2", "-q", "default", "--log-format", "json", "-c", "7")
    wait_for((folder / "slow.started").exists, timeout=20, what="the job to start")
    answer = shop("enqueue", "cli_shop:Add", '{"a": 40, "b": 2}', "--wait", "10").stdout.split()
    assert answer[1] == "42"
    worker.send(signal.SIGUSR2)
    worker.says("stacks of all tasks and threads")
    worker.send(signal.SIGTSTP)
    worker.says("quiet: no more jobs are fetched")
    waiting = shop("enqueue", "cli_shop:Add", "[1]").stdout.strip()
    worker.send(signal.SIGTERM)
    assert worker.ends() == 0
    lines = [json.loads(line) for line in worker.log.splitlines()]
    assert (folder / "slow.done").exists(), "a running job may finish"
    first = lines[0]["message"]
    assert (
        f"5 job class(es) from cli_shop; Redis {Endpoint(redis_url).display}, queues slow, default, concurrency 7"
        in first
    )
    adding = next(line for line in lines if line["message"] == "adding")
    assert (adding["job_id"], adding["job"], adding["queue"], adding["executions"]) == (answer[0], "Add", "default", 1)
    dump = next(line["message"] for line in lines if line["message"].startswith("stacks of all"))
    assert f"1 x job {slow} (Slow)" in dump
    assert "in perform" in dump
    assert "thread aiojobs_rt:heartbeat" in dump
    assert any("Persistence is off" in line["message"] for line in lines) != SUITE_UNDER_ACL
    with RawQueue(redis_url, "default") as queue:
        assert [job["id"] for job in json.loads(shop("jobs", "list", "--json").stdout)["jobs"]] == [waiting]
        assert queue.client.zcard(queue.keys.workers) == 0


@pytest.mark.acceptance(22, 36)
def test_a_second_signal_stops_at_once_and_an_idle_queue_is_named(
    start: Callable[..., Command], shop: Callable[..., Any], folder: Path
) -> None:
    shop("enqueue", "cli_shop:Add", "[1]")
    job_id = shop("enqueue", "cli_shop:Slow", "[60]").stdout.strip()
    worker = start("worker", "cli_shop", "-q", "slow")
    wait_for((folder / "slow.started").exists, timeout=20, what="the job to start")
    worker.says("queue default: 1 job(s) wait, and no worker serves it")
    worker.send(signal.SIGINT)
    worker.says("may finish within 25 s")
    worker.send(signal.SIGINT)
    assert worker.ends() == 0
    assert not (folder / "slow.done").exists()
    found = json.loads(shop("jobs", "show", job_id, "--json").stdout)
    assert (found["state"], found["interruptions"], found["failures"]) == ("waiting", 1, 0)


def test_a_job_that_swallows_its_cancellation_does_not_keep_the_process(
    start: Callable[..., Command], shop: Callable[..., Any], folder: Path
) -> None:
    shop("enqueue", "cli_shop:Stubborn")
    worker = start("worker", "cli_shop", "-q", "slow", "--shutdown-timeout", "0.1")
    wait_for((folder / "stubborn.started").exists, timeout=20, what="the job to start")
    worker.send(signal.SIGTERM)
    assert worker.ends() == 0
    assert "ignores its cancellation" in worker.log


def test_burst_drains_and_an_explicit_adapter_wins_over_the_flag(
    start: Callable[..., Command], folder: Path, redis_url: str, shop: Callable[..., Any]
) -> None:
    (folder / "explicit.py").write_text(
        f"from aiojobs_rt import Job, RedisAdapter\nclass Own(Job):\n    adapter = RedisAdapter({redis_url!r})\n"
        "    async def perform(self) -> None:\n        print('it ran')\n"
    )
    with RawQueue(redis_url, "default") as queue:
        queue.client.xadd(queue.keys.stream, {"id": "default.a", "job": "Own", "args": "{}", "meta": '{"v":1,"at":1}'})
    worker = start("worker", "explicit", "--burst", url=NOWHERE)
    assert worker.ends() == 0
    assert "it ran" in worker.log
    assert (
        f"the given Redis URL is not used: the job classes name an adapter of their own, at {Endpoint(redis_url).display}"
        in worker.log
    )
    assert "hunter2" not in worker.log


def test_a_worker_without_redis_waits_with_one_line_and_still_obeys(start: Callable[..., Command]) -> None:
    worker = start("worker", "cli_shop", url=NOWHERE)
    worker.says("Redis at redis://:***@127.0.0.1:1/0 is away")
    worker.send(signal.SIGTERM)
    assert worker.ends() == 0
    assert worker.log.count("is away") == 1
    assert "hunter2" not in worker.log
    assert "Traceback" not in worker.log


def test_a_worker_that_cannot_start_says_why(start: Callable[..., Command], folder: Path) -> None:
    (folder / "cli_wrong.py").write_text("import cli_shop\nraise ValueError('on import')\n")
    worker = start("worker", "cli_wrong")
    assert worker.ends() == 1
    assert "Error: module cli_wrong can't be imported: ValueError: on import\n" in worker.log
    assert "cli_wrong.py" in worker.log
    assert "importlib" not in worker.log


def test_reload_starts_the_worker_anew_when_a_file_changes(start: Callable[..., Command], folder: Path) -> None:
    pytest.importorskip("watchfiles")
    worker = start("worker", "cli_shop", "--reload")
    worker.says(": queues default, slow")
    (folder / "cli_shop.py").write_text("this is no Python")
    worker.says("it starts again at the next change")
    (folder / "cli_shop.py").write_text(textwrap.dedent(JOBS) + "\n# better\n")
    worker.says(": queues default, slow", times=2)
    worker.send(signal.SIGINT)
    assert worker.ends() == 0
    assert "SIGTERM: stopping" in worker.log
    assert "SIGINT: stopping" in worker.log


def test_reload_without_watchfiles_says_what_to_install(
    shop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        assert "pip install 'aiojobs_rt[reload]'" in shop("worker", "cli_shop", "--reload", code=1).stderr
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
