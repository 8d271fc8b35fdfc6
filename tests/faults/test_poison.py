"""Poison: whatever lies on the stream, the worker stays up, the next job runs, and the poison is in the dead set with its payload. (G10)"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from aiojobs_rt import perform_all_later
from tests.support.jobs import Bystander, Nap, Poison
from tests.support.outcomes import all_are, becomes
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.worker_process import Fleet

KEY = "aiojobs:{default}:"
META = b'{"v":1,"at":1}'
DEEP = b"[" * 100_000 + b"]" * 100_000
ID = b"default.AAAAAAAAAAAAAAAAAAAAAA"


def entry(**fields: bytes) -> dict[bytes, bytes]:
    whole = {b"id": ID, b"job": b"Nap", b"args": b'{"number":1}', b"meta": META}
    return whole | {name.encode(): value for name, value in fields.items()}


def without(name: bytes) -> dict[bytes, bytes]:
    return {key: value for key, value in entry().items() if key != name}


MALFORMED: dict[str, dict[bytes, bytes]] = {
    "no id": without(b"id"),
    "no job": without(b"job"),
    "no args": without(b"args"),
    "no meta": without(b"meta"),
    "other fields": {b"payload": b'{"class": "Nap"}'},
    "one more field": entry(more=b"1"),
    "fields in another order": dict(reversed(list(entry().items()))),
    "bytes that are no text everywhere": {b"\xff\xfe": b"\xff" * 100, b"\x00": b"\x80"},
    "id: bad UTF-8": entry(id=b"default.\xff\xff"),
    "id: empty": entry(id=b"", meta=b""),
    "id: of another queue": entry(id=b"other.AAAAAAAAAAAAAAAAAAAAAA", meta=b"{}"),
    "id: very long": entry(id=b"default." + b"A" * 5000, meta=b"{}"),
    "id: control characters": entry(id=b"default.A\nB\x1b[31m", meta=b"{}"),
    "job: bad UTF-8": entry(job=b"N\xc3\x28ap"),
    "meta: bad UTF-8": entry(meta=b'{"v":1,"at":1,"x":"\xc3\x28"}'),
    "meta: empty": entry(meta=b""),
    "meta: truncated": entry(meta=b'{"v":1,"at"'),
    "meta: 100,000 levels": entry(meta=b'{"v":1,"at":1,"x":' + DEEP + b"}"),
    "meta: an array": entry(meta=b"[1]"),
    "meta: no version": entry(meta=b'{"at":1}'),
    "meta: version 0": entry(meta=b'{"v":0,"at":1}'),
    "meta: version true": entry(meta=b'{"v":"1","at":1}'),
    "meta: no time": entry(meta=b'{"v":1}'),
    "meta: time is text": entry(meta=b'{"v":1,"at":"now"}'),
    "meta: time is huge": entry(meta=b'{"v":1,"at":' + b"9" * 400 + b"}"),
    "meta: failures huge": entry(meta=b'{"v":1,"at":1,"failures":18446744073709551615}', args=b"{"),
    "meta: failures negative": entry(meta=b'{"v":1,"at":1,"failures":-1}'),
    "meta: interruptions huge": entry(meta=b'{"v":1,"at":1,"interruptions":18446744073709551615}', args=b"{"),
    "meta: failed_at is text": entry(meta=b'{"v":1,"at":1,"failed_at":"x"}', args=b"{"),
    "meta: keep_result negative": entry(meta=b'{"v":1,"at":1,"options":{"keep_result":-5}}'),
    "meta: timeout huge": entry(meta=b'{"v":1,"at":1,"options":{"timeout":18446744073709551615}}'),
    "meta: options an array": entry(meta=b'{"v":1,"at":1,"options":[]}'),
    "args: empty": entry(args=b""),
    "args: truncated": entry(args=b'{"number":'),
    "args: bad UTF-8": entry(args=b'{"number":"\xff"}'),
    "args: 100,000 levels": entry(args=DEEP),
    "args: 100,000 levels in a parameter": entry(args=b'{"number":' + DEEP + b"}"),
    "args: an array": entry(args=b"[1]"),
    "args: one is missing": entry(args=b"{}"),
    "args: one too many": entry(args=b'{"number":1,"unheard_of":2}'),
    "args: of a wrong type": entry(args=b'{"number":"one"}'),
    "args: a huge number": entry(args=b'{"number":' + b"9" * 10_000 + b"}"),
    "args: NaN": entry(args=b'{"number":NaN}'),
    "args: a lone surrogate": entry(args=b'{"number":"\\ud800"}'),
    "args: a lone surrogate as a name": entry(args=b'{"\\udfff":1}'),
    "args: a pickle": entry(
        args=b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94."
    ),
}
TOO_LARGE: dict[str, dict[bytes, bytes]] = {
    "args: 10 MB of text": entry(args=b'{"number":"' + b"x" * 10_000_000 + b'"}'),
    "args: a million keys": entry(args=b"{" + b",".join(b'"%d":1' % n for n in range(1_000_000)) + b"}"),
    "args: ten million levels": entry(args=b'{"number":' + b"[" * 10_000_000),
    "meta: 10 MB": entry(meta=b'{"v":1,"at":1,"x":"' + b"x" * 10_000_000 + b'"}'),
}


@pytest.mark.fault(25)
async def test_malformed_entries_end_in_the_dead_set_with_their_payload(fleet: Fleet) -> None:
    worker = await fleet.start(concurrency=5, lease=2)
    with fleet.client() as client:
        for number, (what, fields) in enumerate(MALFORMED.items()):
            whole = dict(fields)
            if whole.get(b"id") == ID:
                whole[b"id"] = b"default.%022d" % number
            before = set(client.zrange(KEY + "dead", 0, -1))
            client.xadd(KEY + "stream", whole)
            (job_id,) = await wait_until(
                lambda before=before: set(client.zrange(KEY + "dead", 0, -1)) - before,  # type: ignore[misc] # a lambda's default
                timeout=5,
                what=f"the death of: {what}",
            )
            packed = client.hget(KEY + "parked", job_id)
            assert packed is not None
            for name, value in whole.items():
                # the meta of a job that could be read, and whose arguments could not, counts a failure
                if name != b"id" and not (name == b"meta" and what.startswith("args: ")):
                    assert value in packed, f"{what}: its payload is not kept whole"
            (record,) = client.lrange(KEY + "errors:" + job_id.decode(), 0, -1)
            error = orjson.loads(record)
            assert error["error"] in {"MalformedMessage", "InvalidArguments"}, what
            assert error["message"], what
            assert len(_unpack(client, packed)) == 4
            assert client.hget(KEY + "index", job_id) == b"dead"
        assert client.xlen(KEY + "stream") == 0
        assert client.xpending(KEY + "stream", "workers")["pending"] == 0
    assert worker.exit_code is None
    handle = await Nap.set(keep_result=60).perform_later(1)
    await handle.result(timeout=5)
    assert fleet.ledger.read().ids("end") == [handle.id], "a malformed job was performed"


@pytest.mark.fault(26)
async def test_a_job_that_no_worker_knows_is_tried_again_with_backoff(fleet: Fleet) -> None:
    worker = await fleet.start(concurrency=5, lease=2)
    with fleet.client() as client:
        client.xadd(KEY + "stream", entry(job=b"os.system", args=b'{"command":"true"}'))
        for tries in (1, 2):
            await wait_until(lambda tries=tries: _tries(client) == tries)  # type: ignore[misc] # a lambda's default
        (score,) = [score for _, score in client.zrange(KEY + "retries", 0, -1, withscores=True)]
        seconds, micros = client.time()
        assert 1000 < score - (seconds * 1000 + micros / 1000) <= 2000
    handle = await Nap.set(keep_result=60).perform_later(1)
    await handle.result(timeout=5)
    assert worker.exit_code is None


async def test_what_is_too_large_is_not_even_parsed(fleet: Fleet) -> None:
    """It is dead with its payload and the reason; the worker's memory grows by less than three times its size."""
    worker = await fleet.start(concurrency=5, lease=2)
    await Nap.perform_later(1)
    await fleet.all_ended(1)
    before = worker.memory()
    with fleet.client() as client:
        for number, (what, fields) in enumerate(TOO_LARGE.items()):
            job_id = f"default.{number:022d}"
            whole = fields | {b"id": job_id.encode()}
            client.xadd(KEY + "stream", whole)
            await wait_until(lambda job_id=job_id: client.hget(KEY + "index", job_id) == b"dead", timeout=10, what=what)  # type: ignore[misc] # a lambda's default
            assert worker.memory() - before < 3 * sum(map(len, whole.values())), what
            packed = client.hget(KEY + "parked", job_id)
            assert _unpack(client, packed)[1:] == [whole[b"job"], whole[b"args"], whole[b"meta"]]
            (record,) = client.lrange(KEY + "errors:" + job_id, 0, -1)
            said = orjson.loads(record)["message"]
            assert (
                "more than this worker reads (1,048,576: 8 times its AIOJOBS_RT_MAX_PAYLOAD, or max_payload in aiojobs_rt.toml)"
                in said
            )
    handle = await Nap.set(keep_result=60).perform_later(1)
    await handle.result(timeout=5)
    assert worker.exit_code is None
    assert "RecursionError" not in worker.log


