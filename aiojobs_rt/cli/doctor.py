"""`doctor`: is the server fit for jobs, and do the queues run?"""

from __future__ import annotations

import typer

from aiojobs_rt.admin import Admin, examine
from aiojobs_rt.cli.options import RedisUrl, with_admin
from aiojobs_rt.cli.output import printable


def doctor(redis_url: RedisUrl = None) -> None:
    """Look for what is wrong, and say what to do about it. Exit code 1 when something is an error."""

    async def look(admin: Admin) -> bool:
        print(f"Redis at {admin.adapter.endpoint.display}, keys under {admin.adapter.prefix}:")
        findings = await examine(admin)
        for finding in findings:
            print(f"{finding.level:<5}  {printable(finding.subject)}: {printable(finding.text)}")
            if finding.advice:
                print(f"       -> {finding.advice}")
        return all(finding.level != "ERROR" for finding in findings)

    if not with_admin(redis_url, look):
        raise typer.Exit(1)
