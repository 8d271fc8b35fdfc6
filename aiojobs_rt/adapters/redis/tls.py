"""TLS: what to do about a connection that failed for its sake, for the text of its error.

The error itself often does not say so. A Redis without TLS takes the handshake for the beginning of a command and waits for the rest; one
with TLS hangs up on a plain command. So the other way is tried once, with nothing secret in it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import TYPE_CHECKING

from redis.asyncio.connection import SSLConnection
from redis.exceptions import ConnectionError, InvalidResponse  # noqa: A004 - Redis' own

if TYPE_CHECKING:
    from collections.abc import Mapping

FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_BY_REASON = {
    "mismatch": "name the host in the URL as its certificate does",
    "has expired": "the server needs a new one",
    "not yet valid": "compare the clocks of both machines",
    "certificate verify failed": "name the file of its authority in the URL: ?ssl_ca_certs=PATH",
    "certificate required": "give it one of yours in the URL: ?ssl_certfile=PATH&ssl_keyfile=PATH",
    "unknown ca": "the server does not know the authority of your certificate (ssl_certfile)",
}
"""What is in the lower-case text of the error, the special before the general."""
_NO_TLS = ("wrong version number", "record layer failure")

LOOK_TIMEOUT = 0.5
"""Seconds for the answer of a server that is asked in the other way."""


async def other_way(error: BaseException, arguments: Mapping[str, object]) -> str:
    """Whether the server speaks TLS where the URL has none, or none where it has: what to do then; else empty.

    Takes up to 0.5 s when the error leaves it open; cancelling it is harmless.

    Args:
        error: of making the connection, or of the first command.
        arguments: those of the connection.
    """
    host, port = arguments.get("host", "localhost"), arguments.get("port", 6379)
    if "path" in arguments or not isinstance(host, str) or not isinstance(port, int):
        return ""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if arguments.get("connection_class") is SSLConnection:
        if any(reason in str(error).lower() for reason in _NO_TLS) or (
            isinstance(error, TimeoutError) and await _speaks_plainly(host, port)
        ):
            return (
                f"the server at {place} does not speak TLS: use redis:// (not rediss://), or the port on which it does"
            )
    elif _hung_up(error) and await _speaks_tls(host, port):
        return f"the server at {place} speaks TLS: use rediss:// (not redis://), or its port without TLS"
    return ""


def _hung_up(error: BaseException) -> bool:
    """Whether the server was there, and did not like what it heard. An alert, which is told in TLS, is no reply of Redis."""
    if type(error) is ConnectionError:  # its subclasses are replies
        return "connecting to" not in str(error)
    return isinstance(error, (ConnectionResetError, BrokenPipeError, EOFError, InvalidResponse))


async def _speaks_plainly(host: str, port: int) -> bool:
    """Whether a Redis answers there without TLS, and be it with an error."""
    try:
        async with asyncio.timeout(LOOK_TIMEOUT):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"PING\r\n")
                return await reader.read(1) in (b"+", b"-")
            finally:
                writer.transport.abort()
    except OSError:  # TimeoutError is one
        return False


async def _speaks_tls(host: str, port: int) -> bool:
    """Whether TLS is spoken there, whatever the server's certificate: nothing is told to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is only asked whether it has one
    try:
        async with asyncio.timeout(LOOK_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
            writer.transport.abort()
    except OSError:  # TimeoutError and ssl.SSLError are some
        return False
    return True


def advice(error: BaseException, arguments: Mapping[str, object]) -> str:
    """What to do, as the end of a sentence; empty when it was no failure of TLS.

    Args:
        error: of making the connection.
        arguments: those of the connection, whose files are looked at; no value of another one is told.
    """
    for name in FILES:
        path = arguments.get(name)
        if isinstance(path, str) and not os.access(path, os.R_OK):
            return f"{name} names {path!r}, which can't be read"
    text = str(error).lower()
    return next((told for reason, told in _BY_REASON.items() if reason in text), "") if "ssl" in text else ""
