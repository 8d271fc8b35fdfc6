from __future__ import annotations

import contextlib
import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiojobs_rt.core.message import (
    JOB_ID,
    MAX_COUNT,
    JobMessage,
    MalformedMessage,
    NewerMessage,
    check_queue_name,
    new_job_id,
    note_unread,
    parse,
    queue_of,
)

COUNTS = st.integers(min_value=0, max_value=MAX_COUNT)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
KNOWN = {"v", "at", "crashes", "priority", "failures", "interruptions", "executions", "options", "unread"}
NUMBERED = {"unknown_since", "unknown_tries", "failed_at", "due", "delay", "snoozes"}
EXTRA = st.dictionaries(
    TEXT.filter(lambda name: name not in KNOWN | NUMBERED),
    st.recursive(
        st.none() | st.booleans() | COUNTS | TEXT | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)
MESSAGES = st.builds(
    JobMessage,
    id=st.just("mailers.6TwR3"),
    job=TEXT.filter(str.isprintable),
    args=st.binary(max_size=50),
    queue=st.just("mailers"),
    priority=st.integers(min_value=-1_000_000, max_value=1_000_000),
    enqueued_at_ms=COUNTS,
    failures=COUNTS,
    crashes=COUNTS,
    interruptions=COUNTS,
    executions=st.dictionaries(TEXT, COUNTS, max_size=3),
    options=st.dictionaries(TEXT, COUNTS, max_size=3),
    extra=EXTRA | st.builds(dict, failed_at=COUNTS, due=COUNTS),
)


def read(meta: bytes, **fields: bytes) -> JobMessage:
    given: dict[str, bytes] = {"job_id": b"q.1", "job": b"Mail", "args": b"{}", "meta": meta, **fields}
    return parse(**given, queue="q")


# -- round trip ----------------------------------------------------------------------------------


@given(MESSAGES)
def test_a_message_comes_back_as_it_went(message: JobMessage) -> None:
    wire = (message.id.encode(), message.job.encode(), message.args, message.meta())
    back = parse(*wire, queue=message.queue)
    assert back == message
    assert back.meta() == message.meta()


@given(MESSAGES)
def test_the_scripts_head_and_the_tail_are_the_whole_meta(message: JobMessage) -> None:
    head = b'{"v":1,"at":%d' % message.enqueued_at_ms
    if message.crashes:
        head += b',"crashes":%d' % message.crashes
    assert head + message.meta_tail() == message.meta()


def test_the_meta_of_a_plain_message_is_its_version_and_time() -> None:
    assert JobMessage("q.1", "Mail", b"{}", "q", enqueued_at_ms=5).meta() == b'{"v":1,"at":5}'
    assert JobMessage("q.1", "Mail", b"{}", "q").meta_tail() == b"}"


def test_arguments_stay_the_bytes_they_were_even_if_they_are_no_json() -> None:
    assert read(b'{"v":1,"at":5}', args=b"\xff{").args == b"\xff{"


def test_a_message_of_the_same_name_and_time_as_the_one_before_is_its_own() -> None:
    meta = b'{"v":1,"at":5}'
    before, after = read(meta), read(meta, job_id=b"q.2", args=b"[]")
    assert (before.id, before.args, after.id, after.args) == ("q.1", b"{}", "q.2", b"[]")
    assert (after.job, after.enqueued_at_ms) == ("Mail", 5)
    assert read(meta, job=b"Other").job == "Other"


def test_fields_that_this_version_does_not_know_are_kept() -> None:
    meta = b'{"v":1,"at":5,"failures":2,"batch":{"id":"b1","n":[1,null]}}'
    assert read(meta).extra == {"batch": {"id": "b1", "n": [1, None]}}
    assert read(meta).meta() == meta


# -- what is no message --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (b"", "JSONDecodeError"),
        (b'{"v":1,"at":', "JSONDecodeError"),
        (b'{"v":1,"at":5}x', "JSONDecodeError"),
        (b"\xff\xfe", "JSONDecodeError"),
        (b'{"v":1,"at":5,"x":' + b"[" * 100_000, "JSONDecodeError"),
        (b'{"v":1,"at":5,"x":"\xed\xa0\x80"}', "JSONDecodeError"),
        (b"null", "TypeError"),
        (b"[]", "TypeError"),
        (b'"v"', "TypeError"),
        (b"{}", "meta has no 'at'"),
        (b'{"at":5}', "meta has no 'v'"),
        (b'{"v":0,"at":5}', "wire version 0"),
        (b'{"v":"2","at":5}', "wire version '2'"),
        (b'{"v":null,"at":5}', "wire version None"),
        (b'{"v":1,"at":"5"}', "'at' is not a count"),
        (b'{"v":1,"at":5.5}', "'at' is not a count"),
        (b'{"v":1,"at":-5}', "'at' is not a count"),
        (b'{"v":1,"at":true}', "'at' is not a count"),
        (b'{"v":1,"at":1e400}', "JSONDecodeError|'at' is not a count"),
        (b'{"v":1,"at":18446744073709551615}', "'at' is not a count"),
        (b'{"v":1,"at":5,"failures":-1}', "'failures' is not a count"),
        (b'{"v":1,"at":5,"failures":1.0}', "'failures' is not a count"),
        (b'{"v":1,"at":5,"failures":18446744073709551615}', "'failures' is not a count"),
        (b'{"v":1,"at":5,"crashes":"1"}', "'crashes' is not a count"),
        (b'{"at":5,"v":1}', "meta does not begin with v, at and crashes"),
        (b'{"v": 1,"at":5}', "meta does not begin with v, at and crashes"),
        (b'{"v":1,"at":5,"failures":1,"crashes":1}', "meta does not begin with v, at and crashes"),
        (b'{"v":1,"failures":1,"at":5}', "meta does not begin with v, at and crashes"),
        (b'{"v":1,"at":5,"interruptions":null}', "'interruptions' is not a count"),
        (b'{"v":1,"at":5,"priority":"1"}', "'priority' is not a count"),
        (b'{"v":1,"at":5,"priority":-9007199254740993}', "'priority' is not a count"),
        (b'{"v":1,"at":5,"executions":[1]}', "'executions' is not an object of counts"),
        (b'{"v":1,"at":5,"executions":{"k":"1"}}', "'executions' is not an object of counts"),
        (b'{"v":1,"at":5,"options":{"timeout":-1}}', "'options' is not an object of counts"),
        (b'{"v":1,"at":5,"options":{"keep_result":9007199254740993}}', "'options' is not an object of counts"),
        (b'{"v":1,"at":5,"failed_at":"x"}', "'failed_at' is not a count"),
        (b'{"v":1,"at":5,"unknown_since":null}', "'unknown_since' is not a count"),
        (b'{"v":1,"at":5,"unknown_tries":-1}', "'unknown_tries' is not a count"),
        (b'{"v":1,"at":5,"due":[]}', "'due' is not a count"),
    ],
)
def test_a_malformed_meta_says_what_is_wrong(meta: bytes, message: str) -> None:
    with pytest.raises(MalformedMessage, match=message) as raised:
        read(meta)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("fields", [{"job_id": b"\xff"}, {"job_id": "q.ü".encode()}, {"job": b"\xff\xfe"}])
