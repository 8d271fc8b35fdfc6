"""SQLAlchemy: jobs that are enqueued when a transaction commits, and an outbox that makes them as durable as its rows."""

from aiojobs_rt.integrations.sqlalchemy.after_commit import enqueue_after_commit
from aiojobs_rt.integrations.sqlalchemy.outbox import Outbox
from aiojobs_rt.integrations.sqlalchemy.references import register_models

__all__ = ["Outbox", "enqueue_after_commit", "register_models"]
