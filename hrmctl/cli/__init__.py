"""The command line: one module for each group of commands; the work is done elsewhere.

Only the module of the command that was asked for is imported; the others are names with a line of help.
"""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import typer

HELP = """Train, compress and evaluate small models, and prove every claim about them.

No claim is recorded as true unless it was measured, and no check counts unless it has been seen to fail.
"""

COMMANDS = {
    "pipeline": ("pipeline", "Run a recipe: its stages, then its contracts."),
    "check": ("check", "Evaluate contracts on the evidence of a run and append the verdicts to the ledger."),
    "verify": ("check", "Check the ledger, and with --replay every verdict against the evidence in the store."),
    "contracts": ("contracts", "Show, check and prove contracts."),
    "ledger": ("ledger", "Show and verify the record of verdicts."),
    "runs": ("runs", "Show runs."),
    "report": ("runs", "The report of a run, from what the ledger says."),
    "plugins": ("plugins", "Show installed plugins and make new ones."),
    "doctor": ("doctor", "Show versions, hardware, the state of the plugins, the sandbox and the store."),
}


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code; expected errors are printed as lines, surprises go to a log."""
    warnings.showwarning = _warn
    _prepare_streams()
    _interrupt_on(signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
    try:
        code = _command(argv)
        _flush()
        return code
    except OSError as error:
        return unwritable(error)
    except SystemExit as error:
        # What the command line's parser makes of a reader that is gone.
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        return unwritable(error.__context__)


def _command(argv: Sequence[str]) -> int:
    try:
        result = build_app(argv)(args=list(argv), prog_name="hrmctl", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        print("hrmctl: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None:
            # The error does not say which file could not be written. One line more shows whether it was the output.
            _flush()
            print(flush=True)
        return _failed(error)


def _prepare_streams() -> None:
    """Have both standard streams take any text: one that was closed (`hrmctl … >&-`) loses it."""
    codecs.register_error("hrmctl.escaped", _escaped)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="hrmctl.escaped")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """What the encoding of a terminal has not, as JSON writes it, so that JSON stays what it is."""
    import json

    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def unwritable(error: OSError) -> int:
    """A standard stream cannot be written: say so once, where somebody may still read it, and give the exit code.

    Never 0, which means that all that was asked passed. Where whoever read is gone (`| head`), nothing is said, and
    the code is that of a program that SIGPIPE ends.
    """
    reason = (error.strerror or str(error)).lower()
    with suppress(OSError):
        if not isinstance(error, BrokenPipeError):
            print(f"hrmctl: cannot write to standard output: {reason}", file=sys.stderr, flush=True)
    with open(os.devnull, "w") as nowhere:
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                os.dup2(nowhere.fileno(), stream.fileno())
    return 141 if isinstance(error, BrokenPipeError) else 2


def _interrupt_on(*signals: signal.Signals) -> None:
    """A scheduler's SIGTERM and a closed terminal end a run as Ctrl-C does, with its checkpoints; `nohup` stays one."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in signals:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _failed(error: Exception) -> int:
    """Expected errors, usage errors of the command line's own parser, or a surprise."""
    from hrmctl.errors import HrmctlError

    if isinstance(error, HrmctlError):
        for problem in error.problems:
            print(f"hrmctl: {problem}", file=sys.stderr)
        return error.exit_code
    code = getattr(error, "exit_code", None)
    if hasattr(error, "format_message") and code is not None:
        return _usage(error)
    if type(error).__name__ == "Exit" and code is not None:
        return int(code)
    if type(error).__name__ == "Abort":
        return 130
    from hrmctl.cli.surprise import report_surprise

    return report_surprise(error)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"hrmctl: warning: {message}", file=sys.stderr)


def _usage(error: Any) -> int:
    """A command line that cannot be understood, in one line; the help where nothing was asked."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "hrmctl"
    print(f"hrmctl: {error.format_message().rstrip('.')}; see {command} --help", file=sys.stderr)
    return 2


def build_app(argv: Sequence[str]) -> typer.Typer:
    """The commands: in full the one that `argv` asks for (all of them for shell completion), by name the rest."""
    app = typer.Typer(
        name="hrmctl", help=HELP, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    app.callback()(_root)
    wanted = argv[0] if argv else ""
    everything = "_HRMCTL_COMPLETE" in os.environ
    loaded = {module for name, (module, _) in COMMANDS.items() if everything or name == wanted}
    for name, (module, summary) in COMMANDS.items():
        if module not in loaded:
            app.command(name, help=summary)(_stub(name))
    for module in sorted(loaded):
        import_module(f"hrmctl.cli.{module}").register(app)
    if everything or wanted not in COMMANDS:
        _register_plugins(app, argv, everything)
    return app


def _register_plugins(app: typer.Typer, argv: Sequence[str], everything: bool) -> None:
    """Stages and commands of plugins: from the index for plain help, from the plugins themselves for anything else."""
    if everything or (argv and not argv[0].startswith("-")):
        from hrmctl.cli import extensions, stages

        extensions.register(app, argv, everything)
        stages.register(app, argv, everything)
        return
    from hrmctl.cli.index import plugin_commands

    for name, summary in plugin_commands().items():
        app.command(name, help=summary)(_stub(name))


def _stub(name: str) -> Callable[[], None]:
    """A command that is only listed; the one that is called is always registered in full."""

    def command() -> None:
        raise RuntimeError(f"the command {name} was not loaded")

    return command


def _root(
    version: bool = typer.Option(False, "--version", help="Show the version and exit.", is_eager=True),
) -> None:
    if version:
        from hrmctl import __version__

        print(f"hrmctl {__version__}")
        raise typer.Exit
