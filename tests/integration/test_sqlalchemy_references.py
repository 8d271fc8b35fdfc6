"""Rows as arguments: their primary keys travel, and fresh detached objects arrive by one SELECT per class."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, inspect
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aiojobs_rt import DeserializationError, InvalidArguments, Job, RecordNotFound
from aiojobs_rt.core import references
from aiojobs_rt.core.outcome import SUCCEEDED, Dead, Retried
from aiojobs_rt.integrations.sqlalchemy import register_models
from tests.support.recording import outcome_of
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

pytestmark = pytest.mark.acceptance(31, 32)

GOT: list[Any] = []


class Base(DeclarativeBase): ...


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str] = mapped_column(default="customer")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "customer"}  # noqa: RUF012 - SQLAlchemy's


class Company(Customer):
    vat: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "company"}  # noqa: RUF012 - SQLAlchemy's


class Price(Base):
    __tablename__ = "prices"

    item: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[date] = mapped_column(primary_key=True)
    cents: Mapped[int]


class Token(Base):
    __tablename__ = "tokens"

    id: Mapped[UUID] = mapped_column(primary_key=True)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


@pytest.fixture(autouse=True)
def registered(engine: AsyncEngine) -> Iterator[None]:
    GOT.clear()
    by_name, by_class = dict(references._by_name), dict(references._by_class)
    register_models(Base, async_sessionmaker(engine))
    yield
    references._by_name.clear()
    references._by_class.clear()
    references._by_name.update(by_name)
    references._by_class.update(by_class)


@contextmanager
def selects(engine: AsyncEngine) -> Generator[list[str]]:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        seen.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine.sync_engine, "before_cursor_execute", note)


async def test_rows_arrive_fresh_and_detached_by_one_select_per_class(engine: AsyncEngine) -> None:
    class Bills(Job):
        async def perform(self, customers: list[Customer], price: Price, token: Token) -> None:
            GOT.append((customers, price, token))

    token_id = uuid4()
    async with AsyncSession(engine) as session:
        customers = [Customer(name="ada"), Company(name="acme", vat="7")]
        rows = [*customers, Price(item="a/b %", since=date(2026, 1, 2), cents=5), Token(id=token_id)]
        session.add_all(rows)
        with pytest.raises(InvalidArguments, match="the Customer has no primary key yet: flush its session first"):
            Bills.bind(customers, rows[2], rows[3])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        await session.commit()
        raw = Bills.bind(customers, rows[2], rows[3]).args  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        customers[0].name = "ada lovelace"
        await session.commit()

    assert raw.decode() == (
        '{"customers":["gid://app/Customer/1","gid://app/Company/2"],'
        f'"price":"gid://app/Price/a%252Fb%2520%2525/2026-01-02","token":"gid://app/Token/{token_id}"}}'
    )
    with selects(engine) as seen:
        assert await outcome_of(Bills, raw) is SUCCEEDED
    ((ada, acme), price, token) = GOT[0]
    assert (ada.name, type(acme), acme.vat, price.cents, token.id) == ("ada lovelace", Company, "7", 5, token_id)
    assert all(inspect(row).detached for row in (ada, acme, price, token))
    assert len(seen) == 4

    raw = Bills.bind([ada, ada], price, token).args
    with selects(engine) as seen:
        assert await outcome_of(Bills, raw) is SUCCEEDED
    assert len(seen) == 3


async def test_a_row_that_is_gone_is_not_an_outage_of_the_database(engine: AsyncEngine) -> None:
    class Greets(Job):
        async def perform(self, customer: Customer) -> None: ...

    for id_ in ("5", "no-number", "1/2"):
        raw = f'{{"customer":"gid://app/Customer/{id_}"}}'.encode()
        assert isinstance(await outcome_of(Greets, raw), Dead)
        with pytest.raises(RecordNotFound):
            await Greets.signature().locate(raw)

    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
    assert isinstance(await outcome_of(Greets, b'{"customer":"gid://app/Customer/5"}'), Retried)
    with pytest.raises(
        DeserializationError, match=r"locating Customer failed: (Operational|Programming)Error"
    ) as caught:
        await Greets.signature().locate(b'{"customer":"gid://app/Customer/5"}')
    assert not isinstance(caught.value, RecordNotFound)


async def test_a_database_that_can_not_be_reached_is_an_outage(tmp_path: Path) -> None:
    class Greets(Job):
        async def perform(self, customer: Customer) -> None: ...

    for url in (
        f"sqlite+aiosqlite:///{tmp_path}/none/shop.db",
        f"postgresql+asyncpg://postgres@/postgres?host={tmp_path}",
    ):
        threads = set(threading.enumerate())
        away = create_async_engine(url)
        register_models(Base, async_sessionmaker(away))
        with pytest.raises(DeserializationError, match="locating Customer failed: ") as caught:
            await Greets.signature().locate(b'{"customer":"gid://app/Customer/5"}')
        assert not isinstance(caught.value, RecordNotFound)
        await away.dispose()
        # aiosqlite does not wait for the thread of a connection that failed, and that thread still speaks to this loop
        await wait_until(lambda: not {t.name for t in set(threading.enumerate()) - threads if "connection" in t.name})  # noqa: B023


@pytest.mark.parametrize(
    "id_",
    ["99999999999999999999", "3000000000", "-9223372036854775809", "1" * 100],
    ids=["beyond 64 bits", "beyond 32 bits", "below 64 bits", "of 100 digits"],
)
async def test_an_id_that_no_column_can_hold_is_a_row_that_is_not_there(engine: AsyncEngine, id_: str) -> None:
    class GreetsAll(Job):
        async def perform(self, customers: list[Customer]) -> None: ...

    async with AsyncSession(engine) as session:
        session.add_all([Customer(name="ada"), Customer(name="bob"), Customer(name="eve")])
        await session.commit()
    raw = f'{{"customers":["gid://app/Customer/1","gid://app/Customer/{id_}","gid://app/Customer/3"]}}'.encode()
    assert isinstance(await outcome_of(GreetsAll, raw), Dead)
    with pytest.raises(RecordNotFound, match=id_[:40]):
        await GreetsAll.signature().locate(raw)


@pytest.mark.parametrize("text", ["%2500", "%25ED%25A0%2580"], ids=["a null", "a surrogate"])
async def test_a_text_that_no_column_can_hold_is_a_row_that_is_not_there(engine: AsyncEngine, text: str) -> None:
    class Quotes(Job):
        async def perform(self, price: Price) -> None: ...

    raw = f'{{"price":"gid://app/Price/{text}/2026-01-02"}}'.encode()
    with pytest.raises(RecordNotFound):
        await Quotes.signature().locate(raw)
