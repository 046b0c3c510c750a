"""``cloudconv models``."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloudconv.cli.command import examples, with_options
from cloudconv.cli.console import Console, megabytes, print_json, print_result, table
from cloudconv.errors import SettingsError

if TYPE_CHECKING:
    from cloudconv.models.base import ModelSpec, Task
    from cloudconv.weights import TrainedFile, WeightsEntry

EXAMPLES = examples(
    "cloudconv models", "cloudconv models cloud-best", "cloudconv models --verify && echo whole"
)


_WIDTH = 80
"""Columns of the list of models."""

_TESTS = {
    "interpolate": ("val_drop2_psnr", "blend", "blending, 18 clips, one frame of two dropped"),
    "predict": ("val_480_h1_psnr", "hold", "repeating the last frame, 17 clips, one frame ahead"),
}
_RESEARCH_TEST = (
    "clouds_end_480_psnr",
    "naive",
    "the naive picture, the end of a cloud clip whose beginning they saw",
)
"""The score that tells most, the method that it is held against, and both in words."""

_SCORE = re.compile(
    r"(?P<clips>clouds_end_\d+|clouds|val(?:_\d+)?)"
    r"(?:_(?P<kind>drop|h)(?P<number>\d+))?_(?P<measure>psnr|sharpness_ratio)(?:_(?P<method>\w+))?"
)
"""How the manifest names a measured figure: of which clips, doing what, and of which method."""
_METHODS = {
    "blend": "blending",
    "hold": "repeating the last",
    "naive": "the naive picture",
    "rife": "rife-4.6",
}

_TASKS: dict[Task, str] = {
    "interpolate": "frames between two others",
    "predict": "frames that come next",
    "reconstruct": "the same frame again",
}
_GROUPS: dict[tuple[Task, bool], str] = {
    ("interpolate", False): "Frames between two others: interp",
    ("predict", False): "Frames that come next: extrapolate, dream --mode rollout",
    ("interpolate", True): "Research: frames between two others",
    ("predict", True): "Research: frames that come next",
    ("reconstruct", True): "Research: the same frame again",
}


@dataclass(frozen=True, slots=True)
class _Row:
    """A model with what is known about its weights file, the shipped one or a ``file``."""

    spec: ModelSpec
    entry: WeightsEntry | None
    weights: str
    file: TrainedFile | None = None

    def as_json(self) -> dict[str, Any]:
        known = self.file or self.entry
        shown = {
            "name": self.spec.name,
            "task": self.spec.task,
            "context": self.spec.context,
            "arbitrary_timestep": self.spec.arbitrary_timestep,
            "parameters": self.spec.parameters,
            "size_bytes": known.size_bytes if known else None,
            "sha256": known.sha256 if known else None,
            "licence": self.spec.licence,
            "domain": self.spec.domain,
            "weights": self.weights,
            "scores": dict(known.scores) if known else {},
        }
        if self.file is None:
            return shown
        told = ("file", "base", "steps", "gain")
        return shown | {name: getattr(self.file, name) for name in told}


@with_options()
def models(
    console: Console,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Only this one, in full: a name, or a file that 'cloudconv train' wrote.",
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="The research projects' models, too."),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Fail if a weights file is missing or its SHA-256 is not the recorded one.",
        ),
    ] = False,
) -> None:
    """List the models: what for, how good, how fast.

    With --quiet nothing is listed; with --verify the exit code is the answer.
    """
    from cloudconv import weights
    from cloudconv.models import registry

    if name and everything:
        raise SettingsError("all-with-name")
    if name:
        spec = registry.spec(name)
        # One name may stand for a method in several tasks.
        chosen = [known for known in registry.specs() if known.name == spec.name]
        rows = [_row(known) for known in chosen]
        if name.endswith(".safetensors"):
            file = weights.read_trained(Path(name))
            rows = [_Row(known, None, "ok", file) for known in chosen if known.task == spec.task]
    else:
        rows = [_row(spec) for spec in registry.specs() if not spec.hidden]
    if console.json:
        print_json({"models": [row.as_json() for row in rows]})
    elif not console.quiet:
        print_result("\n\n".join(map(_in_full, rows)) if name else _list(rows, everything))
    bad = [row for row in rows if row.weights in ("missing", "damaged")]
    if verify and bad:
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


def _list(rows: list[_Row], everything: bool) -> str:
    from cloudconv.models import registry

    parts = []
    for (task, research), title in _GROUPS.items():
        group = [
            row
            for row in rows
            if (row.spec.task, registry.is_research(row.spec)) == (task, research)
        ]
        if group and (everything or not research):
            parts.append(_group(title, group, _RESEARCH_TEST if research else _TESTS[task]))
    folded = len({row.spec.name for row in rows if registry.is_research(row.spec)})
    if not everything:
        parts.append(f"and {folded} small models of the research projects: cloudconv models --all")
    return "\n\n".join(parts)


def _group(title: str, rows: list[_Row], test: tuple[str, str, str]) -> str:
    score, baseline, words = test
    gains = {row.spec.name: _gain(row.spec, score, baseline) for row in rows}
    rows = sorted(rows, key=lambda row: -(gains[row.spec.name] or 0.0))
    timed = any(row.spec.time is not None for row in rows)
    lines = [
        [
            row.spec.name,
            row.spec.purpose or row.spec.domain.partition(";")[0],
            "-" if (gain := gains[row.spec.name]) is None else f"{gain:+.1f} dB",
            *(["-" if row.spec.time is None else f"{row.spec.time:g}"] if timed else []),
            row.spec.licence,
            {"none": "-"}.get(row.weights, row.weights),
        ]
        for row in rows
    ]
    header = ["name", "for", "gain", *(["time"] if timed else []), "licence", "weights"]
    widths = [max(len(line[k]) + 2 for line in (header, *lines)) for k in range(len(header))]
    room = _WIDTH - (sum(widths) - widths[1])
    for line in lines:
        line[1] = textwrap.shorten(line[1], room, placeholder=" …")
    notes = [f"gain: PSNR over {words}"]
    if timed:
        unit = next(row.spec.name for row in rows if row.spec.time == 1)
        notes.append(f"time: of what {unit} takes")
    return "\n".join([title, table(header, lines), *(f"({note})" for note in notes)])


def _gain(spec: ModelSpec, score: str, baseline: str) -> float | None:
    """From the manifest's scores: a model's own, or those it has as another's yardstick."""
    from cloudconv import weights

    if spec.name == baseline:
        return None
    yardsticks = [f"{score}_{called}" for called in (spec.name, spec.name.partition("-")[0])]
    for entry in weights.manifest().values():
        keys = [score] if entry.name == spec.weights else yardsticks
        own = next((entry.scores[key] for key in keys if key in entry.scores), None)
        if own is not None and f"{score}_{baseline}" in entry.scores:
            return own - entry.scores[f"{score}_{baseline}"]
    return None


