"""The rules that every script keeps, read from its text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import aiojobs_rt.adapters.redis
from aiojobs_rt.adapters.redis import scripts

LUA = Path(aiojobs_rt.adapters.redis.__file__ or "").parent / "lua"
FILES = sorted(LUA.rglob("*.lua"))
SCRIPTS = sorted(LUA.glob("*.lua"))
WRITES = [
    "XADD",
    "XACK",
    "XDEL",
    "XTRIM",
    "XGROUP",
    "ZADD",
    "ZREM",
    "HSET",
    "HSETNX",
    "HDEL",
    "HINCRBY",
    "SET",
    "SADD",
    "SREM",
    "DEL",
    "UNLINK",
    "EXPIRE",
    "PEXPIRE",
    "LPUSH",
    "RPUSH",
    "LTRIM",
    "INCR",
    "HMSET",
    "SETEX",
    "PSETEX",
    "ZINCRBY",
    "ZPOPMIN",
    "ZREMRANGEBYSCORE",
    "ZREMRANGEBYRANK",
    "RENAME",
    "RPOPLPUSH",
    "LMOVE",
]
WRITE = re.compile(rf"redis\.p?call\('({'|'.join(WRITES)})'")
HEADER = re.compile(r"^-- KEYS  .+?^-- Returns ", re.DOTALL | re.MULTILINE)
FIRST_WRITE = re.compile(r"First write: ([A-Z, or]+)\.")
DOCUMENTED = {
    name.strip(): row[1]
    for line in (scripts.__doc__ or "").splitlines()
    if len(row := [cell.strip() for cell in line.strip("| ").split("|")]) == 3
    for name in row[0].split(",")
}
READ_ONLY = {name for name, first in DOCUMENTED.items() if first == "none"}


def name_of(path: Path) -> str:
    return path.stem


def code(path: Path) -> str:
    """A file without its comments."""
    return re.sub(r"--(?!@).*", "", path.read_text())


def opening(path: Path) -> str:
    return "\n".join(
        line for line in path.read_text().splitlines() if line.startswith("--") and not line.startswith("--@")
    )


def test_the_linter_sees_all_scripts() -> None:
    assert [path.stem for path in SCRIPTS] == scripts.names()
    assert {"enqueue", "settle", "reclaim"} <= {path.stem for path in SCRIPTS}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nobody_claims_an_entry_of_another(path: Path) -> None:
    assert not re.search("XCLAIM|XAUTOCLAIM", code(path), re.IGNORECASE)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_shebang_and_nothing_decoded_that_users_wrote(path: Path) -> None:
    text = path.read_text()
    assert not text.startswith("#!")
    assert "cjson" not in code(path)
    # those of enqueue.lua and settle.lua spread at most 1,000
    spread = re.findall(r"\bunpack\(.*?\)", code(path).replace("cmsgpack.unpack(", ""))
    assert all(re.fullmatch(r"unpack\(\w+, 1, done\)", call) for call in spread)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_who_may_not_publish_gets_his_job_done(path: Path) -> None:
    """PUBLISH comes after the writes: an error there would leave them half done."""
    assert "redis.call('PUBLISH'" not in code(path)


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_the_header_says_it_all(path: Path) -> None:
    header = opening(path)
    assert HEADER.search(header), f"{path.name}: the header names KEYS, ARGV, Returns"
    assert ("-- ARGV  " in header) == ("ARGV" in code(path))
    assert ("Writes nothing" if path.stem in READ_ONLY else "First write: ") in header


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_key_types_are_checked_before_the_first_write(path: Path) -> None:
    """Functions write when they are called: their bodies do not count, but includes that write at once would. One that is called before
    tries its writes and takes them back."""
    if path.stem in READ_ONLY:
        assert not WRITE.search(code(path))
        return
    text = re.sub(r"^(?:local )?function .*?^end$", "", code(path), flags=re.DOTALL | re.MULTILINE)
    writes = [match.start() for match in WRITE.finditer(text)]
    writes += [
        match.start()
        for match in re.finditer(r"\b(push|later|bury|note_error|remember\w*|trim_dead|add_counts)\(", text)
    ]
    for tries in re.findall(r"^local function try_\w+\(.*?^end$", code(path), flags=re.DOTALL | re.MULTILINE):
        first = WRITE.search(tries)
        assert first is not None
        assert first[0].startswith("redis.pcall(")
    guard = text.find("guard(")
    assert 0 <= guard < min(writes), f"{path.name} writes before it has checked its keys"


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_the_first_write_is_the_one_that_the_table_names(path: Path) -> None:
    said = FIRST_WRITE.search(opening(path))
    assert DOCUMENTED[path.stem] == (said[1] if said else "none")


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_every_key_and_argument_has_a_name(path: Path) -> None:
    declared = re.search(r"^-- KEYS  (.+?)^-- (ARGV|Returns)", opening(path), re.DOTALL | re.MULTILINE)
    assert declared is not None
    names = [part for part in declared[1].replace("\n--", " ").split(",") if part.strip()]
    used = {int(number) for number in re.findall(r"KEYS\[(\d+)\]", code(path))}
    assert used == set(range(1, len(names) + 1))


def test_includes_are_put_in_place_and_digests_are_of_what_is_sent() -> None:
    for name in scripts.names():
        found = scripts.script(name)
        assert "@include" not in found.source
        assert len(found.sha) == 40
        assert scripts.script(name) is found
