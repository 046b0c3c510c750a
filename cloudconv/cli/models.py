"""Define the command ``cloudconv models``."""

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
    "cloudconv models", "cloudconv models cloud-best", "cloudconv models --verify && echo undamaged"
)


_WIDTH = 80
"""The width of the list of models in columns."""

_TESTS = {
    "interpolate": ("val_drop2_psnr", "blend", "blending, 18 clips, one frame of two dropped"),
    "predict": ("val_480_h1_psnr", "hold", "repeating the last frame, 17 clips, one frame ahead"),
}
_RESEARCH_TEST = (
    "clouds_end_480_psnr",
    "naive",
    "the naive picture, the end of a cloud clip, trained on its beginning",
)
"""The most telling score, the method to compare with, and both in words."""

_SCORE = re.compile(
    r"(?P<clips>clouds_end_\d+|clouds|val(?:_\d+)?)"
    r"(?:_(?P<kind>drop|h)(?P<number>\d+))?_(?P<measure>psnr|sharpness_ratio)(?:_(?P<method>\w+))?"
)
"""The form of a score's name in the manifest: the clips, the task, and the method."""
_METHODS = {
    "blend": "blending",
    "hold": "repeating the last",
    "naive": "the naive picture",
    "rife": "rife-4.6",
}
_CLIPS = {"val": "18 clips", "val_480": "17 clips", "clouds": "a cloud clip"}
_TASKS: dict[Task, str] = {
    "interpolate": "frames between two others",
    "predict": "frames that come next",
    "reconstruct": "the same frame again",
}
_USES = {"interpolate": ": interp", "predict": ": extrapolate, dream --mode rollout"}

_ONE = "Describe this model in full: a name, or a file that 'cloudconv train' wrote."
_VERIFY = "Fail if a weights file is missing or its SHA-256 is not the recorded one."


@dataclass(frozen=True, slots=True)
class _Row:
    """A model with the state of its weights file: the shipped one, or a trained ``file``."""

    spec: ModelSpec
    entry: WeightsEntry | None
    weights: str
    file: TrainedFile | None = None

    @property
    def known(self) -> TrainedFile | WeightsEntry | None:
        """Return the description of the weights file, if there is one."""
        return self.file or self.entry

    def as_json(self) -> dict[str, Any]:
        """Return the model's object in the command's JSON."""
        own = ("name", "task", "context", "arbitrary_timestep", "parameters", "licence", "domain")
        shown = {name: getattr(self.spec, name) for name in own}
        shown |= {name: getattr(self.known, name, None) for name in ("size_bytes", "sha256")}
        shown |= {"weights": self.weights, "scores": dict(self.known.scores) if self.known else {}}
        if self.file is None:
            return shown
        return shown | {
            name: getattr(self.file, name) for name in ("file", "base", "steps", "gain")
        }


@with_options()
def models(
    console: Console,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help=_ONE)] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="List the models of the research projects too.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help=_VERIFY)] = False,
) -> None:
    """List the models with their use, gain and time.

    --quiet prints nothing. --verify gives exit code 1 if a weights file is damaged.
    """
    from cloudconv import weights
    from cloudconv.models import registry

    if name and everything:
        raise SettingsError("all-with-name")
    if name:
        spec = registry.spec(name)
        # One name may stand for a method in several tasks.
        rows = [_row(known) for known in registry.specs() if known.name == spec.name]
        if name.endswith(".safetensors"):
            file = weights.read_trained(Path(name))
            rows = [_Row(row.spec, None, "ok", file) for row in rows if row.spec.task == spec.task]
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

    research = {row.spec.name for row in rows if registry.is_research(row.spec)}
    parts = []
    for is_research in (False, True) if everything else (False,):
        for task, what in _TASKS.items():
            group = [
                row
                for row in rows
                if row.spec.task == task and (row.spec.name in research) == is_research
            ]
            title = f"Research: {what}" if is_research else what.capitalize() + _USES.get(task, "")
            if group:
                parts.append(_group(title, group, _RESEARCH_TEST if is_research else _TESTS[task]))
    if not everything:
        count = len(research)
        parts.append(f"and {count} small models of the research projects: cloudconv models --all")
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
    notes = [f"(gain: PSNR over {words})"]
    if timed:
        unit = next(row.spec.name for row in rows if row.spec.time == 1)
        notes.append(f"(time: relative to {unit})")
    return "\n".join([title, table(header, lines), *notes])


