"""Progress: how far a job in steps has got, as it is told to who asks from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from aiojobs_rt.core.continuation import FIELD


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job in steps has got.

    Attributes:
        completed: the names of the steps that are complete, in order.
        open: the step that was begun; empty when none is. A step shows once it has noted a cursor.
        cursor: where that one is: a JSON value.
        resumptions: how often the job has gone on after an error, at no charge.
    """

    completed: tuple[str, ...]
    open: str = ""
    cursor: Any = None
    resumptions: int = 0


def progress_from(meta: bytes, saved: bytes = b"") -> Progress | None:
    """The progress on a message, or what was saved of it since, whichever is further; None when there is none.

    Args:
        meta: the message's meta.
        saved: what was saved beside the queue: '<moves> <json>', or nothing. Neither need be sound.
    """
    state, later = json_object(meta).get(FIELD), json_object(saved.partition(b" ")[2])
    if not isinstance(state, dict):
        state = {}
    if _int(later.get("moves")) > _int(state.get("moves")):
        state = later
    if not state:
        return None
    completed = state.get("completed")
    return Progress(
        completed=tuple(map(str, completed)) if isinstance(completed, list) else (),
        open=str(state.get("open", "")),
        cursor=state.get("cursor"),
        resumptions=_int(state.get("resumptions")),
    )


def _int(value: Any) -> int:
    return value if isinstance(value, int) else 0


def json_object(raw: bytes) -> dict[str, Any]:
    """A JSON object that was read from Redis; empty for what is none."""
    try:
        found = orjson.loads(raw)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
