"""Each row of the table of faults has a test that names it, or a reason why it has none."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = Path(__file__).with_name("README.md")
ROW = re.compile(r"^\| (?P<number>\d+) \| (?P<fault>[^|]+) \| (?P<shown>[^|]+) \|$", re.MULTILINE)


def marked() -> dict[int, set[str]]:
    """Per row, the files with tests that are marked with it."""
    found: dict[int, set[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        source = path.read_text()
        if "mark.fault" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func) == "pytest.mark.fault"
            ):
                for row in node.args:
                    assert isinstance(row, ast.Constant)
                    assert isinstance(row.value, int)
                    found.setdefault(row.value, set()).add(str(path.relative_to(TESTS)))
    return found


def test_each_fault_has_tests_or_a_reason() -> None:
    rows = {int(row["number"]): row["shown"].strip() for row in ROW.finditer(TABLE.read_text())}
    tests = marked()
    assert list(rows) == list(range(1, 41))
    assert set(tests) <= set(rows)
    for number, shown in rows.items():
        if shown.startswith("none: "):
            assert number not in tests, f"row {number} has a test now: say so in the table"
        else:
            assert {name.strip(" `") for name in shown.split(",")} == tests.get(number, set()), f"row {number}"
