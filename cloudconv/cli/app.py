"""List the commands, and turn every error into a message and an exit code."""

from __future__ import annotations

import errno
import platform
import sys
import traceback
from importlib import metadata
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from cloudconv import __version__, files
from cloudconv.cli import compare, doctor, dream, extrapolate, interp, models, streams, train
from cloudconv.cli.command import ALL, INTERRUPTED, write_options
from cloudconv.cli.console import print_error, print_json
from cloudconv.cli.streams import print_message, print_result
from cloudconv.errors import CloudconvError, Interrupted, OutputError, SettingsError

INTERRUPTED_KIND = "interrupted"
"""The kind of an interrupt in the JSON of a failure."""

_MEMORY_SIGNS = (
    *("failed to map segment", "annot allocate memory", "can't allocate memory"),
    *("can't start new thread", "out of memory", "not enough memory", "std::bad_alloc"),
    "could not create a primitive",  # oneDNN
)


def _show_help(ctx: Any, _: Any, wanted: bool) -> None:
    """Print a command's help with :func:`print_result`, which raises an error on a full disk."""
    if wanted and not ctx.resilient_parsing:
        print_result(ctx.get_help())
        ctx.exit()


class _PrintedHelp:
    """A mixin for commands whose ``--help`` prints through :func:`print_result`."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option ``--help``."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.callback = _show_help
        return option


class _Guarded(_PrintedHelp):
    """A mixin for commands that turns every error into one message and an exit code."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line after the command's name."""
        parameters = self.get_params(ctx)  # type: ignore[attr-defined]
        arguments = (each for each in parameters if each.param_type_name == "argument")
        return [*(each.metavar or "" for each in arguments), "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options under their headings, the common options first."""
        parameters = self.get_params(ctx)  # type: ignore[attr-defined]
        write_options(parameters, formatter, everything=ALL in ctx.meta)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; print an error as one message and exit with its code."""
        verbose = bool(ctx.params.get("verbose")) and not ctx.params.get("quiet")
        if verbose:
            names = ("cloudconv", "torch", "av", "numpy")
            versions = ", ".join(f"{name} {_version_of(name)}" for name in names)
            print_message(f"{versions}, Python {platform.python_version()}")
        try:
            try:
                Path.cwd()
            except OSError as error:  # the directory was deleted; libraries do not load there
                raise CloudconvError(
                    f"no-working-folder: The working directory cannot be used ({error.strerror}): "
                    "change to an existing directory."
                ) from error
            if ctx.params.get("json") and "stdout" in streams.closed_streams:
                raise SettingsError(
                    "json-and-closed: The standard output is closed, so --json has no place for "
                    "its result: open it, or leave --json out."
                )
            return super().invoke(ctx)  # type: ignore[misc]
        except (typer.Exit, typer.Abort, TyperException):
            raise
        except BrokenPipeError as error:
            raise typer.Exit(1) from error  # the reader has ended, as in `… | head`
        except (Exception, KeyboardInterrupt) as error:
            if verbose and not isinstance(error, KeyboardInterrupt):
                for line in traceback.format_exc().splitlines():
                    print_message(line)
            message, kind, exit_code = _describe(error, verbose=verbose)
            _print_failure(message, kind, exit_code, json=bool(ctx.params.get("json")))
            raise typer.Exit(exit_code) from error


class GuardedCommand(_Guarded, TyperCommand):
    """A command without commands of its own."""


class GuardedGroup(_Guarded, TyperGroup):
    """A command that has commands of its own, and also does something without them."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options and the commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            known = ", ".join(self.list_commands(ctx))
            raise SettingsError(
                f"unknown-command: There is no command '{ctx.command_path} {args[0]}': choose one "
                f"of {known}, such as '{ctx.command_path} {self.list_commands(ctx)[0]} {args[0]}'."
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, or the one that is named after it."""
        ctx.params["json"] = ctx.params.get("json") or "--json" in ctx.args
        return super().invoke(ctx)


class Commands(_PrintedHelp, TyperGroup):
    """The group of all commands; wrong usage looks like every other error."""

    def main(self, args: Any = None, *given: Any, **named: Any) -> Any:
        """Run the command that ``args`` name; see :meth:`typer.core.TyperGroup.main`."""
        words = list(sys.argv[1:] if args is None else args)
        # The jobs expand patterns, so that a pattern means the same on every system.
        named.setdefault("windows_expand_args", False)
        try:
            try:
                return self._main(words, args, *given, **named)
            finally:
                sys.stdout.flush()
        except (BrokenPipeError, streams.StdoutError) as error:
            if isinstance(error, streams.StdoutError):
                print_error(str(error.strerror))
            sys.exit(1)

    def _main(self, words: list[str], args: Any, *given: Any, **named: Any) -> Any:
        # Without arguments Typer prints the help. Outside standalone mode a caller handles errors.
        if not words or not named.get("standalone_mode", True):
            return super().main(args, *given, **named)
        named["standalone_mode"] = False
        try:
            exit_code = super().main(args, *given, **named)
        except typer.Abort:  # an interrupt before or after the command itself
            print_message(_interrupted())
            exit_code = INTERRUPTED
        except TyperException as error:
            exit_code = error.exit_code
            _print_failure(_usage(error), SettingsError.kind, exit_code, json="--json" in words)
        sys.exit(exit_code if isinstance(exit_code, int) else 0)


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # for example in a bundle, or beside the source
        return "of unknown version"


def _usage(error: TyperException) -> str:
    """Return the message of wrong usage; suggest the options that begin as an unknown one does."""
    unknown, near = getattr(error, "option_name", None), getattr(error, "possibilities", None)
    if unknown is None or near is None:
        return error.format_message()
    equal = {name: _equal_letters(name, unknown) for name in near}
    best = max(equal.values(), default=0)
    # All long options have two characters in common.
    names = [name for name in sorted(equal) if equal[name] > 2 and equal[name] >= best - 1]
    shown = ", ".join(names or sorted(near))
    meant = f" (did you mean {shown}?)" if shown else ""
    return f"There is no option {unknown}{meant}: see --help."


def _equal_letters(one: str, other: str) -> int:
    """Return the number of equal letters at the start of two texts."""
    return sum(1 for _ in takewhile(bool, map(eq, one, other)))


def _describe(error: BaseException, *, verbose: bool) -> tuple[str, str, int]:
    """Return the message of an error, its kind, and the exit code."""
    if isinstance(error, CloudconvError):
        return error.text, error.kind, error.exit_code
    if isinstance(error, KeyboardInterrupt):
        for path in files.unfinished():  # created during the interrupt
            files.remove(path)
        text = error.text if isinstance(error, Interrupted) else _interrupted()
        return text, INTERRUPTED_KIND, INTERRUPTED
    if isinstance(error, streams.StdoutError):
        return str(error.strerror), OutputError.kind, 1
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        text = f"The name {error.filename} is too long for a file: give a shorter one."
        return text, CloudconvError.kind, 1
    if _is_out_of_memory(error):
        text = (
            f"there is not enough memory ({str(error) or 'none was left'}): close other programs, "
            "or raise the limit on memory (ulimit -v)"
        )
        return text, "memory", 1
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    details = "" if verbose else "; run again with --verbose for the details"
    return f"unexpected, please report it as a bug ({what}){details}", "bug", 1


def _interrupted() -> str:
    left = [str(path) for path in files.unfinished()]
    if left:
        return f"interrupted; {' and '.join(left)} could not be removed"
    return "interrupted; this run has left no unfinished file"


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether an allocation failed, in Python, a library, or while a library loads."""
    if isinstance(error, MemoryError):
        return True
    known = isinstance(error, OSError | ImportError | RuntimeError)
    return known and any(sign in str(error) for sign in _MEMORY_SIGNS)


def _print_failure(message: str, kind: str, exit_code: int, *, json: bool) -> None:
    if kind == INTERRUPTED_KIND:
        print_message(message)  # an interrupt is no error
    else:
        print_error(message)
    if json and "stdout" not in streams.closed_streams:
        print_json({"error": message, "kind": kind, "exit_code": exit_code})


app = typer.Typer(
    name="cloudconv",
    cls=Commands,
    help="Raise the frame rate of a video, forecast its next frames, or continue the video.",
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
    """Raise the frame rate of a video, forecast its next frames, or continue the video."""


for _module in (interp, compare, extrapolate, dream, train, doctor):
    _name = _module.__name__.rpartition(".")[2]
    app.command(_name, cls=GuardedCommand, epilog=_module.EXAMPLES)(getattr(_module, _name))
_group = typer.Typer(cls=GuardedGroup, invoke_without_command=True, epilog=models.EXAMPLES)
_group.callback()(models.models)
for _command, _examples in models.COMMANDS.items():
    _group.command(cls=GuardedCommand, epilog=_examples)(_command)
app.add_typer(_group, name="models")
