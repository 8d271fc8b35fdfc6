"""The demo from beginning to end.

1. A temporary embedded Redis starts, and a real worker process on it.
2. Pictures are drawn.
3. The jobs are enqueued, and watched until they have ended.
4. The worker is told to stop (TERM).
5. What the jobs returned and the files they wrote are compared with the plan.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync

from aiojobs_rt.adapters.redis.adapter import RedisAdapter
from aiojobs_rt.adapters.redis.embedded import acquire
from aiojobs_rt.demo import jobs as demo_jobs
from aiojobs_rt.demo import pictures
from aiojobs_rt.demo.scenario import BROKEN, Gallery, Planned, pictures_of, plan
from aiojobs_rt.demo.show import Counts, Screen, Summary
from aiojobs_rt.errors import JobError, JobFailed
from aiojobs_rt.job import PerformError
