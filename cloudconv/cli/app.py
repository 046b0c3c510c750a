"""The commands' one list, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import errno
import platform
import sys
import traceback
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from cloudconv import __version__
from cloudconv.cli import compare, doctor, dream, extrapolate, interp, models, streams, train
from cloudconv.cli.command import write_options
from cloudconv.cli.console import Console, print_error, print_result, say
from cloudconv.errors import CloudconvError, Interrupted, OutputError, SettingsError
from cloudconv.messages import flag

INTERRUPTED = 130


BUG = "bug"
"""The kind of an error that nobody has foreseen."""

_FREE = "close other programs, or raise the limit on memory (ulimit -v)"
_MEMORY_SIGNS = (
    *("failed to map segment", "annot allocate memory", "can't allocate memory"),
    *("can't start new thread", "out of memory", "not enough memory", "std::bad_alloc"),
)


def _show_help(ctx: Any, _: Any, wanted: bool) -> None:
    """Print a command's help as every other result: a full disk is noticed."""
    if wanted and not ctx.resilient_parsing:
        print_result(ctx.get_help())
        ctx.exit()


class GuardedCommand(TyperCommand):
    """A command whose every way to end is an exit code and at most one sentence."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage line after the command's name."""
        arguments = (each for each in self.get_params(ctx) if each.param_type_name == "argument")
        return [*(each.metavar or "" for each in arguments), "[OPTIONS]"]

    def get_help_option(self, ctx: Any) -> Any:
        """Return ``--help``, which prints through :func:`print_result`."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options under their headings, the common ones first."""
        write_options(self.get_params(ctx), formatter)

    def invoke(self, ctx: Any) -> Any:
        quiet = bool(ctx.params.get("quiet"))
        contradictory = quiet and ctx.params.get("verbose")
        verbose = bool(ctx.params.get("verbose")) and not quiet
        if verbose:
            say(_versions())
        try:
            if contradictory:
                raise SettingsError("quiet-and-verbose")
            _check_working_folder()
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException):
            raise
        except BrokenPipeError as error:
            raise typer.Exit(1) from error  # whoever read our output has enough of it (… | head)
        except (Exception, KeyboardInterrupt) as error:
            if verbose and not isinstance(error, KeyboardInterrupt):
                for line in traceback.format_exc().splitlines():
                    say(line)
            message, kind, code = _told(error, verbose=verbose)
            _fail(message, kind, code, json=bool(ctx.params.get("json")))
            raise typer.Exit(code) from error


class Commands(TyperGroup):
    """The commands; wrong usage looks like every other error."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return ``--help``, which prints through :func:`print_result`."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option

    def main(self, args: Any = None, *given: Any, **named: Any) -> Any:
        """Run the command that ``args`` name; see :meth:`typer.core.TyperGroup.main`."""
        words = list(sys.argv[1:] if args is None else args)
        # Patterns mean the same on every system: the jobs expand them.
        named.setdefault("windows_expand_args", False)
        try:
            try:
                return self._main(words, args, *given, **named)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            sys.exit(1)
        except streams.StdoutError as error:
            Console().error(str(error.strerror))
            sys.exit(1)

    def _main(self, words: list[str], args: Any, *given: Any, **named: Any) -> Any:
        # Without a word there is help; who is not standalone wants the exceptions themselves.
        if not words or not named.get("standalone_mode", True):
            return super().main(args, *given, **named)
        named["standalone_mode"] = False
        try:
            code = super().main(args, *given, **named)
        except typer.Abort:  # an interrupt before or after the command itself
            say("error: interrupted")
            code = INTERRUPTED
        except TyperException as error:
            code = error.exit_code
            _fail(error.format_message(), SettingsError.kind, code, json="--json" in words)
        sys.exit(code if isinstance(code, int) else 0)


def _told(error: BaseException, *, verbose: bool) -> tuple[str, str, int]:
    """What is said of an error: a sentence, its kind, and the exit code."""
    if isinstance(error, CloudconvError):
        return error.text(flag), error.kind, error.exit_code
    if isinstance(error, KeyboardInterrupt):
        from cloudconv import files

        for path in files.left():  # made as the interrupt came, so that nobody minds it
            files.remove(path)
        left = " and ".join(map(str, files.left()))
        said = f"{left} could not be removed" if left else "no unfinished file is left"
        text = error.text(flag) if isinstance(error, Interrupted) else f"interrupted; {said}"
        return text, "interrupted", INTERRUPTED
    if isinstance(error, streams.StdoutError):
        return str(error.strerror), OutputError.kind, 1
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"The name {error.filename} is too long for a file: give a shorter one.", "other", 1
    if _is_out_of_memory(error):
        return f"there is not enough memory ({error or 'none was left'}): {_FREE}", "memory", 1
    hint = "" if verbose else "; run again with -v for the details"
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"unexpected, please report it as a bug ({what}){hint}", BUG, 1


def _check_working_folder() -> None:
    """Raise CloudconvError where the working directory was deleted: libraries do not load there."""
    try:
        Path.cwd()
    except OSError as error:
        raise CloudconvError("no-working-folder", why=error.strerror) from error


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether an allocation failed, in Python, a library, or while one was loaded."""
    if isinstance(error, MemoryError):
        return True
    known = isinstance(error, OSError | ImportError | RuntimeError)
    return known and any(sign in str(error) for sign in _MEMORY_SIGNS)


def _fail(message: str, kind: str, code: int, *, json: bool) -> None:
    Console().error(message)
    if json:
        print_error(message, kind, code)


def _versions() -> str:
    names = ("torch", "av", "numpy")
    others = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return f"cloudconv {__version__}, Python {platform.python_version()}, {others}"


app = typer.Typer(
    name="cloudconv",
    cls=Commands,
    help="Raise a video's frame rate: exact timing, untouched source frames, nothing lost.",
    no_args_is_help=True,
    rich_markup_mode=None,
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
