"""The machine and the versions: a figure without them says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.server import binary

PACKAGES = ("aiojobs_rt", "redis", "hiredis", "uvloop", "anyio", "orjson", "pydantic")


def describe_machine() -> dict[str, str | int]:
    """Processor, cores, memory, kernel."""
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
    }


def describe_versions() -> dict[str, str]:
    """Python, Redis and the packages on the path of a job."""
    said = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout
    server = next((word[2:] for word in said.split() if word.startswith("v=")), said.strip())
    return {"python": platform.python_version(), "redis-server": server} | {name: _version(name) for name in PACKAGES}


def load_average() -> float:
    """Of the last minute: what else was going on."""
    return os.getloadavg()[0]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
