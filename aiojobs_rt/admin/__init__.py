"""Queries and actions over queues, jobs and workers, for people who operate them: behind the command line and the dashboard.

Read on in this order:

    records.py   what is answered
    reading.py   from Redis' replies to records
    calls.py     Calls: the scripts and commands that they are made of
    admin.py     Admin: the queries and actions
    in_process.py InProcessAdmin: the same for the adapters inside this process
    doctor.py    examine: what is wrong, and what to do about it
"""

from aiojobs_rt.admin.admin import Admin
from aiojobs_rt.admin.choice import Administers, admin_of
from aiojobs_rt.admin.doctor import examine, examine_server

__all__ = ["Admin", "Administers", "admin_of", "examine", "examine_server"]
