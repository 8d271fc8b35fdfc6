"""The proxy of the fault tests: each harm it does is seen by a plain client, and nothing else is."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING

import pytest
import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.support.acl import as_default
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.redis_server import RedisServer

Client = redis_asyncio.Redis


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    with redis_server.client() as direct:
        direct.flushall()
    async with Proxy(redis_server.port) as proxy:
        yield proxy
    with redis_server.client() as direct:
        direct.flushall()


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Client]:
    async with connect(proxy) as client:
        yield client


def connect(proxy: Proxy, *, socket_timeout: float = 5) -> Client:
    return redis_asyncio.Redis.from_url(
        as_default(proxy.url), retry=Retry(NoBackoff(), 0), socket_timeout=socket_timeout, single_connection_client=True
    )


def direct_value(server: RedisServer, key: str) -> object:
    with server.client() as direct:
        return direct.get(key)


async def test_it_forwards(client: Client) -> None:
    big = b"x" * 1_000_000
    await client.set("aiojobs:queues", big)
    assert await client.get("aiojobs:queues") == big


async def test_it_eats_the_reply_of_a_request_that_ran(proxy: Proxy, client: Client, redis_server: RedisServer) -> None:
    await client.ping()
    proxy.eat_reply(b"INCR")
    with pytest.raises(RedisConnectionError):
        await client.incr("n")
    assert proxy.eaten == 1
    assert direct_value(redis_server, "n") == b"1"
    assert await client.incr("n") == 2  # only the one, and it connects again
    assert proxy.eaten == 1
    assert proxy.accepted == 2


async def test_it_eats_as_many_as_it_was_told(proxy: Proxy, client: Client, redis_server: RedisServer) -> None:
    proxy.eat_reply(b"INCRBY n", count=2)
    for _ in range(2):
        with pytest.raises(RedisConnectionError):
            await client.incr("n")
    assert await client.incr("n") == 3
    assert proxy.eaten == 2


async def test_other_requests_keep_their_replies(proxy: Proxy, client: Client) -> None:
    proxy.eat_reply(b"XADD")
    assert await client.incr("n") == 1
    assert proxy.eaten == 0


async def test_a_match_in_a_pipeline_runs_all_of_it_and_drops_its_replies(
    proxy: Proxy, client: Client, redis_server: RedisServer
) -> None:
    pipeline = client.pipeline(transaction=False)
    for key in "abc":
        pipeline.set(key, key * 100_000)
    proxy.eat_reply(b"SET b")
    with pytest.raises(RedisConnectionError):
        await pipeline.execute()
    assert proxy.eaten == 1
    assert direct_value(redis_server, "a")
    assert direct_value(redis_server, "b")


async def test_a_request_in_many_pieces_is_matched_and_runs(
    proxy: Proxy, client: Client, redis_server: RedisServer
) -> None:
    proxy.eat_reply(b"end of it")
    with pytest.raises(RedisConnectionError):
        await client.set("big", b"x" * 1_000_000 + b"end of it")
    assert proxy.eaten == 1
    assert len(str(direct_value(redis_server, "big"))) > 1_000_000


async def test_it_waits_for_the_reply_before_it_closes(proxy: Proxy, client: Client, redis_server: RedisServer) -> None:
    await client.ping()
    proxy.eat_reply(b"BLPOP")
    blocked = asyncio.ensure_future(client.blpop("list", timeout=5))
    with redis_server.client() as direct:
        await wait_until(lambda: direct.info("clients")["blocked_clients"], what="the blocked client")
        assert proxy.eaten == 0
        direct.rpush("list", "x")
    with pytest.raises(RedisConnectionError):
        await blocked
    assert proxy.eaten == 1
    assert await client.llen("list") == 0


async def test_a_silently_eaten_reply_hangs(proxy: Proxy, redis_server: RedisServer) -> None:
    async with connect(proxy, socket_timeout=0.2) as client:
        await client.ping()
        proxy.eat_reply_silently(b"INCR")
        with pytest.raises(RedisTimeoutError):
            await client.incr("n")
        assert proxy.eaten == 1
        assert direct_value(redis_server, "n") == b"1"


async def test_latency_delays_both_directions_and_keeps_the_order(proxy: Proxy, client: Client) -> None:
    await client.ping()
    began = time.monotonic()
    await client.ping()
    assert time.monotonic() - began < 0.1
    proxy.latency_ms = 60
    proxy.jitter_ms = 10
    began = time.monotonic()
    await client.ping()
    assert 0.1 <= time.monotonic() - began < 1
    clients = [connect(proxy) for _ in range(5)]
    answers = await asyncio.gather(*(c.echo(b"%d" % n * 200_000) for n, c in enumerate(clients)))
    assert [answer[:1] for answer in answers] == [b"0", b"1", b"2", b"3", b"4"]
    for opened in clients:
        await opened.aclose()


async def test_a_blackhole_answers_nothing_and_leaves_no_half_requests(proxy: Proxy, redis_server: RedisServer) -> None:
    async with connect(proxy, socket_timeout=0.2) as client:
        await client.ping()
        proxy.blackhole = True
        with pytest.raises(RedisTimeoutError):
            await client.incr("n")
        with pytest.raises(RedisTimeoutError):  # a new connection, too
            await client.incr("n")
        proxy.blackhole = False
        assert await client.incr("n") == 1


async def test_a_connection_that_lost_bytes_stays_silent(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await wait_until(lambda: proxy.open == 1)
    proxy.blackhole = True
    writer.write(b"*1\r\n$4\r\nPING\r\n")
    await wait_until(lambda: proxy.swallowed == 14)
    proxy.blackhole = False
    writer.write(b"*1\r\n$4\r\nPING\r\n")
    await wait_until(lambda: proxy.swallowed == 28)
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_reset_all_breaks_what_is_open(proxy: Proxy, client: Client, redis_server: RedisServer) -> None:
    await client.ping()
    blocked = asyncio.ensure_future(client.blpop("list", timeout=5))
    with redis_server.client() as direct:
        await wait_until(lambda: direct.info("clients")["blocked_clients"], what="the blocked client")
    assert proxy.reset_all() == 1
    with pytest.raises(RedisConnectionError, match="reset by peer"):
        await blocked
    await wait_until(lambda: proxy.open == 0)
    assert await client.ping()


async def test_half_close_ends_the_replies_while_requests_pass(proxy: Proxy, redis_server: RedisServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await wait_until(lambda: proxy.open == 1)
    assert proxy.half_close() == 1
    assert await reader.read() == b""
    writer.write(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n")
    await wait_until(lambda: direct_value(redis_server, "n") == b"1")
    writer.close()
    await writer.wait_closed()
    await wait_until(lambda: proxy.open == 0)


async def test_refuse_leaves_what_is_open_and_accept_takes_new_ones(proxy: Proxy, client: Client) -> None:
    await client.ping()
    await proxy.refuse()
    assert await client.ping()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)
    await proxy.accept()
    async with connect(proxy) as other:
        assert await other.ping()


async def test_its_port_stays_its_own_while_it_refuses(proxy: Proxy) -> None:
    await proxy.refuse()
    with socket.socket() as thief, pytest.raises(OSError, match="in use"):
        thief.bind(("127.0.0.1", proxy.port))


async def test_the_client_sees_the_servers_end(proxy: Proxy, redis_server: RedisServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await wait_until(lambda: proxy.open == 1)
    with redis_server.client() as direct:
        direct.client_kill_filter(_type="normal", skipme=True)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await wait_until(lambda: proxy.open == 0)
