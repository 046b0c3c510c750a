"""What the commands that write a film share: its name, its encoding, and how a run is told of."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import typer

from cloudconv.cli import interrupts
from cloudconv.cli.console import Console, print_json, print_result

if TYPE_CHECKING:
    from cloudconv.media.encoders import EncodeSettings


Result = TypeVar("Result")


class Outcome(Protocol):
    """A plan or a result: a dataclass whose fields are the keys of the command's JSON."""

    @property
    def warnings(self) -> list[str]:
        """What the user should look at."""


class Progress(Protocol):
    """How far a run has come."""

    @property
    def frames_done(self) -> int:
        """Frames written."""

    @property
    def frames_expected(self) -> int | None:
        """Frames in all, None where nobody knows."""


def target(out: str | None, output: str | None, *, json: bool, dry_run: bool) -> str | None:
    """The one output that was named, if any; a usage error for one that cannot be."""
    if out is not None and output is not None:
        raise typer.BadParameter("the output is named twice: as OUT and with --output")
    named = out if output is None else output
    if named == "-" and json:
        raise typer.BadParameter("--json and the video can't both go to stdout: name a file")
    if named == "-" and not dry_run and sys.stdout.isatty():
        raise typer.BadParameter("stdout is a terminal: send the video to a file or a pipe")
    return named


def encoding(
    encoder: str | None,
    crf: float | None,
    preset: str | None,
    pix_fmt: str | None,
    encoder_option: list[Any] | None,
    threads: int | None,
) -> EncodeSettings:
    """The encoding options as the jobs take them."""
    from cloudconv.media.encoders import EncodeSettings

    return EncodeSettings(
        encoder=encoder,
        crf=crf,
        preset=preset,
        pix_fmt=pix_fmt,
        options=tuple(encoder_option or ()),
        threads=threads,
    )


def tell_plan(console: Console, plan: Outcome, text: str, *, json: bool) -> None:
    """Print what a run would do."""
    if json:
        print_json(asdict(plan))  # type: ignore[call-overload]
        return
    for message in plan.warnings:
        console.warning(message)
    print_result(text)


def watched(
    console: Console,
    label: str,
    run: Callable[[Callable[[Progress], None] | None], Any],
    summary: Callable[[Any], str],
    *,
    json: bool,
    note: Callable[[Any], str] | None = None,
    told: Collection[str] = (),
) -> None:
    """Run a job under a progress bar, then say what came of it.

    ``note`` says in a few words what else a progress tells. ``told`` are warnings that were shown
    while it ran.
    """
    result = under_bar(console, label, run, note)
    for message in result.warnings:
        if message not in told:
            console.warning(message)
    console.info(summary(result))
    if json:
        print_json(asdict(result))


def under_bar(
    console: Console,
    label: str,
    run: Callable[[Callable[[Progress], None]], Result],
    note: Callable[[Any], str] | None = None,
) -> Result:
    """Run a job under a progress bar; a Ctrl-C that got lost ends it after the next frame."""
    with console.progress(label) as bar:

        def update(progress: Progress) -> None:
            interrupts.check()
            if bar is not None:
                said = "" if note is None else note(progress)
                bar(progress.frames_done, progress.frames_expected, said)

        return run(update)


def rate(rational: str | None) -> str:
    """An output rate for people."""
    return "a variable rate" if rational is None else f"{rational} fps"
