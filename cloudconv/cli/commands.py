"""Define the commands: their settings, and the words for results.

``cloudconv models`` is in a module of its own.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloudconv import jobs
from cloudconv import settings as kinds
from cloudconv.cli import streams
from cloudconv.cli.command import INTERRUPTED, examples, with_options
from cloudconv.cli.console import (
    Console,
    patience,
    print_error,
    print_json,
    run_job,
    run_with_progress,
)
from cloudconv.errors import CloudconvError, OutputError, SettingsError
from cloudconv.events import Ended, Event, Measured, watched
from cloudconv.messages import clock, counted, flag
from cloudconv.report.data import COLUMNS, Column, frame_time, marked
from cloudconv.settings.compare import FAULT
from cloudconv.settings.groups import INPUT
from cloudconv.settings.values import names

if TYPE_CHECKING:
    from cloudconv.dreaming.vitals.vitals import Vitals
    from cloudconv.jobs.compare.plan import CompareResult
    from cloudconv.jobs.extend.dream import DreamResult
    from cloudconv.jobs.extend.extrapolate import ExtrapolateResult
    from cloudconv.jobs.extend.preview import PreviewResult
    from cloudconv.jobs.interp.batch import Exists
    from cloudconv.jobs.interp.result import InterpResult
    from cloudconv.jobs.train.plan import TrainResult
    from cloudconv.training.loop import Losses, Validation

_In = Annotated[str, typer.Argument(metavar="IN", help=INPUT)]
_Out = Annotated[str | None, typer.Argument(metavar="[OUT]", help="Same as --output.")]
_Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="IN [OUT]", help=f"{INPUT} With --out-dir all of them are inputs."
    ),
]
_CLIPS = next(
    option for option in kinds.fields_of(kinds.TrainSettings) if option.name == "clips"
)
_Clips = Annotated[
    list[str] | None, typer.Argument(metavar=_CLIPS.metavar, help=_CLIPS.text)
]

_FIRST = ("psnr", "ssim", "1", "2", "5", "10", "30")
"""The columns that a narrow terminal shows: scores, or numbers of frames ahead in
forecasts."""

_TABLES = ("psnr", "ssim", "texture", FAULT)
"""The scores of forecasts that have a table, if they are computed."""


def _chosen_output(
    console: Console, out: str | None, options: dict[str, Any]
) -> str | None:
    if out is not None and "output" in options:
        raise SettingsError(
            "output-twice: The output is given twice, as OUT and with --output: give one."
        )
    output: str | None = options.pop("output", out)
    if output != "-":
        return output
    if console.json:
        raise SettingsError(
            "json-and-video: With --json the result goes to stdout, so the video cannot: "
            "name an output file."
        )
    closed = "stdout" in streams.closed_streams
    if closed or (not console.dry_run and sys.stdout.isatty()):
        raise SettingsError(
            f"stdout-{'closed' if closed else 'is-terminal'}: The standard output is "
            f"{'closed' if closed else 'a terminal'}: name an output file, or send the "
            "video into a pipe."
        )
    return output


def _video(result: Any, *more: str) -> list[str]:
    """Return the lines about a video: what was made, what is special, and how."""
    by = (getattr(result, "model", None), result.device, result.precision)
    size = streams.format_value("output_bytes", result.output_bytes)
    pace = streams.format_value("bits_per_second", result.bits_per_second)
    written = ", ".join(filter(None, (result.encoder, size, pace)))
    frames = counted(result.output_frames, "frame")
    since = f", from {clock(result.at)} on" if hasattr(result, "at") else ""
    if since and not result.source_frames:
        frames = (
            f"{counted(result.new_frames, 'new frame')} that continue the source{since}"
        )
    else:
        frames += f" ({result.new_frames} new{since})"
    rate = streams.rate(result.output_fps)
    if result.output_fps is None and result.source_timing != rate:
        rate += f" (the source has {result.source_timing})"
    return [
        f"{result.output}: {frames} at {rate}, {clock(result.duration)}",
        *filter(None, more),
        f"{written}; took {clock(result.wall_seconds)}, {result.frames_per_second:.2f} "
        f"frames/s ({', '.join(filter(None, by))})",
    ]


@with_options(
    kinds.InterpSettings,
    kinds.InterpManySettings,
    first="""output factor fps slowmo speed start end overwrite model crf audio report
        replace shutter refill loop deinterlace out_dir dry_run json""",
)
def interp(console: Console, inputs: _Inputs, **options: Any) -> None:
    """Raise the frame rate of IN.

    Give one of --factor, --fps, --slowmo and --speed, or --fps beside --slowmo or --speed;
    --replace and --shutter alone keep the frame rate.
    """
    if "out_dir" in options:
        _interp_all(console, inputs, options)
        return
    if "recursive" in options:
        raise SettingsError(
            "recursive-alone: --recursive is for folders of videos: give --out-dir too."
        )
    if len(inputs) > 2:
        raise SettingsError(
            "several-inputs: Several inputs need --out-dir, the folder for their outputs. "
            "Pictures of one video are one input: give their folder, or a pattern such as "
            "'%04d.png' or '*.png' in quotes."
        )
    out = inputs[1] if len(inputs) == 2 else None
    output = _chosen_output(console, out, options)
    settings = kinds.InterpSettings(inputs[0], output, **options)
    if out is not None and settings.overwrite and Path(out).is_file():
        console.info(
            f"{out} is taken as the output, which -y replaces; with --out-dir both are "
            "inputs"
        )

    def summary(result: InterpResult) -> list[str]:
        words = [f"no new frames at {counted(len(result.cuts), 'cut')}"] * bool(result.cuts)
        words += ["resumed"] * result.resumed
        few = (result.doubtful or {}).get("hardly_seen", 0) * console.verbose
        words += [f"{counted(few, 'doubtful frame')} that hardly anyone sees"] * (few > 0)
        return _video(result, "; ".join(words))

    try:
        run_job(console, "interpolating", settings, summary)
    except OutputError as error:
        if error.code == "output-exists" and out is not None:
            raise OutputError(
                f"{error.code}: {error.text} If it is an input too, give --out-dir."
            ) from error
        raise


def _interp_all(console: Console, inputs: list[str], options: dict[str, Any]) -> None:
    for name in options.keys() & {"output", "report"}:
        raise SettingsError(
            f"for-one-input: {flag(name)} is for a single input: leave --out-dir out."
        )
    settings = kinds.InterpManySettings(inputs, **options)
    if console.dry_run:
        with patience(console, settings):
            plan = jobs.plan(settings)
        if not console.json:
            for item in (plan, *plan["plans"]):
                for text in item.get("warnings", ()):
                    console.warning(text, item.get("input"))
            columns = {"rate": "output_fps", "encoder": "encoder"}
            streams.print_result(_outcomes(plan["plans"], columns, "error"))
    else:
        results = _run_all(console, settings)
        plan = {"results": results, "failed": sum("error" in each for each in results)}
        if streams.messages.as_objects:
            _print_outcomes(console, results)
        else:
            columns = {
                "encoder": "encoder",
                "size": "output_bytes",
                "bit rate": "bits_per_second",
                "time": "wall_seconds",
            }
            for line in _outcomes(results, columns, "code").splitlines():
                console.info(line)
    if console.json:
        print_json(plan)
    if plan["failed"]:
        raise typer.Exit(1)


def _run_all(console: Console, settings: kinds.InterpManySettings) -> list[dict[str, Any]]:
    ends: dict[int, Ended] = {}

    def ended(event: Ended) -> str:
        ends[event.number] = event
        if isinstance(event.outcome, CloudconvError):
            text = streams.named(event.outcome.text, event.input)
            print_error(text, code=event.outcome.code, input=event.input)
        elif not hasattr(event.outcome, "duration"):
            console.info(_skipped(event.outcome))
        return f"{len(ends)} of {event.inputs} inputs"

    with patience(console, settings) as heard:
        run_with_progress(console, "interpolating", jobs.run(settings), ended, heard)
    return [
        {"input": event.input, "error": event.outcome.text, "code": event.outcome.code}
        if isinstance(event.outcome, CloudconvError)
        else {
            **jobs.as_json(event.outcome),
            "exists": not hasattr(event.outcome, "duration"),
        }
        for _, event in sorted(ends.items())
    ]


def _skipped(outcome: Exists) -> str:
    if outcome.compared:
        return (
            f"{outcome.output} was made of {outcome.input} with these options: skipped; -y "
            "makes it again"
        )
    return (
        f"{outcome.output} exists and is newer than {outcome.input}, and its options are "
        "not recorded: skipped; -y makes it again"
    )


OUTCOME_KEYS = (
    "input",
    "output",
    "output_frames",
    "encoder",
    "output_bytes",
    "bits_per_second",
    "wall_seconds",
    "code",
)
"""Keys of an object about one input of a batch, beside ``type`` and ``result``."""


def _print_outcomes(console: Console, every: Sequence[Mapping[str, Any]]) -> None:
    """Print an object for each input, with null where a key has no value."""
    if console.quiet:
        return
    for data in every:
        values = {key: data.get(key) for key in OUTCOME_KEYS}
        streams.print_object("outcome", result=_state(data), **values)


def _state(data: Mapping[str, Any]) -> str:
    if "error" in data:
        return "failed"
    if "resumed" in data:
        return "resumed" if data["resumed"] else "done"
    return "exists" if data["exists"] else "planned"


def _outcomes(
    every: Sequence[dict[str, Any]], columns: Mapping[str, str], error: str
) -> str:
    columns = {"frames": "output_frames", **columns}
    rows = []
    for data in every:
        cells = [
            streams.format_value(field, data[field]) if field in data else ""
            for field in columns.values()
        ]
        # The error of a run stands above.
        last = data.get("output", data.get(error))
        named = (streams.format_value("output", name) for name in (data["input"], last))
        rows.append([next(named), _state(data), *cells, next(named)])
    return streams.table(["input", "result", *columns, "output or error"], rows)


@with_options(
    kinds.CompareSettings,
    first="""drop horizon model against metrics frames report start end overwrite dry_run
        json""",
)
def compare(console: Console, source: _In, **options: Any) -> None:
    """Score models on frames dropped from IN."""
    settings = kinds.CompareSettings(source, **options)
    result: CompareResult | None = run_job(console, "comparing", settings)
    if result is None:
        return
    if console.json:
        print_json(result.as_json())
    else:
        _print_scores(result, names(settings.metrics), len(settings.models))
    console.info(f"{result.summary}; took {clock(result.wall_seconds)}", "summary")


def _print_scores(result: CompareResult, wanted: Sequence[str], models: int) -> None:
    from cloudconv.jobs.compare.score import better

    def head(key: str) -> str:
        return f"{COLUMNS[key].label} {COLUMNS[key].unit}".strip()

    if result.horizon is None:
        print_table({key: (COLUMNS[key], head(key)) for key in wanted}, result.methods)
    else:
        scored = next(iter(result.methods.values()))["1"]
        for key in [key for key in _TABLES if key in scored] or wanted[:1]:
            rows = {
                name: {step: scores[key] for step, scores in by_step.items()}
                for name, by_step in result.methods.items()
            }
            streams.print_result(f"{head(key)}, by frames ahead")
            steps = next(iter(rows.values()))
            print_table({step: (COLUMNS[key], step) for step in steps}, rows)
    streams.print_result(result.verdict)
    first, *others = list(result.methods.items())[: models or 1]
    for name, scores in others:
        psnr, other = (of.get("1", of)["psnr"] for of in (first[1], scores))
        if psnr is not None and other is not None:
            streams.print_result(f"{first[0]} is {better(psnr - other, name)}")


def print_table(
    columns: Mapping[str, tuple[Column, str]],
    methods: Mapping[str, Mapping[str, float | None]],
) -> None:
    """Print one row per method.

    A star marks the best score of each column and its heading.
    """
    cells = marked({key: column for key, (column, _) in columns.items()}, methods)
    timed = any("seconds_per_frame" in scores for scores in methods.values())
    rows = []
    for name, scores in methods.items():
        row = [name, *(text + "*" * best for text, best in cells[name])]
        rows.append([*row, frame_time(scores["seconds_per_frame"])] if timed else row)
    heads = [head for _, head in columns.values()]
    output = streams.table(["method", *heads, *(["time a frame"] if timed else [])], rows)
    first = {key: columns[key] for key in columns if key in _FIRST}
    width = shutil.get_terminal_size().columns
    wide = max(map(len, output.splitlines())) > width and sys.stdout.isatty()
    if wide and 0 < len(first) < len(columns):
        print_table(first, methods)
        output = (
            f"({len(columns) - len(first)} more: use a wider terminal, --json or --report)"
        )
    streams.print_result(output)


def _say(console: Console, measured: Measured) -> None:
    console.info(measured.values)


@with_options(
    kinds.ExtrapolateSettings,
    first="output frames seconds model at only_new overwrite crf dry_run json",
)
def extrapolate(console: Console, source: _In, out: _Out = None, **options: Any) -> None:
    """Forecast the frames after the last frame of IN.

    An interrupted run does not resume: the same command starts again.
    """

    def summary(result: ExtrapolateResult) -> list[str]:
        more = []
        if result.cadence:
            more.append(f"repeats as in the source: {result.cadence}")
        if result.tried_ahead:
            held = result.held_ahead
            tried = counted(result.tried_ahead, "frame")
            more.append(f"the forecast probably holds for {held or 'none'} of {tried}")
        return _video(result, *more)

    settings = kinds.ExtrapolateSettings(
        source, _chosen_output(console, out, options), **options
    )

    run_job(console, "forecasting", settings, summary, partial(_say, console))


@with_options(
    kinds.DreamSettings,
    first="""output seconds mode preview loop seed at only_new audio wind report overwrite
        crf dry_run json""",
)
def dream(console: Console, source: _In, out: _Out = None, **options: Any) -> None:
    """Continue IN with new frames for any length of time.

    An interrupted run does not resume: the same command starts again.
    """

    def words(measured: Measured) -> str:
        vitals: Vitals = measured.values
        return ", ".join(vitals.failed.values())

    def summary(result: DreamResult) -> list[str]:
        return _video(result, result.headline)

    def shown(result: PreviewResult) -> list[str]:
        return [f"{result.preview}: {result.summary}; took {clock(result.wall_seconds)}"]

    settings = kinds.DreamSettings(source, _chosen_output(console, out, options), **options)
    if settings.preview is not None:
        run_job(console, "previewing", settings, shown, partial(_say, console))
    else:
        run_job(console, "dreaming", settings, summary, words)


@with_options(
    kinds.TrainSettings,
    first="output model init recipe steps minutes loss val resume overwrite dry_run json",
)
def train(console: Console, clips: _Clips = None, **options: Any) -> None:
    """Train a model on CLIPS.

    With --init, fine-tune a shipped model on your own footage.
    """
    if clips:
        options["clips"] = clips
    settings = kinds.TrainSettings(**options)

    def note(measured: Measured) -> str | None:
        if measured.name == "stopping":
            console.info(
                "stopping after this step, the best weights so far are kept; Ctrl-C again "
                "stops at once"
            )
            return None
        losses: Losses = measured.values
        console.detail(_losses(losses))
        return _decibels(losses.validation)

    result: TrainResult | None = run_job(console, "training", settings, _trained, note)
    if result is not None and result.interrupted:
        raise typer.Exit(INTERRUPTED)


def _losses(losses: Losses) -> str:
    validation = losses.validation
    trained = ""
    if losses.loss is not None and losses.naive_loss is not None:
        trained = f"train {losses.loss:.4f} (naive {losses.naive_loss:.4f}), "
    return (
        f"step {losses.step} ({losses.done:.0%}, {clock(losses.seconds)}): {trained}"
        f"validation {validation.loss:.4f} (naive {validation.naive_loss:.4f}), "
        f"{_decibels(validation)}{', best' if losses.best else ''}"
    )


def _decibels(after: Validation, before: Validation | None = None) -> str:
    return "; ".join(
        (f"{before.psnr[label]:.2f} → " if before else "")
        + f"{psnr:.2f} dB"
        + (f" {label} ahead" if len(after.psnr) > 1 else "")
        for label, psnr in after.psnr.items()
    )


def _trained(result: TrainResult) -> list[str]:
    state = ""
    if result.interrupted:
        state = (
            f"interrupted after {counted(result.steps, 'step')}; the same command carries "
            "on; so far "
        )
    elif result.resumed and result.steps == result.steps_before:
        state = f"all {result.steps} steps were made before; "
    elif not result.improved:
        state = "training gained nothing, so these are the initial weights; "
    return [
        f"{result.output}: {state}{_decibels(result.best, result.initial)} on held-back "
        "frames"
    ]


@with_options(kinds.DoctorSettings, runs_job=False)
def doctor(console: Console, **options: Any) -> None:
    """Describe this machine, for bug reports.

    Print versions, encoders, devices, weights, memory, and what --device auto and
    --precision auto would choose. Leave no file behind. The exit code is 1 if a problem is
    found.
    """
    settings = kinds.DoctorSettings(**options)
    from cloudconv.jobs.doctor import run

    def show(event: Event) -> None:
        if isinstance(event, Measured):
            console.detail(f"{event.values.name}: {event.values.status}")

    diagnosis = watched(run(settings), show)
    checks = [[check.name, check.status, check.detail] for check in diagnosis.checks]
    if console.json:
        print_json(diagnosis.as_json())
    elif not console.quiet:
        facts = dict(diagnosis.facts)
        states = facts.pop("encoders")
        for state in ("works", "fails"):
            facts[f"encoders: {state}"] = [name for name in states if states[name] == state]
        streams.print_result(streams.field_rows(facts))
        if checks:
            streams.print_result(streams.table(["check", "", ""], checks))
    failed = [f"{name}: {detail}" for name, state, detail in checks if state == "failed"]
    for problem in (*diagnosis.problems, *failed):
        print_error(problem)
    if diagnosis.problems or failed:
        raise typer.Exit(1)


COMMANDS = {
    interp: examples(
        "cloudconv interp clouds.mp4 --factor 4",
        "cloudconv interp video.mov slow.mov --slowmo 8 --start 1:02 --end 1:05",
        "cloudconv interp jump.mp4 --speed 0=1,2=1,2.5=0.2,4=1",
        "cloudconv interp one.mp4 two.mkv clips/*.mov --fps 60 --out-dir smooth",
    ),
    compare: examples(
        "cloudconv compare clouds.mp4",
        "cloudconv compare video.mkv --against blend,hold --report video_report",
        "cloudconv compare radar.mp4 --horizon 8 --against hold,linear --json",
    ),
    extrapolate: examples(
        "cloudconv extrapolate clouds.mp4",
        "cloudconv extrapolate clouds.mp4 more.mp4 --seconds 2 --only-new",
        "cloudconv extrapolate video.mkv --at 1:02.5 --seconds 1 --model flow",
    ),
    dream: examples(
        "cloudconv dream clouds.mp4 --seconds 20",
        "cloudconv dream clouds.mp4 --preview modes.jpg",
        "cloudconv dream waves.mov endless.gif --frames 90 --loop --only-new",
        "cloudconv dream sky.jpg sky.mp4 --seconds 10 --wind 1.5,0",
    ),
    train: examples(
        "cloudconv train in.mp4 --init rife-4.6 --minutes 5 -o mine.safetensors",
        "cloudconv train clips/ --model unet5 --loss charbonnier+gdl --steps 5000",
        "cloudconv interp in.mp4 --factor 4 --model mine.safetensors",
    ),
    doctor: examples(
        "cloudconv doctor",
        "cloudconv doctor --check --device cuda",
        "cloudconv doctor --check --json > report.json",
    ),
}
"""The commands, with their examples."""
