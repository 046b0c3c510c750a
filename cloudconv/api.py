"""Define the public functions of cloudconv, and name its public classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from cloudconv import errors, jobs
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
from cloudconv.events import Ended, Event, Finished, Job, Measured, Progress, Warned, watched
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
)
from cloudconv.settings.tools import AddSettings
from cloudconv.settings.values import File

if TYPE_CHECKING:
    from cloudconv.jobs.adapt import Adapted
    from cloudconv.jobs.compare.plan import CompareEstimate, CompareResult
    from cloudconv.jobs.doctor import Diagnosis
    from cloudconv.jobs.dream.results import DreamEstimate, DreamResult
    from cloudconv.jobs.extrapolate import ExtrapolateEstimate, ExtrapolateResult
    from cloudconv.jobs.interp.batch import Exists, InputOutcome
    from cloudconv.jobs.interp.plan import InterpEstimate, InterpResult
    from cloudconv.jobs.self_test import Check
    from cloudconv.jobs.train import TrainEstimate, TrainResult
    from cloudconv.models.base import Interpolator, Model, OuterPictures, Predictor
    from cloudconv.models.catalogue import ModelSpec
    from cloudconv.training.loop import Validation

    __version__: str

_LATER = (
    *("models.catalogue", "models.base", "jobs.interp.plan", "jobs.adapt", "jobs.interp.batch"),
    *("jobs.extrapolate", "jobs.compare.plan", "jobs.dream.results"),
    *("training.loop", "jobs.train", "jobs.doctor", "jobs.self_test"),
)
"""The modules of results, estimates and models, imported in this order until a name is found."""

__all__ = ["__version__", "add_model", "list_models", "load_model", "remove_model"]
__all__ += ["compare", "doctor", "dream", "estimate", "extrapolate", "run", "train"]
__all__ += ["interpolate", "interpolate_frames", "interpolate_many"]
__all__ += ["CompareSettings", "DoctorSettings", "DreamSettings", "ExtrapolateSettings"]
__all__ += ["FramesSettings", "InterpManySettings", "InterpSettings", "TrainSettings"]
__all__ += ["CompareEstimate", "DreamEstimate", "ExtrapolateEstimate", "InterpEstimate"]
__all__ += ["CompareResult", "Diagnosis", "DreamResult", "Exists", "ExtrapolateResult"]
__all__ += ["Adapted", "Check", "InterpResult", "TrainEstimate", "TrainResult", "Validation"]
__all__ += ["Interpolator", "Model", "ModelSpec", "OuterPictures", "Predictor"]
__all__ += ["Ended", "Event", "Finished", "Job", "Measured", "Progress", "Warned"]
__all__ += ["CloudconvError", "DeviceError", "EncoderError", "InputError", "Interrupted", "errors"]
__all__ += ["ModelError", "OutputError", "PictureError", "SettingsError", "WeightsError"]

P = ParamSpec("P")
S = TypeVar("S", bound=Settings)
R = TypeVar("R")
Picture = TypeVar("Picture")


def __getattr__(name: str) -> Any:
    """Return an object of this module that needs a heavy import."""
    if name == "__version__":
        return import_module("importlib.metadata").version("cloudconv")
    for module in _LATER if name in __all__ else ():
        if hasattr(loaded := import_module(f"cloudconv.{module}"), name):
            return getattr(loaded, name)
    raise AttributeError(f"module 'cloudconv' has no attribute {name!r}")


def _result(settings: Settings) -> Any:
    """Run a command's job to its end and return its result."""
    return watched(jobs.run(settings))


def _call(settings: Callable[P, S]) -> Callable[[Callable[[S], R]], Callable[P, R]]:
    """Return a decorator that gives a function the parameters of a settings class."""

    def decorate(run: Callable[[S], R]) -> Callable[P, R]:
        def function(*args: P.args, **kwargs: P.kwargs) -> R:
            return run(settings(*args, **kwargs))

        for name in ("__name__", "__qualname__", "__doc__"):
            setattr(function, name, getattr(run, name))
        function.__wrapped__ = settings  # type: ignore[attr-defined]
        return function

    return decorate


