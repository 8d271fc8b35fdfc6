"""Django: jobs that are enqueued when a transaction commits, models as their arguments, and its language and time zone.

    from aiojobs_rt.integrations.django import enqueue_after_commit

    with transaction.atomic():
        order.save()
        enqueue_after_commit(SendReceipt.bind(order.pk))

Django's transactions belong to threads, also in asynchronous views (`sync_to_async`), so this is a plain function: it is called where
the models are, and enqueues through `aiojobs_rt.blocking`.
"""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import sync_to_async
from django import db
from django.apps import apps
from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone as zones
from django.utils import translation

from aiojobs_rt import blocking
from aiojobs_rt.core.propagation import Mirror, locale, reflect, timezone
from aiojobs_rt.core.references import Reference, register
from aiojobs_rt.errors import InvalidArguments
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from aiojobs_rt.enqueue import Bound
    from aiojobs_rt.handle import JobHandle

R = TypeVar("R")


def enqueue_after_commit(job: Bound[R], *, using: str | None = None, robust: bool = False) -> JobHandle[R]:
    """Enqueue a job when the surrounding `atomic` block commits, and not when it, or a savepoint around this call, is rolled back.

    Outside a transaction it is enqueued at once. Arguments and options are those of now.

    Args:
        job: from `Job.bind(...)` or `Job.set(...).bind(...)`.
        using: the alias of the database; default: Django's default one.
        robust: as of Django's `on_commit`: an EnqueueError is logged instead of raised from where the block ends.

    Returns:
        The handle of the job to be; until the commit its status is "unknown".

    Raises:
        EnqueueError: Redis could not be reached, or refused; raised at once outside a transaction, else where the block ends.
        RuntimeError: an event loop runs in this thread.
    """
    blocking.refuse_in_loop("`enqueue_after_commit`; call it where the models are saved, inside `sync_to_async`")
    job = job.identified()

    def enqueue() -> None:
        blocking.perform_later(job)

    transaction.on_commit(enqueue, using=using, robust=robust)
    return job.handle()


def register_models(*models: type[Any], using: str | None = None) -> None:
    """Let Django's models be arguments of jobs: see `register_reference`. They travel as `gid://app/shop.Order/42`.

    Called when the apps are ready, and before the jobs that take them are defined. Records are loaded through `_base_manager`, in a thread,
    those of one class that a job takes by one query.

    Args:
        models: the models; default: all of the project.
        using: the alias of the database that they are loaded from; default: what the routers say.

    Raises:
        ConfigurationError: another class is registered by the name of a model.
    """
    for model in models or apps.get_models():
        found = _Model(model, using)
        register(Reference(model, model._meta.label, _app, found.identify, None, found.locate_many, str))  # noqa: SLF001 - Django's public name


def propagate_locale() -> None:
    """Have Django's active language and time zone travel with jobs, as `aiojobs_rt.locale` and `aiojobs_rt.timezone`.

    Called when the apps are ready, in producers and workers. Where these two are not set, a language or time zone travels that is not the
    default of the settings; one that is a mere offset, without a name, does not. While a job runs, what has travelled is active in Django
    too, and not after it.
    """
    reflect(locale, Mirror(_language, partial(translation.override, deactivate=True)))
    reflect(timezone, Mirror(_zone, zones.override))


def _language() -> str | None:
    language: str | None = translation.get_language()
    return None if language == django_settings.LANGUAGE_CODE else language


def _zone() -> str | None:
    zone = zones.get_current_timezone()
    name: str | None = "UTC" if zone is dt.UTC else getattr(zone, "key", None)
    return None if name == zones.get_default_timezone_name() else name


class _Model:
    """One model."""

    def __init__(self, model: type[Any], using: str | None) -> None:
        self._model: Any = model
        self._using = using

    def identify(self, record: Any) -> str:
        """The primary key as text, as Django's serialisers write it."""
        key = record.pk
        if key is None or (isinstance(key, tuple) and None in key):
            raise InvalidArguments(f"the {self._model.__name__} has no primary key yet: save it first")
        return str(self._model._meta.pk.value_to_string(record))  # noqa: SLF001 - Django's public name

    async def locate_many(self, ids: list[str]) -> dict[str, Any]:
        """The records by id; one query."""
        return await sync_to_async(self._load)(ids)

    def _load(self, ids: list[str]) -> dict[str, Any]:
        keys: dict[str, Any] = {}
        for id_ in ids:
            with suppress(ValidationError):  # no record can have it
                keys[id_] = self._model._meta.pk.to_python(id_)  # noqa: SLF001 - Django's public name
        db.close_old_connections()
        try:
            found = self._model._base_manager.using(self._using).in_bulk(list(keys.values()))  # noqa: SLF001 - Django's public name
        finally:
            db.close_old_connections()
        return {id_: found.get(key) for id_, key in keys.items()}


def _app() -> str:
    return settings().app
