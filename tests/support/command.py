"""`python -m aiojobs_rt` as a child process, as users start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path


class Command:
    """`python -m aiojobs_rt ...` as a child, in a directory, with its output in a file."""

    def __init__(self, folder: Path, *arguments: str, log: str = "output.log") -> None:
        self._log = folder / log
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "aiojobs_rt", *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def says(self, text: str, *, times: int = 1) -> None:
        wait_for(
            lambda: self.log.count(text) >= times or self._process.poll() is not None, timeout=20, what=f"{text!r}"
        )
        assert self.log.count(text) >= times, self.log

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ends(self) -> int:
        try:
            return self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end; it said:\n{self.log}") from None

    def dispose(self) -> None:
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
