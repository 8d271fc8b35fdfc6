"""Scenarios: what is measured, for which systems, and at which sizes. What they do stands in measures.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.scenarios import measures as m
from benchmarks.scenarios.measures import Sizes
from benchmarks.systems import FLOOR, PRODUCT, RELAY, SHARDED, SOCKET

if TYPE_CHECKING:
    from benchmarks.scenarios.measures import Measure
    from benchmarks.systems import System

__all__ = ["SCENARIOS", "Scenario", "Sizes"]

BOTH: tuple[System, ...] = (PRODUCT, FLOOR)
ALONE: tuple[System, ...] = (PRODUCT,)
BARE: tuple[System, ...] = (PRODUCT, FLOOR, RELAY, SOCKET)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing to measure.

    Attributes:
        name: for --only.
        title: for tables.
        table: the table that shows it: "throughput", "delay" or "cost".
        systems: those of the suite itself that can do it.
        measure: measures once; figures by the names in tables.py.
        full: it takes a minute or more, and runs only when it is named or everything is asked for.
    """

    name: str
    title: str
    table: str
    systems: tuple[System, ...]
    measure: Measure
    full: bool = False


SCENARIOS = (
    Scenario("enqueue-one", "enqueue, one by one", "throughput", BOTH, m.enqueue("one", divisor=20)),
    Scenario(
        "enqueue-100", "enqueue, 100 callers", "throughput", ALONE, m.enqueue("concurrent", divisor=4, callers=100)
    ),
    Scenario(
        "enqueue-1000", "enqueue, 1,000 callers", "throughput", ALONE, m.enqueue("concurrent", divisor=4, callers=1_000)
    ),
    Scenario("enqueue-bulk", "enqueue, in bulk", "throughput", BOTH, m.enqueue("bulk", divisor=2)),
    Scenario("enqueue-50b", "enqueue in bulk, 50 B", "throughput", BOTH, m.enqueue("bulk", divisor=4, payload=50)),
    Scenario("enqueue-1k", "enqueue in bulk, 1 KiB", "throughput", BOTH, m.enqueue("bulk", divisor=4, payload=1_024)),
    Scenario(
        "enqueue-50k", "enqueue in bulk, 50 KiB", "throughput", BOTH, m.enqueue("bulk", jobs=4_000, payload=51_200)
    ),
    Scenario("drain-noop", "drain, no-op", "throughput", BOTH, m.drain()),
    Scenario(
        "drain-rich", "drain, declarations, timeout, log context", "throughput", ALONE, m.drain("Rich", divisor=2)
    ),
    Scenario("drain-cpu", "drain, 0.2 ms of CPU", "throughput", BOTH, m.drain("Cpu", divisor=10, spin_us=200)),
    Scenario("drain-flaky", "drain, 5 % fail once", "throughput", ALONE, m.drain("Flaky", divisor=4)),
    Scenario("drain-50b", "drain, 50 B", "throughput", BOTH, m.drain("Payload", divisor=4, payload=50)),
    Scenario("drain-1k", "drain, 1 KiB", "throughput", BOTH, m.drain("Payload", divisor=4, payload=1_024)),
    Scenario("drain-50k", "drain, 50 KiB", "throughput", BOTH, m.drain("Payload", jobs=4_000, payload=51_200)),
    Scenario(
        "drain-1ms-100", "drain, 1 ms, concurrency 100", "throughput", BOTH, m.sleep(1, concurrency=100, divisor=4)
    ),
    Scenario(
        "drain-10ms-100", "drain, 10 ms, concurrency 100", "throughput", BOTH, m.sleep(10, concurrency=100, divisor=10)
    ),
    Scenario(
        "drain-1ms-1000", "drain, 1 ms, concurrency 1,000", "throughput", BOTH, m.sleep(1, concurrency=1_000, divisor=2)
    ),
    Scenario(
        "drain-10ms-1000",
        "drain, 10 ms, concurrency 1,000",
        "throughput",
        BOTH,
        m.sleep(10, concurrency=1_000, divisor=2),
    ),
    Scenario("ranked", "drain, 3 queues, 3 priorities in one", "throughput", ALONE, m.ranked),
    Scenario("workers-2", "drain, no-op, 2 workers", "throughput", BOTH, m.processes(2)),
    Scenario("workers-4", "drain, no-op, 4 workers", "throughput", BOTH, m.processes(4)),
    Scenario("shards-8", "drain, no-op, a queue of 8 shards", "throughput", (SHARDED,), m.drain()),
    Scenario("backlog-10k", "drain from a backlog of 10,000", "throughput", BOTH, m.backlog(10_000)),
    Scenario("backlog-100k", "drain from a backlog of 100,000", "throughput", BOTH, m.backlog(100_000)),
    Scenario("backlog-1m", "drain from a backlog of 1,000,000", "throughput", BOTH, m.backlog(1_000_000), full=True),
    Scenario("results", "result awaited, one by one", "throughput", ALONE, m.results(1)),
    Scenario("results-100", "result awaited, 100 callers", "throughput", ALONE, m.results(100)),
    Scenario("wake-up", "wake-up, idle worker", "delay", BARE, m.wake_up(jobs=1_001, pause_ms=10)),
    Scenario(
        "wake-up-busy",
        "wake-up, worker half busy (1 ms jobs)",
        "delay",
        BOTH,
        m.wake_up(jobs=4_001, pause_ms=2, spin_us=1_000),
    ),
    Scenario("late-1000", "lateness, 1,000 over 1 s", "delay", ALONE, m.late(1_000)),
    Scenario("late-20000", "lateness, 20,000 over 1 s", "delay", ALONE, m.late(20_000)),
    Scenario("late-at-once", "lateness, 50,000 at one instant", "delay", ALONE, m.at_once(50_000)),
    Scenario("memory", "Redis bytes per waiting job", "cost", BOTH, m.memory),
    Scenario("idle", "idle worker", "cost", ALONE, m.idle),
)
