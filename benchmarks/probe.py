"""A probe: how long a redis-server leaves others waiting. `python -m benchmarks.probe SOCKET`, until its standard input ends.

A client of its own, in a process of its own, that sends a PING each millisecond and prints the longest wait for an answer, in ms, as JSON;
beside it by how much its own sleeps were late: what it waits because the machine's cores are taken is no stall of Redis. It needs the
standard library alone.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time


def main(path: str) -> None:
    """Ask until the suite closes the standard input."""
    longest = overslept = 0.0
    asked = 0
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(path)
        print("ready", flush=True)
        while True:
            before = time.perf_counter()
            ended, _, _ = select.select([sys.stdin], [], [], 0.001)
            sent = time.perf_counter()
            if ended:
                break
            redis.sendall(b"PING\r\n")
            redis.recv(64)
            longest = max(longest, time.perf_counter() - sent)
            overslept = max(overslept, sent - before - 0.001)
            asked += 1
    print(json.dumps({"longest_ms": longest * 1e3, "overslept_ms": overslept * 1e3, "asked": asked}))


if __name__ == "__main__":
    main(sys.argv[1])
