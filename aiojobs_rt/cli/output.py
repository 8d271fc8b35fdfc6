"""What the commands print: tables for people, JSON for scripts, complaints on stderr."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDE = 250
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def complain(sentence: str) -> None:
    """Say on stderr what is wrong."""
    print(f"Error: {sentence}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print records as JSON: instants as ISO 8601 in UTC, durations in seconds."""
    print(orjson.dumps(value, default=_as_text, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()) -> None:
    """Print a table; columns named in `numbers` are aligned right. No cell is cut when the output is no terminal."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        # the first names the thing: it is copied into the next command
        table.add_column(
            column, justify="right" if column in numbers else "left", overflow="fold", no_wrap=column == columns[0]
        )
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console().print(table)


def console() -> Console:
    """The terminal; wide enough for ids when it is none."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE
    return Console(width=width, highlight=False, markup=False, soft_wrap=False)


def printable(text: str) -> str:
    """Text from Redis with its control characters escaped: it must not write to the terminal."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text
    )


def when(instant: datetime | None) -> str:
    """An instant, relative to now: "3 s ago", "in 5 min"."""
    if instant is None:
        return ""
    seconds = (datetime.now(tz=UTC) - instant).total_seconds()
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"


def duration(seconds: float | None) -> str:
    """A duration for people: "12 ms", "3.2 s", "5 min", "2 h", "3 d"."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.1f} h"
    return f"{seconds / _DAY:.0f} d"


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    raise TypeError
