"""Helpers for the tests of an application: its jobs are recorded instead of sent, and run when the test says so.

With pytest, the fixture `jobs` (pytest_aiojobs_rt.py). Elsewhere:

    with recording_jobs() as jobs:
        await sign_up("ada@example.com")
        jobs.assert_enqueued(SendWelcome, args=(42,))
        await jobs.perform_enqueued()
"""

from aiojobs_rt.adapters.in_process.recording import PerformedJob, RecordedJob, TestAdapter
from aiojobs_rt.testing.jobs import Jobs, recording_jobs

__all__ = ["Jobs", "PerformedJob", "RecordedJob", "TestAdapter", "recording_jobs"]
