"""Child processes: a worker or a producer, what it costs, and how it ends.

None gets a session of its own: a process that is alone in its session competes as a group of one (autogroups), which quadruples latencies.
None outlives the suite: what its `with` has not ended by then, after an interrupt or TERM, is killed at the interpreter's exit.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import Produced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType
    from typing import Self

ROOT = Path(__file__).parent.parent
ENDING = (signal.SIGTERM, signal.SIGHUP)
SCHEDULED = 2  # the clock of CPU time as the scheduler counts it, in ns; see clock_getcpuclockid(3)


def end_children() -> None:
    """Let none of this process' children outlive it.

    TERM and HUP become exceptions, as INT is one, so that each `with` ends what it has started; what still runs then, because the signal
    came in between, is killed when the interpreter exits.
    """
    for number in ENDING:
        signal.signal(number, _leave)
    atexit.register(_kill_below)


def kill(process: subprocess.Popen[bytes]) -> None:
    """KILL a process and those below it, if it still runs, and wait for its end."""
    if process.poll() is None:
        _kill(family(process.pid))
        process.wait()


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's arguments
    for ending in ENDING:
        signal.signal(ending, signal.SIG_IGN)  # once is enough
    raise SystemExit(128 + number)


def _kill_below() -> None:
    below = family(os.getpid())[1:]
    _kill(below)
    for pid in below:
        with suppress(ChildProcessError):  # a child's child
            os.waitpid(pid, 0)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run_producer(command: Sequence[str], environment: Mapping[str, str], *, timeout: float) -> Produced:
    """Run a producer to its end. The last line that it prints is its `Produced`.

    Raises:
        RuntimeError: it failed.
    """
    return Produced(**json.loads(run_command(command, environment, timeout=timeout).splitlines()[-1]))


def run_command(command: Sequence[str], environment: Mapping[str, str], *, timeout: float, stdin: str = "") -> str:
    """Run a command to its end; what it printed.

    Raises:
        RuntimeError: it failed.
    """
    ended = subprocess.run(
        [*command],
        cwd=ROOT,
        env={**os.environ, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"the producer failed ({ended.returncode}): {ended.stderr[-4000:]}")
    return ended.stdout


class WorkerProcess:
    """A worker, from start to TERM: `with WorkerProcess(...) as worker`.

    Args:
        command: the program and its arguments.
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
                [*self._command],
                cwd=ROOT,
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            kill(self._process)

    @property
    def pid(self) -> int:
        assert self._process is not None, "the worker is not started"
        return self._process.pid

    def cpu_seconds(self) -> float:
        """User and system time of all its threads until now, with the processes below it."""
        return sum(_cpu_seconds(pid) for pid in family(self.pid))

    def rss(self) -> int:
        """Bytes that it takes now, with the processes below it."""
        return sum(_memory(pid, "VmRSS") for pid in family(self.pid))

    def peak_rss(self) -> int:
        """Bytes that it took at most, with the processes below it. Not its rusage: that of a child begins with its parent's."""
        return sum(_memory(pid, "VmHWM") for pid in family(self.pid))

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

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]


def family(pid: int) -> list[int]:
    """The ids of a process and of those below it."""
    found = [pid]
    for member in found:
        with suppress(OSError):  # it has ended
            for task in Path(f"/proc/{member}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _cpu_seconds(pid: int) -> float:
    try:
        own = time.clock_gettime((~pid << 3) | SCHEDULED)
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # its children that have ended: user and system time, in ticks
    return own + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int, field: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return 0
