from __future__ import annotations

import pytest

from aiojobs_rt import AiojobsError, ConfigurationError
from aiojobs_rt.settings import Settings, settings


@pytest.fixture(autouse=True)
def _no_variables(environment: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    for name in Settings.model_fields:
        environment.delenv(f"AIOJOBS_RT_{name.upper()}", raising=False)


@pytest.mark.acceptance(64)
def test_the_defaults() -> None:
    found = settings()
    assert found.redis_url.get_secret_value() == "redis://localhost:6379/0"
    assert (found.prefix, found.max_payload, found.recent) == ("aiojobs", 131_072, 1000)
    assert (found.concurrency, found.lease, found.shutdown_timeout, found.stall_limit) == (100, 30.0, 25.0, 300.0)
    assert (found.dead_max_jobs, found.dead_max_age) == (10_000, 180 * 86_400)
    assert found.prefetch == "auto"
    assert settings() is found


def test_each_is_read_from_its_variable(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIOJOBS_RT_REDIS_URL", "redis://:hunter2@example.invalid/1")
    environment.setenv("AIOJOBS_RT_LEASE", "2.5")
    environment.setenv("AIOJOBS_RT_CONCURRENCY", "7")
    environment.setenv("AIOJOBS_RT_PREFETCH", "0")
    environment.setenv("AIOJOBS_RT_SOMETHING_ELSE", "1")
    found = settings()
    assert (found.lease, found.concurrency, found.prefetch) == (2.5, 7, 0)
    assert "example.invalid" in found.redis_url.get_secret_value()
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONCURRENCY", "many"),
        ("CONCURRENCY", "0"),
        ("PREFETCH", "-1"),
        ("PREFETCH", "some"),
        ("LEASE", "inf"),
        ("LEASE", "nan"),
        ("LEASE", "0.1"),
        ("SHUTDOWN_TIMEOUT", "-1"),
        ("PREFIX", "a b"),
        ("PREFIX", ""),
        ("LOG_LEVEL", "loud"),
        ("MAX_PAYLOAD", "0"),
        ("RECENT", "1.5"),
    ],
)
def test_a_wrong_one_is_named_with_its_value(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(f"AIOJOBS_RT_{name}", value)
    with pytest.raises(ConfigurationError, match=rf"^AIOJOBS_RT_{name}: .*, got '{value}'$") as raised:
        settings()
    assert raised.value.__suppress_context__
    assert isinstance(raised.value, AiojobsError)


def test_several_wrong_ones_are_all_named(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIOJOBS_RT_LEASE", "x")
    environment.setenv("AIOJOBS_RT_RECENT", "y")
    with pytest.raises(ConfigurationError, match=r"AIOJOBS_RT_LEASE: .*got 'x'") as raised:
        settings()
    assert "; " in str(raised.value)
    assert "AIOJOBS_RT_RECENT: " in str(raised.value)
