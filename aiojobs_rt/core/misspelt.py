"""Class attributes that look like a misspelt option: Python takes any, and no type checker can see it."""

from __future__ import annotations

from datetime import timedelta
from difflib import get_close_matches

OPTIONS = (
    "queue", "priority", "timeout", "max_attempts", "retry_for", "keep_result", "expires_in", "resume_errors_after_advancing",
    "max_resumptions", "encrypted", "log_arguments", "adapter",
)  # fmt: skip
ELSEWHERE = {
    "attempts": "max_attempts", "max_retries": "max_attempts", "retries": "max_attempts", "retry": "max_attempts",
    "queue_as": "queue", "queue_name": "queue", "expires": "expires_in", "time_limit": "timeout",
}  # fmt: skip
"""What other job runners call them."""
CLOSE = 0.85


def misspelt(owner: type) -> list[tuple[str, str]]:
    """What a class itself defines that looks like a misspelt option, and the option: only plain values, as an option's is one."""
    found: list[tuple[str, str]] = []
    for name, value in vars(owner).items():
        if name.startswith("_") or name in OPTIONS or not isinstance(value, int | float | str | timedelta):
            continue
        close = ELSEWHERE.get(name) or next(iter(get_close_matches(name, OPTIONS, n=1, cutoff=CLOSE)), None)
        if close is not None:
            found.append((name, close))
    return found