def _unpack(client: Any, packed: bytes) -> list[bytes]:
    return list(client.eval("return cmsgpack.unpack(ARGV[1])", 0, packed))


def _tries(client: Any) -> int:
    packed = client.hget(KEY + "parked", ID.decode())
    if packed is None:
        return 0
    _, job, args, meta = _unpack(client, packed)
    assert (job, args) == (b"os.system", b'{"command":"true"}')
    return int(orjson.loads(meta)["unknown_tries"])


@pytest.mark.fault(34)
async def test_a_job_that_kills_its_process_dies_alone(fleet: Fleet) -> None:
    workers = await asyncio.gather(*(fleet.start(concurrency=100, lease=1) for _ in range(4)))
    innocent = [Bystander.bind() for _ in range(99)]
    handles = await perform_all_later([*innocent[:50], Poison.bind(), *innocent[50:]])
    poison = handles.pop(50)
    await becomes("dead", poison, timeout=20)
    await fleet.all_ended(99)
    history = fleet.ledger.read()
    history.check([handle.id for handle in handles])
    assert [run.executions for run in history.runs_of(poison.id)] == [1, 2, 3]
    assert sorted(worker.exit_code or 0 for worker in workers) == [-signal.SIGKILL] * 3 + [0]
    await all_are("succeeded", handles)
    with fleet.client() as client:
        (record, *_) = client.lrange(KEY + "errors:" + poison.id, 0, -1)
        assert b"3 workers died while they ran this job" in record


@pytest.mark.parametrize("kind", ["parked", "lanes"])
async def test_rubbish_in_other_keys_does_not_stop_the_worker(fleet: Fleet, kind: str) -> None:
    with fleet.client() as client:
        if kind == "parked":
            client.hset(KEY + "parked", "default.x", b"\xc1 no message")
            client.zadd(KEY + "scheduled", {"default.x": 1})
            client.hset(KEY + "index", "default.x", "scheduled")
        else:
            client.zadd(KEY + "lanes", {"rubbish": 3, "pX": 4})
        worker = await fleet.start(lease=1)
        handle = await Nap.set(keep_result=60).perform_later(1)
        await handle.result(timeout=5)
        later = await Nap.set(wait=0.5, keep_result=60).perform_later(2)
        await later.result(timeout=5)
        assert worker.exit_code is None
        client.delete(KEY + "stream:rubbish", KEY + "stream:pX")
