"""``cloudconv models``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloudconv.cli import options
from cloudconv.cli.console import Console, megabytes, print_json, print_result, table

if TYPE_CHECKING:
    from cloudconv.models.base import ModelSpec
    from cloudconv.weights import WeightsEntry

EXAMPLES = """[bold]Examples[/bold]

cloudconv models

cloudconv models rife-4.6

cloudconv models --verify && echo whole

cloudconv models --json
"""


@dataclass(frozen=True, slots=True)
class _Row:
    """A registered model with what is known about its weights file."""

    spec: ModelSpec
    entry: WeightsEntry | None
    weights: str

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.spec.name,
            "task": self.spec.task,
            "context": self.spec.context,
            "arbitrary_timestep": self.spec.arbitrary_timestep,
            "parameters": self.spec.parameters,
            "size_bytes": self.entry.size_bytes if self.entry else None,
            "sha256": self.entry.sha256 if self.entry else None,
            "licence": self.spec.licence,
            "domain": self.spec.domain,
            "weights": self.weights,
            "scores": dict(self.entry.scores) if self.entry else {},
        }

    @property
    def scores(self) -> str:
        scores = self.entry.scores if self.entry else {}
        return ", ".join(f"{name} {value:g}" for name, value in scores.items()) or "-"


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Only this one, in full.", show_default=False),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Fail if a weights file is missing or its SHA-256 is not the recorded one.",
            show_default=False,
        ),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """List the models: what they do, their licence, and whether their weights are here and whole.

    With --quiet nothing is listed; with --verify the exit code is the answer.
    """
    from cloudconv.models import registry

    if name:
        wanted = registry.spec(name).name
        # One name may stand for a method in several tasks.
        chosen = [spec for spec in registry.specs() if spec.name == wanted]
    else:
        chosen = [spec for spec in registry.specs() if not spec.hidden]
    rows = [_row(spec) for spec in chosen]
    if json:
        print_json({"models": [row.as_json() for row in rows]})
    elif not quiet:
        print_result("\n\n".join(map(_in_full, rows)) if name else _list(rows))
    bad = [row for row in rows if row.weights in ("missing", "damaged")]
    if verify and bad:
        console = Console(quiet, verbose)
        for row in bad:
            console.error(
                f"the weights of {row.spec.name} are {row.weights}: install cloudconv again, or "
                "in a checkout run 'git checkout -- weights'"
            )
        raise typer.Exit(1)


def _row(spec: ModelSpec) -> _Row:
    from cloudconv import weights

    if spec.weights is None:
        return _Row(spec, None, "none")
    return _Row(spec, weights.entry(spec.weights), weights.status(spec.weights))


def _list(rows: list[_Row]) -> str:
    header = [
        "name", "task", "context", "parameters", "size", "weights", "licence", "scores", "domain",
    ]  # fmt: skip
    return table(
        header,
        [
            [
                row.spec.name,
                row.spec.task,
                str(row.spec.context),
                f"{row.spec.parameters:,}",
                megabytes(row.entry.size_bytes) if row.entry else "-",
                row.weights,
                row.spec.licence,
                row.scores,
                row.spec.domain,
            ]
            for row in rows
        ],
    )


def _in_full(row: _Row) -> str:
    spec, entry = row.spec, row.entry
    lines = [
        ["name", spec.name],
        ["task", spec.task],
        ["context", f"{spec.context} frame{'s'[: spec.context != 1]}"],
        ["parameters", f"{spec.parameters:,}"],
        ["licence", spec.licence],
        ["origin", spec.origin],
        ["domain", spec.domain],
        ["weights", row.weights],
    ]
    if entry:
        lines += [["size", megabytes(entry.size_bytes)], ["sha256", entry.sha256]]
    if spec.task == "interpolate":
        lines.append(["timesteps", "any" if spec.arbitrary_timestep else "the middle only"])
    lines.append(["scores", row.scores])
    return table(lines[0], lines[1:])
