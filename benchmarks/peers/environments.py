"""Environments of the peers: each has one of its own under .benchmarks/ in the repository's root, made when it is first needed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from typing import TYPE_CHECKING

from benchmarks.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ROOT / ".benchmarks"
PACKAGES = {
    "arq": ("arq>=0.26", "redis[hiredis]", "uvloop"),
    "saq": ("saq[redis,hiredis]>=0.26", "typing_extensions", "uvloop"),
    "taskiq": ("taskiq>=0.12", "taskiq-redis>=1.2", "redis[hiredis]", "uvloop"),
    "streaq": ("streaq>=7", "hiredis", "uvloop"),
    "docket": ("pydocket>=0.26", "redis[hiredis]", "uvloop"),
    "celery": ("celery[redis]>=5.5", "redis[hiredis]"),
    "dramatiq": ("dramatiq[redis]>=2", "redis[hiredis]"),
    "rq": ("rq>=2.6", "redis[hiredis]"),
}
"""By peer: what is installed. Each has an environment of its own, since they do not agree on a version of redis-py."""
NODE = ("bullmq@>=5", "ioredis@>=5")
PATIENCE = 300


class Unavailable(Exception):  # noqa: N818 - it says what is
    """A peer can't be had here; its text says why."""


def python(peer: str) -> Path:
    """The interpreter of a peer's environment."""
    return FOLDER / peer / "bin" / "python"


def prepare(peer: str) -> str:
    """Make the environment of a peer when there is none; its version.

    Raises:
        Unavailable: its packages or its runtime can't be had.
    """
    if peer == "bullmq":
        return _prepare_node()
    if peer == "sidekiq":
        return _sidekiq()
    distribution = PACKAGES[peer][0].partition(">")[0].partition("[")[0]
    if not (version := _installed(peer, distribution)):
        _say(peer)
        _run(sys.executable, "-m", "venv", str(FOLDER / peer))
        _run(str(python(peer)), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES[peer])
        version = _installed(peer, distribution)
    return version


def _installed(peer: str, distribution: str) -> str:
    paths = [str(path) for path in (FOLDER / peer / "lib").glob("python*/site-packages")]
    found = distributions(path=paths, name=distribution) if paths else ()
    return next((one.version for one in found), "")


def _prepare_node() -> str:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Unavailable("no node and npm on PATH")
    folder = FOLDER / "node"
    package = folder / "node_modules" / "bullmq" / "package.json"
    if not package.exists() or not (folder / "node_modules" / "ioredis").exists():
        _say("bullmq")
        folder.mkdir(parents=True, exist_ok=True)
        _run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *NODE)
    version: str = json.loads(package.read_text())["version"]
    return version


def _sidekiq() -> str:
    if shutil.which("ruby") is None or shutil.which("sidekiq") is None:
        raise Unavailable("no sidekiq on PATH: apt-get install ruby-sidekiq")
    return _run("sidekiq", "--version").split()[-1]


def _say(peer: str) -> None:
    print(f"{peer} is installed into {FOLDER.name}/, once", file=sys.stderr)


def _run(*command: str) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]}: {error}") from error
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip().splitlines()
        raise Unavailable(f"{' '.join(command[:4])} failed: {said[-1] if said else ended.returncode}")
    return ended.stdout
