"""The adapters that carry jobs inside this process, without Redis.

Read on in this order:

    memory.py       the queues: which job is where; no clock, loop or task of its own
    clocks.py       the time, real or virtual
    hosts.py        what continuations ask; where a test has jobs end
    runner.py       one job in a task of its own, with its timeout and its cancellation
    base.py         what the three adapters have in common
    async_adapter.py, inline_adapter.py, recording.py (the test adapter)
"""
