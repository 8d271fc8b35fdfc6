"""The scripts: every transition of a job is one of them, and every one may be sent twice.

They are the files of `lua/`, called by EVALSHA. `--@include NAME` is replaced by `lua/include/NAME.lua`.

Redis refuses a script at maxmemory only at its first write, so what must go on there begins with a command that frees:

| script | first write | at maxmemory |
| --- | --- | --- |
| enqueue | XADD, ZADD or HSET | refused, nothing done |
| register | ZADD | refused, nothing done |
| arrive | SET | refused, nothing done |
| admit | SET | refused, nothing done |
| progress | SET | refused, nothing done |
| renew | ZREM | done |
| settle | XACK | done |
| promote | ZREM | done |
| reclaim | ZREM | done |
| leave | ZREM | done |
| cancel | ZREM, XDEL or HDEL | done |
| revive | ZREM | done |
| remove | ZREM, XDEL or HDEL | done |
| pause | HDEL | done |
| beat, look, reached, survey, page, inspect | none | done |

Keys are checked for their type before the first write, because a script is atomic but never rolled back; enqueue tries its writes where it has
one job for the main lane, and takes back what it has written. Keys of lanes, results and
error histories are made from a declared key of the same hash tag. PUBLISH comes after writes and may be refused (a user without the channels):
it is called by `pcall`, as who listens also looks for itself.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

_INCLUDE = re.compile(r"^--@include ([a-z_]+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script and its digest."""

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script `lua/<name>.lua`, its includes in place."""
    folder = resources.files("aiojobs_rt.adapters.redis").joinpath("lua")

    def include(match: re.Match[str]) -> str:
        return folder.joinpath("include", f"{match[1]}.lua").read_text(encoding="utf-8")

    source = _INCLUDE.sub(include, folder.joinpath(f"{name}.lua").read_text(encoding="utf-8"))
    source = _COMMENT.sub("", source)
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def names() -> list[str]:
    """All scripts there are."""
    folder = resources.files("aiojobs_rt.adapters.redis").joinpath("lua")
    return sorted(entry.name.removesuffix(".lua") for entry in folder.iterdir() if entry.name.endswith(".lua"))
