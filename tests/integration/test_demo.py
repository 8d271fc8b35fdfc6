"""`python -m aiojobs_rt demo`: it shows the main job, checks it, and leaves no process behind, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from PIL import Image

from aiojobs_rt import demo
from aiojobs_rt.core import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiojobs_rt.demo.scenario import Ended

ROOT = Path(__file__).parents[2]
MARK = "DEMO_TEST_MARK"

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc")


class Demo:
    """A demo in a process group of its own. All that it starts inherits a mark in its environment."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self._mark = f"{MARK}={uuid4()}".encode()
        name, _, value = self._mark.decode().partition("=")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "aiojobs_rt", "demo", *arguments, "--directory", str(folder)],
            cwd=ROOT,
            env={**os.environ, name: value, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""

    def read_until(self, word: str) -> str:
        """Read what it prints, up to the line that begins with `word`; that line."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line
            if line.startswith(word):
                return line
        raise AssertionError(f"the demo ended without a line {word!r}:\n{self.output}")

    def signal(self, number: signal.Signals) -> None:
        """As a terminal does: to the whole process group."""
        os.killpg(self._process.pid, number)

    def end(self) -> int:
        """Wait for its end; the exit code."""
        assert self._process.stdout is not None
        self.output += self._process.stdout.read()
        self._process.stdout.close()
        return self._process.wait(timeout=30)

    @property
    def redis_folder(self) -> Path:
        """Where it said that its server is, once that is read."""
        return Path(self.output.partition("\n")[0].rpartition(" ")[2])

    def processes(self) -> dict[int, str]:
        """Its own process and all that it started, which still live."""
        found: dict[int, str] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                marked = self._mark in (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # it has just ended, or is another user's
            # redis-server writes its title over its environment
            if marked or (self.output and f"{self.redis_folder}/" in command):
                found[int(folder.name)] = command
        return found

    def kill(self) -> None:
        """End it and, should it have left something behind, that too."""
        self._process.kill()
        self._process.wait()
        for left in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def running(folder: Path) -> Iterator[Demo]:
    """A demo whose jobs run."""
    demo = Demo(folder, "--jobs", "300")
    yield demo
    demo.kill()


@needs_proc
def test_the_main_job_on_real_images(folder: Path) -> None:
    stale = folder / "thumbnails" / "picture-001-64.jpg"
    stale.parent.mkdir(parents=True)
    stale.write_text("left by an earlier demo")
    began = time.monotonic()
    demo = Demo(folder, "--jobs", "40", "--concurrency", "4")
    try:
        assert demo.end() == 0, demo.output
        assert time.monotonic() - began < 30
        assert demo.processes() == {}
    finally:
        demo.kill()
    assert "39 jobs in" in demo.output
    assert "1: UnidentifiedImageError: cannot identify image file" in demo.output
    assert "jobs/s" in demo.output
    thumbnails = sorted((folder / "thumbnails").iterdir())
    assert len(thumbnails) == 39
    for path in thumbnails:
        with Image.open(path) as image:
            image.load()
            kind = path.stem.rpartition("-")[2]
            assert image.width == (int(kind) if kind.isdigit() else 960)
    originals = {path.read_bytes() for path in (folder / "pictures").glob("picture-*.jpg")}
    assert len(originals) == 7


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_behind(running: Demo, number: signal.Signals) -> None:
    running.read_until("waiting")
    before = running.processes()
    assert len(before) >= 4, f"the demo, the worker, the keeper and redis-server, not {before}"
    began = time.monotonic()
    running.signal(number)
    assert running.end() == 130, running.output
    assert time.monotonic() - began < 8
    assert running.processes() == {}
    assert "Traceback" not in running.output
    assert running.redis_folder.is_absolute()
    assert not running.redis_folder.exists()


@needs_proc
def test_a_worker_that_dies_is_reported(running: Demo) -> None:
    worker = int(running.read_until("worker").split()[2].rstrip(","))
    running.read_until("waiting")
    os.kill(worker, signal.SIGKILL)
    assert running.end() == 1
    assert "the worker ended by itself with exit code -9" in running.output
    assert "Traceback" not in running.output
    assert running.processes() == {}


def test_a_folder_that_cant_be_used_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_classes", {})
    (tmp_path / "data").write_text("a file")
    assert demo.run(jobs=10, directory=tmp_path / "data") == 1
    said = capsys.readouterr().err
    assert "The demo did not come out as it should: " in said
    assert str(tmp_path / "data") in said
    assert "Traceback" not in said


def test_without_pillow_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert demo.run() == 1
    assert "pip install 'aiojobs_rt[demo]'" in capsys.readouterr().err


def test_too_few(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.run(jobs=9) == 2
    assert "at least 10 jobs to show something, got 9" in capsys.readouterr().err
    assert demo.run(concurrency=0) == 2
    assert "at least 1, got 0" in capsys.readouterr().err


# -- what it calls a fault -----------------------------------------------------------------------


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Ended]:
    """Jobs that ended as planned, with their files: a dead one, thumbnails, a delayed and a retried one."""
    monkeypatch.setattr(registry, "_classes", {})
    from aiojobs_rt.demo.jobs import Run
    from aiojobs_rt.demo.scenario import Ended, Gallery, plan

    gallery = Gallery(tmp_path)
    gallery.thumbnails.mkdir()
    now = datetime.now(UTC)
    made: list[Ended] = []
    for planned in plan(7, gallery):
        if planned.dies:
            made.append(Ended(planned, "dead", retries=planned.retries, error="why"))
            continue
        Image.new("RGB", (planned.width or 10, 10)).save(planned.target)
        started = now + timedelta(seconds=planned.wait)
        made.append(
            Ended(planned, "succeeded", Run(planned.retries + 1, now, started, started), retries=planned.retries)
        )
    return made


def test_no_faults(ended: list[Ended]) -> None:
    from aiojobs_rt.demo.scenario import faults_of

    assert faults_of(ended) == []
    assert any(job.planned.wait for job in ended)
    assert any(job.planned.retries for job in ended[1:])


def test_each_fault_is_named(ended: list[Ended]) -> None:
    from aiojobs_rt.demo.scenario import faults_of

    dead, small, medium, large, huge, delayed, retried = ended
    assert small.run is not None
    assert delayed.run is not None
    dead.planned.target.write_text("")
    small.planned.target.unlink()
    medium.planned.target.write_text("no image")
    Image.new("RGB", (9, 9)).save(large.planned.target)
    early = replace(delayed.run, started_at=delayed.run.enqueued_at)
    faults = faults_of(
        [
            dead,
            small,
            medium,
            large,
            replace(huge, outcome="lost", run=None, error="nobody knows"),
            replace(delayed, run=early),
            replace(retried, retries=0),
            replace(small, outcome="succeeded", retries=1),
        ]
    )
    assert [fault.rpartition("/")[2] for fault in faults] == [
        "broken.jpg is there, although its job is dead",
        "picture-001-64.jpg is missing",
        f"picture-001-128.jpg does not open: cannot identify image file '{medium.planned.target}'".rpartition("/")[2],
        "picture-001-256.jpg is 9 pixels wide instead of 256",
        "the job for picture-001-512.jpg is lost instead of succeeded: nobody knows",
        "the job for picture-001-sepia.jpg started 600 ms too early",
        "the job for picture-001-caption.jpg was retried 0 time(s) instead of 1",
        "the job for picture-001-64.jpg was retried 1 time(s) instead of 0",
    ]
