"""Replies: each goes to the request that waits, in the moment in which it arrives; what else comes ends the connection."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import Mock

import pytest
from redis import exceptions
from redis.asyncio.connection import Connection

from aiojobs_rt.adapters.redis.replies import Replies
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable


class Transport:
    """A socket of which the test is the other end."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.protocol: asyncio.Protocol | None = None

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol


@pytest.fixture
async def transport() -> Transport:
    return Transport()


@pytest.fixture
async def replies(transport: Transport) -> Replies:
    parser = Connection()._parser
    stands_for = SimpleNamespace(
        _parser=parser, _reader=asyncio.StreamReader(), _writer=SimpleNamespace(transport=transport)
    )
    made = Replies(cast("Connection", stands_for))
    assert transport.protocol is made
    return made


async def ask(
    replies: Replies, count: int = 1, *, patience: float = 5, at_once: Callable[[Any], None] | None = None
) -> asyncio.Task[list[Any]]:
    """A request, sent."""
    task = asyncio.create_task(replies.to(b"PING", count, timeout=patience, at_once=at_once))
    await asyncio.sleep(0)
    return task


async def test_replies_come_in_any_pieces(replies: Replies, transport: Transport) -> None:
    asked = await ask(replies, 3)
    assert transport.written == [b"PING"]
    for piece in (b"+ON", b"E\r\n*2\r\n:", b"2\r\n$1\r\n3\r\n-ERR fo", b"ur\r\n"):
        assert not asked.done()
        replies.data_received(piece)
    one, two, error = await asked
    assert (one, two) == (b"ONE", [2, b"3"])
    assert isinstance(error, exceptions.ResponseError)
    assert replies.open


async def test_at_once_is_before_any_task(replies: Replies) -> None:
    seen: list[Any] = []
    asked = await ask(replies, at_once=seen.append)
    replies.data_received(b":1\r\n")
    assert seen == [1]
    assert await asked == [1]
    asked = await ask(replies, at_once=seen.append)
    replies.data_received(b"-ERR no\r\n")
    assert isinstance((await asked)[0], exceptions.ResponseError)
    asked = await ask(replies)  # it is another request's
    replies.data_received(b":2\r\n")
    assert await asked == [2]
    assert seen == [1]


async def test_what_at_once_raises_is_raised_to_who_waits(replies: Replies) -> None:
    def fail(_: Any) -> None:
        raise LookupError

    asked = await ask(replies, at_once=fail)
    replies.data_received(b":1\r\n")
    with pytest.raises(LookupError):
        await asked


async def test_a_cancelled_request_gets_nothing(replies: Replies) -> None:
    seen: list[Any] = []
    asked = await ask(replies, at_once=seen.append)
    asked.cancel()
    replies.data_received(b":1\r\n")
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert seen == []


@pytest.mark.parametrize("patience", [5, math.inf])
async def test_a_broken_connection_is_known_at_once(replies: Replies, patience: float) -> None:
    asked = await ask(replies, 2, patience=patience)
    replies.data_received(b":1\r\n")
    replies.eof_received()
    replies.connection_lost(None)
    with pytest.raises(exceptions.ConnectionError):
        await asked
    assert not replies.open
    with pytest.raises(exceptions.ConnectionError):
        await replies.to(b"PING", 1, timeout=5)


async def test_no_answer_in_time(replies: Replies) -> None:
    with pytest.raises(TimeoutError):
        await replies.to(b"PING", 1, timeout=0.001)
    assert not replies.open


@pytest.mark.parametrize("asked_for", [0, 1])
async def test_a_reply_that_nobody_has_asked_for_ends_it(replies: Replies, asked_for: int) -> None:
    asked = await ask(replies) if asked_for else None
    replies.data_received(b":1\r\n:2\r\n"[4 * (1 - asked_for) :])
    if asked is not None:
        with pytest.raises(exceptions.InvalidResponse):
            await asked
    assert not replies.open


async def test_what_is_no_protocol_ends_it(replies: Replies) -> None:
    asked = await ask(replies)
    replies.data_received(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(exceptions.InvalidResponse):
        await asked
    assert not replies.open


# -- requests that are begun, and not waited for -----------------------------------------------------


async def test_what_was_begun_is_answered_when_the_reply_arrives(replies: Replies) -> None:
    answers: list[Any] = []
    for number in (b"1", b"2"):
        assert replies.free
        replies.begin(b"PING", 1, answers.append, timeout=5)
        assert not replies.free
        replies.data_received(b":%b\r\n" % number)
    assert answers == [[1], [2]]
    assert replies.free


async def test_what_was_begun_learns_why_there_is_no_answer(replies: Replies) -> None:
    answers: list[Any] = []
    replies.begin(b"PING", 1, answers.append, timeout=5)
    replies.connection_lost(OSError("reset"))
    assert [str(answer) for answer in answers] == ["Connection closed by server. reset"]
    assert not replies.free


async def test_a_socket_that_is_closed_already_is_a_broken_connection(replies: Replies, transport: Transport) -> None:
    transport.write = Mock(side_effect=RuntimeError("the handler is closed"))  # type: ignore[method-assign]
    answers: list[Any] = []
    replies.begin(b"PING", 1, answers.append, timeout=5)
    assert [type(answer) for answer in answers] == [exceptions.ConnectionError]
    assert not replies.free
    replies.open = True
    with pytest.raises(exceptions.ConnectionError, match="the handler is closed"):
        await replies.to(b"PING", 1, timeout=5)


async def test_one_timer_serves_requests_of_any_timeout(replies: Replies) -> None:
    answers: list[Any] = []
    for patience in (5, math.inf, 60):
        replies.begin(b"PING", 1, answers.append, timeout=patience)
        replies.data_received(b":1\r\n")
    replies.begin(b"PING", 1, answers.append, timeout=0.005)  # shorter than what the timer stands at
    replies.data_received(b":2\r\n")
    replies.begin(b"PING", 1, answers.append, timeout=0.02)  # longer: it rings too early, and goes on
    began = asyncio.get_running_loop().time()
    await wait_until(lambda: len(answers) == 5, interval=0.001)
    assert asyncio.get_running_loop().time() - began > 0.01
    assert answers[:4] == [[1], [1], [1], [2]]
    assert isinstance(answers[4], TimeoutError)
    assert not replies.open


async def test_who_waits_for_a_free_connection_is_the_next(replies: Replies, transport: Transport) -> None:
    replies.begin(b"ONE", 1, lambda _: None, timeout=5)
    waiting = asyncio.create_task(replies.unoccupied())
    await asyncio.sleep(0)
    replies.data_received(b":1\r\n")
    assert not replies.free
    await waiting
    assert replies.free
    assert transport.written == [b"ONE"]
