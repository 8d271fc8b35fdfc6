"""Child processes: a worker or a producer, what it costs, and how it ends.

None gets a session of its own: a process that is alone in its session competes as a group of one (autogroups), which quadruples latencies.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import Produced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

ROOT = Path(__file__).parent.parent
SCHEDULED = 2  # the clock of CPU time as the scheduler counts it, in ns; see clock_getcpuclockid(3)


def run_producer(command: Sequence[str], environment: Mapping[str, str], *, timeout: float) -> Produced:
    """Run a producer to its end.

    Raises:
        RuntimeError: it failed.
    """
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"the producer failed ({ended.returncode}): {ended.stderr[-4000:]}")
    return Produced(**json.loads(ended.stdout))


class WorkerProcess:
    """A worker, from start to TERM: `with WorkerProcess(...) as worker`.

    Args:
        command: what python is to run.
        environment: beside this process' own.
        log: where its output goes.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._command = command
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, *self._command],
                cwd=ROOT,
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the worker is not started"
        return self._process.pid

    def cpu_seconds(self) -> float:
        """User and system time of all its threads until now."""
        return time.clock_gettime((~self.pid << 3) | SCHEDULED)

    def peak_rss(self) -> int:
        """Bytes. Of this program alone: the rusage of a child begins with its parent's."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"/proc/{self.pid}/status names no peak")

    def check(self) -> None:
        """See that it runs.

        Raises:
            RuntimeError: it has ended.
        """
        assert self._process is not None, "the worker is not started"
        if self._process.poll() is not None:
            raise RuntimeError(f"the worker ended ({self._process.returncode}): {self._said()}")

    def stop(self) -> None:
        """TERM, and wait.

        Raises:
            RuntimeError: it did not exit with 0 within 30 s.
        """
        assert self._process is not None, "the worker is not started"
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(30)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the worker does not stop: {self._said()}") from None
        if code:
            raise RuntimeError(f"the worker ended with {code}: {self._said()}")

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]
