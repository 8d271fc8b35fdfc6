"""A process as the child of a parent: what it tells its parent, and what it does when that is gone.

A parent (`child.Child`) starts it with one end of a socket pair; the number of the file and who the parent is stand in an environment
variable. The parent holds the other end alone, so that the kernel closes it even when the parent is killed with -9. The child reads the end
of file, and stops as at TERM.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from typing import Literal, get_args

logger = logging.getLogger("aiojobs_rt.cli")

VARIABLE = "AIOJOBS_RT_PARENT"
"""Between parent and child only: `ROLE:FILE`."""

Role = Literal["reload", "processes"]
"""Who the parent is: the command with --reload, or with --processes."""

LOADED = b"l"
"""The modules are imported, and signals are obeyed."""
WORKING = b"w"
"""It has its leases, and runs jobs."""


class Parent:
    """The parent of this process.

    Attributes:
        role: who it is; None: no command of ours.
    """

    def __init__(self, role: Role | None, line: socket.socket | None) -> None:
        self.role = role
        self._line = line

    def tell(self, what: bytes) -> None:
        """Tell it how far this process is: `LOADED`, `WORKING`."""
        if self._line is not None:
            try:
                self._line.send(what)
            except OSError:
                return  # it is gone: the watching thread says so


def find_parent() -> Parent:
    """The parent of this process, from the environment; from now on its end is noticed. What this process starts is no child of that parent."""
    role, _, number = os.environ.pop(VARIABLE, "").partition(":")
    for known in get_args(Role):
        if role == known and number.isdecimal():
            try:
                line = socket.socket(fileno=int(number))
            except OSError:
                break  # the variable came by another way than the file
            line.set_inheritable(False)
            threading.Thread(target=_await_end, args=(line,), name="aiojobs_rt:parent", daemon=True).start()
            return Parent(known, line)
    return Parent(None, None)


def _await_end(line: socket.socket) -> None:
    try:
        while line.recv(1):
            pass
    except OSError:
        pass
    logger.warning("the parent process is gone")
    os.kill(os.getpid(), signal.SIGTERM)
