"""Background jobs for asyncio: Active Job's model, typed by pydantic, on Redis streams."""

from aiojobs_rt.adapters.redis.adapter import RedisAdapter
from aiojobs_rt.core.continuation import Step
from aiojobs_rt.errors import (
    AiojobsError,
    ConfigurationError,
    DefinitionError,
    DeserializationError,
    Discard,
    DuplicateJob,
    EnqueueError,
    InvalidArguments,
    InvalidJob,
    InvalidStep,
    JobCancelled,
    JobError,
    JobFailed,
    PayloadTooLarge,
    QueueFullError,
    RecordNotFound,
    RedisUnavailable,
    ResultNotKept,
    Retry,
    Snooze,
)
from aiojobs_rt.handle import JobHandle
from aiojobs_rt.job import Bound, Job, perform_all_later
from aiojobs_rt.policies import discard_on, exponentially_longer, polynomially_longer, rescue_from, retry_on
from aiojobs_rt.worker.worker import Worker

__all__ = [
    "AiojobsError",
    "Bound",
    "ConfigurationError",
    "DefinitionError",
    "DeserializationError",
    "Discard",
    "DuplicateJob",
    "EnqueueError",
    "InvalidArguments",
    "InvalidJob",
    "InvalidStep",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "JobHandle",
    "PayloadTooLarge",
    "QueueFullError",
    "RecordNotFound",
    "RedisAdapter",
    "RedisUnavailable",
    "ResultNotKept",
    "Retry",
    "Snooze",
    "Step",
    "Worker",
    "discard_on",
    "exponentially_longer",
    "perform_all_later",
    "polynomially_longer",
    "rescue_from",
    "retry_on",
]
