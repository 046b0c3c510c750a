"""Define the command ``cloudconv models``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product, starmap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloudconv.cli.command import examples, with_options
from cloudconv.cli.console import Console, print_json
from cloudconv.cli.streams import field_rows, print_result, table
from cloudconv.settings.option import Settings, option

if TYPE_CHECKING:
    from cloudconv.models.catalogue import ModelSpec, ModelTask
    from cloudconv.weights import WeightsEntry

EXAMPLES = examples(
    "cloudconv models",
    "cloudconv models show cloud-best",
    "cloudconv models show flownet.pkl",
)
SHOW_EXAMPLES = examples(
    "cloudconv models show cloud-best",
    "cloudconv models show mine.safetensors",
    "cloudconv models show flownet.pkl",
)

_ONE = """Describe this model: a name, a file that 'cloudconv train' wrote, or a published
network's file."""
_Name = Annotated[str, typer.Argument(metavar="NAME", help=_ONE)]

_COLUMNS = ("name", "for", "gain", "time")

_TESTS = {
    "interpolate": (
        "18 clips, 1 of 2 frames made again",
        "blend",
        "blending, 18 clips, one frame of two dropped",
    ),
    "predict": (
        "17 clips, 1 frame ahead",
        "hold",
        "repeating the last frame, 17 clips, one frame ahead",
    ),
    "research": (
        "the end of a cloud clip, 480 wide",
        "naive",
        "the naive picture, the end of a cloud clip, trained on its beginning",
    ),
}
"""The test in the manifest whose gain is listed, the method to compare with, and words."""
_METHODS = {"blend": "blending", "hold": "repeating the last", "naive": "the naive picture"}
_TASKS: dict[ModelTask, str] = {
    "interpolate": "frames between two others",
    "predict": "frames that come next",
    "reconstruct": "the same frame again",
}
_USES = {"interpolate": ": interp", "predict": ": extrapolate, dream --mode rollout"}

_UNDECIDED = "yes; for weights of the middle of two frames only, give --timesteps middle"
"""The text about times for a network whose tensors do not show its times."""

_OF_MODEL = (
    "name",
    "task",
    "context",
    "arbitrary_timestep",
    "parameters",
    "licence",
    "domain",
)
_OF_WEIGHTS = ("size_bytes", "sha256", "scores")
"""The keys of the JSON: of every model, and of its weights; a file that does not ship has
more."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A model and the state of its shipped weights, or the facts on a file of weights."""

    spec: ModelSpec
    weights: str
    entry: WeightsEntry | None = None
    file: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        fields = {
            **{name: getattr(self.spec, name) for name in _OF_MODEL},
            **{"size_bytes": None, "sha256": None, "weights": self.weights, "scores": {}},
            **{name: getattr(self.entry, name) for name in _OF_WEIGHTS if self.entry},
            **self.file,
        }
        if self.file.get("base"):
            fields["domain"] = (
                f"footage like its clips; fine-tuned from {self.file['base']}"
            )
        if self.spec.published:
            fields |= {
                "network": self.spec.family,
                "scale_option": self.spec.cls.scale_option,
                "half_precision": self.spec.half_precision,
                "timesteps": self._timesteps,
            }
        return fields

    @property
    def _timesteps(self) -> str:
        if not self.spec.arbitrary_timestep:
            return "middle"
        return "undecided" if self.spec.cls.middle_is_optional else "any"


@dataclass(frozen=True, kw_only=True)
class _ModelsSettings(Settings):
    all: bool = option("List the small research models too.", default=False)


@with_options(_ModelsSettings, runs_job=False)
def models(console: Console, ctx: typer.Context, **options: Any) -> None:
    """List the models with their use, gain and time; or show one."""
    if ctx.invoked_subcommand is not None:
        return
    from cloudconv.models import catalogue

    rows = [_row(spec) for spec in catalogue.LISTED]
    everything = _ModelsSettings(**options).all
    _print(console, rows, lambda: _list(rows, everything))


