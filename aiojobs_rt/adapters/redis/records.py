"""Records: how a job ended, as a worker leaves it in Redis for whoever waits for the job."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import replace
from typing import Any

import orjson

from aiojobs_rt.adapters.base import Ended
from aiojobs_rt.encryption import open_result, seal_result

SUCCEEDED_RECORD = b'{"outcome":"succeeded","result":'
SECRET_RECORD = b'{"outcome":"succeeded","secret":'
ENCRYPTED_RECORD = b'{"outcome":"succeeded","encrypted":"'


def ended_of(record: bytes) -> Ended:
    """How a job ended, from the record that a worker kept: `{"outcome": ..., "result": ..., "error": ...}`."""
    if record.startswith(ENCRYPTED_RECORD):
        return Ended("succeeded", result=b64decode(record[len(ENCRYPTED_RECORD) : -2]), encrypted=True)
    if record.startswith(SUCCEEDED_RECORD):
        # the result's own bytes, not what orjson makes of them: an integer may be longer than 64 bits
        return Ended("succeeded", result=record[len(SUCCEEDED_RECORD) : -1])
    if record.startswith(SECRET_RECORD):
        return Ended("succeeded", result=record[len(SECRET_RECORD) : -1], secret=True)
    fields: dict[str, Any] = orjson.loads(record)
    return Ended(fields["outcome"], error=fields.get("error", ""))


def outcome_of(line: bytes) -> str:
    """The outcome, from a line of the recently finished."""
    return str(orjson.loads(line)[2])


def encrypted_record(job_id: str, result: bytes) -> bytes:
    """What a worker keeps of an encrypted job's result."""
    return ENCRYPTED_RECORD + b64encode(seal_result(job_id, result)) + b'"}'


def opened(job_id: str, ended: Ended) -> Ended:
    """Its result as JSON, also of an encrypted job."""
    if not ended.encrypted or ended.result is None:
        return ended
    return replace(ended, result=open_result(job_id, ended.result))


def error_text(record: bytes | None) -> str:
    """Class and message of an error's record, for people."""
    if not record:
        return "its errors are not kept"
    fields: dict[str, Any] = orjson.loads(record)
    return f"{fields['error']}: {fields['message']}"
