"""A private redis-server for tests: a child process that can be stopped, killed, paused and started again."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from aiojobs_rt.adapters.redis.embedded import binary_version, find_binaries
from tests.support.acl import PASSWORD, SUITE, as_default, suite_rules
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

NO_RETRY = Retry(NoBackoff(), 0)
SUITE_UNDER_ACL = bool(os.environ.get("AIOJOBS_RT_TEST_ACL"))
"""Whether the package reaches private servers as a user with the rights of a worker and an operator, as docs/security.md has them."""
CREDENTIALS = f"{SUITE}:{PASSWORD}@" if SUITE_UNDER_ACL else ""
CHOICE = "AIOJOBS_RT_TEST_REDIS"
"""Environment variable that names the server to test with: a version ("6.2") or the path of a binary."""


@dataclass(frozen=True, slots=True)
class Binary:
    """A redis-server program."""

    path: str
    version: tuple[int, int]

    @property
    def name(self) -> str:
        return "{}.{}".format(*self.version)


@functools.cache
def binaries() -> tuple[Binary, ...]:
    """One server program of each version on this machine, the newest first."""
    places = [
        os.path.join(folder, name)  # noqa: PTH118 - folder may be ""
        for name in ("redis-server", "valkey-server")
        for folder in os.get_exec_path()
    ]
    found: dict[tuple[int, int], Binary] = {}
    for path in [*(place for place in places if os.access(place, os.X_OK)), *find_binaries()]:
        version = binary_version(path)
        if version is not None:
            found.setdefault(version, Binary(path, version))
    return tuple(found[version] for version in sorted(found, reverse=True))


def chosen_binary() -> Binary:
    """The one that `AIOJOBS_RT_TEST_REDIS` names, else the newest."""
    choice = os.environ.get(CHOICE, "")
    for binary in binaries():
        if choice in {"", binary.name}:
            return binary
    if choice and (version := binary_version(choice)):
        return Binary(choice, version)
    raise LookupError(f"no redis-server {choice!r}; there are: {', '.join(b.name for b in binaries()) or 'none'}")


class RedisServer:
    """One server on a loopback port and on a unix socket, with a directory of its own.

    Args:
        binary: which program; None for the chosen one.
        appendonly: keep an append-only file, synced by the kernel: all that was acknowledged outlives the process. (With `everysec` Redis
            holds its writes back for up to 2 s while an fsync takes long, and a kill loses them.)
        maxmemory: as Redis writes it ("100mb"); "0" for no limit. The policy is noeviction.
        arguments: further command-line arguments.
    """

    def __init__(
        self,
        *,
        binary: Binary | None = None,
        appendonly: bool = False,
        maxmemory: str = "0",
        arguments: Sequence[str] = (),
    ) -> None:
        self.binary = binary or chosen_binary()
        self.port = 0
        self._appendonly = appendonly
        self._maxmemory = maxmemory
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None

    @property
    def directory(self) -> Path:
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="aiojobs_rt-test-"))
        return self._directory

    @property
    def url(self) -> str:
        """For the package, under the suite's user if there is one. Tests look into Redis by `client`, or `as_default(url)`."""
        return url_of(self.port)

    @property
    def unix_url(self) -> str:
        return f"unix://{CREDENTIALS}{self.directory}/redis.sock"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether its process was started, and not ended from here."""
        return self._process is not None

    def client(self) -> redis.Redis:
        """A client without retries: a test of faults wants to see the first one. Close it, or use it in `with`."""
        return redis.Redis.from_url(as_default(self.url), retry=NO_RETRY, socket_timeout=10)

    def start(self) -> Self:
        """Start and wait until it answers; again with the same port and data after `stop` or `kill`."""
        assert self._process is None, "the server runs already"
        log = self.directory / "redis.log"
        for _ in range(3):  # another process may be quicker to take the free port
            self.port = self.port or free_port()
            with log.open("ab") as output:
                process = subprocess.Popen(
                    self._command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                )
            if wait_for(functools.partial(self._started, process), what="the server's first answer"):
                if process.poll() is None:
                    self._process = process
                    return self
                if "in use" not in log.read_text(errors="replace"):
                    break
                self.port = 0
        said = log.read_text(errors="replace")[-2000:]
        self._remove()
        raise RuntimeError(f"{self.binary.path} does not start:\n{said}")

    def stop(self) -> None:
        """End it in good order (its append-only file is written); nothing if it does not run."""
        if self._process is not None:
            self.resume()
            self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Make it hang (SIGSTOP): connections stay open, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """`stop` and `start`. Without `appendonly` it comes back empty."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self._directory = None

    def _command(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "unixsocket": f"{self.directory}/redis.sock",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if self._appendonly else "no",
            "appendfsync": "no",
            "maxmemory": self._maxmemory,
            "maxmemory-policy": "noeviction",
        }
        if self.binary.version >= (7, 0):
            options["enable-debug-command"] = "yes"
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        if SUITE_UNDER_ACL:
            arguments += ["--user", SUITE, *suite_rules()]
        return [self.binary.path, *arguments, *self._arguments]

    def _started(self, process: subprocess.Popen[bytes]) -> bool:
        return process.poll() is not None or self._answers()

    def _answers(self) -> bool:
        with redis.Redis(unix_socket_path=f"{self.directory}/redis.sock", retry=NO_RETRY, socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):  # includes "still loading"
                return False

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server does not run"
        self._process.send_signal(number)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def url_of(port: int) -> str:
    """The URL of a private server, or of a proxy before one."""
    return f"redis://{CREDENTIALS}127.0.0.1:{port}/0"


def free_port() -> int:
    """A loopback port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
