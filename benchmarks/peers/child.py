"""A producer or a worker of a peer, in its environment: `child NAME produce LOAD` and `child NAME work LOAD CONCURRENCY`; NAME as in with_NAME.py."""

from __future__ import annotations

import sys
from importlib import import_module

from benchmarks.load import Load
from benchmarks.peers.jobs import say

if __name__ == "__main__":
    match sys.argv[1:]:
        case [name, "produce", load]:
            say(import_module(f"benchmarks.peers.with_{name}").produce(Load.parse(load)))
        case [name, "work", load, concurrency]:
            import_module(f"benchmarks.peers.with_{name}").work(Load.parse(load), int(concurrency))
        case _:
            sys.exit(__doc__)
