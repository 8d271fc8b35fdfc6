from __future__ import annotations

import re

import pytest

from aiojobs_rt.adapters.redis.keys import QueueKeys, control_channel, is_permanent, queue_keys, queues_key, worker_key

TEMPORARY = {"call", "progress", "grace", "wake", "result", "errors", "moved", "arrived"}


def names() -> list[str]:
    return [name for name in QueueKeys.__slots__ if name not in {"base", "queue"}]


@pytest.mark.parametrize("name", names())
def test_every_key_of_a_queue_carries_its_tag_and_is_permanent_or_expires(name: str) -> None:
    key: str = getattr(queue_keys("app:x", "my-queue_1"), name)
    assert key == f"app:x:{{my-queue_1}}:{name}" + (":" if key.endswith(":") else "")
    assert is_permanent(key) == (name not in TEMPORARY)
    if name in TEMPORARY - {"grace"}:
        assert key.endswith(":"), "a prefix"
        assert not is_permanent(key + "q.id")


@pytest.mark.parametrize("lane", ["p5", "p-2147483648", "returned", "suspects"])
def test_lanes_are_streams_beside_the_main_one(lane: str) -> None:
    keys = queue_keys("aiojobs", "q")
    assert keys.lane(lane) == f"aiojobs:{{q}}:stream:{lane}"
    assert keys.lane("") == keys.stream
    assert is_permanent(keys.lane(lane))


def test_names_outside_a_queue() -> None:
    assert is_permanent(queues_key("aiojobs"))
    assert not is_permanent(worker_key("aiojobs", "w"))
    assert control_channel("aiojobs") == "aiojobs:control"


@pytest.mark.parametrize(
    "key",
    [
        "aiojobs:{q}:stream:nonsense",
        "aiojobs:{q}:stats:20000",
        "aiojobs:{q}:streams",
        "aiojobs:q:stream",
        "stream",
        "aiojobs:{q}:result:q.x",
    ],
)
def test_other_names_are_not_permanent(key: str) -> None:
    assert not is_permanent(key)


def test_queues_do_not_share_names() -> None:
    one, two = queue_keys("aiojobs", "a"), queue_keys("aiojobs", "b")
    assert not {getattr(one, name) for name in names()} & {getattr(two, name) for name in names()}
    assert all(re.search(r"\{a\}", getattr(one, name)) for name in names())
    assert queue_keys("aiojobs", "a") is one
