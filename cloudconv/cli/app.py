"""The commands' one list, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import platform
import sys
import traceback
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from cloudconv import __version__
from cloudconv.cli import compare, doctor, dream, extrapolate, interp, models, train
from cloudconv.cli.console import Console, print_result
from cloudconv.errors import CloudconvError

INTERRUPTED = 130


class GuardedCommand(TyperCommand):
    """A command whose every way to end is an exit code and at most one sentence."""

    def invoke(self, ctx: Any) -> Any:
        verbose = bool(ctx.params.get("verbose"))
        console = Console(quiet=bool(ctx.params.get("quiet")), verbose=verbose)
        if console.quiet and console.verbose:
            raise typer.BadParameter("--quiet and --verbose contradict each other")
        if verbose:
            console.detail(_versions())
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except CloudconvError as error:
            if verbose:
                traceback.print_exc()
            console.error(str(error))
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            console.error(str(error) or "interrupted; no unfinished file is left")
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:
            # Whoever read our output has enough of it (… | head). The interpreter flushes stdout
            # once more as it leaves; that must not complain again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from error
        except Exception as error:
            if verbose:
                traceback.print_exc()
            hint = "" if verbose else "; run again with -v for the details"
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            console.error(f"unexpected, please report it as a bug ({what}){hint}")
            raise typer.Exit(1) from error


def _versions() -> str:
    names = ("torch", "av", "numpy")
    others = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return f"cloudconv {__version__}, Python {platform.python_version()}, {others}"


app = typer.Typer(
    name="cloudconv",
    help="Raise a video's frame rate: exact timing, untouched source frames, nothing lost.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print_result(f"cloudconv {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and stop.",
            callback=_version,
            is_eager=True,
            show_default=False,
        ),
    ] = False,
) -> None:
    """Raise a video's frame rate: exact timing, untouched source frames, nothing lost."""


app.command("interp", cls=GuardedCommand, epilog=interp.EXAMPLES)(interp.interp)
app.command("compare", cls=GuardedCommand, epilog=compare.EXAMPLES)(compare.compare)
app.command("extrapolate", cls=GuardedCommand, epilog=extrapolate.EXAMPLES)(extrapolate.extrapolate)
app.command("dream", cls=GuardedCommand, epilog=dream.EXAMPLES)(dream.dream)
app.command("train", cls=GuardedCommand, epilog=train.EXAMPLES)(train.train)
app.command("models", cls=GuardedCommand, epilog=models.EXAMPLES)(models.models)
app.command("doctor", cls=GuardedCommand, epilog=doctor.EXAMPLES)(doctor.doctor)
