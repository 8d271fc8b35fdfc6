"""`rediss://`: the server's certificate is verified, by every kind of connection that the package makes; a certificate of one's own is shown."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
import redis
import trustme
from typer.testing import CliRunner

from aiojobs_rt import EnqueueError, RedisAdapter
from aiojobs_rt.adapters.redis import connection
from aiojobs_rt.adapters.redis.connection import Away, Wire
from aiojobs_rt.adapters.redis.endpoints import endpoint_of
from aiojobs_rt.adapters.redis.keys import queue_keys
from aiojobs_rt.adapters.redis.sentinel import SentinelEndpoint
from aiojobs_rt.admin import Admin
from aiojobs_rt.cli.app import app
from aiojobs_rt.errors import RedisUnavailable
from aiojobs_rt.settings import settings
from aiojobs_rt.worker.buffer import Buffer
from aiojobs_rt.worker.heartbeat import Heartbeat
from aiojobs_rt.worker.state import WorkerState
from tests.support.jobs import FaultEcho, FaultJob, Gated
from tests.support.redis_server import NO_RETRY, RedisServer, binaries, free_port
from tests.support.replicated import cluster_port
from tests.support.waiting import wait_for, wait_until
from tests.support.worker_process import JOBS, Fleet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
    from pathlib import Path

    Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

BROKEN = r"certificate verify failed|CERTIFICATE_VERIFY_FAILED"
KEYS = queue_keys("aiojobs", "default")


class Certificates:
    """Files of an authority, of the server's certificates, of a client's, and of an authority that nobody should trust."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority, other = trustme.CA(), trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        other.cert_pem.write_to_path(folder / "other.pem")
        self._write(authority.issue_cert("localhost"), "server")
        self._write(authority.issue_cert("localhost", not_after=datetime.now(tz=UTC) - timedelta(days=1)), "expired")
        self._write(authority.issue_cert("client@example.com"), "client")
        self._write(other.issue_cert("client@example.com"), "stranger")

    def _write(self, certificate: trustme.LeafCert, name: str) -> None:
        certificate.private_key_pem.write_to_path(self.folder / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(self.folder / f"{name}.pem")

    def server(self, *more: str, clients: str = "no", name: str = "server") -> TlsServer:
        return TlsServer(self, more, clients=clients, name=name)

    def arguments(self, *, clients: str, name: str) -> list[str]:
        return [
            "--tls-cert-file", f"{self.folder}/{name}.pem", "--tls-key-file", f"{self.folder}/{name}.key",
            "--tls-ca-cert-file", f"{self.folder}/ca.pem", "--tls-auth-clients", clients,
        ]  # fmt: skip


class TlsServer(RedisServer):
    """A server that listens by TLS only; tests look into it by its unix socket."""

    def __init__(self, certificates: Certificates, more: tuple[str, ...], *, clients: str, name: str) -> None:
        self.tls_port = cluster_port() if "--cluster-enabled" in more else free_port()
        self.authority = certificates.folder / "ca.pem"
        own = certificates.arguments(clients=clients, name=name)
        super().__init__(arguments=["--port", "0", "--tls-port", str(self.tls_port), *own, *more])

    def tls(self, *, host: str = "localhost", authority: object = None, more: str = "") -> str:
        return f"rediss://{host}:{self.tls_port}/0?ssl_ca_certs={authority or self.authority}{more}"

    def look(self) -> Any:
        return redis.Redis(unix_socket_path=f"{self.directory}/redis.sock", retry=NO_RETRY)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if not binaries():
        pytest.skip("there is no redis-server on this machine")
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    try:
        with certificates.server():
            return certificates
    except RuntimeError as error:
        if "tls" in str(error).lower():
            pytest.skip(f"this redis-server is built without TLS: {str(error)[-300:]}")
        raise


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[TlsServer]:
    with certificates.server() as server:
        yield server


async def use(url: str) -> None:
    """By the producer's connections: an enqueue, a look, pub/sub."""
    async with RedisAdapter(url, enqueue_timeout=1) as adapter:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FaultJob, "adapter", adapter)
            handle = await Gated.set(keep_result=60, queue="used").perform_later("/nowhere")
            assert await handle.status() == "queued"
            ending = asyncio.create_task(adapter.wait_ended(handle.id, timeout_ms=5000))
            await asyncio.sleep(0)
            assert await handle.cancel()
            assert (await ending).outcome == "cancelled"


