"""Run the command that the words name, and end with an exit code.

Every error becomes a message.
"""

import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from cloudconv import __version__, files
from cloudconv.cli import commands, models, streams
from cloudconv.cli.command import ALL, HEADINGS, INTERRUPTED, OPTIONS, printing, show_help
from cloudconv.cli.console import print_error, print_json
from cloudconv.cli.streams import print_message, print_result
from cloudconv.errors import (
    CloudconvError,
    Interrupted,
    InterruptedAtEnd,
    OutputError,
    SettingsError,
)
from cloudconv.host import lack_of_memory, refusal
from cloudconv.messages import did_you_mean
from cloudconv.settings.groups import RUN

_LEFT = 26  # columns of an option, at most, before its text in ``--help``
_ABOUT = "Raise the frame rate of a video, forecast its next frames, or continue the video."


class _PrintedHelp:
    """A mixin for commands whose ``--help`` prints through :func:`show_help`."""

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.callback = show_help
        return option


class _Documented(_PrintedHelp):
    """A mixin for commands with headings in their help."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        parameters = self.get_params(ctx)  # type: ignore[attr-defined]
        arguments = (
            parameter for parameter in parameters if parameter.param_type_name == "argument"
        )
        return [*(argument.metavar or "" for argument in arguments), "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        rows: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
        for parameter in self.get_params(ctx):  # type: ignore[attr-defined]
            if parameter.param_type_name == "argument":
                rows["Arguments"].append((parameter.metavar, parameter.help))
            elif not parameter.hidden or ctx.meta.get(ALL):
                flags = sorted(parameter.opts, key=lambda name: name.startswith("--"))
                value = (
                    ""
                    if parameter.is_flag or not parameter.metavar
                    else f" {parameter.metavar}"
                )
                heading = (
                    RUN
                    if parameter.name == "help"
                    else parameter.rich_help_panel or OPTIONS
                )
                name = ", ".join([*flags, *parameter.secondary_opts]) + value
                rows[heading].append((name, parameter.help or ""))
        for heading in filter(rows.get, HEADINGS):
            with formatter.section(heading):
                formatter.write_dl(rows[heading], col_max=_LEFT)


class _Command(_Documented, TyperCommand):
    """A command without commands of its own."""


class _Commanding(TyperGroup):
    """A group of commands that suggests one for an unknown one, or for a file."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            commands = self.list_commands(ctx)
            meant = did_you_mean(args[0], commands)
            such = (
                "" if meant else f", such as '{ctx.command_path} {commands[0]} {args[0]}'"
            )
            raise SettingsError(
                f"unknown-command: There is no command '{ctx.command_path} "
                f"{args[0]}'{meant}: choose one of {', '.join(commands)}{such}."
            )
        return super().resolve_command(ctx, args)


class _Group(_Documented, _Commanding):
    """A command that has commands of its own, and also does something without them."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


class Commands(_PrintedHelp, _Commanding):
    """The group of all commands; every error gives one message and an exit code."""

    _words: tuple[str, ...] = ()

    def main(self, args: Any = None, *rest: Any, **named: Any) -> Any:
        """Run the command that ``args`` name; see :meth:`typer.core.TyperGroup.main`."""
        self._words = tuple(sys.argv[1:] if args is None else args)
        is_json = "--progress json" in " ".join(self._words).replace("=", " ")
        streams.messages.as_objects = is_json
        try:
            # Without arguments Typer prints the help. Outside standalone mode a caller
            # handles errors.
            if not self._words or not named.get("standalone_mode", True):
                return super().main(args, *rest, **named)
            code = self._exit_code(args, *rest, **named)
        except (OutputError, OSError) as error:  # of standard output
            if not isinstance(error, BrokenPipeError):
                print_error(getattr(error, "text", str(error)))
            sys.exit(1)
        finally:
            streams.messages.as_objects = False
        sys.exit(code if isinstance(code, int) else 0)

    def _exit_code(self, args: Any, *rest: Any, **named: Any) -> Any:
        try:
            return super().main(args, *rest, **named | {"standalone_mode": False})
        except (typer.Abort, TyperException) as error:  # before a command was found
            return self._fail(error)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; print an error as one message and exit with its code."""
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except BrokenPipeError as error:
            raise typer.Exit(1) from error  # the reader has ended, as in `… | head`
        except (Exception, KeyboardInterrupt) as error:
            raise typer.Exit(self._fail(error)) from error

    def _fail(self, error: BaseException) -> int:
        short = "".join(word for word in self._words if re.fullmatch("-[a-z]+", word))
        verbose = ("--verbose" in self._words or "v" in short) and "q" not in short
        failure = _describe(error, verbose=verbose)
        if isinstance(error, TyperException):
            failure = failure._replace(error=failure.error + _dash_hint(self._words))
        if failure.code == "interrupted":
            print_message(failure.error, "interrupted")  # an interrupt is no error
        else:
            if verbose and not isinstance(error, TyperException):
                for line in "".join(traceback.format_exception(error)).splitlines():
                    print_message(line, "traceback")
            print_error(**failure._asdict())
        if "--json" in self._words and "stdout" not in streams.closed_streams:
            print_json(failure._asdict())
        return failure.exit_code


