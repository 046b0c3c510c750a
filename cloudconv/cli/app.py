"""Run the command that the words name; errors become messages and exit codes."""

import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from cloudconv import __version__
from cloudconv.cli import commands, models, streams
from cloudconv.cli.command import ALL, HEADINGS, OPTIONS, help_option, printing
from cloudconv.cli.console import print_error
from cloudconv.cli.failures import report
from cloudconv.cli.streams import print_result
from cloudconv.errors import OutputError, SettingsError
from cloudconv.messages import did_you_mean

_MODELS = "models"
_ABOUT = "Raise the frame rate of a video, forecast its next frames, or continue the video."


def _write_options(parameters: list[Any], ctx: Any, formatter: Any) -> None:
    """Write the arguments and options of a command under their headings."""
    rows: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            rows["Arguments"].append((parameter.metavar, parameter.help))
        elif not parameter.hidden or ctx.meta.get(ALL):
            flags = sorted(parameter.opts, key=lambda name: name.startswith("--"))
            has_value = parameter.metavar and not parameter.is_flag
            value = f" {parameter.metavar}" if has_value else ""
            name = ", ".join([*flags, *parameter.secondary_opts]) + value
            heading = parameter.rich_help_panel or OPTIONS
            rows[heading].append((name, parameter.help or ""))
    for heading in filter(rows.get, HEADINGS):
        with formatter.section(heading):
            formatter.write_dl(rows[heading])


class _Command(TyperCommand):
    """A command, whose help has its options under headings."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = [p for p in self.get_params(ctx) if p.param_type_name == "argument"]
        return [*(argument.metavar or "" for argument in arguments), "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_options(self.get_params(ctx), ctx, formatter)


class Commands(TyperGroup):
    """A group of commands, which suggests a command for an unknown word or a file.

    Every error of a command gives one message and an exit code.
    """

    _words: ClassVar[tuple[str, ...]] = ()

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options under their headings, and the commands."""
        _write_options(self.get_params(ctx), ctx, formatter)
        self.format_commands(ctx, formatter)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names; suggest one for another word."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            names = self.list_commands(ctx)
            if ctx.info_name == _MODELS:
                return super().resolve_command(ctx, [*names, *args])
            meant = did_you_mean(args[0], names)
            such = ""
            if not meant and Path(args[0]).suffix:
                such = f", such as '{ctx.command_path} {names[0]} {args[0]}'"
            raise SettingsError(
                f"unknown-command: There is no command '{ctx.command_path} "
                f"{args[0]}'{meant}: choose one of {', '.join(names)}{such}."
            )
        return super().resolve_command(ctx, args)

    def main(self, args: Any = None, *rest: Any, **named: Any) -> Any:
        """Run the command that ``args`` name; see :meth:`typer.core.TyperGroup.main`."""
        Commands._words = tuple(sys.argv[1:] if args is None else args)
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
            return report(error, self._words)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; print an error as one message and exit with its code."""
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except BrokenPipeError as error:
            raise typer.Exit(1) from error  # the reader has ended, as in `… | head`
        except (Exception, KeyboardInterrupt) as error:
            raise typer.Exit(report(error, self._words)) from error


app = typer.Typer(
    name="cloudconv",
    cls=Commands,
    help=_ABOUT,
    no_args_is_help=True,
    add_help_option=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print_result(f"cloudconv {__version__}")
        raise typer.Exit


_Version = printing(
    "--version",
    help="Print the version and stop.",
    callback=_version,
    rich_help_panel=OPTIONS,
)
_Help = help_option(rich_help_panel=OPTIONS)


@app.callback(help=_ABOUT)
def common(
    version: Annotated[bool, _Version] = False, help: Annotated[bool, _Help] = False
) -> None:
    """Accept the options before the command."""


for _command, _examples in commands.COMMANDS.items():
    if _command is not commands.doctor:
        _examples += f"\n\nAll options: cloudconv {_command.__name__} --help-all"
    app.command(cls=_Command, epilog=_examples, add_help_option=False)(_command)
_group = typer.Typer(
    cls=Commands,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND]",
    epilog=models.EXAMPLES,
    add_help_option=False,
)
_group.callback()(models.models)
_group.command(cls=_Command, epilog=models.SHOW_EXAMPLES, add_help_option=False)(
    models.show
)
app.add_typer(_group, name=_MODELS)
