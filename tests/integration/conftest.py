"""Fixtures of the integration tests: a PostgreSQL, for those that need a database."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.postgres import CHOICE, Postgres, find_programs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    """The directory of the socket of a PostgreSQL, one for the session."""
    given = os.environ.get(CHOICE)
    if given:
        yield Path(given)
        return
    programs = find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL on this machine: install it, or name a server's socket directory in " + CHOICE)
    with Postgres(programs) as server:
        yield server.directory


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database for SQLAlchemy: of SQLite, and of a real PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/shop.db"
    folder: Path = request.getfixturevalue("postgres")
    return f"postgresql+asyncpg://postgres@/postgres?host={folder}"
