"""The table of the acceptance rows, as a run of pytest prints it. The runs are within this process: pytest's own start takes seconds."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tests.support.acceptance import MISSING, ROWS, table

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

ROOT = Path(__file__).parents[2]

pytest_plugins = ["pytester"]


class Serialised:
    """Has each report travel as from a process of xdist's."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        hook = item.config.hook
        data = hook.pytest_report_to_serializable(config=item.config, report=report)
        return cast("pytest.TestReport", hook.pytest_report_from_serializable(config=item.config, data=data))


def run(pytester: pytest.Pytester, source: str, *options: str, plugins: Sequence[object] = ()) -> pytest.RunResult:
    """pytest on a file of its own, with this suite's conftest and settings."""
    pytester.makepyfile(test_rows="import pytest\n" + source)
    return pytester.runpytest_inprocess(
        "-c", ROOT / "pyproject.toml", "--rootdir", pytester.path, "-p", "tests.conftest", "-p", "no:cacheprovider", "-p", "no:xdist",
        "-p", "no:hypothesispytest",  # it imports Hypothesis for each run
        *options, "test_rows.py", plugins=plugins,
    )  # fmt: skip


def test_the_rows_are_numbered_without_a_gap_and_told_apart() -> None:
    assert list(ROWS) == list(range(1, 78))
    assert len(set(ROWS.values())) == len(ROWS)


@pytest.mark.parametrize("plugins", [(), (Serialised(),)], ids=["one process", "as with xdist"])
def test_the_table_counts_what_passed_and_names_what_failed(
    pytester: pytest.Pytester, plugins: Sequence[object]
) -> None:
    source = """
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.acceptance(31, 32)
def test_one(n): assert n
@pytest.mark.acceptance(32)
def test_two(): assert False
@pytest.mark.acceptance(33)
def test_three(): pytest.skip("no")
"""
    printed = run(pytester, source, "-m", "acceptance", plugins=plugins).stdout.str()

    assert f" 31    2 tests  {ROWS[31]}\n" in printed
    assert f" 32    2 tests  {ROWS[32]}  (1 FAILED)\n" in printed
    assert f" 33  open       {ROWS[33]}\n" in printed
    assert "2 of 77 rows are covered by the tests of this run, 0 more in part; 75 are open." in printed


def test_what_is_missing_is_said_and_a_row_of_which_it_is_counts_as_shown_in_part() -> None:
    lines = list(table(Counter({5: 2, 31: 1}), Counter()))
    assert lines[4] == f"  5    2 tests  {ROWS[5]}  [in part, missing: {MISSING[5]}]"
    assert lines[45] == f" 46  open       {ROWS[46]}  [missing: {MISSING[46]}]"
    assert lines[-1].startswith("1 of 77 rows are covered by the tests of this run, 1 more in part; 75 are open")


def test_each_row_has_a_test_or_it_is_said_what_is_missing() -> None:
    marks = re.compile(r"mark\.acceptance\(([0-9, ]+)\)")
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    marked = {int(row) for path in files for found in marks.findall(path.read_text()) for row in found.split(",")}
    assert sorted(ROWS.keys() - marked - MISSING.keys()) == []
    assert MISSING.keys() <= ROWS.keys()


@pytest.mark.parametrize("options", [(), ("-m", "not acceptance")], ids=["all", "others"])
def test_other_runs_print_no_table(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    source = "@pytest.mark.acceptance(31)\ndef test_one(): pass\n"

    assert ROWS[31] not in run(pytester, source, *options).stdout.str()


def test_a_number_outside_the_table_fails_the_collection(pytester: pytest.Pytester) -> None:
    done = run(pytester, "@pytest.mark.acceptance(1, 78)\ndef test_one(): pass\n")

    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert "test_one: tests/support/acceptance.py has no row [78]" in done.stdout.str() + done.stderr.str()
