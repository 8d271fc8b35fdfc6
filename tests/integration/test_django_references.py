"""Django's models as arguments, in a process of its own: a project is configured once per process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance(31, 32)

PROJECT = """
import asyncio, os, sys, uuid
import django
from django.conf import settings
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()
from django.db import connection, connections, models
from django.db.utils import OperationalError
from asgiref.sync import sync_to_async

class Visible(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(hidden=False)

class Order(models.Model):
    item = models.CharField(max_length=20)
    hidden = models.BooleanField(default=False)
    objects = Visible()
    class Meta: app_label = "shop"

class Parcel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    class Meta: app_label = "shop"

with connection.schema_editor() as editor:
    editor.create_model(Order)
    editor.create_model(Parcel)

from aiojobs_rt import DeserializationError, InvalidArguments, Job, RecordNotFound
from aiojobs_rt.integrations.django import register_models
register_models(Order, Parcel)
register_models()

class Ship(Job):
    async def perform(self, orders: list[Order], parcel: Parcel) -> list[str]:
        return [order.item for order in orders] + [str(parcel.pk)]

async def raised(job, *args):
    try:
        await job.perform_now(*args)
    except Exception as error:
        return error

async def main():
    tea = await Order.objects.acreate(item="tea")
    gone = await Order.objects.acreate(item="gone", hidden=True)
    parcel = await Parcel.objects.acreate()
    assert Ship.bind([tea], parcel).args.decode() == (
        '{"orders":["gid://app/shop.Order/%d"],"parcel":"gid://app/shop.Parcel/%s"}' % (tea.pk, parcel.pk)
    )
    await Order.objects.filter(pk=tea.pk).aupdate(item="green tea")
    assert await Ship.perform_now([tea, gone, tea], parcel) == ["green tea", "gone", "green tea", str(parcel.pk)]
    unsaved = await raised(Ship, [Order(item="new")], parcel)
    assert isinstance(unsaved, InvalidArguments) and "the Order has no primary key yet: save it first" in str(unsaved), unsaved
    stale = await Order.objects.aget(pk=tea.pk)
    await tea.adelete()
    assert type(await raised(Ship, [stale], parcel)) is RecordNotFound
    try:
        await Ship.signature().locate(b'{"orders":["gid://app/shop.Order/x"],"parcel":"gid://app/shop.Parcel/y"}')
    except RecordNotFound:
        pass
    else:
        raise AssertionError
    def drop():
        with connection.schema_editor() as editor:
            editor.delete_model(Order)
    await sync_to_async(drop)()
    outage = await raised(Ship, [stale], parcel)
    assert type(outage) is DeserializationError and isinstance(outage.__cause__, OperationalError), outage
    await sync_to_async(connections.close_all)()

asyncio.run(main())
print("all is well")
"""


def test_models_travel_by_primary_key_and_are_loaded_through_the_base_manager(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROJECT, tmp_path / "shop.db"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.stdout == "all is well\n", done.stderr