@_call(InterpSettings)
def interpolate(settings: InterpSettings) -> InterpResult:
    """Interpolate ``input`` into ``output`` (default: beside the input), and return the result.

    Give exactly one of ``factor`` (N times the frames; a whole N keeps every source frame), ``fps``
    (frame k at exactly k/fps) and ``slowmo`` (N times longer at the same frame rate), or ``slowmo``
    with ``fps``. ``factor`` and ``slowmo`` are above 1 and at most 1000, ``fps`` is at most 10,000.
    The other keywords are the fields of :class:`InterpSettings`.

    Raises:
        CloudconvError: the work failed; the output does not exist, or is unchanged.
        Interrupted: Ctrl-C; the same call resumes from the finished segments.
    """
    result: InterpResult = _result(settings)
    return result


@_call(InterpManySettings)
def interpolate_many(settings: InterpManySettings) -> list[InputOutcome]:
    """Interpolate ``inputs``, also folders of videos, into the folder ``out_dir``.

    A video that fails does not stop the others.

    Returns:
        For each video, in order, its result, :class:`Exists` where an earlier run with the same
        options has finished it, or the :class:`CloudconvError` that stopped it.

    Raises:
        CloudconvError: no input can be processed: a model or a device is missing.
        Interrupted: Ctrl-C; finished outputs and segments are kept.
    """
    outcomes: list[InputOutcome] = _result(settings)
    return outcomes


@_call(ExtrapolateSettings)
def extrapolate(settings: ExtrapolateSettings) -> ExtrapolateResult:
    """Forecast the frames after the end of ``input``, or after the last frame before ``at``.

    ``at`` is in seconds. Give exactly one of ``frames`` and ``seconds``. The output is the source
    followed by the forecast. The other keywords are the fields of :class:`ExtrapolateSettings`.

    Raises:
        CloudconvError: the work failed; the output does not exist, or is unchanged.
    """
    result: ExtrapolateResult = _result(settings)
    return result


@_call(DreamSettings)
def dream(settings: DreamSettings) -> DreamResult:
    """Continue ``input`` with new frames for any length of time.

    Give exactly one of ``frames`` and ``seconds``. The output is the source followed by the dream;
    ``result.vitals`` has measurements for every 100 frames. The other keywords are the fields of
    :class:`DreamSettings`.

    Raises:
        CloudconvError: the work failed; the output does not exist, or is unchanged.
    """
    result: DreamResult = _result(settings)
    return result


@_call(CompareSettings)
def compare(settings: CompareSettings) -> CompareResult:
    """Score models on your own clip, against its true frames.

    With ``drop`` one frame of every N is kept, and interpolators make the others again. With
    ``horizon`` predictors forecast that many frames ahead. The other keywords are the fields of
    :class:`CompareSettings`.

    Raises:
        CloudconvError: the work failed; the report does not exist, or is unchanged.
    """
    result: CompareResult = _result(settings)
    return result


@_call(TrainSettings)
def train(settings: TrainSettings) -> TrainResult:
    """Train a model on ``clips``; with ``init`` start from existing weights.

    Other calls take the trained weights as ``model=result.output``. The keywords are the fields of
    :class:`TrainSettings`. Ctrl-C ends the training after the current step: the output then has the
    best weights so far, and ``result.interrupted`` is True.

    Raises:
        CloudconvError: the training cannot be done; raised before any work if possible.
        Interrupted: a second Ctrl-C; the same call resumes from the checkpoint.
    """
    result: TrainResult = _result(settings)
    return result


@_call(DoctorSettings)
def doctor(settings: DoctorSettings) -> Diagnosis:
    """Describe FFmpeg, encoders, devices and weights, and the choices of ``auto``.

    ``check`` tests the device on a synthetic clip, for up to a minute.

    Raises:
        CloudconvError: there is no such device.
    """
    result: Diagnosis = _result(settings)
    return result


@overload
def estimate(settings: InterpSettings) -> InterpEstimate: ...
@overload
def estimate(settings: ExtrapolateSettings) -> ExtrapolateEstimate: ...
@overload
def estimate(settings: DreamSettings) -> DreamEstimate: ...
@overload
def estimate(settings: CompareSettings) -> CompareEstimate: ...
@overload
def estimate(settings: TrainSettings) -> TrainEstimate: ...
def estimate(settings: Any) -> Any:
    """Return the expected outcome and cost of a run; no output is written.

    ``refusals`` are the reasons for which the run would refuse to write.

    Raises:
        SettingsError: no estimate exists for such settings (many videos, doctor).
        CloudconvError: the input cannot be read, or a model or a device is missing.
    """
    return watched(jobs.estimate(settings))