async def beat(url: str) -> None:
    """By the heartbeat's own, synchronous connection."""
    async with RedisAdapter(url) as adapter:
        heartbeat = Heartbeat(
            WorkerState(adapter, name="w", lease=3.0, queues=[]),
            loop=asyncio.get_running_loop(), buffer=Buffer(), stall_limit=60.0,
            on_lost=Mock(), on_deadline=lambda: None, release=lambda _: None, running=list,
        )  # fmt: skip
        keys = [KEYS.workers, KEYS.grace, f"{KEYS.wake}w.0", KEYS.stats]
        try:
            state, _ = await asyncio.to_thread(heartbeat._evaluate, "default", "renew", keys, ["w.0", 3000, 5000, b""])
            assert state in (b"lost", b"forgotten")
        finally:
            for place in list(heartbeat._clients):
                heartbeat._disconnect(place)


async def ask(url: str) -> None:
    """By the admin's connection."""
    async with RedisAdapter(url) as adapter, Admin(adapter) as admin:
        assert (await admin.queue("nothing")).waiting == 0


async def connect(url: str) -> None:
    """As a producer does, without its trying again: a last try that is too short for a handshake says "no answer"."""
    made = await endpoint_of(url).connect("test", timeout=5)
    await made.disconnect()


REFUSED = {"producer": connect, "heartbeat": beat, "admin": ask}
WAYS = {"producer": use, "heartbeat": beat, "admin": ask}


async def test_the_heartbeat_connects_each_time(server: TlsServer) -> None:
    """What TLS 1.3 sends after the handshake is not taken for a reply that nobody has read."""
    for _ in range(20):
        await beat(server.tls())


@pytest.mark.parametrize("way", WAYS)
async def test_the_right_authority_and_name_are_accepted(server: TlsServer, way: str) -> None:
    await WAYS[way](server.tls())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", ["name", "authority", "system's authorities", "expired"])
async def test_a_certificate_that_does_not_hold_is_refused(
    server: TlsServer, certificates: Certificates, way: str, wrong: str
) -> None:
    with contextlib.ExitStack() as stack:
        if wrong == "expired":
            server = stack.enter_context(certificates.server(name="expired"))
        url = {
            "name": server.tls(host="127.0.0.1"),
            "authority": server.tls(authority=certificates.folder / "other.pem"),
            "system's authorities": f"rediss://localhost:{server.tls_port}/0",
            "expired": server.tls(),
        }[wrong]
        with pytest.raises((EnqueueError, Away, RedisUnavailable), match=BROKEN):
            await REFUSED[way](url)
        with server.look() as client:
            assert not client.exists(KEYS.stream)


ADVICE = {
    "name": "name the host in the URL as its certificate does",
    "authority": r"name the file of its authority in the URL: \?ssl_ca_certs=PATH",
    "system's authorities": r"name the file of its authority in the URL: \?ssl_ca_certs=PATH",
    "no file": "ssl_ca_certs names '/no/such.pem', which can't be read",
    "no file of a key": "ssl_keyfile names '/no/such.key', which can't be read",
}


def url_that_fails(server: TlsServer, certificates: Certificates, why: str) -> str:
    return {
        "name": server.tls(host="127.0.0.1"),
        "authority": server.tls(authority=certificates.folder / "other.pem"),
        "system's authorities": f"rediss://localhost:{server.tls_port}/0?",
        "no file": server.tls(authority="/no/such.pem"),
        "no file of a key": server.tls(more=f"&ssl_certfile={certificates.folder}/client.pem&ssl_keyfile=/no/such.key"),
    }[why] + "&ssl_password=hunter2"