def _in_full(row: _Row) -> str:
    spec, entry, file = row.spec, row.entry, row.file
    lines = [
        ["name", spec.name],
        ["makes", _TASKS[spec.task]],
        ["looks at", f"{spec.context} frame{'s'[: spec.context != 1]}"],
        ["parameters", f"{spec.parameters:,}"],
        ["licence", spec.licence],
        ["origin", spec.origin],
        ["domain", spec.domain],
        ["weights", row.weights],
    ]
    known = file or entry
    if known:
        lines += [["size", megabytes(known.size_bytes)], ["sha256", known.sha256]]
    if spec.task == "interpolate":
        where = "anywhere between them" if spec.arbitrary_timestep else "in the middle only"
        lines.append(["new frames", where])
    if file:
        lines[0] = ["file", file.file]
        lines.insert(1, ["model", spec.name])
        lines += [["base", file.base or "none"], ["steps", str(file.steps)]]
        if file.gain is not None:
            lines.append(["gain", f"{file.gain:+.2f} dB over the naive picture, held-back part"])
    if known:
        told = _trained_scores(file, spec.task) if file else _scores(known.scores, spec.task)
        lines += [["" if number else "scores", line] for number, line in enumerate(told)]
    wrapped = [
        [label if not number else "", part]
        for label, text in lines
        for number, part in enumerate(textwrap.wrap(text, 66))
    ]
    return table(wrapped[0], wrapped[1:])


def _scores(scores: Mapping[str, float], task: Task) -> list[str]:
    """A line for each test: what was measured, and of which other methods."""
    tests: dict[str, list[str]] = {}
    for key, value in scores.items():
        found = _SCORE.fullmatch(key)
        if found is None:
            continue
        told = tests.setdefault(_test(found, task), [])
        if found["measure"] == "psnr":
            method = _METHODS.get(found["method"] or "", found["method"])
            told.append(f"{method} {value:.1f}" if method else f"{value:.1f} dB")
        else:
            told.append(f"{value:.0%} of the detail")
    return [
        f"{test}: {told[0]}" + (f" ({', '.join(told[1:])})" if told[1:] else "")
        for test, told in tests.items()
    ]


def _test(found: re.Match[str], task: Task) -> str:
    """Which clips, and what was to be made of them, in words."""
    words = {"val": "18 clips", "val_480": "17 clips", "clouds": "a cloud clip"}
    clips, number = found["clips"], int(found["number"] or 0)
    where = words.get(clips) or f"the end of a cloud clip, {clips.rpartition('_')[2]} wide"
    if found["kind"] == "drop":
        return f"{where}, {number - 1} of {number} frames made again"
    if found["kind"] == "h":
        return f"{where}, {number} frame{'s'[: number != 1]} ahead"
    return where


def _trained_scores(file: TrainedFile, task: Task) -> list[str]:
    """PSNR on the held-back part, in as many lines as ``train`` looked frames ahead."""
    ahead = [key.removeprefix("psnr_") for key in file.scores if key.startswith("psnr_")]
    return [
        (f"{label} ahead: " if task == "predict" else "")
        + f"{file.scores[f'psnr_{label}']:.2f} dB"
        + (
            f" (the naive picture {file.scores[f'naive_psnr_{label}']:.2f})"
            if f"naive_psnr_{label}" in file.scores
            else ""
        )
        + " on the held-back part"
        for label in ahead
    ]
