"""The documents say what is so: their examples run, their commands parse, their links lead somewhere, their tables are the code's.

How a document's Python is run is said in `tests/support/documents.py`.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import aiojobs_rt
from aiojobs_rt.adapters.redis.keys import QueueKeys
from aiojobs_rt.cli.app import app
from aiojobs_rt.settings import Settings, variable
from tests.support.documents import ANY_NOT_RUN, Block, blocks_of

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def blocks(name: str) -> list[Block]:
    return list(blocks_of((ROOT / name).read_text()))


def environment(url: str) -> dict[str, str]:
    """That of a new user, with this environment's Python first on PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIOJOBS_RT_", "VIRTUAL_ENV"))}
    return {
        **kept,
        "AIOJOBS_RT_REDIS_URL": url,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), kept.get("PATH", ""))),
        "PYTHONWARNINGS": "error",
    }


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.acceptance(58)] if name == "docs/coming-from.md" else [])
        for name in NAMES
        if any(block.language == "python" for block in blocks(name))
    ],
)
def test_the_python_of_a_document_runs(name: str, redis_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.documents", ROOT / name],
        cwd=tmp_path,
        env={**environment(redis_url), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("place", "reason"),
    [(f"{name}:{block.line}", block.not_run) for name in NAMES for block in blocks(name) if block.not_run],
)
def test_what_is_not_run(place: str, reason: str) -> None:
    """Stands in pytest's summary as skipped, with the reason."""
    pytest.skip(f"{place} is not run: {reason}")


@pytest.mark.parametrize("name", NAMES)
def test_each_mark_stands_above_its_block(name: str) -> None:
    marks = ANY_NOT_RUN.findall((ROOT / name).read_text())

    assert len(marks) == sum(bool(block.not_run) for block in blocks(name))


@pytest.mark.parametrize("name", NAMES)
def test_files_of_a_document_are_used(name: str) -> None:
    for block in blocks(name):
        if block.file:
            module = block.file.removesuffix(".py")
            others = [other.code for other in blocks(name) if other != block and not other.not_run]
            assert any(re.search(rf"\b{module}\b", code) for code in others), f"{name}: nothing runs {block.file}"


# -- the shell ----------------------------------------------------------------------------------


STAND_INS = {"N": "10", "S": "10", "L": "info", "STATE": "dead", "ID": "default.6TwR3", "DIR": "."}
"""What the capitals in a synopsis stand for, where not any word will do."""


def command_lines(name: str) -> list[str]:
    """Each call of the command in a document, fenced or indented, on one line; a synopsis with all that it says may be given."""
    text = re.sub(r" *\\\n *|\n {20,}(?=\[)", " ", (ROOT / name).read_text())
    found = re.findall(r"^(?: {4})?(?:\$ )?(?:[A-Z_]+=\S* )*((?:python3? -m )?aiojobs_rt [a-z].*)$", text, re.MULTILINE)
    return [re.sub(r"\[(?=[-A-Z,])|(?<=[A-Za-z\]])\]|\.\.\.|(?<=\w)\|\w+", "", line) for line in found]


@pytest.mark.parametrize("name", NAMES)
def test_commands_of_a_document_parse(name: str) -> None:
    """Each call of the command has a command, options and arguments that exist."""
    group: Any = typer.main.get_command(app)
    for line in command_lines(name):
        words = shlex.split(line, comments=True)
        words = words[words.index("aiojobs_rt") + 1 :]
        words = words[: next((at for at, word in enumerate(words) if word in {"|", ">", "&", "&&", ";"}), None)]
        assert _complaint(group, [STAND_INS.get(word, word) for word in words]) == "", f"{name}: {line}"


def _complaint(command: Any, words: list[str]) -> str:
    """Read the words as the command would, running nothing; what it would say to them."""
    try:
        context = command.make_context("aiojobs_rt", list(words))
        while hasattr(command, "resolve_command"):
            name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            context = command.make_context(name, rest, parent=context)
    except Exception as error:  # noqa: BLE001 - what typer raises has no public name
        return (
            "" if getattr(error, "exit_code", 1) == 0 else str(getattr(error, "message", error))
        )  # --help exits with 0
    return ""


@pytest.mark.acceptance(8)
def test_a_new_user_types_every_line_of_the_readme(tmp_path: Path) -> None:
    """In an empty directory: the files, the worker in one terminal, the rest in another, and the output that the README shows.

    The installation is replaced by the environment of this test, and the two commands are those of the Makefile.
    """
    readme = blocks("README.md")
    for block in readme:
        if block.file:
            (tmp_path / block.file).write_text(block.code)
    activate = tmp_path / ".venv/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
    one, other = (block.code for block in readme if block.language == "sh" and not block.not_run)
    (shown,) = (block.code for block in readme if block.language == "text")

    log = tmp_path / "worker.log"
    with log.open("w") as output:
        terminal = subprocess.Popen(
            ["/bin/sh", "-e", "-c", re.sub(r"^(python .* worker .*)$", r"exec \1", one, flags=re.MULTILINE)],
            cwd=tmp_path,
            env=environment(""),
            stdout=output,
            stderr=output,
        )
    try:
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", other],
            cwd=tmp_path,
            env=environment(""),
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        terminal.send_signal(signal.SIGINT)
        assert terminal.wait(timeout=15) == 0
    finally:
        terminal.kill()
        terminal.wait()

    assert done.returncode == 0, done.stdout + done.stderr
    for line in shown.splitlines():
        pattern = ".*".join(re.escape(part) for part in line.split("…"))
        assert re.search(f"^{pattern}$", done.stdout, re.MULTILINE), f"{line!r} is not in:\n{done.stdout}"
    assert re.search(r"^mailers +0 +0", done.stdout, re.MULTILINE), "`queues` shows the queue, empty"
    assert "sending welcome" in log.read_text()


@pytest.mark.acceptance(8)
def test_the_three_words_are_explained() -> None:
    jobs, workers = ((ROOT / "docs" / name).read_text() for name in ("jobs.md", "workers.md"))

    assert {"Job", "Worker"} <= set(aiojobs_rt.__all__)
    assert "A **job** is a class" in jobs
    assert "on a **queue**" in jobs
    assert "A **worker** is a process" in workers


def test_the_two_commands_of_the_readme_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)

    assert named == ["demo", "test"]
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.acceptance(58)
def test_sidekiqs_calls_are_mapped_one_to_one() -> None:
    """Each call of Sidekiq stands above the line of ours that does it; that these lines run is shown above."""
    text = "".join(block.code for block in blocks("docs/coming-from.md") if block.language == "python")
    ours = {
        'HardWorker.perform_async("a", 2)': 'await HardJob.perform_later("a", 2)',
        'HardWorker.perform_in(420, "a")': 'await HardJob.set(wait=420).perform_later("a")',
        'HardWorker.perform_at(1.hour.from_now, "a")': 'await HardJob.set(wait_until=one_hour_from_now).perform_later("a")',
    }

    for theirs, line in ours.items():
        assert f"# {theirs}\nhandle = {line}\n" in text


