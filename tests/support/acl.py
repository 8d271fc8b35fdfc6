"""The users of docs/security.md: its lines are the truth, and are what the tests run under."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
LINE = re.compile(r"^ACL SETUSER (?P<user>\S+) (?P<rules>.+)$", re.MULTILINE)
PASSWORD = "hunter2"  # noqa: S105 - of private servers of tests
REPLICATED = {"+cluster|slots", "+role"}
"""What the document adds for clusters and Sentinels."""
SUITE = "suite"
"""The user of whole test runs: what a worker and an operator may, as tests are both in one process."""


def roles(version: tuple[int, int]) -> dict[str, list[str]]:
    """User -> rules, as the document has them for a version of Redis; with the tests' password."""
    text = DOCUMENT.read_text()
    found: dict[str, list[str]] = {}
    for match in LINE.finditer(text):
        user = match["user"]
        if user == "producer" and ("(" in match["rules"]) != (version >= (7, 0)):
            continue
        assert user not in found, f"{DOCUMENT.name} has two lines for {user}"
        found[user] = match["rules"].replace(">SECRET", f">{PASSWORD}").split(" ")
    return found


def suite_rules() -> list[str]:
    """Those of the suite's user: of worker and operator together, under any prefix that tests use."""
    users = roles((6, 2))
    commands = {rule for user in ("worker", "operator") for rule in users[user] if rule.startswith("+")}
    return ["on", f">{PASSWORD}", "resetchannels", "~aiojobs:*", "&aiojobs:*", *sorted(commands | REPLICATED)]


def as_default(url: str) -> str:
    """The URL of a private server for a test's own client, which may do everything."""
    return url.replace(f"//{SUITE}:{PASSWORD}@", "//")


def commands_of(rules: list[str]) -> set[str]:
    """The commands that rules grant, those in selectors too."""
    return {rule.strip("()")[1:] for rule in rules if rule.strip("()").startswith("+")}
