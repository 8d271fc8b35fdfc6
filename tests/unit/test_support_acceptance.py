"""The table of the acceptance rows, as a run of pytest prints it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.acceptance import ROWS

ROOT = Path(__file__).parents[2]


def run(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """pytest on a file of its own, with this suite's conftest and settings."""
    (folder / "test_rows.py").write_text("import pytest\n" + source)
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            ROOT / "pyproject.toml",
            "-p",
            "tests.conftest",
            "-p",
            "no:cacheprovider",
            *options,
            folder / "test_rows.py",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_rows_are_numbered_without_a_gap_and_told_apart() -> None:
    assert list(ROWS) == list(range(1, 78))
    assert len(set(ROWS.values())) == len(ROWS)


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["one process", "xdist"])
def test_the_table_counts_what_passed_and_names_what_failed(tmp_path: Path, options: tuple[str, ...]) -> None:
    source = """
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.acceptance(31, 32)
def test_one(n): assert n
@pytest.mark.acceptance(32)
def test_two(): assert False
@pytest.mark.acceptance(33)
def test_three(): pytest.skip("no")
"""
    printed = run(tmp_path, source, "-m", "acceptance", *options).stdout

    assert f" 31    2 tests  {ROWS[31]}\n" in printed
    assert f" 32    2 tests  {ROWS[32]}  (1 FAILED)\n" in printed
    assert f" 33  open       {ROWS[33]}\n" in printed
    assert "2 of 77 rows are covered by the tests of this run; 75 are open." in printed


def test_other_runs_print_no_table(tmp_path: Path) -> None:
    source = "@pytest.mark.acceptance(31)\ndef test_one(): pass\n"

    for options in ((), ("-m", "not acceptance")):
        assert ROWS[31] not in run(tmp_path, source, *options).stdout


def test_a_number_outside_the_table_fails_the_collection(tmp_path: Path) -> None:
    done = run(tmp_path, "@pytest.mark.acceptance(1, 78)\ndef test_one(): pass\n")

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "test_one: tests/support/acceptance.py has no row [78]" in done.stdout + done.stderr
