"""Commands whose options are the fields of settings classes, and their ``--help``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any, Literal, get_type_hints

import typer

from cloudconv.cli.console import Console
from cloudconv.settings import Field, Settings, fields_of
from cloudconv.settings.groups import ENCODING, FRAMES, MACHINE, MODEL, RUN
from cloudconv.settings.train import CLIPS, LEARNING

OPTIONS = "Options"
HEADINGS = ("Arguments", OPTIONS, CLIPS, LEARNING, FRAMES, MODEL, ENCODING, MACHINE, RUN)
"""The headings of ``--help``, in order."""

_LEFT = 26
"""The most columns that ``--help`` gives to an option before its text."""

Progress = Annotated[
    Literal["auto", "json", "off"],
    typer.Option(
        "--progress",
        metavar="HOW",
        help="auto: a bar, or without a terminal a line every 10 s; json: an object a second on "
        "stderr, for programs; off.",
        rich_help_panel=RUN,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="One JSON object on stdout, nothing else there.", rich_help_panel=RUN
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="No progress and no summary; warnings and errors only.",
        rich_help_panel=RUN,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Also versions, and the traceback of an error.",
        rich_help_panel=RUN,
    ),
]
_TALK = {"progress": (Progress, "auto"), "json": (Json, False)}
_TALK |= {"quiet": (Quiet, False), "verbose": (Verbose, False)}


def with_options(
    *kinds: type[Settings], progress: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the options of settings classes.

    The command's first parameter is the console, which ``--json``, ``--quiet``, ``--verbose`` and
    with ``progress`` also ``--progress`` describe. In the place of its ``**options`` stand the
    classes' fields; it gets those that were given, as text, which the settings read and check.
    """
    declared = {
        each.name: each for kind in kinds for each in fields_of(kind) if not each.option.hidden
    }
    talk = {name: each for name, each in _TALK.items() if progress or name != "progress"}

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        own = [
            each.replace(annotation=hints[each.name])
            for each in list(inspect.signature(function).parameters.values())[1:]
            if each.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        made = [_parameter(name, _annotation(each), None) for name, each in declared.items()]
        said = [_parameter(name, *each) for name, each in talk.items()]

        @wraps(function)
        def command(**given: Any) -> None:
            how = {name: given.pop(name) for name in talk}
            console = Console(how=how.pop("progress", "auto"), **how)
            unset = [name for name in declared if given[name] in (None, [])]
            function(console, **{k: v for k, v in given.items() if k not in unset})

        parameters = [*own, *made, *said]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _annotation(field: Field) -> Any:
    option = field.option
    kind = bool if field.is_switch else list[str] if option.repeats else str
    return Annotated[
        kind | None,
        typer.Option(
            *field.flags,
            metavar=None if field.is_switch else option.metavar,
            help=field.text,
            autocompletion=_completion(field),
            show_default=False,
            rich_help_panel=option.group or OPTIONS,
        ),
    ]


def _completion(field: Field) -> Callable[[str], list[str]] | None:
    if not field.option.complete and not field.choices:
        return None

    def complete(incomplete: str) -> list[str]:
        known = list(field.choices) or _names(field.option.complete)
        return [name for name in known if name.startswith(incomplete)]

    return complete


def _names(kind: str) -> list[str]:
    """Return the names that the shell completes; imports what knows them."""
    from cloudconv.models import registry

    shown = [spec for spec in registry.specs() if not spec.hidden]
    if kind == "methods":
        return [*dict.fromkeys(spec.name for spec in shown), "minterpolate"]
    return [spec.name for spec in shown if spec.task == kind]


def examples(*lines: str) -> str:
    """Return the end of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def write_options(parameters: Sequence[Any], formatter: Any) -> None:
    """Write the options of a command to its help, under their headings."""
    rows: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
    for each in parameters:
        if each.param_type_name == "argument":
            rows["Arguments"].append((each.metavar, each.help))
            continue
        names = [*sorted(each.opts, key=lambda name: name.startswith("--")), *each.secondary_opts]
        value = "" if each.is_flag or not each.metavar else f" {each.metavar}"
        heading = RUN if each.name == "help" else each.rich_help_panel or OPTIONS
        rows[heading].append((", ".join(names) + value, each.help or ""))
    for heading, each in rows.items():
        if each:
            with formatter.section(heading):
                formatter.write_dl(each, col_max=_LEFT)
