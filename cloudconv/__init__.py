"""Raise a video's frame rate, exactly: the Python side of the ``cloudconv`` command.

>>> import cloudconv
>>> result = cloudconv.interpolate("in.mp4", factor=4)  # doctest: +SKIP
>>> result.output_frames  # doctest: +SKIP
1000

Every command has a function, every option of it is a keyword (``--encoder-option`` is
``encoder_option``), and the fields of what it returns are the keys of the command's JSON. Rates,
factors and times may be numbers, fractions or what the command takes: ``"60000/1001"``, ``"1:02"``.
Nothing heavy is imported until it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from cloudconv import errors
from cloudconv.errors import CloudconvError

if TYPE_CHECKING:
    from cloudconv.events import Warned
    from cloudconv.jobs.compare.settings import CompareResult
    from cloudconv.jobs.dream.settings import DreamPlan, DreamResult
    from cloudconv.jobs.dream.settings import Progress as DreamProgress
    from cloudconv.jobs.extend.plan import Progress as ExtrapolateProgress
    from cloudconv.jobs.extrapolate import ExtrapolatePlan, ExtrapolateResult
    from cloudconv.jobs.interp.batch import InputOutcome
    from cloudconv.jobs.interp.settings import InterpPlan, InterpResult, Progress
    from cloudconv.jobs.train import TrainResult
    from cloudconv.models.base import Model, ModelSpec
    from cloudconv.training.loop import Progress as TrainProgress

Picture = TypeVar("Picture")

__version__ = version("cloudconv")
__all__ = [
    "CloudconvError",
    "compare",
    "dream",
    "errors",
    "extrapolate",
    "interpolate",
    "interpolate_frames",
    "list_models",
    "load_model",
    "train",
]


@overload
def interpolate(
    input: Path | str,
    output: Path | str | None = None,
    *,
    dry_run: Literal[False] = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_warning: Callable[[Warned], None] | None = None,
    **options: Any,
) -> InterpResult: ...
@overload
def interpolate(
    input: Path | str, output: Path | str | None = None, *, dry_run: Literal[True], **options: Any
) -> InterpPlan: ...
@overload
def interpolate(
    input: list[Any] | tuple[Any, ...], *, out_dir: Path | str, **options: Any
) -> list[InputOutcome]: ...
def interpolate(
    input: Any,
    output: Any = None,
    *,
    dry_run: bool = False,
    on_progress: Any = None,
    on_warning: Any = None,
    **options: Any,
) -> Any:
    """Interpolate ``input`` into ``output`` (default: beside it) and say what was done.

    Exactly one of ``factor`` (whole N ≥ 2: n·N frames, every source frame kept), ``fps`` (frame k
    at exactly k/fps; ``"60000/1001"`` and ``59.94`` mean the same) and ``slowmo`` (N times longer
    at the same frame rate, or at ``fps``). ``start`` and ``end`` are seconds from the first frame.
    Further ``options`` are those of ``cloudconv interp``: audio, batch, crf, deinterlace, device,
    duplicates, encoder, encoder_option, fallback, input_fps, loop, model, overwrite, pix_fmt,
    precision, preset, preview, quality, resume, scale, scene_cut, threads, tile, workers …
    With ``dry_run`` nothing is written: returns what would be done, and in ``refusals`` why the run
    would refuse to write.

    A list of inputs (also folders of videos) needs ``out_dir``, a folder; one that fails does not
    stop the others. Returns for each video, in order, its result, ``Exists`` where a former run
    with the same options has finished it, or the :class:`CloudconvError` that stopped it.

    ``on_warning`` is told each of the result's warnings as soon as it is known.

    Raises a :class:`CloudconvError`; then the output does not exist, or is as it was before.
    TypeError for an option that there is not.
    """
    from cloudconv.jobs.interp import batch
    from cloudconv.jobs.interp.run import plan, run
    from cloudconv.jobs.interp.settings import InterpSettings
    from cloudconv.jobs.keywords import settings_of

    several = isinstance(input, list | tuple)
    first = (input or [""])[0] if several else input
    settings = settings_of(InterpSettings, {"input": first, "output": output, **options})
    if not several:
        return plan(settings) if dry_run else run(settings, on_progress, on_warning)
    if settings.out_dir is None or output is not None:
        raise errors.SettingsError("several inputs need out_dir, and take no output")
    every = batch.each_input(settings, [str(name) for name in input], Path(settings.out_dir))
    if dry_run:
        return batch.plan_all(every) if every else []
    found: dict[int, InputOutcome] = {}
    if every:
        batch.run(every, found.__setitem__, on_progress)
    return [found[number] for number in sorted(found)]


def interpolate_frames(
    frames: Iterable[Picture], factor: Any = 2, **options: Any
) -> Iterator[Picture]:
    """New pictures between those of any iterable, lazily: none is kept longer than it is needed.

    Args:
        frames: NumPy arrays or PyTorch tensors, all alike: (H, W, 3) uint8 or uint16, or (3, H, W)
            floating point in [0, 1].
        factor: so many times as many; they are taken to be evenly spaced. A whole N gives n·N
            pictures, every given one (the very object) followed by N - 1 new ones; the last is
            held.
        options: those of ``cloudconv interp`` that are about pictures: batch, device, duplicates,
            fallback, loop, model, precision, quality, scale, scene_cut, threads, tile.

    Yields pictures of the same kind. At a cut, and where two pictures are the same, the earlier one
    is given again.

    Raises a :class:`CloudconvError` at once for options that make no sense, and while it runs
    where pictures differ in kind or size, or there are fewer than two.
    """
    from cloudconv.jobs.interp.frames import FramesSettings, run
    from cloudconv.jobs.keywords import settings_of

    return run(frames, settings_of(FramesSettings, {"factor": factor, **options}))


def compare(
    input: Path | str,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> CompareResult:
    """Score models on your own clip, against the frames that really are there.

    ``drop`` (default 2): one frame of every N is kept, and interpolators make the others again.
    ``horizon``: predictors forecast so many frames ahead instead. ``report``: a folder for a page
    with charts and pictures, a video side by side, and the figures. ``model``, ``against`` and
    ``metrics`` take one name, names joined by commas, or a list. ``on_progress`` gets (frames
    read, frames in all). Further ``options`` are those of ``cloudconv compare``.

    Raises a :class:`CloudconvError`; then there is no report, or it is as it was before. TypeError
    for an option that there is not.
    """
    from cloudconv.jobs.compare.run import CompareSettings, run
    from cloudconv.jobs.keywords import settings_of

    return run(settings_of(CompareSettings, {"input": input, **options}), on_progress)


@overload
def extrapolate(
    input: Path | str,
    output: Path | str | None = None,
    *,
    dry_run: Literal[False] = False,
    on_progress: Callable[[ExtrapolateProgress], None] | None = None,
    on_warning: Callable[[Warned], None] | None = None,
    **options: Any,
) -> ExtrapolateResult: ...
@overload
def extrapolate(
    input: Path | str, output: Path | str | None = None, *, dry_run: Literal[True], **options: Any
) -> ExtrapolatePlan: ...
def extrapolate(
    input: Path | str,
    output: Path | str | None = None,
    *,
    dry_run: bool = False,
    on_progress: Any = None,
    on_warning: Any = None,
    **options: Any,
) -> Any:
    """Forecast what follows ``input``, or what follows its frame at ``at`` seconds.

    Exactly one of ``frames`` and ``seconds``. The output is the source followed by the forecast.
    Further ``options`` are those of ``cloudconv extrapolate``: model, only_new, crf, encoder …
    With ``dry_run`` nothing is written: returns what would be done.

    Raises a :class:`CloudconvError`; then the output does not exist, or is as it was before.
    TypeError for an option that there is not.
    """
    from cloudconv.jobs.extrapolate import ExtrapolateSettings, plan, run
    from cloudconv.jobs.keywords import settings_of

    settings = settings_of(ExtrapolateSettings, {"input": input, "output": output, **options})
    return plan(settings) if dry_run else run(settings, on_progress, on_warning)


@overload
def dream(
    input: Path | str,
    output: Path | str | None = None,
    *,
    dry_run: Literal[False] = False,
    on_progress: Callable[[DreamProgress], None] | None = None,
    on_warning: Callable[[Warned], None] | None = None,
    **options: Any,
) -> DreamResult: ...
@overload
def dream(
    input: Path | str, output: Path | str | None = None, *, dry_run: Literal[True], **options: Any
) -> DreamPlan: ...
def dream(
    input: Path | str,
    output: Path | str | None = None,
    *,
    dry_run: bool = False,
    on_progress: Any = None,
    on_warning: Any = None,
    **options: Any,
) -> Any:
    """Go on from the last frame of ``input`` for as long as asked, and stay alive.

    Exactly one of ``frames`` and ``seconds``. The output is the source followed by the dream;
    whether it lives is measured on the way (``result.vitals``), and ``on_warning`` is told once if
    it does not, and of all else that is worth a word. Further ``options`` are those of ``cloudconv
    dream``: mode, model, seed, loop, wind, report, crf, encoder … With ``dry_run`` nothing is
    written: returns what would be done.

    Raises a :class:`CloudconvError`; then the output does not exist, or is as it was before.
    TypeError for an option that there is not.
    """
    from cloudconv.jobs.dream.run import plan, run
    from cloudconv.jobs.dream.settings import DreamSettings
    from cloudconv.jobs.keywords import settings_of

    settings = settings_of(DreamSettings, {"input": input, "output": output, **options})
    return plan(settings) if dry_run else run(settings, on_progress, on_warning)


def train(
    clips: Path | str | Sequence[Path | str] = (),
    output: Path | str | None = None,
    *,
    recipe: Path | str | None = None,
    on_progress: Callable[[TrainProgress], None] | None = None,
    on_warning: Callable[[Warned], None] | None = None,
    **options: Any,
) -> TrainResult:
    """Train a model on ``clips``, or (``init``) go on training one that ships; writes ``output``.

    ``model`` or ``init`` says what, one of ``steps`` and ``minutes`` for how long. ``recipe``: a
    TOML file of settings. Further ``options`` are those of ``cloudconv train``, and the fields of
    :class:`cloudconv.training.settings.TrainSettings`. ``model=result.output`` uses what was
    learnt.

    Raises a :class:`CloudconvError`; Ctrl-C keeps the best weights so far.
    """
    from cloudconv.jobs.train import run, settings_from

    def listed(given: Any) -> tuple[str, ...] | None:
        several = (given,) if isinstance(given, str | Path) else given or ()
        return tuple(str(name) for name in several) or None

    options["val"] = listed(options.get("val"))
    if isinstance(options.get("interval"), int):
        options["interval"] = (options["interval"],) * 2
    written = None if output is None else str(output)
    settings = settings_from(recipe, clips=listed(clips), output=written, **options)
    return run(settings, on_progress, on_warning=on_warning)


def list_models() -> list[ModelSpec]:
    """Every model that can be named, the ones kept for tests left out."""
    from cloudconv.models import registry

    return [spec for spec in registry.specs() if not spec.hidden]


def load_model(name: Path | str, *, device: str = "auto", precision: str = "auto") -> Model:
    """A registered model with its weights, ready to run.

    An interpolator is called as ``interpolate(x0, x1, 0.5)`` with pictures (3, H, W) or batches of
    them (B, 3, H, W), RGB in [0, 1]; a predictor as ``predict(context)``: see
    :mod:`cloudconv.models.base`. ``name`` may be a weights file that ``train`` wrote.

    Raises :class:`~cloudconv.errors.ModelError`, :class:`~cloudconv.errors.WeightsError` or
    :class:`~cloudconv.errors.DeviceError`.
    """
    from cloudconv.models import registry
    from cloudconv.render.device import choose_device, choose_precision

    chosen = choose_device(device)
    return registry.load_model(
        name, chosen, choose_precision(precision, chosen, registry.spec(name))
    )