def test_an_id_or_name_that_is_no_text_is_malformed(fields: dict[str, bytes]) -> None:
    with pytest.raises(MalformedMessage, match="UnicodeDecodeError"):
        read(b'{"v":1,"at":5}', **fields)
    read(b'{"v":1,"at":5}')
    with pytest.raises(MalformedMessage, match="UnicodeDecodeError"):
        read(b'{"v":1,"at":5}', **fields)  # after one of the same time too


def test_a_message_of_a_newer_version_is_told_from_a_malformed_one() -> None:
    with pytest.raises(NewerMessage, match="wire version 3; this worker reads 2"):
        read(b'{"v":3,"at":5}')
    assert not issubclass(NewerMessage, MalformedMessage)


@pytest.mark.parametrize("field", ["job_id", "job"])
def test_control_characters_never_reach_a_log(field: str) -> None:
    with pytest.raises(MalformedMessage, match="control characters"):
        read(b'{"v":1,"at":5}', **{field: b"q.1\n\x1b[31m"})
    read(b'{"v":1,"at":5}')
    with pytest.raises(MalformedMessage, match="control characters"):
        read(b'{"v":1,"at":5}', **{field: b"q.1\n\x1b[31m"})  # after one of the same time too


@given(st.binary(max_size=40) | st.builds(orjson.dumps, st.dictionaries(TEXT, COUNTS, max_size=3)))
def test_whatever_is_read_it_is_a_message_or_malformed(meta: bytes) -> None:
    with contextlib.suppress(MalformedMessage, NewerMessage):
        read(meta, job_id=meta, job=meta)


