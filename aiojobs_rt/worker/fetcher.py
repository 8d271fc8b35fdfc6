"""The fetcher: reads from the queues' lanes into the buffer, as much as the slots can take.

1. How much there is room for says `read_ahead.py`.
2. Queue by queue, in strict or weighted order (`order.py`), it reads lane by lane without blocking. One request goes as far as the
   first lane that was not empty when it was last read: COUNT is per stream, and what is asked of a lane behind it would overtake what
   waits before it.
3. Only when all are empty, it blocks on all of them at once, for 2 s at most, on a connection of its own. The read is never cancelled: an
   entry may be on its way. An entry on the worker's wake stream ends it at once. What it brings is handed to the slots in the moment in
   which it arrives.

A connection that broke may have swallowed a reply: then, and when Redis says that more is pending here than is held, the fetcher reads
its own pending entries and runs those that it does not know.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from redis import exceptions

from aiojobs_rt.adapters.redis.connection import Away
from aiojobs_rt.adapters.redis.keys import GROUP, SUSPECTS
from aiojobs_rt.adapters.redis.routing import Wires
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.worker.order import Order
from aiojobs_rt.worker.phantoms import recover
from aiojobs_rt.worker.served import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aiojobs_rt.worker.buffer import Buffer
    from aiojobs_rt.worker.read_ahead import ReadAhead
    from aiojobs_rt.worker.served import Served
    from aiojobs_rt.worker.settler import Settler
    from aiojobs_rt.worker.state import WorkerState

logger = logging.getLogger("aiojobs_rt.fetcher")

BLOCK_MS = 2_000
REFUSED_FOR = 1.0
AWAY_FOR = 0.2


class Fetcher:
    """Fills the buffer of one worker.

    Args:
        state: the worker's.
        buffer: where entries go.
        ahead: how much to read.
        settler: where entries are put back that come too late.
        heal: makes a queue's groups again, and sees to its lease.
        on_empty: called when all queues were found empty and nothing is left to do here.
    """

    def __init__(
        self,
        state: WorkerState,
        *,
        buffer: Buffer,
        ahead: ReadAhead,
        settler: Settler,
        heal: Callable[[Served], Coroutine[Any, Any, None]],
        on_empty: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._state = state
        self._buffer = buffer
        self._ahead = ahead
        self._settler = settler
        self._heal_queue = heal
        self._on_empty = on_empty
        self._wires = Wires(state.adapter.endpoint, "aiojobs_rt:fetch")
        self._blocking = Wires(state.adapter.endpoint, "aiojobs_rt:wait", apart=True)
        self._healed_at = 0.0
        self.order = Order(state)
        self.block_ms = BLOCK_MS
        self.resumed = asyncio.Event()
        self.blocked_on: set[str] = set()
        self._apart = state.adapter.endpoint.clustered
        self._reads: dict[str, asyncio.Task[bool]] = {}

    async def run(self) -> None:
        """Fetch until the worker is quiet."""
        try:
            await self._fetch()
            if self._reads:  # what they still bring is put back
                await asyncio.gather(*self._reads.values(), return_exceptions=True)
        finally:
            for read in self._reads.values():
                read.cancel()

    async def _fetch(self) -> None:
        while not self._state.quiet:
            try:
                await self._recover()
                want = self._ahead.want()
                if want <= 0:
                    await self._ahead.wait_for_space()
                    continue
                got = await self._read_all(want)
                if not got and len(self._buffer):
                    await self._ahead.wait_for_space()  # a blocking read would keep the buffer from being put back
                    continue
                waiting = not got
                while waiting:
                    await self._on_empty()
                    # what a blocking read found empty for 2 s needs no other read before the next
                    waiting = (
                        not self._state.quiet and await self._block(self.order.readable()) and self._ahead.want() > 0
                    )
                    waiting = waiting and not any(served.refusal for served in self._state.queues.values())
            except (Away, ConfigurationError) as error:
                for served in self._state.queues.values():
                    served.look_for_phantoms = True
                await self._state.redis.failed(error)
            except exceptions.ResponseError as error:
                await self._heal(error)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wires.close()
        await self._blocking.close()

    # -- reading ---------------------------------------------------------------------------------

    async def _read_all(self, want: int) -> int:
        """Read from the queues in their order; how many entries came."""
        got = 0
        for served, share in self.order.shares(self.order.readable(), want):
            if got >= want or self._state.quiet:
                break
            try:
                got += await self._read(served, min(share, want - got))
                served.refusal = ""
            except exceptions.ResponseError as error:
                await self._heal(error, served)
            except Away as error:
                if not self._apart:
                    raise
                self._leave_alone(served, error)
                continue
            self._state.redis_of(served.name).succeeded()
        return got

    async def _read(self, served: Served, want: int) -> int:
        lanes = [lane for lane in served.lanes if lane != SUSPECTS or not served.holds_suspect()]
        got = 0
        empty = served.empty
        start = 0
        while start < len(lanes) and got < want:
            end = start + 1
            while end < len(lanes) and lanes[end - 1] in empty:
                end += 1
            some = lanes[start:end]
            commands = [self._command(served, (lane,), want - got) for lane in some]
            since = time.monotonic()
            replies = await self._wires.of(served.name).call_many(commands)
            # each reply is taken, also behind one that suffices: its entries are ours by now
            for lane, reply in zip(some, replies, strict=True):
                if not reply:
                    empty.add(lane)
                elif not isinstance(reply, exceptions.RedisError):
                    empty.discard(lane)
                    got += self._take(served, lane, reply[0][1], since)
            for reply in replies:
                if isinstance(reply, exceptions.RedisError):
                    raise reply
            start = end
        return got

    async def _block(self, queues: list[Served]) -> bool:
        """Wait for entries; whether there were none, and nothing else to look after."""
        if not queues:
            self.resumed.clear()
            try:
                async with asyncio.timeout(0.1):
                    await self.resumed.wait()
            except TimeoutError:
                pass
            return False
        queues = [served for served in queues if not served.refusal] or queues
        # a consumer is named after worker and epoch: after a lost lease some queues have another one than the rest
        groups: dict[str, list[Served]] = {}
        for served in queues:
            groups.setdefault(served.name if self._apart else served.consumer, []).append(served)
        if not self._apart:
            await self._blocking.keep(groups.keys() | self._reads.keys())
            if len(groups) == 1 and not self._reads:
                return await self._block_on(queues, queues[0].consumer)
        return await self._block_apart(groups)

    async def _block_apart(self, groups: dict[str, list[Served]]) -> bool:
        """A blocking read is about one consumer, and in a cluster about one slot: one for each, at the same time. Those that go on are left to it."""
        for key, together in groups.items():
            if key not in self._reads:
                read = self._block_alone(together[0]) if self._apart else self._block_on(together, key)
                self._reads[key] = asyncio.create_task(read, name="aiojobs_rt read")
        await asyncio.wait(self._reads.values(), return_when=asyncio.FIRST_COMPLETED)
        ended = [key for key, read in self._reads.items() if read.done()]
        found_nothing = [self._reads.pop(key).result() for key in ended]
        return all(found_nothing)

    async def _block_alone(self, served: Served) -> bool:
        try:
            return await self._block_on([served], served.name)
        except exceptions.ResponseError as error:
            await self._heal(error, served)
        except (Away, ConfigurationError) as error:
            self._leave_alone(served, error)
        return False

    def _leave_alone(self, served: Served, error: Away | ConfigurationError) -> None:
        """The node of a queue is away: the others are read on."""
        served.look_for_phantoms = True
        served.refused_until = time.monotonic() + AWAY_FOR
        logger.debug("queue %s: %s", served.name, error)

    async def _block_on(self, together: list[Served], key: str) -> bool:
        """Wait for entries of queues that share a consumer's name and a node, on the connection of that key."""
        consumer = together[0].consumer
        streams = {
            served.keys.lane(lane): (served, lane)
            for served in together
            for lane in served.lanes
            if lane != SUSPECTS or not served.holds_suspect()
        }
        wakes = [served.keys.wake + consumer for served in together]
        since = time.monotonic()
        soonest = min(served.safe_until for served in together) - since
        block_ms = max(1, min(self.block_ms, int(soonest * 1000) - 100))
        names = [*streams, *wakes]
        suspects = any(lane == SUSPECTS for _, lane in streams.values())
        count = 1 if suspects else max(1, self._buffer.idle // len(streams))
        woken: list[tuple[bytes, list[Any]]] = []

        def take(reply: Any) -> None:
            for name, entries in reply or ():
                found = streams.get(name.decode())
                if found is None:
                    woken.append((name, entries))
                else:
                    found[0].empty.clear()
                    self._take(*found, entries, since)

        names_now = {served.name for served in together}
        self.blocked_on |= names_now
        try:
            reply = await self._blocking.of(key).call(
                "XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count,
                "BLOCK", block_ms, "STREAMS", *names, *([">"] * len(names)),
                timeout=block_ms / 1000 + 2,
                at_once=take,  # slots are woken before the fetcher goes on
            )  # fmt: skip
        finally:
            self.blocked_on -= names_now
        for name, entries in woken:
            await self._wires.of(together[0].name).call("XACK", name, GROUP, *(entry for entry, _ in entries))
        return not reply and not any(served.look_for_phantoms for served in together)

    def _command(self, served: Served, lanes: tuple[str, ...], count: int) -> tuple[str | int, ...]:
        if lanes[0] == SUSPECTS:
            count = 1
        return (
            "XREADGROUP", "GROUP", GROUP, served.consumer, "COUNT", count,
            "STREAMS", *(served.keys.lane(lane) for lane in lanes), *([">"] * len(lanes)),
        )  # fmt: skip

    def _take(self, served: Served, lane: str, entries: list[Any], since: float) -> int:
        held = served.held[lane]
        deliveries: list[Delivery] = []
        for entry, fields in entries:
            if entry not in held:  # else its group was made again, and it is here already: one run, one outcome
                delivery = held[entry] = Delivery(served, lane, entry, fields or [], since)
                deliveries.append(delivery)
        if self._state.quiet:
            for delivery in deliveries:
                self._settler.release(delivery)
        else:
            self._buffer.put(deliveries)
        return len(deliveries)

    # -- phantoms --------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Run what Redis has delivered here without this worker knowing."""
        for served in self._state.queues.values():
            if served.look_for_phantoms and served.may_read(time.monotonic()):
                try:
                    for lane in served.lanes:
                        await recover(
                            served, lane, wire=self._wires.of(served.name), settler=self._settler, take=self._take
                        )
                except exceptions.ResponseError as error:
                    await self._heal(error, served)
                    continue
                except Away as error:
                    if not self._apart:
                        raise
                    self._leave_alone(served, error)
                    continue
                served.look_for_phantoms = False
                served.suspicious = 0

    async def _heal(self, error: exceptions.ResponseError, *queues: Served) -> None:
        """After a read of these queues (none: of all at once) was refused: a group or stream was destroyed under us, or something worse."""
        text = str(error)
        now = time.monotonic()
        if "NOGROUP" in text or "UNBLOCKED" in text or "no longer exists" in text:
            if now - self._healed_at > 1:
                logger.warning("a stream or its group is gone (%s); it is made again", text[:200])
            else:
                await asyncio.sleep(0.05)
            self._healed_at = now
            for served in queues or list(self._state.queues.values()):
                try:
                    await self._heal_queue(served)
                except (Away, ConfigurationError) as away:
                    await self._state.redis_of(served.name).failed(away)
                    return
                except exceptions.ResponseError as worse:
                    self._note_refusal(served, worse)
            return
        for served in queues:
            self._note_refusal(served, error)
        if not queues:
            await asyncio.sleep(0.1)  # whose fault it was is found when they are read one by one

    def _note_refusal(self, served: Served, error: exceptions.ResponseError) -> None:
        """Leave a queue alone for a moment: the others are read on."""
        if served.refusal != str(error):
            served.refusal = str(error)
            logger.error("queue %s can't be read: %s", served.name, error)
        served.refused_until = time.monotonic() + REFUSED_FOR
