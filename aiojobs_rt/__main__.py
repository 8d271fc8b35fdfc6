"""`python -m aiojobs_rt`: the command line."""

from __future__ import annotations

from aiojobs_rt.cli.app import app


def main() -> None:
    """Run a command and exit: 0 clean, 1 error, 2 usage."""
    app(prog_name="aiojobs_rt")


if __name__ == "__main__":
    main()