def test_a_large_wrong_version_is_not_repeated_whole() -> None:
    with pytest.raises(MalformedMessage) as raised:
        read(orjson.dumps({"v": "x" * 100_000, "at": 5}))
    assert len(str(raised.value)) < 200


# -- counting ------------------------------------------------------------------------------------


def test_failures_and_crashes_are_runs_and_interruptions_are_not() -> None:
    assert JobMessage("q.1", "Mail", b"{}", "q").runs == 1
    assert JobMessage("q.1", "Mail", b"{}", "q", failures=2, crashes=1, interruptions=5).runs == 4


def test_a_failure_counts_in_all_and_under_its_declaration() -> None:
    first = JobMessage("q.1", "Mail", b"{}", "q", options={"timeout": 5})
    second = first.failed("ValueError", now_ms=100).failed("KeyError", now_ms=200)
    third = second.failed("ValueError", now_ms=300).failed(None, now_ms=400)
    assert (third.failures, dict(third.executions)) == (4, {"ValueError": 2, "KeyError": 1})
    assert third.extra == {"failed_at": 100}
    assert third.options == {"timeout": 5}
    assert (first.failures, dict(first.executions), dict(first.extra)) == (0, {}, {})


def test_who_fails_is_known_and_is_no_longer_of_an_unknown_class() -> None:
    message = JobMessage("q.1", "Mail", b"{}", "q", extra={"unknown_since": 1, "unknown_tries": 3, "batch": 1})
    assert message.failed(None, now_ms=5).extra == {"failed_at": 5, "batch": 1}


# -- names ---------------------------------------------------------------------------------------


def test_a_job_id_is_its_queue_and_128_random_bits() -> None:
    ids = {new_job_id("mailers") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"mailers\.[A-Za-z0-9_-]{22}", found) for found in ids)
    assert {queue_of(found) for found in ids} == {"mailers"}


@given(st.from_regex(JOB_ID, fullmatch=True))
def test_the_queue_of_an_id_is_a_queue(job_id: str) -> None:
    queue = queue_of(job_id)
    assert job_id.startswith(queue)
    assert check_queue_name(queue) == queue


@pytest.mark.parametrize("wrong", ["", "q" * 65, "a.b", "a:b", "{a}", "a\n", "ü", None, 5, b"q"])
def test_what_is_no_queue_name_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="is not a queue name: 1 to 64 of A-Z, a-z, 0-9, '_' and '-'"):
        check_queue_name(wrong)


@pytest.mark.parametrize(
    ("meta", "noted", "unread_ms"),
    [
        (b'{"v":2,"at":5}', b'{"v":2,"at":5,"unread":900}', 0),
        (b'{"v":2,"at":5,"crashes":1,"x":{}}', b'{"v":2,"at":5,"crashes":1,"unread":900,"x":{}}', 0),
        (b'{"v":2,"at":5,"unread":300,"priority":4}', b'{"v":2,"at":5,"unread":300,"priority":4}', 600),
        (b'{"at":5,"v":2}', b'{"at":5,"v":2}', 0),
    ],
)
def test_since_when_a_newer_message_is_unread_stands_in_its_head(meta: bytes, noted: bytes, unread_ms: int) -> None:
    assert note_unread(meta, 900) == (noted, unread_ms)


def test_a_worker_that_can_read_it_again_forgets_since_when_it_was_unread() -> None:
    message = read(b'{"v":1,"at":5,"unread":300,"priority":4}')
    assert message.priority == 4
    assert message.meta() == b'{"v":1,"at":5,"priority":4}'
