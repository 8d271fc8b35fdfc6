"""What is kept of an attempt that failed: its record, within bounds, whatever the exception is like."""

from __future__ import annotations

import traceback

import orjson

from aiojobs_rt.errors import unwrap

MAX_MESSAGE = 10_000
MAX_TRACEBACK = 16 * 1024
MAX_PART = 2_000
MAX_REASON = 500


def error_record(name: str, text: str, trace: str, now_ms: int, worker: str) -> bytes:
    """One attempt's error as it is kept: JSON of error, message (at most 10,000 characters), traceback (the last 16 KiB), at, worker."""
    return orjson.dumps(
        {
            "error": clean(name)[:200],
            "message": clean(text)[:MAX_MESSAGE],
            "traceback": clean(trace).encode()[-MAX_TRACEBACK:].decode(errors="ignore"),
            "at": now_ms,
            "worker": worker,
        }
    )


def describe(error: BaseException) -> str:
    """An exception's message, whatever its `__str__` does."""
    try:
        return str(error)
    except BaseException as wrong:  # noqa: BLE001 - user code (G13)
        return f"<its message can't be made: {type(wrong).__name__}>"


def record_of(error: BaseException, now_ms: int, worker: str) -> bytes:
    """The record of an attempt that ended with this exception."""
    error = unwrap(error)
    return error_record(type(error).__qualname__, describe(error), _trace(error), now_ms, worker)


def summary(error: BaseException) -> str:
    """Class and message, on one line."""
    error = unwrap(error)
    return clean(f"{type(error).__qualname__}: {describe(error)}")[:MAX_REASON]


def summary_of(record: bytes) -> str:
    """Class and message of an error's record, on one line."""
    fields = orjson.loads(record)
    return " ".join(f"{fields['error']}: {fields['message']}"[:MAX_REASON].split())


def _trace(error: BaseException) -> str:
    """A traceback, whatever the exceptions in it are like; no message in it takes the place of the frames."""
    try:
        parts = traceback.format_exception(error, limit=-50)
    except BaseException as wrong:  # noqa: BLE001 - user code, or too deeply nested (G13)
        return f"<its traceback can't be made: {type(wrong).__name__}>"
    return "".join(part if len(part) <= MAX_PART else f"{part[:MAX_PART]}...\n" for part in parts)


def clean(text: str) -> str:
    """Text that can be encoded."""
    return text.encode("utf-8", "backslashreplace").decode()
