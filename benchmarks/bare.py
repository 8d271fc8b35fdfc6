"""Bare sockets: what of a wake-up is the machine's and what is Redis'.

Two systems that know nothing of jobs. "socket": one process writes a line to another that sleeps in recv: one wake-up. "relay": it goes
through a redis-server, XADD here and a blocking XREADGROUP there, both written by hand: two wake-ups. What the floor needs beyond "relay" is
redis-py, a script and an event loop. It needs the standard library alone.

    python -m benchmarks.bare produce|work socket|relay SOCKET LOAD
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from signal import SIG_BLOCK as BLOCK
from signal import SIGTERM, pthread_sigmask, sigwait
from typing import TYPE_CHECKING

from benchmarks import tally
from benchmarks.load import Load, Produced

if TYPE_CHECKING:
    from collections.abc import Callable

STREAM, GROUP = "{bare}stream", "workers"


def produce(kind: str, path: str, load: Load) -> Produced:
    """Send a stamp at each moment of a paced load."""
    began, cpu_began = time.perf_counter(), time.process_time()
    at = time.monotonic()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(_own(path) if kind == "socket" else path)
        for n, gap in enumerate(load.gaps()):
            line = b"%d %d" % (n, time.monotonic_ns())
            if kind == "socket":
                peer.sendall(line + b"\n")
            else:
                peer.sendall(_command(b"XADD", STREAM.encode(), b"*", b"at", line))
                peer.recv(256)
            at += gap
            time.sleep(max(at - time.monotonic(), 0))
        if kind == "socket":
            peer.recv(1)  # it has read all
    return Produced(time.perf_counter() - began, time.process_time() - cpu_began)


def work(kind: str, path: str, load: Load) -> None:
    """Note when each stamp arrives, until TERM."""
    pthread_sigmask(BLOCK, [SIGTERM])
    read = _direct if kind == "socket" else _relayed
    threading.Thread(target=read, args=(path, load, _note), daemon=True).start()
    sigwait([SIGTERM])
    tally.write()


def _note(n: int, at_ns: int) -> None:
    late_ns = time.monotonic_ns() - at_ns
    tally.marks[n] += 1
    if n:
        tally.delays.append(late_ns / 1_000_000)
    else:
        tally.begin()


def _direct(path: str, load: Load, note: Callable[[int, int], None]) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(_own(path) + ".new")
        listener.listen()
        Path(_own(path) + ".new").rename(_own(path))  # it is there when it listens
        peer, _ = listener.accept()
        seen = 0
        rest = b""
        while seen < load.jobs:
            *lines, rest = (rest + peer.recv(1 << 16)).split(b"\n")
            for line in lines:
                n, at_ns = line.split()
                note(int(n), int(at_ns))
                seen += 1
        with socket.socket(socket.AF_UNIX) as redis:  # what the suite asks for at the end
            redis.connect(path)
            redis.sendall(_command(b"DEL", STREAM.encode()))
            redis.recv(64)
        peer.sendall(b".")


def _relayed(path: str, load: Load, note: Callable[[int, int], None]) -> None:
    read = _command(
        b"XREADGROUP", b"GROUP", GROUP.encode(), b"w", b"COUNT", b"100", b"BLOCK", b"2000", b"STREAMS", STREAM.encode(), b">"
    )  # fmt: skip
    seen = 0
    with socket.socket(socket.AF_UNIX) as redis, redis.makefile("rb") as answers:
        redis.connect(path)
        while seen < load.jobs:
            redis.sendall(read)
            if answers.readline() == b"*-1\r\n":
                continue
            answers.readline()  # one stream
            answers.readline()  # the length of its name
            answers.readline()  # its name
            for _ in range(int(answers.readline()[1:])):
                for _ in range(6):  # an entry of two, its id, fields of two, "at"
                    answers.readline()
                answers.readline()
                n, at_ns = answers.readline().split()
                note(int(n), int(at_ns))
                seen += 1
        redis.sendall(_command(b"DEL", STREAM.encode()))
        answers.readline()


def _own(path: str) -> str:
    return path + ".bare"


def _command(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


if __name__ == "__main__":
    verb, kind, path, load = sys.argv[1:]
    if verb == "produce":
        print(json.dumps(asdict(produce(kind, path, Load.parse(load)))))
    else:
        work(kind, path, Load.parse(load))
