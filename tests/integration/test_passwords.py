"""A password in a Redis URL is in no command's output and in no log, wherever in the URL it stands, and whether the command works or fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from aiojobs_rt.cli.app import app
from aiojobs_rt.settings import settings
from tests.support import acl
from tests.support.redis_server import RedisServer, free_port
from tests.support.waiting import wait_for
from tests.support.worker_process import JOBS, ROOT, Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WRONG = "hunter2-hunter3"
COMMANDS = [
    "queues", "queues --json", "workers", "workers --json", "doctor", "jobs list", "jobs list --json", "jobs list -q default --state finished",
    "jobs show default.a", "jobs show default.a --json --args", "jobs retry default.a", "jobs retry --all-dead -q default", "jobs discard default.a",
    "jobs discard --all-dead -q default", "jobs cancel default.a", "pause default", "resume default", f"enqueue {JOBS}:Nap [1]",
    f'enqueue {JOBS}:FaultEcho ["x"] --wait 0.1', f"worker {JOBS} -q default,x", "worker no_such_module", "jobs list --after x", "queues --no-such-option", "nothing",
]  # fmt: skip


def every_help() -> list[str]:
    """`--help` of every command and group."""
    found = ["--help", "--version"]

    def walk(group: Any, path: str) -> None:
        for name, command in group.commands.items():
            found.append(f"{path}{name} --help")
            if hasattr(command, "commands"):
                walk(command, f"{path}{name} ")

    walk(typer.main.get_command(app), "")
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "operator", *acl.roles(server.binary.version)["operator"])
            client.execute_command("ACL", "SETUSER", "worker", *acl.roles(server.binary.version)["worker"])
        yield server


def urls(port: int, nowhere: int) -> dict[str, str]:
    right, wrong = acl.PASSWORD, WRONG
    return {
        "works": f"redis://operator:{right}@127.0.0.1:{port}/0",
        "works, in the query": f"redis://127.0.0.1:{port}/0?username=operator&password={right}",
        "refused": f"redis://operator:{wrong}@127.0.0.1:{port}/0",
        "refused, in the query": f"redis://127.0.0.1:{port}/0?username=operator&password={wrong}",
        "nobody there": f"redis://:{right}@127.0.0.1:{nowhere}/0",
        "nobody there, TLS": f"rediss://u:{right}@127.0.0.1:{nowhere}/0?ssl_password={right}",
        "unix": f"unix://u:{right}@/no/such.sock?db=1&password={right}",
        "sentinel": f"redis+sentinel://u:{right}@127.0.0.1:{nowhere},127.0.0.1:{port}/jobs/0?sentinel_username=s&sentinel_password={right}",
        "cluster": f"redis+cluster://u:{right}@127.0.0.1:{nowhere},127.0.0.1:{nowhere}/?password={right}",
        "no cluster": f"redis+cluster://operator:{right}@127.0.0.1:{port}",
        "no port": f"redis://u:{right}", "slash in it": f"redis://u:a/{right}@127.0.0.1:{port}/0", "at in it": f"redis://u:a@{right}@127.0.0.1:{nowhere}/0",
        "hash in it": f"redis://u:a#{right}@127.0.0.1:{nowhere}/0", "a wrong option": f"redis://u:{right}@127.0.0.1:{port}/0?socket_timeout=x",
        "an unheard-of option": f"redis://u:{right}@127.0.0.1:{port}/0?passwort={right}", "no scheme": f"u:{right}@h", "another scheme": f"http://u:{right}@h/",
    }  # fmt: skip


@pytest.mark.acceptance(36)
@pytest.mark.parametrize("kind", urls(1, 2))
def test_no_command_shows_it(
    server: RedisServer, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = urls(server.port, free_port())[kind]
    monkeypatch.setenv("AIOJOBS_RT_ENQUEUE_TIMEOUT", "0.05")
    monkeypatch.setenv("AIOJOBS_RT_REDIS_URL", url)
    caplog.set_level("DEBUG")
    few = [line for line in COMMANDS if line.split()[0] in ("queues", "doctor", "enqueue", "jobs", "nothing")]
    lines = [line for line in (COMMANDS if kind.startswith("works") else few[:8]) if not line.startswith("worker jobs")]
    shown = ""
    for line in lines + (every_help() if kind == "works" else []):
        if line.startswith("worker tests"):
            continue
        for arguments in (line.split(), [*line.split(), "--redis-url", url]):
            settings.cache_clear()
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code in (0, 1, 2), result.output
            assert result.exception is None or isinstance(result.exception, SystemExit), (line, result.exception)
            shown += result.output
    settings.cache_clear()
    assert len(shown) > 200
    assert "hunter" not in shown
    assert "hunter" not in caplog.text


def test_no_worker_logs_it(server: RedisServer, tmp_path: Path) -> None:
    """From start to stop, with all tasks' stacks in between, in both formats, at level debug; and one whose password is refused."""
    fleet = Fleet(f"redis://worker:{acl.PASSWORD}@127.0.0.1:{server.port}/0", tmp_path)
    try:
        for form in ("text", "json"):
            worker = fleet.launch(
                environment={"AIOJOBS_RT_LOG_FORMAT": form, "AIOJOBS_RT_LOG_LEVEL": "debug", "PYTHONASYNCIODEBUG": "1"}
            )
            wait_for(lambda worker=worker: "concurrency 10, Redis" in worker.log, timeout=20, what="the worker")  # type: ignore[misc] # a lambda's default
            worker.send(signal.SIGUSR2)
            wait_for(lambda worker=worker: "stacks of all" in worker.log, what="the stacks")  # type: ignore[misc] # a lambda's default
            with server.client() as client:
                client.client_kill_filter(_type="normal", skipme=True)
            worker.terminate()
            wait_for(lambda worker=worker: worker.exit_code is not None, timeout=15, what="its end")  # type: ignore[misc] # a lambda's default
            assert worker.exit_code == 0
        refused = fleet.launch(url=f"redis://worker:{WRONG}@127.0.0.1:{server.port}/0")
        wait_for(lambda: refused.exit_code is not None, timeout=20, what="the end of a worker that is refused")
        assert refused.exit_code == 1
        assert "Traceback" not in refused.log
        for worker in fleet.workers:
            assert len(worker.log) > 50
            assert "hunter" not in worker.log
    finally:
        fleet.close()


def test_no_traceback_shows_it() -> None:
    """Of an application that does not catch the error, with the asyncio debug mode's words."""
    url = f"rediss://u:{acl.PASSWORD}@127.0.0.1:{free_port()}/0?ssl_password={acl.PASSWORD}"
    program = (
        "import asyncio, os, logging; logging.basicConfig(level='DEBUG')\n"
        "from aiojobs_rt import Job, RedisAdapter\n"
        "class Lost(Job):\n"
        "    adapter = RedisAdapter(os.environ['URL'], enqueue_timeout=0.1)\n"
        "    async def perform(self) -> None: ...\n"
        "asyncio.run(Lost.perform_later(), debug=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program],
        cwd=ROOT, env={**os.environ, "URL": url}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "EnqueueError" in done.stderr
    assert "hunter" not in done.stdout + done.stderr
