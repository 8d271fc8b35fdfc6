"""JobMessage: the one serialised form of a job, versioned.

On the wire a job is four byte strings: its id, its name, `args` (a JSON object by parameter name) and `meta` (below). `args` stays raw
from `perform_later` to `perform`. `meta` is a JSON object that starts with `v`, `at` and, where there were any, `crashes`, in
this order and with no white space: the scripts write these three, by Redis' clock, without parsing the rest.

    {"v":1,"at":1795314296123,"crashes":1,"failures":2,"executions":{"3c0e":2},...}

The version is 2 where args are encrypted, and 1 else: a worker of before that leaves alone what it could not read.
"""

from __future__ import annotations

import os
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WIRE_VERSION = 1
ENCRYPTED_VERSION = 2
ENCRYPTED = "encrypted"
"""The field of meta that says so."""
MAX_CRASHES = 3
"""At the third crash of its worker a job is dead: it is the likely cause."""
MAX_COUNT = 2**53
"""Lua and JSON have no exact integers beyond; who finds a larger one in meta has found no message of ours."""

QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
JOB_ID = re.compile(r"(?P<queue>[A-Za-z0-9_-]{1,64})(?:~(?P<shard>[0-9]{1,4}))?\.(?P<rest>[A-Za-z0-9_:-]{1,128})")


class _Nothing(dict[str, Any]):
    """An empty mapping that dataclasses take for a default: most messages need no other."""

    __hash__ = object.__hash__  # type: ignore[assignment] # dict says it has none


NOTHING: Final[Mapping[str, Any]] = _Nothing()


class MalformedMessage(ValueError):  # noqa: N818 - it says what the message is
    """An entry that no version of this package wrote. It ends in the dead set with its raw payload."""


class NewerMessage(ValueError):  # noqa: N818 - it says what the message is
    """An entry of a newer wire version: for a worker that knows it."""


