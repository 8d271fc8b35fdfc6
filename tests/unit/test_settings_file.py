"""The file of settings: what comes before what, and what is said of a wrong one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import ConfigurationError, encryption
from aiojobs_rt.settings import Settings, place_of, settings, variable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty current directory, and no variables."""
    for name in (*map(variable, Settings.model_fields), "AIOJOBS_RT_CONFIG"):
        environment.delenv(name, raising=False)
    environment.chdir(tmp_path)
    return tmp_path


@pytest.mark.acceptance(12)
def test_a_value_is_that_of_the_environment_else_of_the_file_else_the_default(
    folder: Path, environment: pytest.MonkeyPatch
) -> None:
    (folder / "aiojobs_rt.toml").write_text("concurrency = 7\nlease = 5\nshards = { bulk = 8 }\n")
    environment.setenv("AIOJOBS_RT_LEASE", "2.5")
    found = settings()
    assert (found.concurrency, found.lease, found.recent) == (7, 2.5, 1000)
    assert found.shards == {"bulk": 8}
    assert Settings(lease=9).lease == 9
    environment.setenv("AIOJOBS_RT_SHARDS", "mail=2")
    settings.cache_clear()
    assert settings().shards == {"mail": 2}, "one table takes the other's place"


def test_the_named_file_is_read_instead_of_the_usual_one(folder: Path, environment: pytest.MonkeyPatch) -> None:
    (folder / "aiojobs_rt.toml").write_text("recent = 1")
    (folder / "other.toml").write_text("lease = 5")
    environment.setenv("AIOJOBS_RT_CONFIG", "other.toml")
    assert (settings().lease, settings().recent) == (5, 1000)
    environment.setenv("AIOJOBS_RT_CONFIG", os.devnull)
    settings.cache_clear()
    assert settings().lease == 30, "none at all"
    environment.setenv("AIOJOBS_RT_CONFIG", "")
    settings.cache_clear()
    assert settings().recent == 1


def test_all_that_the_worker_command_takes_may_stand_in_it(folder: Path, environment: pytest.MonkeyPatch) -> None:
    (folder / "aiojobs_rt.toml").write_text(
        'modules = ["shop.jobs", "shop.mail"]\nqueues = ["critical,5", "default"]\nprocesses = 4\nburst = true\nreload = true\n'
        'prefetch = 0\nshutdown_timeout = 1.5\nlog_level = "debug"\nlog_format = "json"\nredis_url = "redis://h/1"\n'
    )
    found = settings()
    assert found.modules == ["shop.jobs", "shop.mail"]
    assert found.queues == {"critical": 5, "default": 1}
    assert (found.processes, found.burst, found.reload, found.prefetch) == (4, True, True, 0)
    environment.setenv("AIOJOBS_RT_QUEUE", "b a")
    environment.setenv("AIOJOBS_RT_MODULE", "one two")
    environment.setenv("AIOJOBS_RT_BURST", "")
    environment.setenv("AIOJOBS_RT_RELOAD", "0")
    settings.cache_clear()
    found = settings()
    assert (found.queues, found.modules, found.burst, found.reload) == (["b", "a"], ["one", "two"], False, False)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('["b", "a"]', ["b", "a"]),
        ("{b = 2, a = 1}", {"b": 2, "a": 1}),
        ('"b,2 a"', {"b": 2, "a": 1}),
        ("[]", []),
    ],
)
def test_queues_are_a_list_or_a_table(folder: Path, text: str, read: object) -> None:
    (folder / "aiojobs_rt.toml").write_text(f"queues = {text}")
    assert settings().queues == read


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("concurrency = 0", "concurrency: Input should be greater than or equal to 1, got 0"),
        ('lease = "x"', "lease: Input should be a valid number, .*, got 'x'"),
        ("processes = 0", "processes: .*, got 0"),
        ('queues = ["a,0"]', "queues: Value error, 'a,0': write NAME or NAME,WEIGHT with a weight"),
        ('queues = ["a", "a"]', "queues: Value error, queue 'a' is given twice"),
        ("queues = [1]", "queues: Value error, 1: write NAME or NAME,WEIGHT as text"),
        ("queues = { a = true }", "queues: Value error, queue 'a': a weight is a whole number from 1, got True"),
        ('queues = { "a b" = 1 }', "queues: Value error, 'a b' is not a queue name"),
        ("queues = 1", "queues.*got 1"),
        ('shards = { bulk = "x" }', "shards.bulk: .*got 'x'"),
        ("concurency = 1", "there is no setting 'concurency'; did you mean concurrency"),
        ("LEASE = 1", "there is no setting 'LEASE'; did you mean .*lease"),
        ("zzzz = 1", "there is no setting 'zzzz'; there are app, burst, concurrency"),
        ("[worker]\nlease = 5", r"settings stand at the top of the file, not in a table \[worker\]"),
    ],
)
def test_what_is_wrong_in_it_is_said_with_its_path_and_key(folder: Path, line: str, said: str) -> None:
    (folder / "aiojobs_rt.toml").write_text(line)
    with pytest.raises(ConfigurationError, match=f"^{folder}/aiojobs_rt.toml: {said}") as raised:
        settings()
    assert "AIOJOBS_RT_" not in str(raised.value)


