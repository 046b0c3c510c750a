"""Define the base classes of all models: spec, checks, padding, cropping and recursion."""

import math
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import ClassVar, NamedTuple, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.errors import ModelError, ModelUsageError, SettingsError
from cloudconv.messages import short
from cloudconv.models import arrays
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import pad_to_multiple
from cloudconv.models.pair import Pair, PairPicture
from cloudconv.settings.values import scale as checked_scale

Picture = TypeVar("Picture")

COLOURS = 3
"""The number of colour channels. Networks read only these; opacity may move with the
colours."""

_HALVINGS = 6  # a midpoint-only model halves the interval at most this many times


def check_finite(total: Tensor, time: Fraction | None = None) -> None:
    """Raise ModelError if ``total``, the sum of a picture's values, is not finite.

    ``time``: the picture's time in seconds, for the message.
    """
    if not total.isfinite():
        at = "" if time is None else f" at {round(float(time), 3):g} s"
        raise ModelError(
            f"not-finite: The model made a picture{at} with values that are not finite, so "
            "nothing is written: try --precision=fp32, or other weights."
        )


class Model(nn.Module):
    """A network with its spec, for any task."""

    scale_option: ClassVar = False  # whether motion can be estimated at another resolution
    # Whether the maps of ``Made`` are known; ``forward`` then takes ``maps``.
    has_maps: ClassVar = False
    carries_alpha: ClassVar = False  # further channels (opacity) move with the colours
    # How the names of tensors begin that earlier versions of the model had.
    unused: ClassVar[tuple[str, ...]] = ()
    # A predictor's ``forward`` takes the number of frames ahead.
    takes_horizon: ClassVar = False
    # Training settings that differ from the usual ones (measured).
    training_settings: ClassVar[tuple[tuple[str, object], ...]] = ()
    # ``stages`` returns early results, which the training scores too, and then the final
    # one.
    staged: ClassVar = False
    stages: Callable[..., list[Tensor]]
    # For the adversarial loss; made of the spec.
    discriminators: ClassVar[type[nn.Module] | None] = None

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec

    @property
    def dtype(self) -> torch.dtype:
        """Return the type that the network computes in.

        A method without weights computes in float32.
        """
        return next((p.dtype for p in self.parameters()), torch.float32)

    def multiple(self, scale: float = 1.0) -> int:
        """Return the multiple to which the network's input is padded, in pixels.

        Raises SettingsError if the model does not accept the scale.
        """
        if scale == 1:
            return self.spec.multiple
        if not self.scale_option:
            raise ModelUsageError(
                f"no-scale-option: The model {self.spec.name} has no scale option, and "
                f"scale {short(scale)} was given: leave --scale at 1, or choose another "
                "model."
            )
        return self.spec.multiple * math.ceil(max(1.0, 1.0 / checked_scale(scale)))

    def start_from(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert another model's tensors to initial weights for this model's training.

        The training ignores tensors that this model lacks or has in another shape.
        """
        return dict(state)


class Made(NamedTuple):
    """New pictures, and what a network knows of their motion; all float32.

    ``pictures``: (B, C, H, W). ``residual``: (B, 1, H, W), the signed difference of both
    moved pictures, the mean of the colours. ``apart``: (B, 1, H, W), the absolute
    difference of the two pictures that the new one mixes, the mean of the colours; an open
    gate mixes unmoved pictures. ``apart`` is 0 where motion leads out of a source picture.
    """

    pictures: Tensor
    residual: Tensor
    apart: Tensor

    @classmethod
    def of(cls, joined: Tensor) -> "Made":
        """Return the parts of what ``between`` returns with ``maps``."""
        return cls(*torch.split(joined, [joined.shape[1] - MAPS, 1, 1], 1))


MAPS = 2
"""The number of channels that may follow the pictures: residual and apart."""


def maps_of(
    warped: Sequence[Tensor],
    grids: Sequence[Tensor],
    gate: Tensor | None = None,
    *unmoved: Tensor,
) -> Tensor:
    """Return the maps that follow a network's pictures, (B, 2, H, W), see :class:`Made`.

    ``warped``: both moved pictures. ``grids``: those that moved them, (B, H, W, 2).
    ``unmoved``: both others, with a ``gate``.
    """
    farthest = torch.maximum(*(grid.abs() for grid in grids)).amax(3)
    left = (warped[0] - warped[1])[:, :COLOURS]
    apart = left * (farthest <= 1)[:, None]
    if gate is not None:
        apart = torch.lerp(apart, (unmoved[0] - unmoved[1])[:, :COLOURS], gate)
    return torch.stack((left.mean(1), apart.abs().mean(1)), 1)


_CLEAR = 1 / 16  # opacity below which colours are hardly seen


def matted(picture: Tensor) -> Tensor:
    """Return a picture, (…, 4, H, W), with its colours times its opacity.

    So a network sees what is drawn by the opacity alone.
    """
    colours, opacity = picture.tensor_split((COLOURS,), -3)
    return torch.cat((colours * opacity, opacity), -3)


def unmatted(picture: Tensor, clear: Tensor) -> Tensor:
    """Return a picture without the factor of :func:`matted`.

    ``clear``: (…, 4, H, W), the colours of what is transparent.
    """
    colours, opacity = picture.tensor_split((COLOURS,), -3)
    full = colours / opacity.clamp_min(_CLEAR)
    full = torch.lerp(clear[..., :COLOURS, :, :], full, (opacity / _CLEAR).clamp(0, 1))
    return torch.cat((full, opacity), -3)


class OuterPictures(NamedTuple):
    """The source frames before and after a pair.

    ``before``, ``after``: (B, C, H, W) like the pair. ``reach``: (B, 2), the time from
    ``before`` to x0 and from x1 to ``after``, as multiples of the time from x0 to x1. Where
    a frame is missing, its ``reach`` is 0, and x0 or x1 itself replaces the frame.
    """

    before: Tensor
    after: Tensor
    reach: Tensor


class Interpolator(Model):
    """A model that makes the picture at a timestep between two pictures.

    A model family defines ``forward`` only. This class pads, crops, and calls a
    midpoint-only model (one whose spec lacks ``arbitrary_timestep``) repeatedly.
    """

    follows_motion: ClassVar = True  # False: x0 or the mean, for which light is no matter
    any_size: ClassVar = False  # without this, sides are padded to the multiple first
    # A published network whose tensors do not show if it makes any time or the middle only.
    middle_is_optional: ClassVar = False

    def forward(self, pair: Pair) -> Tensor:
        """Run the network of the model family: return pictures of the shape of x0, float32.

        The pictures of ``pair`` are (B, 3, H, W), nominally in [0, 1]; other values are
        legal. A network clamps the input of its convolutions, but not its result. With
        ``carries_alpha`` there may be more channels. Without ``any_size`` H and W are
        multiples of :meth:`multiple`. A midpoint-only model gets timestep 0.5. A network
        with ``has_maps`` also takes ``maps``, see :meth:`between`.
        """
        raise NotImplementedError

    def interpolate(
        self,
        x0: Picture,
        x1: Picture,
        timestep: Tensor | float,
        *,
        scale: float = 1.0,
        outer: OuterPictures | None = None,
    ) -> Picture:
        """Return the pictures at ``timestep`` between ``x0`` and ``x1``, on their device.

        ``x0``, ``x1`` and the result are pictures or batches of one kind and shape: NumPy
        arrays, PIL images, tensors (B, 3, H, W) or (B, H, W, C), uint8, gray, RGBA, or
        floating point that is nominally in [0, 1] and not clamped. ``timestep``: (B,) in
        [0, 1], or one number for all; a midpoint-only model halves the interval, and
        reaches it to within 1/128. ``scale``: the resolution at which motion is estimated,
        relative to the picture's: 0.5 for 4K and large motion. ``outer``: the frames before
        and after the pair, for a model with a context of four; without them the model
        assumes an even motion. Raises PictureError for other kinds or numbers of pictures,
        and SettingsError for a scale or timestep that is not accepted.
        """
        timesteps = (
            timestep.flatten().tolist() if isinstance(timestep, Tensor) else [timestep]
        )
        for moment in timesteps:
            if not (isinstance(moment, numbers.Real) and 0 <= float(moment) <= 1):
                raise SettingsError(
                    f"bad-timestep: A timestep must be from 0 to 1, got {moment!s:.60}."
                )
        own = x0.device if isinstance(x0, Tensor) else torch.device("cpu")
        device = next((weight.device for weight in self.parameters()), own)
        pictures = [x0, x1] if outer is None else [x0, x1, outer.before, outer.after]

        def run(sent: list[Tensor]) -> Tensor:
            return self.between(Pair.of(sent, timestep, outer and outer.reach, scale))

        return arrays.picture_between(pictures, run, device)  # type: ignore[no-any-return]

    def motion(self, pair: Pair) -> Tensor | None:
        """Return the largest motion between the pictures of each pair, (B,) in pixels.

        The result is None for a model that estimates no motion. The times of the pairs are
        0.5.
        """
        return None

    @torch.no_grad()
    def between(self, pair: Pair, *, maps: bool = False) -> Tensor:
        """Return the pictures between those of pairs of any size, on the model's device.

        A fourth channel (opacity) is mixed linearly if the model lacks ``carries_alpha``. A
        midpoint-only model waits for times that are not in main memory. ``maps``: let the
        maps of :class:`Made` follow the pictures, for a model with ``has_maps``; those of a
        midpoint-only model are of its first step, because later ones compare mixtures.
        """
        channels, height, width = pair.sides[0][0].channels.shape[1:]
        colours = channels if self.carries_alpha else COLOURS
        multiple = 1 if self.any_size else self.multiple(pair.scale)
        run = partial(self, maps=True) if maps else self
        fitted = pair
        if colours < channels or height % multiple or width % multiple:
            fitted = pair.derived(
                "fitted", lambda x: pad_to_multiple(x[:, :colours], multiple)
            )
        if self.spec.arbitrary_timestep:
            result: Tensor = run(fitted)
        else:
            results = [
                _halved(fitted.some([number]), run) for number in range(len(pair.times))
            ]
            # The maps of a source frame are 0.
            most = colours + MAPS * maps
            result = torch.cat(
                [F.pad(x, (0, 0, 0, 0, 0, most - x.shape[1])) for x in results]
            )
        result = result[..., :height, :width]
        if channels > colours:
            alpha = pair.x0[:, colours:].lerp(pair.x1[:, colours:], pair.timestep)
            result = torch.cat((result[:, :colours], alpha, result[:, colours:]), 1)
        return result


def _halved(pair: Pair, run: Callable[[Pair], Tensor]) -> Tensor:
    """Return the picture between one pair at its time, by repeated halving.

    Each middle is kept until its right half ends, and then has no use; at most six are
    kept.
    """
    (x0,), (x1,) = pair.sides[:2]
    channels = x0.channels.shape[1]
    left = 2**_HALVINGS
    place = round(float(pair.times) * left)
    middle: Tensor = (x1 if place else x0).channels
    while 0 < place < left:
        halves = x0.kept.get(("middle", x1))
        if halves is None:  # another thread may do the same meanwhile, with an equal result
            maps = middle[:, channels:]  # of the whole pair, or none yet
            # Nothing else is kept: features of six pairs would need much memory.
            middle = run(
                Pair.of([x0.channels, x1.channels], 0.5, None, pair.scale, pair.whole)
            )
            middle[:, channels : channels + maps.shape[1]] = maps
            halves = x0.kept["middle", x1] = (middle, PairPicture(middle[:, :channels]))
        middle, between = halves
        left //= 2
        if place < left:
            x1 = between
        else:
            x0.kept.pop(("middle", between), None)
            place -= left
            x0 = between
    return middle


class Predictor(Model):
    """A model that forecasts the pictures that follow ``spec.context`` pictures.

    A model family defines ``forward``, or ``_steps`` if a later forecast needs more than
    the frames before it, such as a flow to the last real frame or a state.
    """

    def forward(self, context: Tensor) -> Tensor:
        """Run the network of the model family: return the next frame, (B, 3, H, W) float32.

        ``context``: (B, T, 3, H, W) float32, oldest first, T = ``spec.context``, H and W
        multiples of ``spec.multiple``, nominally in [0, 1].
        """
        return next(self._steps(context, [1]))

    @torch.no_grad()
    def predict(self, context: Tensor) -> Tensor:
        """Return the next frame, (B, 3, H, W) float32; see :meth:`forecast`."""
        return next(self.forecast(context, 1))

    @torch.no_grad()
    def forecast(
        self, context: Tensor, steps: int, *, checks: bool = True
    ) -> Iterator[Tensor]:
        """Yield the next ``steps`` frames, each (B, 3, H, W) float32.

        ``context``: (B, T, 3, H, W), oldest first, any size, without repeats of a frame.
        Copies of the oldest frame may replace missing frames. The model reads the last
        ``spec.context`` frames, and up to ``spec.past`` before them. ``checks``: check the
        samples, which is not needed for decoded or forecast pictures; then the CPU does not
        wait for a GPU. Raises PictureError if the context has too few frames, or is not a
        tensor of that shape.
        """
        least = self.spec.context
        shape = f"(B, T, 3, H, W) with T of at least {least}"
        check = arrays.float_check(context, (1, least, 3, 1, 1), shape) if checks else None
        own = context.device
        device = next((weight.device for weight in self.parameters()), own)
        pictures = [
            partial(lambda picture: picture.to(device).float(), picture)
            for picture in context.unbind(1)
        ]
        for picture in self.forecast_from(pictures, range(1, steps + 1)):
            if check is not None:
                check.finish()
            yield picture.to(own)

    @torch.no_grad()
    def forecast_from(
        self, pictures: Sequence[Callable[[], Tensor]], steps: Sequence[int]
    ) -> Iterator[Tensor]:
        """Yield the frames at some steps ahead, as :meth:`forecast` without checks.

        ``steps`` are numbers from 1 that increase. No frame between is made, unless later
        ones are made from it. Each of ``pictures`` returns a picture, (B, 3, H, W) float32
        on the device of the model, oldest first. A picture is made when the model reads it,
        so that not all of them are held.
        """
        context, (height, width) = self._gathered(pictures)
        for forecast in self._steps(context, steps):
            yield forecast[..., :height, :width]

    def _gathered(
        self, pictures: Sequence[Callable[[], Tensor]]
    ) -> tuple[Tensor, tuple[int, int]]:
        """Return the padded context, and the height and the width without the padding."""
        latest = pictures[-(self.spec.context + self.spec.past) :]
        context = torch.empty(0)
        for place, picture in enumerate(latest):
            frame = picture()
            padded = pad_to_multiple(frame, self.spec.multiple)
            if not place:
                context = padded.new_empty((len(frame), len(latest), *padded.shape[1:]))
            context[:, place].copy_(padded)
        return context, (frame.shape[-2], frame.shape[-1])

    def _steps(self, context: Tensor, steps: Sequence[int]) -> Iterator[Tensor]:
        """Yield the frames at some steps after a padded context.

        By default each frame is made from the latest frames, forecasts included (a
        rollout).
        """
        for step in range(1, steps[-1] + 1):
            picture: Tensor = self(context)
            if step in steps:
                yield picture
            context = torch.cat((context[:, 1:], picture[:, None]), 1)


class Reconstructor(Model):
    """A model that reconstructs a picture from a smaller description."""

    def forward(self, picture: Tensor) -> Tensor:
        """Map (B, 3, H, W) float32 to that shape; sides are multiples of the spec's."""
        raise NotImplementedError

    @torch.no_grad()
    def reconstruct(self, picture: Tensor) -> Tensor:
        """Reconstruct (B, 3, H, W) RGB of any size, nominally in [0, 1]; return float32.

        Raises PictureError if the pictures are not a floating-point tensor of that shape.
        """
        check = arrays.float_check(picture, (1, 3, 1, 1), "(B, 3, H, W)")
        height, width = picture.shape[2:]
        result: Tensor = self(pad_to_multiple(picture.float(), self.spec.multiple))
        check.finish()
        return result[..., :height, :width]
