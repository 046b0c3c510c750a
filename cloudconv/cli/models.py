"""Define the command ``cloudconv models``."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import starmap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloudconv.cli.command import examples, with_options
from cloudconv.cli.console import Console, print_json
from cloudconv.cli.streams import field_rows, format_value, print_result, table

if TYPE_CHECKING:
    from cloudconv.models.catalogue import ModelSpec, ModelTask

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
_All = Annotated[
    bool,
    typer.Option("--all", help="List the small research models too.", show_default=False),
]

_TABLES = {
    "Frames between two others: interp": (
        "interpolate",
        "18 clips, 1 of 2 frames made again",
        "blend",
        "blending, 18 clips, one frame of two dropped",
    ),
    "Frames that come next: extrapolate, dream --mode rollout": (
        "predict",
        "17 clips, 1 frame ahead",
        "hold",
        "repeating the last frame, 17 clips, one frame ahead",
    ),
    "Research: a frame between two, the next one, or the same one again": (
        "research",
        "the end of a cloud clip, 480 wide",
        "naive",
        "the naive picture, the end of a cloud clip, trained on its beginning",
    ),
}
"""The tables by their titles: the task, or research; the test in the manifest whose gain is
listed, the method to compare with, and words. The last table needs ``--all``."""
_TASKS: dict[ModelTask, str] = {
    "interpolate": "frames between two others",
    "predict": "frames that come next",
    "reconstruct": "the same frame again",
}
_TIMES = {
    "middle": "the middle of two frames",
    "any": "any",
    "undecided": "any; for weights of the middle of two frames only, give --timesteps "
    "middle",
}
"""Words for the times of a published network; its tensors may not show them."""

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


@with_options(runs_job=False)
def models(console: Console, ctx: typer.Context, all: _All = False) -> None:
    """List the models with their use, gain and time; or show one."""
    if ctx.invoked_subcommand is not None:
        return
    from cloudconv.models import catalogue

    if console.json:
        print_json({"models": [*map(_described, catalogue.LISTED)]})
    elif not console.quiet:
        print_result(_list(all))


@with_options(runs_job=False)
def show(console: Console, name: _Name) -> None:
    """Describe one model in full."""
    from cloudconv import checkpoints, weights
    from cloudconv.models import registry

    path = checkpoints.file_of(name)
    if path is None:
        chosen = registry.spec(name).name
        shown = [
            (spec, _described(spec)) for spec in registry.MODELS if spec.name == chosen
        ]
    else:
        spec, metadata = registry.describe(path)
        registry.state_of(path, spec)  # raises an error for damaged tensors
        file = weights.trained_file(path, metadata)
        if file["base"]:
            file["domain"] = f"footage like its clips; fine-tuned from {file['base']}"
        shown = [(spec, _described(spec) | {"weights": "ok"} | file)]
    if console.json:
        print_json({"models": [fields for _, fields in shown]})
    elif not console.quiet:
        print_result("\n\n".join(starmap(_in_full, shown)))


def _described(spec: ModelSpec) -> dict[str, Any]:
    """Return the model and its shipped weights as an object of the JSON."""
    from cloudconv import weights

    fields = {name: getattr(spec, name) for name in _OF_MODEL}
    fields |= {"size_bytes": None, "sha256": None, "weights": "none", "scores": {}}
    if spec.published:
        fields |= {
            "network": spec.family,
            "scale_option": spec.cls.scale_option,
            "half_precision": spec.half_precision,
            "timesteps": _timesteps(spec),
        }
    elif spec.weights is not None:
        entry = weights.entry(spec.weights)
        fields |= {name: getattr(entry, name) for name in _OF_WEIGHTS}
        fields["weights"] = weights.status(spec.weights)
    return fields


def _timesteps(spec: ModelSpec) -> str:
    if not spec.arbitrary_timestep:
        return "middle"
    return "undecided" if spec.cls.middle_is_optional else "any"


def _list(everything: bool) -> str:
    from cloudconv.models.catalogue import LISTED, RESEARCH

    parts = []
    for title, (group, *test) in _TABLES.items():
        specs = [s for s in LISTED if group == ("research" if s in RESEARCH else s.task)]
        parts.append(_table(title, specs, *test))
    if not everything:
        count = len({spec.name for spec in RESEARCH})
        parts[-1] = f"and {count} small research models: cloudconv models --all"
    return "\n\n".join(parts)


def _table(
    title: str, specs: Iterable[ModelSpec], test: str, baseline: str, over: str
) -> str:
    gains = {spec: _gain(spec, test, baseline) for spec in specs}
    rows = []
    for spec in sorted(gains, key=lambda spec: -(gains[spec] or 0.0)):
        gain = "-" if gains[spec] is None else f"{gains[spec]:+.1f} dB"
        time = format_value("time", spec.time) or "-"
        rows.append([spec.name, spec.domain.partition(";")[0], gain, time])
    return (
        f"{title}\n{table(['name', 'for', 'gain', 'time'], rows)}\n"
        f"(gain: PSNR over {over})\n(time: relative to that of 1)"
    )


def _gain(spec: ModelSpec, test: str, baseline: str) -> float | None:
    """Return the gain over the baseline in dB.

    The baseline's score is in the model's entry, or in that of another model.
    """
    from cloudconv import weights

    for entry in weights.manifest().values():
        scores = entry.scores.get(test, {})
        own = scores.get("psnr" if entry.name == spec.weights else spec.name)
        if own is not None and baseline in scores and spec.name != baseline:
            return own - scores[baseline]
    return None


def _in_full(spec: ModelSpec, shown: dict[str, Any]) -> str:
    """Return a row for each property that the model has."""
    # Those of a file that was trained here are in its gains.
    tests = {} if "file" in shown else shown["scores"]
    lines = [f"{test}: {format_value('', scores)}" for test, scores in tests.items()]
    fields = shown | {
        "task": _TASKS[spec.task],
        "parameters": f"{spec.parameters:,}",
        "timesteps": _TIMES.get(shown.get("timesteps", "")),
        "scores": "\n".join(lines),
        "origin": spec.origin,
    }
    if spec.task != "interpolate":
        del fields["arbitrary_timestep"]
    for name in ("gained", "gain"):
        if fields.get(name) is not None:
            fields[name] = f"{fields[name]:+z.2f} dB"
    known = {name: value for name, value in fields.items() if value or value is False}
    return field_rows(known, 66)
