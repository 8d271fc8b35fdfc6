"""A process that runs this process's own command line, as its child."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from aiojobs_rt.cli import parent

if TYPE_CHECKING:
    import signal

    from aiojobs_rt.cli.parent import Role


class Child:
    """A running child, in a session of its own: a Ctrl-C reaches it once, by way of its parent. It stops when its parent is gone.

    Args:
        role: who the parent is: the child does not do the same again.

    Raises:
        OSError: the system starts no more processes.

    Attributes:
        pid: its number.
        line: this end of the pair; readable when the child has told something, or is gone.
        listening: it may still tell something.
        loaded: it has told that it obeys all signals.
        working: it has told that it runs jobs.
    """

    def __init__(self, role: Role) -> None:
        self.line, theirs = socket.socketpair()
        self.line.setblocking(False)
        self.listening = True
        self.loaded = False
        self.working = False
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this process's own command line
                [sys.executable, "-m", "aiojobs_rt", *sys.argv[1:]],
                env={**os.environ, parent.VARIABLE: f"{role}:{theirs.fileno()}"},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except OSError:
            self.line.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid

    def listen(self) -> None:
        """Read what it has told."""
        while self.listening:
            try:
                told = self.line.recv(16)
            except BlockingIOError:
                return
            except OSError:
                told = b""
            self.listening = bool(told)
            self.loaded |= parent.LOADED in told
            self.working |= parent.WORKING in told

    def code(self) -> int | None:
        """Its exit code, negative when a signal ended it; None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        return self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def close(self) -> None:
        """Close this end: it has ended, or is on its own from now on."""
        self.line.close()
