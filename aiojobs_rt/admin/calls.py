"""Calls: the scripts and commands behind the admin's queries and actions, each about one queue or one of its shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiojobs_rt.adapters.redis.connection import Away
from aiojobs_rt.adapters.redis.keys import control_channel, queue_keys, queues_key
from aiojobs_rt.adapters.redis.routing import Wires
from aiojobs_rt.adapters.redis.scripts import script
from aiojobs_rt.core.message import home_of
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiojobs_rt.adapters.redis.adapter import RedisAdapter
    from aiojobs_rt.adapters.redis.connection import Argument
    from aiojobs_rt.adapters.redis.keys import QueueKeys

MOST_JOBS = 500
"""A page's largest size, and how many jobs one script changes."""
HOPS = 8


class Calls:
    """What the admin sends to Redis, over connections of its own, and the answers as they come.

    Args:
        adapter: of which Redis, and under which prefix.
    """

    def __init__(self, adapter: RedisAdapter) -> None:
        self._prefix = adapter.prefix
        self._wires = Wires(adapter.endpoint, "aiojobs_rt:admin")

    async def close(self) -> None:
        """Close the connections. A later call makes new ones."""
        await self._wires.close()

    async def call(self, *command: Argument, key: str | None = None) -> Any:
        """Send one command that may be sent twice; once more when a connection that was open is not there any more.

        Args:
            command: the command.
            key: the key that it is about, or its queue; None for the server itself, in a cluster any of its nodes.
        """
        wire = self._wires.any if key is None else self._wires.of(key)
        was_open = wire.connected
        try:
            return await wire.call(*command)
        except Away:
            if not was_open:
                raise
        return await wire.call(*command)

    async def registered(self) -> list[str]:
        """Every queue, or shard of one, that was ever used."""
        key = queues_key(self._prefix)
        names: list[bytes] = await self.call("SMEMBERS", key, key=key)
        return [name.decode(errors="replace") for name in names]

    async def survey(self, queue: str) -> tuple[Any, ...]:
        """survey.lua's numbers of a queue, and as the last one its leases: (consumer, expiry, pending jobs)."""
        keys = self._keys(queue)
        answer: list[Any] = await self._run(
            "survey",
            queue,
            (keys.stream, keys.lanes, keys.scheduled, keys.retries, keys.dead, keys.workers, keys.paused),
            (),
        )
        leases = answer[8:]
        return (*answer[:8], list(zip(leases[::3], leases[1::3], leases[2::3], strict=True)))

    async def page(
        self, queue: str, state: str, *, job: str, limit: int, after: str | bytes
    ) -> tuple[int, bytes, list[tuple[Any, ...]]]:
        """Redis' time, the cursor of the next page, which is empty after the last one, and the jobs: six fields each, as page.lua tells."""
        keys = self._keys(queue)
        now_ms, cursor, *flat = await self._run(
            "page",
            queue,
            (keys.stream, keys.lanes, keys.workers, keys.scheduled, keys.retries, keys.dead, keys.parked),
            (state, job, limit, after),
        )
        return now_ms, cursor, list(zip(*(flat[i::6] for i in range(6)), strict=True))

    async def recent(self, queue: str, after: str) -> list[Any]:
        """At most 500 of the last finished jobs, the latest first: those before the entry of that id."""
        start = f"({after}" if after else "+"
        entries: list[Any] = await self.call(
            "XREVRANGE", self._keys(queue).recent, start, "-", "COUNT", MOST_JOBS, key=queue
        )
        return entries

    async def inspect(self, job_id: str) -> tuple[str, list[Any]]:
        """The queue on which a job is, which is another than its id's once a retry_on has sent it there, and inspect.lua's answer."""
        queue = home_of(job_id)
        answer: list[Any] = []
        for _ in range(HOPS):
            keys = self._keys(queue)
            answer = await self._run(
                "inspect",
                queue,
                (
                    keys.index, keys.stream, keys.workers, keys.scheduled, keys.retries, keys.dead, keys.parked,
                    keys.cancelled, keys.recent, keys.errors + job_id, keys.result + job_id, keys.moved + job_id,
                    keys.outgoing, keys.progress + job_id,
                ),
                (job_id,),
            )  # fmt: skip
            if answer[0] != b"moved":
                return queue, answer
            queue = answer[2].decode()
        return queue, [b"unknown", answer[1]]

    async def pause(self, queue: str, action: str) -> bool:
        """Pause or resume a queue, as the action says; whether that changed anything."""
        arguments = action, control_channel(self._prefix), queue
        return bool(await self._run("pause", queue, (self._keys(queue).paused,), arguments))

    async def revive(self, queue: str, jobs: Sequence[tuple[str, bytes, bytes]]) -> list[bytes]:
        """Run jobs now that are parked: (id, meta as it was seen, meta from now on); what became of each."""
        keys = self._keys(queue)
        answers: list[bytes] = await self._run(
            "revive",
            queue,
            (
                keys.stream, keys.index, keys.scheduled, keys.retries, keys.dead, keys.parked, keys.lanes, keys.result,
            ),
            (control_channel(self._prefix), queue, *(part for job in jobs for part in job)),
        )  # fmt: skip
        return answers

    async def remove(self, queue: str, ids: Sequence[str], *, only_dead: bool) -> list[bytes]:
        """Remove jobs that do not run; what became of each."""
        keys = self._keys(queue)
        answers: list[bytes] = await self._run(
            "remove",
            queue,
            (
                keys.index, keys.stream, keys.scheduled, keys.retries, keys.dead, keys.parked, keys.recent, keys.stats,
                keys.errors, keys.result,
            ),
            (settings().recent, "dead" if only_dead else "", *ids),
        )  # fmt: skip
        return answers

    async def _run(self, name: str, queue: str, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Any:
        wire = self._wires.of(queue)
        was_open = wire.connected
        try:
            return await wire.run(script(name), keys, arguments)
        except Away:
            if not was_open:
                raise
        return await wire.run(script(name), keys, arguments)

    def _keys(self, queue: str) -> QueueKeys:
        return queue_keys(self._prefix, queue)
