"""The commands, put together; and how an error ends one: as a sentence on stderr, with exit code 1."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import typer
from redis.exceptions import RedisError
from typer.core import TyperGroup

from aiojobs_rt.adapters.redis.connection import Away
from aiojobs_rt.cli import demo, doctor, enqueue, generate, jobs, overview, pause, worker
from aiojobs_rt.cli.output import complain
from aiojobs_rt.errors import AiojobsError


class Commands(TyperGroup):
    """A group of commands whose errors are sentences."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what this package, or Redis, says is wrong ends it with exit code 1."""
        try:
            return super().invoke(ctx)
        except Away as error:
            there = "" if "certificate" in str(error) or "TLS" in str(error) else " Is Redis running there?"
            complain(
                f"{str(error).rstrip('.')}.{there} --redis-url, AIOJOBS_RT_REDIS_URL or redis_url in aiojobs_rt.toml names another."
            )
        except AiojobsError as error:
            complain(str(error))
        except RedisError as error:
            complain(f"Redis answered: {error}")
        raise typer.Exit(1)


app = typer.Typer(
    cls=Commands,
    help="Background jobs for asyncio, on Redis streams. Start with: aiojobs_rt demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"aiojobs_rt {version('aiojobs_rt')}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


app.command("worker")(worker.worker)
app.command("enqueue")(enqueue.enqueue)
app.command("queues")(overview.queues)
app.add_typer(jobs.app, name="jobs")
app.command("workers")(overview.workers)
app.command("pause")(pause.pause)
app.command("resume")(pause.resume)
app.command("doctor")(doctor.doctor)
app.add_typer(generate.app, name="generate")
app.command("demo")(demo.demo)
