"""A private PostgreSQL for tests: on a unix socket, without durability; or the one that the environment names."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from typing import Self

CHOICE = "AIOJOBS_RT_TEST_POSTGRES"
"""Environment variable with the directory of a server's unix socket, where the user may create tables in the database `postgres`."""


def find_programs() -> Path | None:
    """The directory with initdb and postgres: that of the newest version, Debian's included; None when there is none."""
    beside = shutil.which("initdb")
    if beside is not None:
        return Path(beside).resolve().parent
    versions = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: float(path.split("/")[4]))  # noqa: PTH207 - an absolute pattern
    return Path(versions[-1]).parent if versions else None


class Postgres:
    """One server in a directory of its own: `with Postgres(programs) as server`.

    It does not run as root: then it is the user `postgres`, or `nobody`.
    """

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = Path(tempfile.mkdtemp(prefix="aiojobs_rt-pg-", dir="/tmp"))

    def __enter__(self) -> Self:
        data = self.directory / "data"
        data.mkdir()
        owner: str | None = None
        if os.geteuid() == 0:
            owner = _other_user()
            for folder in (self.directory, data):
                shutil.chown(folder, owner)
        with (self.directory / "log").open("wb") as log:
            subprocess.run(
                [self._programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
                cwd=data,
                stdout=log,
                stderr=log,
                check=True,
                timeout=60,
                user=owner,
            )
            options = {"listen_addresses": "", "unix_socket_directories": str(self.directory), "fsync": "off"}
            arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", data, *arguments], cwd=data, stdout=log, stderr=log, user=owner
            )
        ready = [str(self._programs / "pg_isready"), "-q", "-h", str(self.directory)]
        try:
            wait_for(lambda: not subprocess.run(ready, check=False).returncode, timeout=20, what="PostgreSQL")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
        shutil.rmtree(self.directory, ignore_errors=True)


def _other_user() -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"