def test_a_wrong_variable_is_named_where_the_file_says_another_value(
    folder: Path, environment: pytest.MonkeyPatch
) -> None:
    (folder / "aiojobs_rt.toml").write_text("lease = 5\nrecent = -1")
    environment.setenv("AIOJOBS_RT_LEASE", "x")
    environment.setenv("AIOJOBS_RT_QUEUE", "a,0")
    with pytest.raises(ConfigurationError, match=r"^\S+toml: recent: .*; AIOJOBS_RT_LEASE: .*; AIOJOBS_RT_QUEUE: "):
        settings()


@pytest.mark.parametrize(
    "text",
    [
        "redis_url = ['redis://:hunter2@h']", "encryption_keys = ['hunter2']", "redis_ur = 'redis://:hunter2@h'",
        "redis_url = 'redis://:hunter2@h", "redis_url = hunter2", "a = 'hunter2'\na = 'hunter2'",
        "redis_url = 'redis://:hunter2@h'\nlease = 'x'", "redis_url = 'hunter2\udcff'",
    ],
)  # fmt: skip
def test_no_secret_in_it_is_shown(folder: Path, text: str) -> None:
    (folder / "aiojobs_rt.toml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigurationError, match=r"aiojobs_rt\.toml") as raised:
        settings()
    assert "hunter2" not in str(raised.value)


def test_a_wrong_key_in_the_file_is_not_blamed_on_the_environment(
    folder: Path, environment: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    (folder / "aiojobs_rt.toml").write_text('encryption_keys = "hunter2"')
    with pytest.raises(ConfigurationError, match=r"^/.*toml: encryption_keys: ") as raised:
        encryption.current()
    assert "hunter2" not in str(raised.value)
    assert place_of("encryption_keys") == f"{folder}/aiojobs_rt.toml: encryption_keys"
    environment.setenv("AIOJOBS_RT_ENCRYPTION_KEYS", "hunter3")
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match=r"^AIOJOBS_RT_ENCRYPTION_KEYS: "):
        encryption.current()


def test_a_file_that_cannot_be_read_is_an_error(folder: Path, environment: pytest.MonkeyPatch) -> None:
    (folder / "aiojobs_rt.toml").mkdir()
    with pytest.raises(ConfigurationError, match=r"aiojobs_rt\.toml can't be read: Is a directory"):
        settings()
    (folder / "bad.toml").write_text("lease = 5\nrecent = = 1\n")
    environment.setenv("AIOJOBS_RT_CONFIG", "bad.toml")
    with pytest.raises(ConfigurationError, match=rf"{folder}/bad\.toml is no TOML: .*line 2"):
        settings()
    (folder / "bad.toml").write_bytes(b"lease = 5\n# \xff\n")
    with pytest.raises(ConfigurationError, match=r"is not in UTF-8 \(at line 2\)"):
        settings()
    environment.setenv("AIOJOBS_RT_CONFIG", "nowhere.toml")
    with pytest.raises(ConfigurationError, match=rf"there is no settings file {folder}/nowhere\.toml"):
        settings()
