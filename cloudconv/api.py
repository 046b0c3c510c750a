"""Define the public functions of cloudconv, and name its public classes.

The keywords of a function are the fields of its settings class. A function raises a
:class:`CloudconvError` if the work fails; the output then does not exist, or is unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from cloudconv import errors
from cloudconv.errors import (
    CloudconvError,
    DeviceError,
    EncoderError,
    InputError,
    Interrupted,
    ModelError,
    OutputError,
    PictureError,
    SettingsError,
    WeightsError,
)
from cloudconv.events import (
    Ended,
    Event,
    Finished,
    Job,
    Measured,
    Progress,
    Warned,
    watched,
)
from cloudconv.host import reuse_memory
from cloudconv.jobs import check_process, plan, run
from cloudconv.messages import did_you_mean
from cloudconv.settings import (
    CompareSettings,
    DoctorSettings,
    DreamSettings,
    ExtrapolateSettings,
    FramesSettings,
    InterpManySettings,
    InterpSettings,
    Settings,
    TrainSettings,
    fields_of,
)
from cloudconv.settings.values import File

if TYPE_CHECKING:
    from cloudconv.jobs.compare.plan import CompareResult
    from cloudconv.jobs.doctor import Check, Diagnosis
    from cloudconv.jobs.extend.dream import DreamResult
    from cloudconv.jobs.extend.extrapolate import ExtrapolateResult
    from cloudconv.jobs.extend.preview import PreviewResult
    from cloudconv.jobs.interp.batch import Exists, InputOutcome
    from cloudconv.jobs.interp.result import InterpResult
    from cloudconv.jobs.train.plan import TrainResult
    from cloudconv.models.base import Interpolator, Model, OuterPictures, Predictor
    from cloudconv.models.catalogue import ModelSpec, ModelTask
    from cloudconv.training.loop import Validation

    __version__: str

_LATER = (
    *("models.catalogue", "models.base", "jobs.interp.result", "jobs.interp.batch"),
    *("jobs.extend.extrapolate", "jobs.compare.plan", "jobs.extend.dream"),
    "jobs.extend.preview",
    *("training.loop", "jobs.train.plan", "jobs.doctor"),
)
"""The modules of results and models, imported in this order until a name is found."""

__all__ = [
    "Check",
    "CloudconvError",
    "CompareResult",
    "CompareSettings",
    "DeviceError",
    "Diagnosis",
    "DoctorSettings",
    "DreamResult",
    "DreamSettings",
    "EncoderError",
    "Ended",
    "Event",
    "Exists",
    "ExtrapolateResult",
    "ExtrapolateSettings",
    "Finished",
    "FramesSettings",
    "InputError",
    "InterpManySettings",
    "InterpResult",
    "InterpSettings",
    "Interpolator",
    "Interrupted",
    "Job",
    "Measured",
    "Model",
    "ModelError",
    "ModelSpec",
    "OuterPictures",
    "OutputError",
    "PictureError",
    "Predictor",
    "PreviewResult",
    "Progress",
    "SettingsError",
    "TrainResult",
    "TrainSettings",
    "Validation",
    "Warned",
    "WeightsError",
    "__version__",
    "compare",
    "doctor",
    "dream",
    "errors",
    "extrapolate",
    "interpolate",
    "interpolate_frames",
    "interpolate_many",
    "list_models",
    "load_model",
    "plan",
    "reuse_memory",
    "run",
    "train",
]

P = ParamSpec("P")
S = TypeVar("S", bound=Settings)
R = TypeVar("R")
Picture = TypeVar("Picture")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("cloudconv")
    for module in _LATER if name in __all__ else ():
        if hasattr(loaded := import_module(f"cloudconv.{module}"), name):
            return getattr(loaded, name)
    raise AttributeError(f"module 'cloudconv' has no attribute {name!r}")


def _check_keywords(settings: Any, keywords: Collection[str]) -> None:
    names = [option.name for option in fields_of(settings)]
    for name in keywords:
        if name not in names:
            raise TypeError(f"unexpected keyword {name!r}{did_you_mean(name, names)}")


def _call(settings: Callable[P, S]) -> Callable[[Callable[[S], R]], Callable[P, R]]:
    def decorate(command: Callable[[S], R]) -> Callable[P, R]:
        def function(*args: P.args, **kwargs: P.kwargs) -> R:
            _check_keywords(settings, kwargs)
            return command(settings(*args, **kwargs))

        for name in ("__name__", "__qualname__", "__doc__"):
            setattr(function, name, getattr(command, name))
        function.__wrapped__ = settings  # type: ignore[attr-defined]
        return function

    return decorate


@_call(InterpSettings)
def interpolate(settings: InterpSettings) -> InterpResult:
    """Interpolate ``input`` into ``output`` (default: beside the input); return the result.

    Give exactly one of ``factor`` (N times the frames; a whole N keeps every source frame),
    ``fps`` (frame k at exactly k/fps) and ``slowmo`` (N times longer at the same frame
    rate), or ``slowmo`` with ``fps``. Or give ``speed``, text such as ``"0=1,4=0.25"`` or
    pairs of a time and a speed, also with ``fps``. ``replace`` is text, or numbers of
    frames, times as text, and pairs of these. After Ctrl-C, which raises Interrupted, the
    same call resumes.
    """
    return cast("InterpResult", watched(run(settings)))


@_call(InterpManySettings)
def interpolate_many(settings: InterpManySettings) -> list[InputOutcome]:
    """Interpolate ``inputs``, also folders of videos, into the folder ``out_dir``.

    Returns for each video, in order, its result, :class:`Exists` where an output of the
    same input and options exists, or the :class:`CloudconvError` that stopped it.
    """
    return cast("list[InputOutcome]", watched(run(settings)))


@_call(ExtrapolateSettings)
def extrapolate(settings: ExtrapolateSettings) -> ExtrapolateResult:
    """Forecast the frames after the end of ``input``, or after the last one before ``at``.

    Give one of ``frames`` and ``seconds``; without them the output has as many frames as
    hold in a trial, at most 15. The output is the source and the forecast. An interrupted
    call does not resume.
    """
    return cast("ExtrapolateResult", watched(run(settings)))


@_call(DreamSettings)
def dream(settings: DreamSettings) -> DreamResult | PreviewResult:
    """Continue ``input`` with new frames for any length of time.

    Give one of ``frames`` and ``seconds`` (default: 10 seconds). The output is the source
    followed by the dream, which may take the place of up to one second of the source's end
    (``leave``); ``result.vitals`` has measurements for every 100 frames. An
    interrupted call does not resume. With ``preview`` the result is a PreviewResult, and no
    dream is written.
    """
    return cast("DreamResult | PreviewResult", watched(run(settings)))


@_call(CompareSettings)
def compare(settings: CompareSettings) -> CompareResult:
    """Score models on your own clip, against its true frames.

    With ``drop`` one frame of every N is kept, and interpolators make the others again.
    With ``horizon`` predictors forecast that many frames ahead.
    """
    return cast("CompareResult", watched(run(settings)))


@_call(TrainSettings)
def train(settings: TrainSettings) -> TrainResult:
    """Train a model on ``clips``; with ``init`` start from existing weights.

    Other calls take the trained weights as ``model=result.output``. Ctrl-C ends the
    training after the current step: the output then has the best weights so far, and
    ``result.interrupted`` is True. A second Ctrl-C raises Interrupted; the same call
    resumes from the checkpoint.
    """
    return cast("TrainResult", watched(run(settings)))


@_call(DoctorSettings)
def doctor(settings: DoctorSettings) -> Diagnosis:
    """Describe FFmpeg, encoders, devices and weights, and the choices of ``auto``.

    ``check`` tests the device on a synthetic clip, for up to a minute.
    """
    return cast("Diagnosis", watched(run(settings)))


def _frames_call(
    settings: Callable[P, FramesSettings],
) -> Callable[Concatenate[Iterable[Picture], P], Iterator[Picture]]:
    def interpolate_frames(
        frames: Iterable[Picture], /, *args: P.args, **kwargs: P.kwargs
    ) -> Iterator[Picture]:
        """Yield the pictures of any iterable, with new pictures between them.

        The work is lazy, and no picture is kept longer than needed. Pictures of one kind
        and size are NumPy arrays, PyTorch tensors or PIL images; one array or tensor may
        hold several, (B, H, W, C) or (B, C, H, W). Samples of floating point are from 0 to
        1. Give copies of the frames of a reader that reuses its buffer. The pictures count
        as evenly spaced. With a whole ``factor`` N, by default 2, N - 1 new ones follow
        each given picture (the same object). The earlier picture is repeated at a cut,
        between equal pictures, and at the end unless ``loop``.
        """
        _check_keywords(settings, kwargs)
        wanted = settings(*args, **kwargs)
        check_process()
        from cloudconv.jobs.interp.frames import interpolated

        return interpolated(frames, wanted)

    return interpolate_frames


interpolate_frames = _frames_call(FramesSettings)


def list_models(task: ModelTask | None = None) -> list[ModelSpec]:
    """Return the description of every model that ships, the default model first.

    ``task`` is ``interpolate``, ``predict`` or ``reconstruct``: only models for it. The
    name ``hold`` stands for two models, one to interpolate and one to predict.
    """
    from cloudconv.models.catalogue import LISTED

    return [spec for spec in LISTED if task in (None, spec.task)]


def load_model(name: File, *, device: str = "auto", precision: str = "auto") -> Model:
    """Return a registered model with its weights, ready to run.

    An interpolator is called as ``interpolate(x0, x1, 0.5)``, a predictor as
    ``predict(context)``: see :mod:`cloudconv.models.base`. ``name`` may also be a weights
    file that ``train`` wrote or that a published network has.
    """
    from cloudconv.models import registry
    from cloudconv.render.device import choose_device, choose_precision, restored

    if name is None:
        raise SettingsError(
            "no-model: The model is None: give the name of a model that ships, or a file."
        )
    check_process()
    FramesSettings(model=name, device=device, precision=cast("Any", precision))
    with restored():
        chosen = choose_device(device)
        dtype = choose_precision(precision, chosen, registry.spec(name))
        return registry.load_model(name, chosen, dtype)
