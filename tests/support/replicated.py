"""Several Redis servers that belong together: a master with a replica and Sentinels, and a cluster."""

from __future__ import annotations

import contextlib
import functools
import random
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from redis.crc import key_slot

from tests.support.redis_server import CREDENTIALS, NO_RETRY, RedisServer, chosen_binary, free_port
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

DOWN_AFTER_MS = 500
NODE_TIMEOUT_MS = 500
SLOTS = 16_384
PERIODS = "INFO-PERIOD", "500", "ASK-PERIOD", "100", "PUBLISH-PERIOD", "200"
"""Of Sentinels, in ms."""


def _look_often(port: int) -> bool:
    """Have a Sentinel look, ask and tell ten times as often as it does by itself; False while it does not listen yet."""
    with redis.Redis(port=port, retry=NO_RETRY, socket_timeout=5) as client:
        try:
            client.execute_command("SENTINEL", "DEBUG", *PERIODS)
        except (redis.ConnectionError, redis.TimeoutError):
            return False
    return True


class SentinelSetup:
    """A master, a replica, and three Sentinels that fail over after half a second."""

    name = "jobs"

    def __init__(self) -> None:
        self.servers: list[RedisServer] = []
        self.sentinels: list[int] = []
        self._settled: RedisServer | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stack = contextlib.ExitStack()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://{CREDENTIALS}{hosts}/{self.name}/0"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            master = stack.enter_context(RedisServer(appendonly=True, arguments=("--repl-diskless-sync-delay", "0")))
            replica = stack.enter_context(
                RedisServer(
                    appendonly=True,
                    arguments=("--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0"),
                )
            )
            self.servers = [master, replica]
            wait_for(functools.partial(_in_sync, master, 1), what="the replica to be in sync")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiojobs_rt-sentinel-")))
            self.sentinels = [free_port() for _ in range(3)]
            stack.callback(self._end_sentinels)
            for port in self.sentinels:
                self._start_sentinel(folder / f"{port}.conf", port, master.port)
            if chosen_binary().version >= (7, 0):  # they look at a restarted server every 10 s otherwise
                for port in self.sentinels:
                    wait_for(functools.partial(_look_often, port), what="a Sentinel's first answer")
            wait_for(self._ready, what="the Sentinels to know each other and the replica")
            self._settled = master
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def master(self) -> RedisServer:
        """The server that the Sentinels take for the master."""
        address = self.ask("SENTINEL", "get-master-addr-by-name", self.name)
        return next(server for server in self.servers if server.port == int(address[1]))

    def ask(self, *command: str) -> Any:
        with redis.Redis(port=self.sentinels[0], retry=NO_RETRY, socket_timeout=5) as client:
            return client.execute_command(*command)

    def start_again(self, server: RedisServer) -> None:
        """Start a killed master as the replica of the new one, which the Sentinels would do some 10 s later."""
        server.start()
        with server.client() as client:
            client.replicaof("127.0.0.1", str(self.master().port))

    def settle(self) -> None:
        """Start what is down, and wait until master and replica are in sync and the Sentinels content."""
        for server in self.servers:
            if not server.runs:
                self.start_again(server)
        wait_for(self._one_master, timeout=20, what="one master")
        if (master := self.master()) is not self._settled:
            for port in self.sentinels:  # else they wait for twice the failover's timeout before the next one
                with redis.Redis(port=port, retry=NO_RETRY, socket_timeout=5) as client:
                    client.execute_command("SENTINEL", "RESET", self.name)
            self._settled = master
        wait_for(self._whole, timeout=20, what="master and replica to be one again")

    def _one_master(self) -> bool:
        """Make a replica of who was the master before a failover; the Sentinels would, 8 s later."""
        try:
            master = self.master()
            for server in self.servers:
                with server.client() as client:
                    if server is not master and client.role()[0] in (b"master", "master"):
                        client.replicaof("127.0.0.1", str(master.port))
            return _in_sync(master, 1)
        except (redis.RedisError, OSError, StopIteration):
            return False

    def _whole(self) -> bool:
        try:
            return _in_sync(self.master(), 1) and self._ready()
        except (redis.RedisError, OSError, StopIteration):
            return False

    def _ready(self) -> bool:
        for port in self.sentinels:
            try:
                with redis.Redis(port=port, retry=NO_RETRY, socket_timeout=5) as client:
                    raw: Any = client.execute_command("SENTINEL", "master", self.name)
            except (redis.RedisError, OSError):
                return False
            state = raw if isinstance(raw, dict) else dict(zip(raw[::2], raw[1::2], strict=True))
            told = {_text(key).replace("_", "-"): _text(value) for key, value in state.items()}
            if told["num-slaves"] != "1" or told["num-other-sentinels"] != "2" or told["flags"] != "master":
                return False
        return True

    def _start_sentinel(self, config: Path, port: int, master: int) -> None:
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {config.parent}\n"
            f"sentinel monitor {self.name} 127.0.0.1 {master} 2\n"
            f"sentinel down-after-milliseconds {self.name} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {self.name} 2000\n"
        )
        with config.with_suffix(".log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [chosen_binary().path, str(config), "--sentinel"],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )
            )  # fmt: skip

    def _end_sentinels(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
            process.wait()


class ClusterSetup:
    """Three masters with one replica each, made by hand: `redis-cli --cluster create` takes its time."""

    def __init__(self) -> None:
        self.servers: list[RedisServer] = []
        self._stack = contextlib.ExitStack()

    @property
    def url(self) -> str:
        return f"redis+cluster://{CREDENTIALS}" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for _ in range(6):
                server = RedisServer(appendonly=True, arguments=_CLUSTER)
                server.port = cluster_port()
                self.servers.append(stack.enter_context(server))
            self._join()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _join(self) -> None:
        first, *others = self.servers
        for number, server in enumerate(self.servers):
            with server.client() as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number < 3:
                    start, end = SLOTS * number // 3, SLOTS * (number + 1) // 3
                    client.execute_command("CLUSTER", "ADDSLOTS", *range(start, end))
        with first.client() as client:
            for server in others:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)
        wait_for(lambda: all(len(_nodes(server)) == 6 for server in self.servers), what="the nodes to meet")
        for number, server in enumerate(self.servers[3:]):
            with server.client() as client, self.servers[number].client() as master:
                identity = _text(master.execute_command("CLUSTER", "MYID"))
                client.execute_command("CLUSTER", "REPLICATE", identity)
        self.settle()

    def settle(self) -> None:
        """Start what is down, and wait until each master has its replica and all agree."""
        for server in self.servers:
            if not server.runs:
                server.start()
        wait_for(self._whole, timeout=20, what="the cluster to be whole")

    def master_of(self, key: str) -> RedisServer:
        """The server that holds the slot of a key or queue now."""
        slot = key_slot(key.encode())
        for server in self.servers:
            if server.runs:
                with server.client() as client, contextlib.suppress(redis.RedisError):
                    ranges: Any = client.execute_command("CLUSTER", "SLOTS", NEVER_DECODE=b"")
                    for start, end, (_, port, *_), *_ in ranges:
                        if start <= slot <= end:
                            return next(other for other in self.servers if other.port == port)
        raise LookupError(f"nobody holds slot {slot}")

    def replica_of(self, master: RedisServer) -> RedisServer:
        """The replica of a master."""
        with master.client() as client:
            role: Any = client.execute_command("ROLE")
        port = int(role[2][0][1])
        return next(server for server in self.servers if server.port == port)

    def masters(self) -> Iterator[RedisServer]:
        """Those that are masters now."""
        for server in self.servers:
            with server.client() as client:
                role: Any = client.execute_command("ROLE")
            if _text(role[0]) == "master":
                yield server

    def _whole(self) -> bool:
        try:
            masters = list(self.masters())
            return (
                len(masters) == 3
                and all(_in_sync(master, 1) for master in masters)
                and all(_cluster_ok(server) for server in self.servers)
            )
        except redis.RedisError:
            return False


_CLUSTER = (
    "--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS),
    "--cluster-replica-validity-factor", "0", "--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0",
)  # fmt: skip


def cluster_port() -> int:
    """A free port whose neighbour 10,000 higher, for the nodes among themselves, is free too."""
    while True:
        port = random.randrange(11_000, 22_000)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port


def _cluster_ok(server: RedisServer) -> bool:
    with server.client() as client:
        told = _text(client.execute_command("CLUSTER", "INFO", NEVER_DECODE=b""))
    return "cluster_state:ok" in told and "cluster_slots_ok:16384" in told


def _nodes(server: RedisServer) -> list[str]:
    with server.client() as client:
        told = _text(client.execute_command("CLUSTER", "NODES", NEVER_DECODE=b""))
    return [line for line in told.splitlines() if "handshake" not in line]


def _in_sync(master: RedisServer, replicas: int) -> bool:
    with master.client() as client:
        told: Any = client.info("replication")
    online = sum(told.get(f"slave{n}", {}).get("state") == "online" for n in range(9))
    return bool(told["role"] == "master" and online >= replicas)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


__all__ = ["DOWN_AFTER_MS", "ClusterSetup", "SentinelSetup", "cluster_port"]