def run(settings: Settings) -> Job:
    """Run a command from its settings; yield the events of the job.

    >>> for event in cloudconv.run(settings):  # doctest: +SKIP
    ...     print(event)

    The last event is :class:`Finished`, with the result. Closing the generator cancels the job;
    finished work is kept.

    Raises:
        CloudconvError: the work failed; the output does not exist, or is unchanged.
    """
    return jobs.run(settings)


def _frames_call(
    settings: Callable[P, FramesSettings],
) -> Callable[Concatenate[Iterable[Picture], P], Iterator[Picture]]:
    def interpolate_frames(
        frames: Iterable[Picture], /, *args: P.args, **kwargs: P.kwargs
    ) -> Iterator[Picture]:
        """Yield the pictures of any iterable, with new pictures between them.

        The work is lazy. No picture is kept longer than needed.

        Args:
            frames: pictures of one kind and size: NumPy arrays, PyTorch tensors or PIL images. One
                array or tensor may hold several pictures, (B, H, W, C) or (B, C, H, W). Samples of
                floating point are from 0 to 1. A generator must not change a picture that it has
                given: copy the frames of a reader that reuses its buffer.
            args: ``factor`` by position, above 1 and at most 1000 (default: 2). The pictures count
                as evenly spaced. With a whole factor N, N - 1 new pictures follow each given
                picture (the same object). Without ``loop`` the last picture is repeated instead.
            kwargs: the fields of :class:`FramesSettings`.

        Yields:
            Pictures of the same kind. At a cut, and where two pictures are the same, the earlier
            picture is repeated.

        Raises:
            CloudconvError: at once if the options are invalid; later if pictures differ in kind or
                size, are not finite or outside 0 to 1, or if there are fewer than two.
        """
        wanted = settings(*args, **kwargs)
        from cloudconv.jobs.interp.frames import interpolated

        return interpolated(frames, wanted)

    return interpolate_frames


interpolate_frames = _frames_call(FramesSettings)


def list_models() -> list[ModelSpec]:
    """Return the description of every model, also of added ones, the default model first."""
    from cloudconv.models import registry

    return registry.shown()


def add_model(
    file: File, name: str, *, timesteps: Literal["any", "middle"] = "any", overwrite: bool = False
) -> ModelSpec:
    """Store the network of a file under a name, for this user; return the model's description.

    Every ``model=`` then takes the name.

    Args:
        file: a published network's file, such as ``flownet.pkl``, or one that :func:`train` wrote.
        name: the name; a model that ships has another.
        timesteps: ``middle`` for a network that was trained for the middle of two frames only.
        overwrite: whether a model that was added under that name is replaced.

    Raises:
        WeightsError: the file cannot be read, or its network is unknown.
        SettingsError: the name cannot be used.
        OutputError: the name is in use, or the user's data folder cannot be written.
    """
    from cloudconv.models import added

    AddSettings(file, name, timesteps=timesteps)  # checks the values
    return added.add(file, name, timesteps=timesteps, overwrite=overwrite)


def remove_model(name: str) -> None:
    """Delete a model that :func:`add_model` has stored.

    Raises:
        UnknownModelError: there is no added model of that name.
        SettingsError: the model ships with cloudconv.
        OutputError: its file cannot be deleted.
    """
    from cloudconv.models import added

    added.remove(name)


def load_model(name: File, *, device: str = "auto", precision: str = "auto") -> Model:
    """Return a registered model with its weights, ready to run.

    An interpolator is called as ``interpolate(x0, x1, 0.5)``, a predictor as ``predict(context)``:
    see :mod:`cloudconv.models.base`. ``name`` may also be the name of an
    added model, or a weights file that ``train`` wrote or that a published network has.

    Raises:
        ModelError: there is no such model.
        WeightsError: its weights are missing or damaged.
        SettingsError: the name of the device or of the precision is unknown.
        DeviceError: the device is not in this machine, or does not support the precision.
    """
    from cloudconv.models import registry
    from cloudconv.render.device import choose_device, choose_precision

    FramesSettings(model=name, device=device)  # checks the texts
    chosen = choose_device(device)
    return registry.load_model(
        name, chosen, choose_precision(precision, chosen, registry.spec(name))
    )
