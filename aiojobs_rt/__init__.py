"""Background jobs for asyncio: Active Job's model, typed by pydantic, on Redis streams."""

from aiojobs_rt.adapters.in_process.async_adapter import AsyncAdapter
from aiojobs_rt.adapters.in_process.inline_adapter import InlineAdapter
from aiojobs_rt.adapters.in_process.recording import TestAdapter
from aiojobs_rt.adapters.redis.adapter import RedisAdapter
from aiojobs_rt.callbacks import (
    after_discard,
    after_enqueue,
    after_perform,
    around_enqueue,
    around_perform,
    before_enqueue,
    before_perform,
)
from aiojobs_rt.core.cipher import AesGcmCipher, Cipher
from aiojobs_rt.core.continuation import Step
from aiojobs_rt.core.events import Event, subscribe
from aiojobs_rt.core.progress import Progress
from aiojobs_rt.core.propagation import locale, propagate, timezone
from aiojobs_rt.encryption import use_cipher
from aiojobs_rt.errors import (
    Abort,
    AiojobsError,
    ConfigurationError,
    DecryptionError,
    DefinitionError,
    DeserializationError,
    Discard,
    DuplicateJob,
    EnqueueError,
    InvalidArguments,
    InvalidJob,
    InvalidResult,
    InvalidStep,
    JobCancelled,
    JobError,
    JobFailed,
    MissingKey,
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
from aiojobs_rt.references import register_reference
from aiojobs_rt.worker.worker import Worker

__all__ = [
    "Abort",
    "AesGcmCipher",
    "AiojobsError",
    "AsyncAdapter",
    "Bound",
    "Cipher",
    "ConfigurationError",
    "DecryptionError",
    "DefinitionError",
    "DeserializationError",
    "Discard",
    "DuplicateJob",
    "EnqueueError",
    "Event",
    "InlineAdapter",
    "InvalidArguments",
    "InvalidJob",
    "InvalidResult",
    "InvalidStep",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "JobHandle",
    "MissingKey",
    "PayloadTooLarge",
    "Progress",
    "QueueFullError",
    "RecordNotFound",
    "RedisAdapter",
    "RedisUnavailable",
    "ResultNotKept",
    "Retry",
    "Snooze",
    "Step",
    "TestAdapter",
    "Worker",
    "after_discard",
    "after_enqueue",
    "after_perform",
    "around_enqueue",
    "around_perform",
    "before_enqueue",
    "before_perform",
    "discard_on",
    "exponentially_longer",
    "locale",
    "perform_all_later",
    "polynomially_longer",
    "propagate",
    "register_reference",
    "rescue_from",
    "retry_on",
    "subscribe",
    "timezone",
    "use_cipher",
]
