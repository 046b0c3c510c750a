"""Build commands whose options are fields of settings classes, and write their help."""

import inspect
import platform
from collections.abc import Callable
from functools import partial, wraps
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from cloudconv.cli.console import Console
from cloudconv.cli.streams import closed_streams, print_message, print_result
from cloudconv.errors import CloudconvError, SettingsError
from cloudconv.host import version_of
from cloudconv.settings import Option, Settings, fields_of
from cloudconv.settings.groups import ENCODING, FRAMES, MACHINE, MODEL, RUN
from cloudconv.settings.train import CLIPS, LEARNING

INTERRUPTED = 130  # the exit code after Ctrl-C

OPTIONS = "Options"
HEADINGS = ("Arguments", OPTIONS, CLIPS, LEARNING, FRAMES, MODEL, ENCODING, MACHINE, RUN)
"""The headings of ``--help``, in order."""

ALL = "cloudconv.all"
"""The key in the context of a command: whether its help shows all options."""


def show_help(ctx: typer.Context, param: typer.CallbackParam, wanted: bool) -> None:
    """Print a command's help by :func:`print_result`, which fails on a full disk."""
    if wanted and not ctx.resilient_parsing:
        ctx.meta[ALL] = param.name == "help_all"
        print_result(ctx.get_help())
        raise typer.Exit


printing = partial(typer.Option, is_eager=True, show_default=False, rich_help_panel=RUN)
"""An option whose callback prints a text instead of the command."""
_HELP_ALL = printing("--help-all", help="Show all options, and exit.", callback=show_help)
help_option = partial(
    printing, "--help", "-h", help="Show this message and exit.", callback=show_help
)
_keyword = partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)


def with_options(
    *kinds: type[Settings], first: str = "", runs_job: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the options of settings classes.

    The command gets a :class:`Console` and the given options, unparsed. ``first``: names of
    the options that ``--help`` shows, with spaces between them; by default all.
    ``runs_job``: whether the command has ``--dry-run`` and ``--progress``.
    """
    left_out = () if runs_job else ("dry_run", "progress")
    fields = [*chain.from_iterable(map(fields_of, (*kinds, Console)))]
    options = {f.name: f for f in fields if not f.hidden and f.name not in left_out}
    console_names = {option.name for option in fields_of(Console)}
    shown = first.split() or options
    assert set(shown) <= options.keys()
    single = {f.name for f in options.values() if not (f.is_switch or f.repeats)}

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        declared = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in list(inspect.signature(function).parameters.values())[1:]
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        derived = [
            _keyword(name, default=None, annotation=_annotation(option, name not in shown))
            for name, option in options.items()
        ]

        @wraps(function)
        def command(help_all: bool = False, help: bool = False, **values: Any) -> None:
            values = {
                k: v for k, v in values.items() if k not in options or v not in (None, [])
            }
            given = {k: values[k] for k in single & values.keys()}
            values |= {name: several[-1] for name, several in given.items()}
            console = Console(**{k: values.pop(k) for k in console_names & values.keys()})
            _check_surroundings(console)
            for name, several in given.items():
                if len(several) > 1:
                    text = f"{options[name].flags[0]} is given {len(several)} times"
                    console.warning(
                        f"{text}, and the last value holds: {several[-1]}.",
                        code="option-repeated",
                    )
            function(console, **values)

        if first:
            help_all = Annotated[bool, _HELP_ALL]
            derived.append(_keyword("help_all", default=False, annotation=help_all))
        derived.append(
            _keyword("help", default=False, annotation=Annotated[bool, help_option()])
        )
        parameters = [*declared, *derived]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {
            parameter.name: parameter.annotation for parameter in parameters
        }
        return command

    return decorate


def _check_surroundings(console: Console) -> None:
    if console.verbose:
        names = ("cloudconv", "torch", "av", "numpy")
        versions = ", ".join(f"{name} {version_of(name)}" for name in names)
        print_message(f"{versions}, Python {platform.python_version()}")
    try:
        Path.cwd()
    except OSError as error:  # the directory was deleted; libraries do not load there
        raise CloudconvError(
            f"no-working-folder: The working directory cannot be used ({error.strerror}): "
            "change to an existing directory."
        ) from error
    if console.json and "stdout" in closed_streams:
        raise SettingsError(
            "json-and-closed: The standard output is closed, so --json has no place for "
            "its result: open it, or leave --json out."
        )


def _annotation(option: Option, hidden: bool) -> Any:
    def completed(incomplete: str) -> list[str]:
        return [choice for choice in option.choices if choice.startswith(incomplete)]

    return Annotated[
        (bool if option.is_switch else list[str]) | None,
        typer.Option(
            *option.flags,
            metavar=None if option.is_switch else option.metavar,
            help=option.text,
            autocompletion=completed if option.choices else None,
            show_default=False,
            hidden=hidden,
            rich_help_panel=option.group or OPTIONS,
        ),
    ]


def examples(*lines: str) -> str:
    """Return the end of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