def new_job_id(queue: str) -> str:
    """A fresh job id: `<queue>.<22 url-safe characters>`, 132 random bits."""
    try:
        return f"{queue}.{_prepared.pop()}"
    except IndexError:
        # drawn for many at once: a call of the kernel per id, and of the encoder, would take longer than all the rest
        drawn = urlsafe_b64encode(os.urandom(22 * 256 * 3 // 4)).decode()
        _prepared.extend(drawn[at : at + 22] for at in range(0, len(drawn), 22))
        return f"{queue}.{_prepared.pop()}"


_prepared: list[str] = []
"""Random parts of job ids to come; `pop` gives each to one thread only."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_prepared.clear)


def queue_of(job_id: str) -> str:
    """The queue that a job id names.

    Raises:
        ValueError: it is no job id.
    """
    try:
        match = JOB_ID.fullmatch(job_id)
    except TypeError:  # None, or a number
        match = None
    if match is None:
        raise ValueError(f"{job_id!r} is not a job id; one looks like 'default.6TwR3…' (queue, dot, 22 characters)")
    return match["queue"]


def home_of(job_id: str) -> str:
    """Where a job's keys are: the queue that its id names, with the shard if it names one (`bulk~3`).

    Raises:
        ValueError: it is no job id.
    """
    queue_of(job_id)
    return job_id.partition(".")[0]


def check_queue_name(queue: str) -> str:
    """The queue's name, when it is one.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(queue, str) or not QUEUE_NAME.fullmatch(queue):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        raise ValueError(f"{queue!r} is not a queue name: 1 to 64 of A-Z, a-z, 0-9, '_' and '-'")
    return queue


@dataclass(slots=True)
class JobMessage:
    """A job as it travels.

    Attributes:
        id: `<queue>.<22 characters>`; the queue is the one it was enqueued on.
        job: the job's name.
        args: its arguments, JSON.
        queue: the queue it is on.
        priority: lower runs first.
        enqueued_at_ms: by Redis' clock.
        failures, crashes, interruptions: of its earlier runs.
        executions: failures per retry_on declaration, by its key.
        options: what `set` overrode for this job: timeout, max_attempts, keep_result, expires_in (ms where durations).
        extra: further fields of meta, kept as they came.
    """

    id: str
    job: str
    args: bytes = field(repr=False)  # it may hold secrets
    queue: str
    priority: int = 0
    enqueued_at_ms: int = 0
    failures: int = 0
    crashes: int = 0
    interruptions: int = 0
    executions: Mapping[str, int] = NOTHING
    options: Mapping[str, int] = NOTHING
    extra: Mapping[str, Any] = NOTHING

    @property
    def runs(self) -> int:
        """Which run this is, from 1. An interruption is no run of its own."""
        return self.failures + self.crashes + 1

    def meta(self) -> bytes:
        """The whole meta, for a message that goes back to Redis."""
        version = ENCRYPTED_VERSION if ENCRYPTED in self.extra else WIRE_VERSION
        head: dict[str, Any] = {"v": version, "at": self.enqueued_at_ms}
        if self.crashes:
            head["crashes"] = self.crashes
        return orjson.dumps(head | self._tail())

    def meta_tail(self) -> bytes:
        """The meta of a new message, without `v` and `at`, which the script puts in front."""
        tail = self._tail()
        return b"," + orjson.dumps(tail)[1:] if tail else b"}"

    def failed(self, key: str | None, *, now_ms: int) -> JobMessage:
        """As it is after one more failure, counted under the declaration `key` too, at a worker that knows its class."""
        executions = self.executions
        if key is not None:
            executions = {**executions, key: executions.get(key, 0) + 1}
        extra = {"failed_at": now_ms, **self.extra}
        for name in _OF_UNKNOWN_CLASS:
            extra.pop(name, None)
        return replace(self, failures=self.failures + 1, executions=executions, extra=extra)

    def expired(self, expires_ms: int, now_ms: Callable[[], int]) -> str:
        """Why it is too late to run it for the first time; empty: it is not.

        Args:
            expires_ms: what its class says, where `set` does not; 0: never.
            now_ms: Redis' clock; asked only of what may expire.
        """
        expires_ms = self.options.get("expires_in", expires_ms)
        if not expires_ms or self.runs > 1 or self.interruptions or "snoozes" in self.extra:
            return ""
        due_ms = self.extra.get("due", self.enqueued_at_ms + self.extra.get("delay", 0))
        late_ms = now_ms() - due_ms - expires_ms
        return f"expired: not started within {expires_ms / 1000:g} s of its time" if late_ms > 0 else ""

    def _tail(self) -> dict[str, Any]:
        tail: dict[str, Any] = {}
        if self.priority:
            tail["priority"] = self.priority
        if self.failures:
            tail["failures"] = self.failures
        if self.interruptions:
            tail["interruptions"] = self.interruptions
        if self.executions:
            tail["executions"] = dict(self.executions)
        if self.options:
            tail["options"] = dict(self.options)
        return tail | dict(self.extra) if self.extra else tail


_OF_UNKNOWN_CLASS = ("unknown_since", "unknown_tries")
_COUNTS_OF_EXTRA = (*_OF_UNKNOWN_CLASS, "failed_at", "due", "delay", "snoozes")
_PLAIN_HEAD = f'{{"v":{WIRE_VERSION},"at":'.encode()
_HEAD = re.compile(rb'(\{"v":\d+,"at":\d+)(,"crashes":\d+)?(,"unread":(\d+))?(?=[,}])')
_KNOWN = frozenset({"v", "at", "crashes", "priority", "failures", "interruptions", "executions", "options", "unread"})


_plain_meta: tuple[bytes | None, int] = None, 0
"""The last meta that held a time alone, and the time: jobs that were enqueued within the same ms have the same."""
_names: dict[bytes, str] = {}
"""Names of jobs that were read before, by their bytes; so many at most, and none of them long."""
MOST_NAMES = 1_000
LONGEST_NAME = 200


def parse(job_id: bytes, job: bytes, args: bytes, meta: bytes, *, queue: str) -> JobMessage:
    """Read a message off the wire.

    Raises:
        MalformedMessage: it is none; the text says why.
        NewerMessage: its wire version is newer than this package's.
    """
    global _plain_meta  # noqa: PLW0603 - see there
    try:
        if meta == _plain_meta[0] and (name := _names.get(job)) is not None:
            text = job_id.decode("ascii")
            if not text.isprintable():
                raise _not_printable()
            return JobMessage(text, name, args, queue, 0, _plain_meta[1])
        fields = orjson.loads(meta)
        at = fields["at"]
        if fields["v"] != WIRE_VERSION:
            _check_version(fields["v"])
        message = JobMessage(job_id.decode("ascii"), job.decode(), args, queue, 0, at)
        if not (message.id.isprintable() and message.job.isprintable()):
            raise _not_printable()
        if len(fields) > 2:
            _read_rest(message, fields)
            head = _HEAD.match(meta)
            if head is None or (head[2] is None and "crashes" in fields):
                raise _no_head()
        elif not meta.startswith(_PLAIN_HEAD):
            raise _no_head()
    except (MalformedMessage, NewerMessage):
        raise
    except KeyError as error:
        raise MalformedMessage(f"meta has no {error.args[0]!r}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedMessage(f"{type(error).__name__}: {error}") from None
    else:
        if type(at) is not int or not 0 <= at <= MAX_COUNT:
            raise MalformedMessage("meta's 'at' is not a count of milliseconds")
        if len(fields) == 2:
            _plain_meta = meta, at
        if len(_names) < MOST_NAMES and len(job) <= LONGEST_NAME:
            _names[job] = message.job
        return message


def note_unread(meta: bytes, now_ms: int) -> tuple[bytes, int]:
    """The meta of a newer message, with when a worker first could not read it in its head; and for how long that is by now, in ms.

    The head (v, at, crashes, unread) is the same in all versions, so it can be written without reading the rest.
    """
    head = _HEAD.match(meta)
    if head is None:
        return meta, 0
    if head[4] is not None:
        return meta, max(0, now_ms - int(head[4]))
    return b"".join((head[1], head[2] or b"", b',"unread":%d' % now_ms, meta[head.end() :])), 0


def _not_printable() -> MalformedMessage:
    """Both go into logs and onto terminals."""
    return MalformedMessage("the job's id or name holds control characters")


def _no_head() -> MalformedMessage:
    """The scripts count crashes in the head of meta, without parsing the rest."""
    return MalformedMessage("meta does not begin with v, at and crashes, in this order and without blanks")


def _check_version(version: object) -> None:
    """Let pass what is not the usual one, and can be read."""
    if version == ENCRYPTED_VERSION:
        return
    if isinstance(version, int) and version > ENCRYPTED_VERSION:
        raise NewerMessage(f"wire version {version}; this worker reads {ENCRYPTED_VERSION}")
    raise MalformedMessage(f"wire version {version!r:.100}")


def _read_rest(message: JobMessage, fields: dict[str, Any]) -> None:
    message.priority = _count(fields, "priority", negative=True)
    message.failures = _count(fields, "failures")
    message.crashes = _count(fields, "crashes")
    message.interruptions = _count(fields, "interruptions")
    message.executions = _counts(fields, "executions")
    message.options = _counts(fields, "options")
    message.extra = {key: value for key, value in fields.items() if key not in _KNOWN}
    for name in _COUNTS_OF_EXTRA:
        if name in message.extra:
            _count(message.extra, name)
    if "context" in message.extra and type(message.extra["context"]) is not dict:
        raise MalformedMessage("meta's 'context' is not an object")


def _count(fields: Mapping[str, Any], name: str, *, negative: bool = False) -> int:
    value = fields.get(name, 0)
    if type(value) is not int or not (-MAX_COUNT if negative else 0) <= value <= MAX_COUNT:
        raise MalformedMessage(f"meta's {name!r} is not a count")
    return value


def _counts(fields: dict[str, Any], name: str) -> Mapping[str, int]:
    value = fields.get(name)
    if value is None:
        return NOTHING
    if type(value) is not dict or any(
        type(count) is not int or not 0 <= count <= MAX_COUNT for count in value.values()
    ):
        raise MalformedMessage(f"meta's {name!r} is not an object of counts")
    return value
