"""A shop: FastAPI and SQLAlchemy, and the two places from which a job is enqueued.

    AIOJOBS_RT_REDIS_URL=embedded://./shop-data uvicorn examples.shop:app
    AIOJOBS_RT_REDIS_URL=embedded://./shop-data python -m aiojobs_rt worker examples.shop

* **From the view** (`invoice`): the caller asked for this one thing, and is told the job's id.
* **From the model** (`confirm`): whoever inserts an order, in a view, a script or another job, has it confirmed. The row is not committed
  there yet, so that the job waits for the commit, and a rollback drops it with the row.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator  # noqa: TC003 - read at run time
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException
from sqlalchemy import event
from sqlalchemy.ext.asyncio import async_object_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aiojobs_rt import Job
from aiojobs_rt.integrations.sqlalchemy import enqueue_after_commit

engine = create_async_engine(os.environ.get("SHOP_DATABASE", "sqlite+aiosqlite:///shop.db"))
sessions = async_sessionmaker(engine, expire_on_commit=False)
told: list[str] = []
"""Stands for a mail service."""


class Base(DeclarativeBase):
    """Of the shop's tables."""


class Order(Base):
    """A row."""

    __tablename__ = "shop_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]


class ShopJob(Job):
    """What the jobs of the shop share."""

    queue = "shop"

    async def order(self, order_id: int) -> Order:
        """Load an order; it is committed, or there would be no job."""
        async with sessions() as session:
            return await session.get_one(Order, order_id)


class ConfirmOrder(ShopJob):
    """Tell the customer."""

    async def perform(self, order_id: int) -> None:
        """Send the mail."""
        told.append(f"ordered: {(await self.order(order_id)).item}")


class SendInvoice(ShopJob):
    """Send the invoice of an order."""

    async def perform(self, order_id: int) -> None:
        """Send the mail."""
        told.append(f"to pay: {(await self.order(order_id)).item}")


@event.listens_for(Order, "after_insert")
def confirm(_mapper: Any, _connection: Any, order: Order) -> None:
    """The model's callback: within the flush, where the row has its id."""
    session = async_object_session(order)
    if session is None:
        raise RuntimeError("orders are inserted by an AsyncSession")
    enqueue_after_commit(session, ConfirmOrder.bind(order.id))


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Make the table, where there is none."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/orders", status_code=201)
async def order(item: str) -> dict[str, int]:
    """Take an order. Not a word of jobs: the model sees to it."""
    async with sessions.begin() as session:
        made = Order(item=item)
        session.add(made)
        await session.flush()
        if item == "nothing":
            raise HTTPException(422, "there is no such item")  # and the order is rolled back, with its job
    return {"id": made.id}


@app.post("/orders/{order_id}/invoice", status_code=202)
async def invoice(order_id: int) -> dict[str, str]:
    """Have the invoice sent once more."""
    async with sessions() as session:
        if await session.get(Order, order_id) is None:
            raise HTTPException(404)
    handle = await SendInvoice.perform_later(order_id)
    return {"job": handle.id}
