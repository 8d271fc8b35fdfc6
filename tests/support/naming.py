"""Names of parametrised tests."""

from __future__ import annotations

import re


def stable_id(value: object) -> str:
    """A test's id that is the same in every process: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", ascii(value) if isinstance(value, str) else str(value))