@with_options(runs_job=False)
def show(console: Console, name: _Name) -> None:
    """Describe one model in full."""
    from cloudconv import checkpoints, weights
    from cloudconv.models import registry

    path = checkpoints.file_of(name)
    if path is None:
        chosen = registry.spec(name).name
        rows = [_row(spec) for spec in registry.MODELS if spec.name == chosen]
    else:
        spec, metadata = registry.describe(path)
        registry.state_of(path, spec)  # raises an error for damaged tensors
        rows = [_Row(spec, "ok", file=weights.trained_file(path, metadata))]
    _print(console, rows, lambda: "\n\n".join(map(_in_full, rows)))


def _print(console: Console, rows: list[_Row], text: Callable[[], str]) -> None:
    if console.json:
        print_json({"models": [row.as_json() for row in rows]})
    elif not console.quiet:
        print_result(text())


def _row(spec: ModelSpec) -> _Row:
    from cloudconv import weights

    if spec.weights is None:
        return _Row(spec, "none")
    return _Row(spec, weights.status(spec.weights), weights.entry(spec.weights))


def _list(rows: list[_Row], everything: bool) -> str:
    from cloudconv.models.catalogue import RESEARCH

    parts = []
    for research, task in product((False, True) if everything else (False,), _TASKS):
        of_task = [row for row in rows if row.spec.task == task]
        group = [row for row in of_task if (row.spec in RESEARCH) == research]
        if group and research:
            parts.append(_group(f"Research: {_TASKS[task]}", group, "research"))
        elif group:
            parts.append(_group(_TASKS[task].capitalize() + _USES[task], group, task))
    if not everything:
        count = len({row.spec.name for row in rows if row.spec in RESEARCH})
        parts.append(f"and {count} small research models: cloudconv models --all")
    return "\n\n".join(parts)


def _group(title: str, rows: list[_Row], test: str) -> str:
    *compared, over = _TESTS[test]
    gains = {row.spec.name: _gain(row.spec, *compared) for row in rows}
    lines = []
    for row in sorted(rows, key=lambda row: -(gains[row.spec.name] or 0.0)):
        spec = row.spec
        gain = gains[spec.name]
        line = [spec.name, spec.domain.partition(";")[0]]
        line.append("-" if gain is None else f"{gain:+.1f} dB")
        lines.append([*line, "-" if spec.time is None else f"{spec.time:g}"])
    notes = f"(gain: PSNR over {over})\n(time: relative to that of 1)"
    return "\n".join([title, table([*_COLUMNS], lines), notes])


def _gain(spec: ModelSpec, test: str, baseline: str) -> float | None:
    """Return the gain over the baseline in dB.

    The baseline's score is in the model's entry, or in that of another model.
    """
    from cloudconv import weights

    for entry in weights.manifest().values():
        scores = entry.scores.get(test, {})
        is_own = (entry.name, entry.model) == (spec.weights, spec.name)
        own = scores.get("psnr" if is_own else spec.name)
        naive = scores.get(baseline)
        if own is not None and naive is not None and spec.name != baseline:
            return own - naive
    return None


def _in_full(row: _Row) -> str:
    spec = row.spec
    file = row.file
    fields = row.as_json() | {
        "task": _TASKS[spec.task],
        "parameters": f"{spec.parameters:,}",
        "origin": spec.origin,
    }
    if fields.pop("timesteps", "") == "undecided":
        fields["arbitrary_timestep"] = _UNDECIDED
    if spec.task != "interpolate":
        del fields["arbitrary_timestep"]
    if file and not file["steps"]:  # not trained here
        del fields["steps"]
    gain = fields.pop("gain", None)
    gained = fields.pop("gained", None)
    if gain is not None:
        over = "" if gained is None else f"{gained:+z.2f} dB of PSNR over its base, "
        fields["held-back part"] = f"{over}{gain:+z.2f} dB over the naive picture"
    scores = {} if row.entry is None else row.entry.scores
    return field_rows(
        {**fields, "scores": "\n".join(starmap(_in_words, scores.items()))}, 66
    )


def _in_words(test: str, scores: Mapping[str, float]) -> str:
    words = [
        f"{score:.0%} of the detail"
        if name == "detail"
        else f"{_METHODS.get(name, name)} {score:.1f}"
        for name, score in scores.items()
        if name != "psnr"
    ]
    return f"{test}: {scores['psnr']:.1f} dB" + (f" ({', '.join(words)})" if words else "")
