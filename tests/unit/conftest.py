"""Fixtures of the unit tests: they need no Redis, and what one defines no other sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aiojobs_rt.core import registry
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """The registry is as it was before each test."""
    known = dict(registry._classes)
    yield
    registry._classes.clear()
    registry._classes.update(known)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """For tests that set environment variables: the settings are read anew in the test, and once more after it."""
    settings.cache_clear()
    yield monkeypatch
    settings.cache_clear()
