"""The worker command in ten lines, for tests: the same arguments as `python -m aiojobs_rt worker`."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import signal

from aiojobs_rt import Worker


async def main(options: argparse.Namespace) -> None:
    worker = Worker(
        queues=options.queue,
        concurrency=options.concurrency,
        lease=options.lease,
        shutdown_timeout=options.shutdown_timeout,
        burst=options.burst,
        on_deadline=lambda: os._exit(0),
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    loop.add_signal_handler(signal.SIGTSTP, worker.quiet)
    await worker.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("module", nargs="+")
    parser.add_argument("-q", "--queue", action="append")
    parser.add_argument("-c", "--concurrency", type=int)
    parser.add_argument("--lease", type=float)
    parser.add_argument("--shutdown-timeout", type=float)
    parser.add_argument("--burst", action="store_true")
    parser.add_argument("--log-level", default="info")
    arguments = parser.parse_args()
    logging.basicConfig(level=arguments.log_level.upper(), format="%(asctime)s %(name)s %(levelname)s %(message)s")
    for module in arguments.module:
        importlib.import_module(module)
    try:
        import uvloop
    except ImportError:
        asyncio.run(main(arguments))
    else:
        uvloop.run(main(arguments))
