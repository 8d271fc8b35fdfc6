"""The command line without Redis: options, modules, arguments, logs, what is printed."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from aiojobs_rt import Job
from aiojobs_rt.adapters.redis.endpoint import Endpoint
from aiojobs_rt.adapters.redis.endpoints import endpoint_of
from aiojobs_rt.cli import logs
from aiojobs_rt.cli.app import app
from aiojobs_rt.cli.enqueue import _by_name
from aiojobs_rt.cli.modules import find_job, load_modules
from aiojobs_rt.cli.options import prefetch_value, weighted_queues
from aiojobs_rt.cli.output import duration, printable, when
from aiojobs_rt.core import registry
from aiojobs_rt.core.context import JobContextFilter, running
from aiojobs_rt.core.message import JobMessage
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMANDS: list[list[str]] = [
    ["worker"], ["enqueue"], ["queues"], ["workers"], ["doctor"], ["demo"],
    ["jobs", "list"], ["jobs", "show"], ["jobs", "retry"], ["jobs", "discard"], ["jobs", "cancel"],
    ["generate"], ["generate", "job"],
]  # fmt: skip


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


# -- values ----------------------------------------------------------------------------------------


def test_prefetch_is_auto_or_a_number() -> None:
    assert [prefetch_value(given) for given in (None, "auto", "0", "250")] == [None, "auto", 0, 250]


@pytest.mark.parametrize("given", ["", "-1", "1.5", "much", "100000", "1\n"])
def test_other_prefetch_is_refused(given: str) -> None:
    with pytest.raises(typer.BadParameter, match="write auto, or a number of jobs"):
        prefetch_value(given)


# -- usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["jobs"], *COMMANDS], ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_every_environment_variable_is_named_after_its_flag() -> None:
    commands: Any = typer.main.get_command(app)
    parameters = [(name, p) for name, command in commands.commands.items() for p in command.params if p.envvar]
    assert len(parameters) >= 14
    for name, parameter in parameters:
        flag = next(option for option in parameter.opts if option.startswith("--"))
        assert parameter.envvar == "AIOJOBS_RT_" + flag[2:].upper().replace("-", "_"), name


def test_the_redis_url_may_be_given_to_every_command_that_needs_one() -> None:
    for command in COMMANDS:
        if command[0] not in {"demo", "generate"}:
            assert "--redis-url" in run(*command, "--help").stdout, command


@pytest.mark.parametrize(
    "arguments",
    [
        "nonsense", "worker", "worker m -c 0", "worker m -c x", "worker m -q a,0", "worker m -q a,b", "worker m -q a,",
        "worker m -q a -q a", "worker m -q {x}", "worker m --lease 0.1", "worker m --log-format xml", "worker m --nope",
        "enqueue", "enqueue J [1", "enqueue J 1", "enqueue J {} --queue a.b", "enqueue J {} --wait -1",
        "jobs show", "jobs show nonsense", "jobs retry", "jobs retry --all-dead", "jobs retry -q default",
        "jobs retry default.a --all-dead -q default", "jobs discard", "jobs discard default.a -q default",
        "jobs list --state lost", "jobs list --limit 0", "jobs list --limit 501", "jobs list --after 5", "demo --jobs 0",
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(arguments: str, own_logging: None) -> None:
    result = run(*arguments.split())
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert "Usage:" in result.stderr


def test_the_version() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("aiojobs_rt ")


def test_a_wrong_setting_is_a_sentence_that_names_it(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIOJOBS_RT_PREFIX", "no good")
    result = run("queues")
    assert result.exit_code == 1
    assert "AIOJOBS_RT_PREFIX" in result.stderr


def test_queues_with_and_without_weights() -> None:
    assert weighted_queues(None) is None
    assert weighted_queues(["b", "a"]) == ["b", "a"]
    assert weighted_queues(["b,5", "a"]) == {"b": 5, "a": 1}


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@h/0", "redis://u:hunter2@h:1/0", "redis://u:hun/ter2hunter2@h:1", "redis://:hunter2/0",
        "redis://u:hunter2", "redis:/:hunter2@h", "http://u:hunter2@h", "hunter2@h", "redis://h:1/0?password=hunter2",
        "unix://u:hunter2@/s?db=1", "unix:///s?db=1&password=hunter2", "redis+sentinel://u:hunter2@h1,h2/n/0",
        "rediss://[::1]:hunter2/0", "rediss://h/0?ssl_password=hunter2", "redis://h/0?db=1&pass%77ord=hunter2",
        "redis+cluster://h/?password=a#hunter2", "redis://h/0?password=a;hunter2?hunter2", "redis://h/0?db=1?password=hunter2",
    ],
)  # fmt: skip
def test_no_password_is_shown_however_wrong_its_url(url: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIOJOBS_RT_REDIS_URL", url)
    try:
        shown = Endpoint(url).display
    except ConfigurationError as error:
        shown = str(error)
        result = run("queues")
        assert result.exit_code == 1
        assert "hunter2" not in result.output
    assert "hunter2" not in shown


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "unix"])
def test_an_option_that_does_not_exist_is_refused_by_its_name(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="there is no option 'passwort'") as raised:
        endpoint_of(f"{scheme}://h/?passwort=hunter2")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["redis://h:6379/0", "redis://[::1]:6379/0", "unix:///s?db=1", "embedded:///d", "redis://h"]
)
def test_a_url_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert Endpoint(url).display == url


# -- modules ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nowhere_to_be_found", "it needs 'nowhere_to_be_found', which is missing"),
        ("def f(:", "line 1"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (
            "from aiojobs_rt import Job\nclass J(Job):\n    def perform(self): ...",
            "must be `async def perform(self, ...)`",
        ),
        ("from aiojobs_rt import Nothing", "cannot import name 'Nothing'"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(folder: Path, text: str, said: str) -> None:
    (folder / "cli_broken.py").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_modules(["cli_broken"])
    message = str(caught.value)
    assert message.startswith("module cli_broken can't be imported: ")
    assert said in message
    assert ("line 1, in <module>" in message) == ("1 / 0" in text or "SystemExit" in text or "Nothing" in text)
    assert "importlib" not in message


def test_a_module_that_is_not_there_is_said_with_where_it_was_looked_for(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="no module 'nowhere'") as caught:
        load_modules(["nowhere.jobs"])
    assert str(folder) in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"such as app\.jobs$"):
        load_modules(["./app/jobs.py"])


@pytest.mark.acceptance(38)
def test_of_a_package_every_module_is_imported_but_not_main(folder: Path) -> None:
    inner = folder / "cli_discovered" / "mail" / "monthly"
    inner.mkdir(parents=True)
    for package in (inner, inner.parent, inner.parent.parent):
        (package / "__init__.py").touch()
    text = "from aiojobs_rt import Job\nclass {}(Job):\n    async def perform(self) -> None: ...\n"
    (inner / "digest_job.py").write_text(text.format("CliDigestJob"))
    (inner.parent.parent / "welcome_job.py").write_text(text.format("CliWelcomeJob"))
    (inner.parent / "__main__.py").write_text("raise SystemExit(3)")

    load_modules(["cli_discovered"])

    assert {"CliDigestJob", "CliWelcomeJob"} <= {name for name, _ in registry.job_classes()}
    (inner / "broken.py").write_text("1 / 0")
    with pytest.raises(ConfigurationError, match=r"cli_discovered\.mail\.monthly\.broken can't be imported"):
        load_modules(["cli_discovered"])


def test_a_job_is_found_by_name_or_by_module_and_class(folder: Path) -> None:
    (folder / "cli_found.py").write_text(
        "from aiojobs_rt import Job\nclass J(Job):\n    name = 'found-job'\n    async def perform(self) -> None: ...\nx = 1\n"
    )
    with pytest.raises(ConfigurationError, match=r"there is no job named 'found-job'|no job class is loaded"):
        find_job("found-job")
    load_modules(["cli_found"])
    assert find_job("found-job") is find_job("cli_found:J")
    for wrong in ("cli_found:Nothing", "cli_found:x"):
        with pytest.raises(ConfigurationError, match="is no job class"):
            find_job(wrong)


def test_arguments_by_position_become_arguments_by_name() -> None:
    class CliPositional(Job):
        async def perform(self, a: int, /, b: int = 1, *rest: int, c: int = 2) -> None: ...

    class CliFixed(Job):
        async def perform(self, a: int) -> None: ...

    assert _by_name(CliPositional, [1]) == {"a": 1}
    assert _by_name(CliPositional, [1, 2, 3, 4]) == {"a": 1, "b": 2, "rest": [3, 4]}
    assert _by_name(CliPositional, {"c": 3}) == {"c": 3}
    with pytest.raises(typer.BadParameter, match="takes 1 arguments by position, got 2"):
        _by_name(CliFixed, [1, 2])


# -- logs ------------------------------------------------------------------------------------------


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Logging is as it was before the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def record(message: str, *args: object, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("aiojobs_rt.x", logging.WARNING, "f.py", 1, message, args, more.get("exc_info"))
    made.created, made.msecs = 1_700_000_000.25, 250.0
    JobContextFilter().filter(made)
    return made


def test_a_line_of_json_has_the_documented_fields() -> None:
    line = json.loads(logs.JsonLines().format(record("hello %s", "you")))
    assert line == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "warning",
        "logger": "aiojobs_rt.x",
        "message": "hello you",
    }


def failure() -> Any:
    try:
        int("boom")
    except ValueError:
        return sys.exc_info()


@pytest.mark.acceptance(42)
def test_a_line_of_a_job_names_it_and_an_exception_brings_its_traceback() -> None:
    token = running.set(JobMessage("q.1", "Add", b"{}", "q", failures=1))
    made = record("failed", exc_info=failure())
    running.reset(token)
    line = json.loads(logs.JsonLines().format(made))
    assert list(line) == ["time", "level", "logger", "message", "job_id", "job", "queue", "executions", "exception"]
    assert (line["job_id"], line["job"], line["queue"], line["executions"]) == ("q.1", "Add", "q", 2)
    assert line["exception"].endswith("with base 10: 'boom'")
    text = logs.Lines().format(made)
    assert " WARNING  aiojobs_rt.x [q.1]: failed\nTraceback" in text


def test_a_line_with_a_lone_surrogate_is_still_json() -> None:
    assert json.loads(logs.JsonLines().format(record("\ud800")))["message"] == "\\ud800"


def test_a_line_of_text_outside_jobs() -> None:
    assert logs.Lines().format(record("hello")).endswith(" WARNING  aiojobs_rt.x: hello")


# -- output ----------------------------------------------------------------------------------------


def test_what_redis_holds_does_not_write_to_the_terminal() -> None:
    assert printable("\x1b[31mred\a\nnext") == "\\x1b[31mred\\x07\nnext"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, ""), (0.0124, "12 ms"), (3.21, "3.2 s"), (300, "5 min"), (5400, "1.5 h"), (86_400 * 3, "3 d")],
)
def test_durations_for_people(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_instants_for_people() -> None:
    now = datetime.now(tz=UTC)
    assert when(None) == ""
    assert when(now - timedelta(minutes=5)) == "5 min ago"
    assert when(now + timedelta(hours=1.51)) == "in 1.5 h"
