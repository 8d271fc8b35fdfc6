"""The parent of several worker processes: when it replaces a child, and when it gives up. Its children are stand-ins here."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt.cli import parent, processes
from aiojobs_rt.cli.processes import Place, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class StandIn:
    """A child of which the test says what it tells and how it ends."""

    all: list[StandIn]

    def __init__(self, role: str) -> None:
        self.pid = 1000 + len(self.all)
        self.line, self._theirs = socket.socketpair()
        self.listening = True
        self.loaded = self.working = self.told = False
        self.ended: int | None = None
        self.heard: list[str] = []
        self.all.append(self)

    def listen(self) -> None:
        self.loaded = self.working = self.told

    def code(self) -> int | None:
        return self.ended

    def send(self, number: signal.Signals) -> None:
        self.heard.append(number.name)

    def close(self) -> None:
        self.line.close()
        self._theirs.close()


class Stage:
    """A supervisor that is moved on by the test: what it would wait for happens in between."""

    def __init__(self, count: int, write: int, supervisor: Supervisor) -> None:
        self.children = StandIn.all
        self._supervisor = supervisor
        self._write = write
        self.now = 100.0

    def run(self, *scenes: Callable[[Stage], None]) -> int:
        left = iter(scenes)

        def wait() -> None:
            next(left)(self)

        self._supervisor._wait = wait  # type: ignore[method-assign] # what happens meanwhile is said by the test
        code = self._supervisor.run()
        assert not list(left), "it ended too early"
        return code

    def hears(self, number: signal.Signals) -> None:
        if number in processes.PASSED_ON:
            self._supervisor._pass_on(number)

    def goes_on(self) -> None: ...

    def all_work(self) -> None:
        for child in self.children:
            child.told = True

    def all_end(self, code: int = 0) -> None:
        for child in self.children:
            child.ended = code if child.ended is None else child.ended


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    read, write = os.pipe()
    StandIn.all = []
    made = Stage(3, write, Supervisor(3, read, ending_s=40))
    monkeypatch.setattr(processes, "Child", StandIn)
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    yield made
    for child in StandIn.all:
        child.close()
    os.close(read)
    os.close(write)


def test_the_others_start_when_the_first_has_loaded_and_all_stop_at_a_signal(stage: Stage) -> None:
    def first(stage: Stage) -> None:
        assert len(stage.children) == 1
        stage.hears(signal.SIGTSTP)
        stage.hears(signal.SIGUSR2)
        assert not stage.children[0].heard, "they would halt it, or end it"
        stage.children[0].told = True

    def loading(stage: Stage) -> None:
        assert len(stage.children) == 3

    def stop(stage: Stage) -> None:
        stage.hears(signal.SIGUSR2)
        stage.hears(signal.SIGINT)
        stage.hears(signal.SIGINT)
        assert stage.children[0].heard == ["SIGTSTP", "SIGUSR2", "SIGINT", "SIGINT"]
        assert stage.children[1].heard == ["SIGTERM", "SIGTERM"], "it can't ask for more before it obeys"
        stage.children[0].ended = 0
        stage.children[1].ended = stage.children[2].ended = -signal.SIGTERM

    assert stage.run(first, loading, stop) == 0
    assert len(stage.children) == 3


def test_a_child_that_cannot_start_ends_all_with_its_code(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def fail(stage: Stage) -> None:
        stage.children[0].ended = 1

    assert stage.run(fail) == 1
    assert len(stage.children) == 1

    assert "process 1 (pid 1000) can't start: all are stopped" in caplog.text


def test_one_that_fails_after_the_first_works_ends_it_too(stage: Stage) -> None:
    def fail(stage: Stage) -> None:
        stage.children[1].ended = 2

    def stopped(stage: Stage) -> None:
        assert stage.children[0].heard == ["SIGTERM"]
        assert stage.children[2].heard == ["SIGTERM"]
        stage.all_end()

    assert stage.run(Stage.all_work, fail, stopped) == 2


def test_what_dies_is_replaced_at_once_then_after_growing_waits(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def die(stage: Stage) -> None:
        stage.all_work()
        stage.children[-1].ended = -signal.SIGKILL

    def wait(stage: Stage) -> None:
        stage.now += 0.6

    def replaced(stage: Stage) -> None:
        stage.all_work()
        assert len(stage.children) == 5
        stage.hears(signal.SIGTERM)
        stage.all_end()

    assert stage.run(Stage.all_work, Stage.all_work, die, Stage.goes_on, die, wait, replaced) == 0
    assert "process 3 (pid 1002) ended with signal 9 (SIGKILL); another one starts\n" in caplog.text
    assert "process 3 (pid 1003) ended with signal 9 (SIGKILL); another one starts in 0.5 s\n" in caplog.text


def test_where_one_has_worked_an_error_at_the_start_of_the_next_is_no_end(stage: Stage) -> None:
    def die(stage: Stage) -> None:
        stage.children[0].ended = 1

    def fail(stage: Stage) -> None:
        assert len(stage.children) == 4
        stage.children[3].ended = 1

    def stop(stage: Stage) -> None:
        assert not stage.children[1].heard
        stage.hears(signal.SIGTERM)
        stage.all_end()

    assert stage.run(Stage.all_work, Stage.all_work, die, Stage.goes_on, fail, stop) == 0


def test_what_ends_cleanly_is_not_replaced(stage: Stage) -> None:
    def drained(stage: Stage) -> None:
        stage.children[0].ended = 0

    def crash(stage: Stage) -> None:
        stage.children[1].ended = 139

    def rest(stage: Stage) -> None:
        assert len(stage.children) == 4
        stage.all_work()
        stage.all_end()

    assert stage.run(Stage.all_work, Stage.all_work, drained, crash, Stage.goes_on, rest) == 0
    assert len(stage.children) == 4


def test_one_that_does_not_stop_cleanly_makes_the_exit_code_1(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def stop(stage: Stage) -> None:
        stage.all_work()
        stage.hears(signal.SIGTERM)
        stage.children[2].ended = -signal.SIGSEGV
        stage.all_end()

    assert stage.run(Stage.all_work, Stage.all_work, stop) == 1
    assert "process 3 (pid 1002) ended with signal 11 (SIGSEGV)" in caplog.text


def test_one_that_hears_no_signal_is_killed_when_its_time_is_over(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(stage: Stage) -> None:
        stage.hears(signal.SIGTERM)
        stage.children[1].ended = stage.children[2].ended = 0
        stage.now += 39.9

    def still_patient(stage: Stage) -> None:
        assert stage.children[0].heard == ["SIGTERM"]
        stage.now += 0.2

    def killed(stage: Stage) -> None:
        assert stage.children[0].heard == ["SIGTERM", "SIGKILL"]
        assert stage.children[1].heard == ["SIGTERM"]
        stage.now += 100
        stage.children[0].ended = -signal.SIGKILL

    assert stage.run(Stage.all_work, stop, still_patient, killed) == 1
    assert "process 1 (pid 1000) does not end: it is killed, and its jobs run again elsewhere" in caplog.text


def test_after_the_second_signal_it_has_less_time(stage: Stage) -> None:
    def stop_twice(stage: Stage) -> None:
        stage.hears(signal.SIGTERM)
        stage.hears(signal.SIGTERM)
        stage.now += processes.ENDING_S + 0.1

    def killed(stage: Stage) -> None:
        assert all(child.heard == ["SIGTERM", "SIGTERM", "SIGKILL"] for child in stage.children)
        stage.all_end(-signal.SIGKILL)

    assert stage.run(Stage.all_work, Stage.goes_on, stop_twice, killed) == 1


def test_the_waits_grow_to_a_limit_and_begin_anew_after_a_calm_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(processes, "Child", StandIn)
    place = Place(1)
    place.start()
    waits = [place.replace_later() for _ in range(9)]
    now += processes.CALM_S
    assert waits == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert place.replace_later() == 0
    assert place.child is not None
    place.child.close()


def test_who_has_no_parent_of_ours_tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "processes", "processes:999999", "other:0", "reload:x"):
        monkeypatch.setenv(parent.VARIABLE, value)
        found = parent.find_parent()
        found.tell(parent.LOADED)
        assert found.role is None
        assert parent.VARIABLE not in os.environ