def _dash_hint(words: Sequence[str]) -> str:
    """Return a sentence about the first word that looks like a file after a dash."""
    for word in words:
        ending = Path(word).suffix[1:]
        is_file = ending.isalnum() and not ending.isdecimal() and "=" not in word
        if word == "--":
            break
        if word.startswith("-") and is_file:
            return f" If {word} is a file, put -- before the files: -- {word}."
    return ""


class _Failure(NamedTuple):
    """The keys of the object that a command which fails prints with ``--json``."""

    error: str
    code: str
    kind: str
    exit_code: int


def _describe(error: BaseException, *, verbose: bool) -> _Failure:
    if isinstance(error, CloudconvError):
        return _Failure(error.text, error.code, error.kind, error.exit_code)
    if isinstance(error, TyperException):
        unknown = getattr(error, "option_name", None)
        near = getattr(error, "possibilities", None)
        text = error.format_message()
        if unknown is not None and near is not None:
            text = f"There is no option {unknown}{did_you_mean(unknown, near)}: see --help."
        words = re.findall("[A-Z][a-z]+", type(error).__name__)  # such as NoSuchOption
        return _Failure(text, "-".join(words).lower(), SettingsError.kind, error.exit_code)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        for path in files.unfinished():  # created during the interrupt
            files.remove(path)
        if isinstance(error, Interrupted | InterruptedAtEnd):
            return _Failure(error.text, "interrupted", "interrupted", INTERRUPTED)
        left = " and ".join(map(str, files.unfinished()))
        text = (
            f"{left} could not be removed"
            if left
            else "this run has left no unfinished file"
        )
        return _Failure(f"interrupted; {text}", "interrupted", "interrupted", INTERRUPTED)
    if (why := lack_of_memory(error)) is not None:  # also while a library loads
        return _Failure(why, "memory", "memory", 1)
    if (why := refusal(error)) is not None:
        return _Failure(why, "system-refuses", CloudconvError.kind, 1)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    details = "" if verbose else "; run again with --verbose for the details"
    text = f"unexpected, please report it as a bug ({what}){details}"
    return _Failure(text, "unexpected", "bug", 1)


app = typer.Typer(
    name="cloudconv",
    cls=Commands,
    help=_ABOUT,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print_result(f"cloudconv {__version__}")
        raise typer.Exit


_Version = printing("--version", help="Print the version and stop.", callback=_version)


@app.callback(help=_ABOUT)
def common(version: Annotated[bool, _Version] = False) -> None:
    """Accept the options before the command."""


for _command, _examples in commands.COMMANDS.items():
    app.command(cls=_Command, epilog=_examples)(_command)
_group = typer.Typer(cls=_Group, invoke_without_command=True, epilog=models.EXAMPLES)
_group.callback()(models.models)
_group.command(cls=_Command, epilog=models.SHOW_EXAMPLES)(models.show)
app.add_typer(_group, name="models")