def _gain(spec: ModelSpec, score: str, baseline: str) -> float | None:
    """Return the gain over the baseline, from the scores of the model or of another one's test."""
    from cloudconv import weights

    if spec.name == baseline:
        return None
    others = [f"{score}_{called}" for called in (spec.name, spec.name.partition("-")[0])]
    for entry in weights.manifest().values():
        keys = [score] if entry.name == spec.weights else others
        own = next((entry.scores[key] for key in keys if key in entry.scores), None)
        if own is not None and f"{score}_{baseline}" in entry.scores:
            return own - entry.scores[f"{score}_{baseline}"]
    return None


def _in_full(row: _Row) -> str:
    spec, file, known = row.spec, row.file, row.known
    lines = [["name", spec.name]] if not file else [["file", file.file], ["model", spec.name]]
    lines += [
        ["makes", _TASKS[spec.task]],
        ["looks at", f"{spec.context} frame{'s'[: spec.context != 1]}"],
        ["parameters", f"{spec.parameters:,}"],
        ["licence", spec.licence],
        ["origin", spec.origin],
        ["domain", spec.domain],
        ["weights", row.weights],
    ]
    if known:
        lines += [["size", megabytes(known.size_bytes)], ["sha256", known.sha256]]
    if spec.task == "interpolate":
        where = "anywhere between them" if spec.arbitrary_timestep else "in the middle only"
        lines.append(["new frames", where])
    if file:
        lines += [["base", file.base or "none"], ["steps", str(file.steps)]]
        if file.gain is not None:
            lines.append(["gain", f"{file.gain:+.2f} dB over the naive picture, held-back part"])
    if known:
        scores = _trained_scores(file, spec.task) if file else _scores(known.scores)
        lines += [["" if number else "scores", line] for number, line in enumerate(scores)]
    wrapped = [
        [label if not number else "", part]
        for label, text in lines
        for number, part in enumerate(textwrap.wrap(text, 66))
    ]
    return table(wrapped[0], wrapped[1:])


def _scores(scores: Mapping[str, float]) -> list[str]:
    """Return a line for each test, with the scores of the model and of other methods."""
    tests: dict[str, list[str]] = {}
    for key, value in scores.items():
        if (found := _SCORE.fullmatch(key)) is None:
            continue
        words = tests.setdefault(_test(found), [])
        method = _METHODS.get(found["method"] or "", found["method"])
        if found["measure"] != "psnr":
            words.append(f"{value:.0%} of the detail")
        else:
            words.append(f"{method} {value:.1f}" if method else f"{value:.1f} dB")
    return [
        f"{test}: {words[0]}" + (f" ({', '.join(words[1:])})" if words[1:] else "")
        for test, words in tests.items()
    ]


def _test(found: re.Match[str]) -> str:
    """Return the clips and the task of a score in words."""
    clips, number = found["clips"], int(found["number"] or 0)
    where = _CLIPS.get(clips) or f"the end of a cloud clip, {clips.rpartition('_')[2]} wide"
    if found["kind"] == "drop":
        return f"{where}, {number - 1} of {number} frames made again"
    return f"{where}, {number} frame{'s'[: number != 1]} ahead" if found["kind"] else where


def _trained_scores(file: TrainedFile, task: Task) -> list[str]:
    """Return the PSNR on the held-back part, a line for each number of frames ahead."""
    lines = []
    for key, value in file.scores.items():
        if key.startswith("psnr_"):
            naive = file.scores.get(f"naive_{key}")
            lines.append(
                (f"{key.removeprefix('psnr_')} ahead: " if task == "predict" else "")
                + f"{value:.2f} dB"
                + ("" if naive is None else f" (the naive picture {naive:.2f})")
                + " on the held-back part"
            )
    return lines
