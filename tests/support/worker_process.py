"""Worker processes for tests: `python -m aiojobs_rt worker`, or a script that does the same, as children that can be hurt."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from tests.support import forks
from tests.support.acl import as_default
from tests.support.ledger import Ledger
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = forks.ROOT
COMMAND = (sys.executable, "-m", "aiojobs_rt", "worker")
JOBS = "tests.support.jobs"
LEDGER = "TEST_LEDGER"
"""The environment variable that tells the jobs of a worker where their ledger is."""


class WorkerProcess:
    """A worker in a process of its own.

    Args:
        url: of its Redis.
        log: the file that its output goes to.
        arguments: of the command.
        environment: beside that of this process.
        fresh: start a Python of its own; else it is forked from one that has imported the package and the jobs.
    """

    def __init__(
        self, url: str, *, log: Path, arguments: Sequence[str], environment: Mapping[str, str], fresh: bool
    ) -> None:
        self._log = log
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIOJOBS_RT_")},
            "AIOJOBS_RT_REDIS_URL": url,
            "PYTHONPATH": os.pathsep.join(entry for entry in (os.environ.get("PYTHONPATH"), str(ROOT)) if entry),
            "PYTHONWARNINGS": "default",
            **environment,
        }
        log.touch()
        self._process = (
            _fresh(arguments, environment, log)
            if fresh
            else forks.Fork(forks.command, ["worker", *arguments], environment, str(log))
        )
        self.pid = self._process.pid

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.poll()

    async def ready(self, *, timeout: float = 20.0) -> None:  # noqa: ASYNC109 - as wait_until
        """Wait until it has its leases and fetches."""
        await wait_until(
            lambda: self.exit_code is not None or re.search(r"worker \S+: queues ", self.log),
            timeout=timeout,
            what=f"worker {self.pid} to start",
        )
        assert self.exit_code is None, f"the worker ended at once ({self.exit_code}):\n{self.log[-3000:]}"

    def send(self, number: signal.Signals) -> float:
        """Send a signal; when it was sent (time.monotonic)."""
        os.kill(self.pid, number)
        return time.monotonic()

    def kill(self) -> float:
        """SIGKILL, and wait for the end; when that was."""
        self._process.kill()
        self._process.wait()
        return time.monotonic()

    def pause(self) -> None:
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def terminate(self) -> float:
        return self.send(signal.SIGTERM)

    async def ended(self, *, timeout: float = 15.0) -> int:  # noqa: ASYNC109 - as wait_until
        """Wait for its end; the exit code."""
        await wait_until(lambda: self.exit_code is not None, timeout=timeout, what=f"worker {self.pid} to end")
        assert self.exit_code is not None
        return self.exit_code

    def dispose(self) -> None:
        """Make sure that it is gone."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def memory(self) -> int:
        """Its resident bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"worker {self.pid} is gone")

    def files(self) -> int:
        """How many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def lines(self, *, since: int = 0) -> list[str]:
        """The log's lines of the package, from a position in `log`; without those of jobs that fail on purpose."""
        return [line for line in self.log[since:].splitlines() if " aiojobs_rt" in line]


def _fresh(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


class Fleet:
    """Workers on one Redis, and the ledger of their jobs. Whatever a test leaves running is killed at its end.

    Attributes:
        ledger: where the jobs write.
        tracebacks: whether tracebacks in a worker's log are no fault.
        fresh: whether workers are processes as users start them, from the first line on; it takes most of a second each.
    """

    def __init__(self, url: str, folder: Path, *, fresh: bool = False) -> None:
        self.url = url
        self.fresh = fresh
        self.ledger = Ledger(folder / "ledger")
        self.tracebacks = False
        self._folder = folder
        self.workers: list[WorkerProcess] = []

    def client(self) -> Any:
        """A client for looking into Redis, to be used in `with`; its replies are bytes, and not typed."""
        return redis.Redis.from_url(as_default(self.url))

    def launch(
        self,
        *,
        queues: Sequence[str] = ("default",),
        concurrency: int = 10,
        lease: float = 1.0,
        shutdown_timeout: float = 5.0,
        burst: bool = False,
        modules: Sequence[str] = (JOBS,),
        environment: Mapping[str, str] | None = None,
        url: str | None = None,
    ) -> WorkerProcess:
        """Start a worker; it need not be there yet when this returns."""
        arguments = [*modules]
        for queue in queues:
            arguments += ["-q", queue]
        arguments += ["-c", str(concurrency), "--lease", str(lease), "--shutdown-timeout", str(shutdown_timeout)]
        arguments += ["--log-level", "info", *(["--burst"] if burst else [])]
        worker = WorkerProcess(
            url or self.url,
            log=self._folder / f"worker-{len(self.workers)}.log",
            arguments=arguments,
            environment={LEDGER: str(self.ledger.path), **(environment or {})},
            fresh=self.fresh or tuple(modules) != (JOBS,),
        )
        self.workers.append(worker)
        return worker

    async def start(
        self,
        *,
        queues: Sequence[str] = ("default",),
        concurrency: int = 10,
        lease: float = 1.0,
        shutdown_timeout: float = 5.0,
        environment: Mapping[str, str] | None = None,
        url: str | None = None,
    ) -> WorkerProcess:
        """Start a worker and wait until it fetches."""
        worker = self.launch(
            queues=queues,
            concurrency=concurrency,
            lease=lease,
            shutdown_timeout=shutdown_timeout,
            environment=environment,
            url=url,
        )
        await worker.ready()
        return worker

    async def written(self, event: str, count: int, *, timeout: float = 20.0) -> None:  # noqa: ASYNC109 - as wait_until
        """Wait until the ledger holds so many lines of a kind."""
        await wait_until(
            lambda: self.ledger.count(event) >= count,  # type: ignore[arg-type] # one of three words
            timeout=timeout,
            interval=0.02,
            what=f"{count} lines of {event!r} in the ledger (there are {self.ledger.count(event)} at first)",  # type: ignore[arg-type] # as above
        )

    async def all_ended(self, count: int, *, timeout: float = 20.0) -> None:  # noqa: ASYNC109 - as wait_until
        """Wait until so many different jobs have ended; one that ended twice counts once."""
        await wait_until(
            lambda: len(set(self.ledger.read().ids("end"))) >= count,
            timeout=timeout,
            interval=0.05,
            what=f"the end of {count} different jobs",
        )

    def close(self) -> None:
        """Kill what still runs; show the logs, for a test that failed, and complain of tracebacks."""
        for worker in self.workers:
            worker.dispose()
        self.ledger.close()
        for number, worker in enumerate(self.workers):
            print(f"---- worker {number}, pid {worker.pid}, exit {worker.exit_code}\n{worker.log[-6000:]}")  # noqa: T201 - pytest shows it when the test fails
        if not self.tracebacks:
            for worker in self.workers:
                assert "Traceback" not in worker.log, (
                    f"a traceback in the log of worker {worker.pid}:\n{worker.log[-6000:]}"
                )
