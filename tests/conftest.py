"""Fixtures of the whole suite: a private Redis per test process, flushed for each test and looked over afterwards."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt.adapters.redis.keys import is_permanent
from aiojobs_rt.core import registry
from tests.support.acceptance import table, unknown_rows
from tests.support.redis_server import RedisServer, binaries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_server import Binary

os.environ["AIOJOBS_RT_REDIS_URL"] = "redis://127.0.0.1:1/0"  # a job class without an adapter reaches nobody's Redis
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell starts `make test &` so, and all that the tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """This test process's own server: the newest, or the one that AIOJOBS_RT_TEST_REDIS names.

    For tests that leave it as it is. Who kills, pauses or fills a server starts one: `with RedisServer(...) as server`.
    """
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> Iterator[str]:
    """The URL of an empty database. The test fails if it leaves a key that nothing would ever remove."""
    yield from _clean_database(redis_server)


@pytest.fixture(scope="session", params=binaries(), ids=lambda binary: binary.name)
def any_redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """As `redis_server`, with each version of Redis on this machine."""
    binary: Binary = request.param
    with RedisServer(binary=binary) as server:
        yield server


@pytest.fixture
def any_redis(any_redis_server: RedisServer) -> Iterator[str]:
    """As `redis_url`, with each version of Redis on this machine."""
    yield from _clean_database(any_redis_server)


def _clean_database(server: RedisServer) -> Iterator[str]:
    with server.client() as client:
        client.flushall()
        yield server.url
        leaked = [
            key for key in client.scan_iter(count=1000) if client.ttl(key) == -1 and not is_permanent(key.decode())
        ]
    assert not leaked, f"keys without TTL that the data model does not name: {leaked}"


@pytest.fixture(autouse=True)
def own_job_classes(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test knows the job classes of its own module and of the modules that it imports from, not those of other tests."""
    everything = dict(registry._classes)
    module: ModuleType = request.module
    near = {module.__name__}
    for value in vars(module).values():
        near.add(value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", ""))
    for name, job_class in everything.items():
        if job_class.__module__ not in near:
            del registry._classes[name]
    yield
    registry._classes.clear()
    registry._classes.update(everything)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note the acceptance rows of each test for the table, and refuse numbers that it does not have."""
    for item in items:
        rows = [row for mark in item.iter_markers("acceptance") for row in mark.args]
        if wrong := unknown_rows(rows):
            raise pytest.UsageError(f"{item.nodeid}: tests/support/acceptance.py has no row {wrong}")
        item.user_properties.extend(("acceptance", row) for row in dict.fromkeys(rows))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """After `pytest -m acceptance`: its table."""
    if not re.search(r"(?<!not )\bacceptance\b", str(config.getoption("markexpr"))):
        return

    def by_row(*outcomes: str) -> Counter[int]:
        reports = [report for outcome in outcomes for report in terminalreporter.getreports(outcome)]
        return Counter(row for report in reports for name, row in report.user_properties if name == "acceptance")

    terminalreporter.section("acceptance")
    for line in table(by_row("passed"), by_row("failed", "error")):
        terminalreporter.line(line)