# -- links and tables ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_links_between_files_lead_somewhere(name: str) -> None:
    for target in (match["target"] for match in LINK.finditer((ROOT / name).read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert file.exists(), f"{name} links to {target}, which does not exist"
        if anchor:
            assert anchor in _anchors(file), f"{name} links to {target}: {file.name} has no such heading"


def _anchors(file: Path) -> set[str]:
    """The anchors of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_document_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()

    assert [name for name in NAMES if name != "README.md" and f"({name})" not in readme] == []


def test_the_table_of_settings_is_that_of_the_code() -> None:
    rows = re.findall(
        r"^\| `(AIOJOBS_RT_\w+)` \| *`?([^`|]*?)`? *\|", (ROOT / "docs/redis.md").read_text(), re.MULTILINE
    )
    settings = Settings.model_construct()
    expected = {
        variable(field): value.get_secret_value()
        if field == "redis_url"
        else f"{value:g}"
        if isinstance(value, float)
        else str(value).lower()
        if isinstance(value, bool)
        else ("" if value in ({}, []) else str(value))
        for field, value in settings.model_dump().items()
    }

    assert dict(rows) == expected | {"AIOJOBS_RT_DEAD_MAX_AGE": "15552000"}
    assert settings.dead_max_age == 15_552_000


def test_the_table_of_keys_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `aiojobs:\{q\}:([a-z]+)", (ROOT / "docs/redis.md").read_text(), re.MULTILINE)
    keys = QueueKeys("aiojobs", "q")
    suffixes = {getattr(keys, name).removeprefix(keys.base).rstrip(":") for name in QueueKeys.__slots__} - {"", "q"}

    assert set(rows) == {suffix for suffix in suffixes if not suffix.startswith("aiojobs")}


def test_options_of_a_job_are_all_in_their_table() -> None:
    text = (ROOT / "docs/jobs.md").read_text()
    annotated = {name for name in aiojobs_rt.Job.__annotations__ if not name.startswith("_")} - {"state"}

    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == annotated
