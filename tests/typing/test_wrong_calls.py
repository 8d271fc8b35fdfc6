"""mypy, pyright and ty, strict and without plugins, over right/ and wrong/.

Each line of wrong/ that is marked `# error:` is reported by each of them (`# error (not ty):` by the others), and nothing else is.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BIN = Path(sys.executable).parent
MARK = re.compile(r"# error(?: \(not (?P<unseen>\w+)\))?:")

Reports = dict[str, str]
"""What was reported, by line: "wrong/calls.py:12" to the message."""


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 1, f"{command[0]} found no errors, or failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def _lines(output: str) -> Reports:
    found = re.finditer(r"^(\S+?\.py):(\d+):(?:\d+:)? (?:error|warning)(.*)$", output, re.MULTILINE)
    return {f"{_short(path)}:{line}": message for path, line, message in (match.groups() for match in found)}


def _short(path: str) -> str:
    try:
        return (ROOT / path).relative_to(HERE).as_posix()
    except ValueError:
        return path  # the package itself


def mypy(tmp_path: Path) -> Reports:
    nothing = tmp_path / "mypy.ini"
    nothing.write_text("[mypy]\nexplicit_package_bases = true\n")
    cache = ROOT / ".mypy_cache" / "without_plugins"
    return _lines(
        _run(BIN / "mypy", "--strict", "--config-file", nothing, "--cache-dir", cache, HERE / "right", HERE / "wrong")
    )


def pyright(tmp_path: Path) -> Reports:
    here = os.path.relpath(HERE, tmp_path)
    config = {
        "include": [f"{here}/right", f"{here}/wrong"],
        "typeCheckingMode": "strict",
        "extraPaths": [str(ROOT)],
        "pythonPlatform": "Linux",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    output = _run(BIN / "pyright", "--project", tmp_path, "--pythonpath", sys.executable, "--outputjson")
    return {
        f"{_short(found['file'])}:{found['range']['start']['line'] + 1}": found["message"]
        for found in json.loads(output)["generalDiagnostics"]
    }


def ty(tmp_path: Path) -> Reports:
    return _lines(
        _run(
            BIN / "ty",
            "check",
            "--python",
            sys.executable,
            "--output-format",
            "concise",
            HERE / "right",
            HERE / "wrong",
        )
    )


@pytest.mark.acceptance(20)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, pyright, ty], ids=lambda checker: checker.__name__)
def test_every_wrong_line_is_reported_and_no_right_one(checker: Callable[[Path], Reports], tmp_path: Path) -> None:
    reported = checker(tmp_path)
    marked = {
        f"wrong/{file.name}:{number}": line.strip()
        for file in (HERE / "wrong").glob("*.py")
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if (mark := MARK.search(line)) and mark["unseen"] != checker.__name__
    }
    assert len(marked) > 70
    assert not {line: text for line, text in marked.items() if line not in reported}, "accepted, though wrong"
    assert not {line: text for line, text in reported.items() if line not in marked}, "reported, though right"