@pytest.mark.parametrize("why", ADVICE)
async def test_the_error_of_an_enqueue_says_what_to_do(
    server: TlsServer, certificates: Certificates, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url_that_fails(server, certificates, why)
    async with RedisAdapter(url, enqueue_timeout=1) as adapter:
        monkeypatch.setattr(FaultJob, "adapter", adapter)
        with pytest.raises(EnqueueError, match=f"{ADVICE[why]}; the job was not enqueued") as caught:
            await FaultEcho.perform_later("hello")
    assert "hunter2" not in str(caught.value)


async def test_what_a_last_short_try_has_to_say_does_not_hide_the_reason(
    server: TlsServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RedisAdapter(url_that_fails(server, certificates, "authority"), enqueue_timeout=1) as adapter:
        monkeypatch.setattr(FaultJob, "adapter", adapter)
        tries: list[float] = []
        connect_to = adapter.endpoint.connect

        async def connect(name: str, *, timeout: float) -> Any:  # noqa: ASYNC109 - as the endpoint's
            tries.append(timeout)
            return await connect_to(name, timeout=timeout if len(tries) == 1 else 0.0)

        monkeypatch.setattr(adapter.endpoint, "connect", connect)
        with pytest.raises(EnqueueError, match=ADVICE["authority"]):
            await FaultEcho.perform_later("hello")
    assert len(tries) > 1


@pytest.mark.parametrize("command", ["doctor", "queues", f"enqueue {JOBS}:Nap [1]"])
def test_a_command_says_what_to_do(
    server: TlsServer, certificates: Certificates, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOJOBS_RT_ENQUEUE_TIMEOUT", "1")
    settings.cache_clear()
    url = url_that_fails(server, certificates, "authority")
    shown = CliRunner().invoke(app, [*command.split(), "--redis-url", url])
    settings.cache_clear()
    assert shown.exit_code == 1
    assert "name the file of its authority in the URL: ?ssl_ca_certs=PATH" in shown.stderr
    assert "Is Redis running there?" not in shown.stderr
    assert "hunter2" not in shown.output


async def test_pub_sub_too_hears_nothing_from_who_can_not_show_a_certificate(
    server: TlsServer, certificates: Certificates
) -> None:
    for url, heard in ((server.tls(), True), (server.tls(authority=certificates.folder / "other.pem"), False)):
        async with RedisAdapter(url) as adapter:
            session = await adapter._session()
            told = asyncio.Event()
            await session.subscriber.listen("aiojobs:control", lambda _, told=told: told.set())  # type: ignore[misc] # a lambda's default
            with server.look() as client:
                assert client.publish("aiojobs:control", "hello") == int(heard)
            if heard:
                await asyncio.wait_for(told.wait(), 5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("off", ["name", "all"])
async def test_verification_can_be_turned_off_only_by_saying_so(
    server: TlsServer, certificates: Certificates, way: str, off: str
) -> None:
    authority, more = ("ca", "") if off == "name" else ("other", "&ssl_cert_reqs=none")
    url = server.tls(
        host="127.0.0.1", authority=certificates.folder / f"{authority}.pem", more=f"&ssl_check_hostname=false{more}"
    )
    await WAYS[way](url)


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_that_wants_a_clients_certificate_gets_it(certificates: Certificates, way: str) -> None:
    with certificates.server(clients="yes") as server:

        def shown(name: str) -> str:
            return server.tls(
                more=f"&ssl_certfile={certificates.folder}/{name}.pem&ssl_keyfile={certificates.folder}/{name}.key"
            )

        await WAYS[way](shown("client"))
        for url in (server.tls(), shown("stranger")):
            with pytest.raises((EnqueueError, Away, RedisUnavailable)):
                await WAYS[way](url)


@pytest.mark.parametrize("way", ["producer", "heartbeat"])
async def test_plain_and_tls_do_not_meet(server: TlsServer, redis_server: RedisServer, way: str) -> None:
    for url in (f"redis://localhost:{server.tls_port}/0", f"rediss://localhost:{redis_server.port}/0"):
        with pytest.raises((EnqueueError, Away, RedisUnavailable)):
            await WAYS[way](url)


def url_the_wrong_way(server: TlsServer, plain: RedisServer, way: str) -> tuple[str, str]:
    """A URL, and what its error says."""
    if way == "plain to TLS":
        return (
            f"redis://:hunter2@localhost:{server.tls_port}/0",
            rf"the server at localhost:{server.tls_port} speaks TLS: use rediss:// \(not redis://\)",
        )
    return (
        f"rediss://:hunter2@localhost:{plain.port}/0",
        rf"the server at localhost:{plain.port} does not speak TLS: use redis:// \(not rediss://\)",
    )


@pytest.mark.parametrize("way", ["plain to TLS", "TLS to plain"])
async def test_who_speaks_tls_to_a_server_without_or_the_other_way_is_told(
    server: TlsServer, redis_server: RedisServer, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, told = url_the_wrong_way(server, redis_server, way)
    async with RedisAdapter(url, enqueue_timeout=0.5) as adapter:
        monkeypatch.setattr(FaultJob, "adapter", adapter)
        with pytest.raises(EnqueueError, match=f"{told}.*; the job was not enqueued") as caught:
            await FaultEcho.perform_later("hello")
    assert "hunter2" not in str(caught.value)
    for kind in ("cluster", "sentinel"):
        several = url.replace("://", f"+{kind}://").removesuffix("/0") + ("/jobs/0" if kind == "sentinel" else "")
        with pytest.raises(Away, match=told):
            await endpoint_of(several).connect("test", timeout=5)


@pytest.mark.parametrize("way", ["plain to TLS", "TLS to plain"])
def test_doctor_tells_who_speaks_the_wrong_way(
    server: TlsServer, redis_server: RedisServer, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 0.5)
    url, told = url_the_wrong_way(server, redis_server, way)
    shown = CliRunner().invoke(app, ["doctor", "--redis-url", url])
    assert shown.exit_code == 1
    assert re.search(told, shown.stderr)
    assert "Is Redis running there?" not in shown.stderr
    assert "hunter2" not in shown.output


@pytest.mark.parametrize("way", ["plain to TLS", "TLS to plain"])
async def test_a_worker_tells_who_speaks_the_wrong_way(
    server: TlsServer, redis_server: RedisServer, way: str, tmp_path: Path
) -> None:
    url, told = url_the_wrong_way(server, redis_server, way)
    fleet = Fleet(url, tmp_path)
    try:
        worker = fleet.launch(lease=1)
        await wait_until(lambda: " is away: " in worker.log, timeout=20, what="the worker's complaint")
        worker.terminate()
        assert await worker.ended() == 0
        (line,) = [line for line in worker.lines() if " is away: " in line]
        assert re.search(told, line)
    finally:
        fleet.close()


@contextlib.asynccontextmanager
async def listening(*answers: Answer) -> AsyncGenerator[int]:
    """A port at which the first connection gets the first answer, and so on; the last answer is also that of all further ones."""
    left = list(answers)
    made: list[asyncio.StreamWriter] = []
    ended: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.append(writer)
        ended.append(done := asyncio.Event())
        try:
            with contextlib.suppress(OSError):
                await (left.pop(0) if len(left) > 1 else left[0])(reader, writer)
        finally:
            writer.transport.abort()
            done.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for writer in made:
            writer.transport.abort()
        await asyncio.wait_for(asyncio.gather(*(one.wait() for one in ended)), 5)


async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def be_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()  # until the other side leaves


async def alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"\x15\x03\x03\x00\x02\x02\x46")
    await reader.read()


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest.mark.parametrize("answer", [hang_up, be_silent], ids=["hangs up", "is silent"])
async def test_a_server_of_which_nothing_is_known_is_not_said_to_speak_either_way(scheme: str, answer: Answer) -> None:
    async with listening(answer) as port:
        wire = Wire(endpoint_of(f"{scheme}://127.0.0.1:{port}/0"), "test")
        with pytest.raises(Away) as caught:
            await wire.call("PING", timeout=0.3)
    assert "speak" not in str(caught.value)


async def test_an_alert_is_known_for_tls(server: TlsServer) -> None:
    """Some servers say what they did not like before they hang up, in TLS' own words: no reply of Redis."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
        writer.transport.abort()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_them = await asyncio.open_connection("127.0.0.1", server.tls_port)
        await asyncio.gather(pass_on(reader, to_them), pass_on(theirs, writer), return_exceptions=True)

    async with listening(alert, relay) as port:
        wire = Wire(endpoint_of(f"redis://127.0.0.1:{port}/0"), "test")
        with pytest.raises(Away, match=rf"the server at 127\.0\.0\.1:{port} speaks TLS: use rediss://"):
            await wire.call("PING", timeout=2)


async def test_a_worker_works_by_tls_alone(server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has no other port. The lease is renewed, and a cancel arrives by pub/sub."""
    fleet = Fleet(server.tls(), tmp_path)
    async with RedisAdapter(server.tls()) as adapter:
        monkeypatch.setattr(FaultJob, "adapter", adapter)
        try:
            worker = await fleet.start(lease=30)
            echo = await FaultEcho.perform_later("hello")
            assert await echo.result(timeout=10) == "hello"
            running = await Gated.set(keep_result=60).perform_later(str(tmp_path / "never"))
            await fleet.written("start", 1)
            assert await running.cancel()
            await fleet.written("note", 1)
            with server.look() as client:
                named = {line["name"] for line in client.client_list() if line["addr"].startswith("127.0.0.1")}
            assert {"aiojobs_rt:fetch", "aiojobs_rt:wait", "aiojobs_rt:settle", "aiojobs_rt:control"} <= named
            worker.terminate()
            assert await worker.ended() == 0
            assert " is away" not in worker.log
        finally:
            fleet.close()


async def test_a_worker_that_can_not_verify_its_redis_waits_and_says_why_once(
    server: TlsServer, certificates: Certificates, tmp_path: Path
) -> None:
    fleet = Fleet(server.tls(authority=certificates.folder / "other.pem"), tmp_path)
    try:
        worker = fleet.launch(lease=1)
        await wait_until(lambda: " is away: " in worker.log, timeout=20, what="the worker's complaint")
        with server.look() as client:
            assert not client.zcard(KEYS.workers)
        worker.terminate()
        assert await worker.ended() == 0
        (line,) = [line for line in worker.lines() if " is away: " in line]
        assert "certificate verify failed" in line.lower()
        assert "name the file of its authority in the URL: ?ssl_ca_certs=PATH" in line
    finally:
        fleet.close()


# -- clusters and Sentinels ----------------------------------------------------------------------


async def test_the_nodes_of_a_cluster_are_verified(certificates: Certificates) -> None:
    with certificates.server(
        "--cluster-enabled",
        "yes",
        "--tls-cluster",
        "yes",
        "--cluster-announce-hostname",
        "localhost",
        "--cluster-preferred-endpoint-type",
        "hostname",
    ) as server:
        with server.look() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_for(
                lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO", NEVER_DECODE=b""),
                what="the cluster",
            )

        def url(authority: str) -> str:
            return f"rediss+cluster://localhost:{server.tls_port}?ssl_ca_certs={certificates.folder}/{authority}"

        for way, works in WAYS.items():
            await works(url("ca.pem"))
            with pytest.raises((Away, RedisUnavailable), match=BROKEN):
                await REFUSED[way](url("other.pem"))


def start_sentinel(server: TlsServer, file: Path, certificates: Certificates) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [server.binary.path, str(file), "--sentinel", *certificates.arguments(clients="no", name="server")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


async def test_the_sentinels_and_the_master_are_verified(certificates: Certificates, tmp_path: Path) -> None:
    port = free_port()
    with certificates.server() as server:
        file = tmp_path / "sentinel.conf"
        file.write_text(
            f"port 0\ntls-port {port}\nbind 127.0.0.1\ndir {tmp_path}\ntls-replication yes\nsentinel resolve-hostnames yes\nsentinel announce-hostnames yes\nsentinel monitor jobs localhost {server.tls_port} 1\n"
        )
        process = start_sentinel(server, file, certificates)
        try:

            def url(authority: str) -> str:
                return f"rediss+sentinel://localhost:{port}/jobs/0?ssl_ca_certs={certificates.folder}/{authority}"

            def answers() -> bool:
                with contextlib.suppress(Away):
                    return bool(endpoint_of(url("ca.pem")).resolve())
                return False

            wait_for(answers, what="the Sentinel's first answer")
            assert isinstance(endpoint_of(url("ca.pem")), SentinelEndpoint)
            for way, works in WAYS.items():
                await works(url("ca.pem"))
                with pytest.raises((Away, RedisUnavailable), match=BROKEN):
                    await REFUSED[way](url("other.pem"))
        finally:
            process.terminate()
            process.wait()
