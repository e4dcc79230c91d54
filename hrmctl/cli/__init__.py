"""The command line: one module for each group of commands; the work is done elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from hrmctl.errors import HrmctlError

HELP = """Train, compress and evaluate small models, and prove every claim about them.

No claim is recorded as true unless it was measured, and no check counts unless it has been seen to fail.
"""


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code; expected errors are printed as lines, surprises go to a log."""
    try:
        app = build_app(argv)
        result = app(args=list(argv), prog_name="hrmctl", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except HrmctlError as error:
        for problem in error.problems:
            print(f"hrmctl: {problem}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("hrmctl: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _other(error)


def _other(error: Exception) -> int:
    """Usage errors of the command line's own parser, or a surprise."""
    code = getattr(error, "exit_code", None)
    if hasattr(error, "show") and code is not None:
        error.show()
        return 2
    if type(error).__name__ == "Exit" and code is not None:
        return int(code)
    if type(error).__name__ == "Abort":
        return 130
    from hrmctl.cli.surprise import report_surprise

    return report_surprise(error)


def build_app(argv: Sequence[str]) -> typer.Typer:
    """All commands; a stage's options are made only when it is the stage that was asked for."""
    from hrmctl.cli import check, contracts, doctor, ledger, pipeline, plugins, runs, stages

    app = typer.Typer(
        name="hrmctl", help=HELP, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    app.callback()(_root)
    for module in (pipeline, check, contracts, ledger, runs, plugins, doctor):
        module.register(app)
    stages.register(app, argv)
    return app


def _root(
    version: bool = typer.Option(False, "--version", help="Show the version and exit.", is_eager=True),
) -> None:
    if version:
        from hrmctl import __version__

        print(f"hrmctl {__version__}")
        raise typer.Exit
