"""Define the base classes of all models: spec, checks, padding, cropping and recursion."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import Any, ClassVar, NamedTuple, TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from cloudconv.errors import ModelError, ModelUsageError, PictureError, SettingsError
from cloudconv.messages import short
from cloudconv.models import pictures
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import pad_to_multiple
from cloudconv.settings.values import SCALES
from cloudconv.transfer import upload

Picture = TypeVar("Picture")
T = TypeVar("T")

COLOURS = 3
"""The number of colour channels. Networks read only these; opacity may move with the colours."""

Memo = dict[Any, Any]
"""Results that belong to one pair of pictures, for all times between the two.

A midpoint-only model keeps the pictures that it made, by their places in steps of 1/64. A model
that ``remembers`` keeps what :func:`once` gets.
"""

_HALVINGS = 6  # a midpoint-only model halves the interval at most this many times


def once(memo: Memo | None, key: object, make: Callable[[], T]) -> T:
    """Return the result for a key of ``memo``; call ``make`` if there is none yet."""
    if memo is None:
        return make()
    found: tuple[T] | None = memo.get(key)
    if found is None:  # another thread may do the same meanwhile, with an equal result
        found = memo[key] = (make(),)
    return found[0]


def check_finite(total: Tensor, time: Fraction | None = None) -> None:
    """Raise ModelError if ``total``, the sum of a picture's values, is not finite.

    ``time``: the picture's time in seconds, for the message.
    """
    if not total.isfinite():
        at = "" if time is None else f" at {round(float(time), 3):g} s"
        raise ModelError(
            f"not-finite: The model made a picture{at} with values that are not finite, so nothing "
            "is written: try --precision=fp32, or other weights."
        )


class Model(nn.Module):
    """A network with its spec, for any task."""

    scale_option: ClassVar = False  # whether motion can be estimated at another resolution
    # Whether a blend may replace a new frame where the estimated motion is wrong, see
    # :mod:`cloudconv.models.fallback`; ``forward`` then takes ``leftover``.
    fallback: ClassVar = False
    carries_alpha: ClassVar = False  # further channels (opacity) move with the colours
    takes_horizon: ClassVar = False  # a predictor's ``forward`` takes the number of frames ahead
    # Training settings that differ from the usual ones (measured).
    training_settings: ClassVar[tuple[tuple[str, object], ...]] = ()
    # ``stages`` returns early results, which the training scores too, and then the final one.
    staged: ClassVar = False
    stages: Callable[..., list[Tensor]]
    discriminators: ClassVar[type[nn.Module] | None] = None  # for the adversarial loss

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec

    @property
    def dtype(self) -> torch.dtype:
        """Return the type that the network computes in; float32 for a method without weights."""
        return next((p.dtype for p in self.parameters()), torch.float32)

    def multiple(self, scale: float = 1.0) -> int:
        """Return the multiple to which the sides of the network's input are padded, in pixels.

        Raises ModelUsageError if the model does not accept the scale.
        """
        if scale == 1:
            return self.spec.multiple
        if not self.scale_option:
            raise ModelUsageError(
                f"no-scale-option: The model {self.spec.name} has no scale option, and scale "
                f"{short(scale)} was given: leave --scale at 1, or choose another model."
            )
        if scale not in SCALES:
            known = ", ".join(f"{s:g}" for s in SCALES)
            raise ModelUsageError(
                f"unknown-scale: The scale {scale:g} is not one of {known}: choose one of these."
            )
        return self.spec.multiple * math.ceil(max(1.0, 1.0 / scale))

    def start_from(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert another model's tensors to initial weights for the training of this model.

        The training ignores tensors that this model lacks or has in another shape.
        """
        return dict(state)

    def _device(self, own: torch.device) -> torch.device:
        """Return the device of the weights; without weights the device of the pictures."""
        return next((weight.device for weight in self.parameters()), own)


class OuterPictures(NamedTuple):
    """The source frames before and after a pair.

    ``before``, ``after``: (B, C, H, W) like the pair. ``reach``: (B, 2), the time from ``before``
    to x0 and from x1 to ``after``, as multiples of the time from x0 to x1. Where a frame is
    missing, its ``reach`` is 0, and x0 or x1 itself replaces the frame.
    """

    before: Tensor
    after: Tensor
    reach: Tensor


class Interpolator(Model):
    """A model that makes the picture at a timestep between two pictures.

    A model family defines ``forward`` only. This class pads, crops, and calls a midpoint-only model
    (one whose spec lacks ``arbitrary_timestep``) repeatedly.
    """

    sharpens = False  # whether new frames are sharpened to the detail of x0 and x1
    remembers: ClassVar = False  # ``forward`` takes ``memo``, a :data:`Memo` for a single pair
    any_size: ClassVar = False  # without this, sides are padded to the multiple first

    def forward(self, x0: Tensor, x1: Tensor, timestep: Tensor, scale: float = 1.0) -> Tensor:
        """Run the network of the model family.

        A network with a context of four also takes ``outer``, :class:`OuterPictures` or None. A
        network with ``fallback`` also takes ``leftover``, see :meth:`between`.

        Args:
            x0: (B, 3, H, W) float32; without ``any_size`` H and W are multiples of
                :meth:`multiple`. Nominally in [0, 1]; other values are legal, and a network clamps
                the input of its convolutions. With ``carries_alpha`` there may be more than 3
                channels.
            x1: of the same shape.
            timestep: (B, 1, 1, 1) float32 in (0, 1); midpoint-only models get 0.5.
            scale: 1, or one of ``SCALES`` with ``scale_option``.

        Returns:
            Pictures of the shape of ``x0``, float32, not clamped.
        """
        raise NotImplementedError

    def overall(self, pictures: Sequence[Tensor], scale: float) -> dict[str, Tensor]:
        """Return options of ``forward`` that depend on whole pictures, (B, …) each, for tiles."""
        return {}

    def interpolate(
        self,
        x0: Picture,
        x1: Picture,
        timestep: Tensor | float,
        *,
        scale: float = 1.0,
        outer: OuterPictures | None = None,
    ) -> Picture:
        """Return the pictures at ``timestep`` between ``x0`` and ``x1``.

        A midpoint-only model halves the interval until it reaches the timestep, to within 1/128.

        Args:
            x0: (B, 3, H, W) floating-point RGB of any size, nominally in [0, 1]; never changed. A
                model that ``carries_alpha`` takes a fourth channel. From two pictures (3, H, W)
                the result is one such picture. All kinds of :mod:`cloudconv.models.pictures` are
                accepted: NumPy arrays, PIL images, (B, H, W, C), uint8, gray, RGBA.
            x1: of the same kind and shape.
            timestep: (B,) in [0, 1], or one number for all.
            scale: the resolution at which motion is estimated, relative to the picture's: 0.5
                for 4K and large motion.
            outer: the frames before and after the pair, for a model with a context of four.
                Without these frames the model assumes an even motion.

        Returns:
            For (B, 3, H, W) the shape of ``x0``; float32, not clamped. For other pictures the same
            kind. The result is on the device of ``x0``.

        Raises:
            ModelUsageError: the model does not accept the scale.
            PictureError: the kind of the pictures is not accepted, their shapes differ, or the
                number of timesteps is not B. Only floating-point tensors are accepted with
                ``outer``.
            SettingsError: a timestep is outside [0, 1].
        """
        timesteps = timestep.flatten().tolist() if isinstance(timestep, Tensor) else [timestep]
        for each in timesteps:
            if not (isinstance(each, numbers.Real) and 0 <= float(each) <= 1):
                raise SettingsError(
                    f"bad-timestep: A timestep must be from 0 to 1, got {each!s:.60}."
                )
        own = x0.device if isinstance(x0, Tensor) else torch.device("cpu")
        device = self._device(own)
        if not (self._is_plain(x0) and self._is_plain(x1)):
            if outer is not None:
                raise PictureError(
                    "outer-pictures-shape: The frames before and after a pair must have the "
                    "shape of the pair, (B, 3, H, W)."
                )
            between = partial(self.between, scale=scale)
            return pictures.between(x0, x1, timestep, between, device)  # type: ignore[no-any-return]
        given = [x0, x1] if outer is None else [x0, x1, outer.before, outer.after]
        checks = [pictures.float_check(each, "(B, 3, H, W)") for each in given]
        is_single = x0.ndim == x1.ndim == 3
        sent = [(each[None] if is_single else each).to(device) for each in given]
        made = self.between(sent, timestep, reach=outer and outer.reach, scale=scale)
        for check in checks:
            check.finish()
        return (made[0] if is_single else made).to(own)  # type: ignore[return-value]

    def _is_plain(self, picture: object) -> TypeGuard[Tensor]:
        """Return whether the picture is a float tensor, (3, H, W) or (B, 3, H, W)."""
        if not isinstance(picture, Tensor):
            return False
        pictures.check_tensor(picture)
        if picture.ndim not in (3, 4):
            return False
        most = COLOURS + self.carries_alpha
        return picture.is_floating_point() and COLOURS <= picture.shape[-3] <= most

    @torch.no_grad()
    def between(
        self,
        pictures: Sequence[Tensor],
        timestep: Tensor | float,
        *,
        reach: Tensor | None = None,
        scale: float = 1.0,
        leftover: bool = False,
        known: Sequence[Memo] | None = None,
        overall: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the pictures between two batches on the model's device.

        Args:
            pictures: x0 and x1, (B, 3 or more, H, W) each; with ``reach`` also the frames before
                and after the pair. A fourth channel (opacity) is mixed linearly if the model
                lacks ``carries_alpha``.
            timestep: (B,) in [0, 1], or one number for all. A midpoint-only model waits for numbers
                that are not in main memory.
            reach: see :class:`OuterPictures`; ignored without four pictures.
            scale: see :meth:`interpolate`.
            leftover: whether to return one more channel: the mean difference of the colours at
                each pixel between both pictures after their motion to the timestep. Only for models
                with ``fallback``.
            known: for each item the results for its pair, which later calls can use. Items of one
                pair have the same mapping. Of increasing times each middle is made once. A call
                removes middles that no later time needs, so at most six are kept.
            overall: the result of :meth:`overall` for the pictures whose tiles these are.

        Raises PictureError if the shapes differ, or the number of timesteps is not B.
        """
        x0, x1 = pictures[:2]
        if not isinstance(timestep, Tensor):
            timestep = torch.full(x0.shape[:1], float(timestep))
        if x0.shape != x1.shape or x0.ndim != 4:
            raise PictureError(
                "two-batches: A model takes two batches (B, 3, H, W) of one shape, got "
                f"{tuple(x0.shape)} and {tuple(x1.shape)}."
            )
        if timestep.shape != x0.shape[:1]:
            raise PictureError(
                f"timestep-for-each: A model takes one timestep for each of {len(x0)} pictures, "
                f"got {tuple(timestep.shape)}."
            )
        colours = x0.shape[1] if self.carries_alpha else COLOURS
        multiple = 1 if self.any_size else self.multiple(scale)
        given = [pad_to_multiple(each[:, :colours].float(), multiple) for each in pictures]
        times, *others = timestep.float().view(-1, 1, 1, 1), *([] if reach is None else [reach])
        timestep, *others = upload([times, *others], x0.device)
        result: Tensor
        if self.spec.arbitrary_timestep:
            options: dict[str, object] = {**(overall or {})}
            if others and len(given) > 2:
                options["outer"] = OuterPictures(given[2], given[3], *others)
            if leftover:
                options["leftover"] = True
            if self.remembers and known and len(known) == 1:
                options["memo"] = known[0]
            result = self(given[0], given[1], timestep, scale, **options)
        else:
            known, more = known or [{} for _ in times], overall or {}
            result = self._by_halves(
                given, times.flatten().tolist(), scale, known, more, leftover=leftover
            )
        result = result[..., : x0.shape[2], : x0.shape[3]]
        if x0.shape[1] > colours:
            alpha = x0[:, colours:].lerp(x1[:, colours:], timestep)
            result = torch.cat((result[:, :colours], alpha, result[:, colours:]), 1)
        return result

    def _by_halves(
        self,
        pictures: Sequence[Tensor],
        timesteps: Sequence[float],
        scale: float,
        known: Sequence[Memo],
        overall: Mapping[str, Tensor],
        *,
        leftover: bool,
    ) -> Tensor:
        (x0, x1), whole = pictures[:2], 2**_HALVINGS
        # Places from x0 (0) to x1, rounded to what the halvings reach.
        places = [round(each * whole) for each in timesteps]
        # Other threads change the mappings meanwhile.
        found = {id(each): dict(each) for each in known}
        own = [found[id(each)] for each in known]

        def at(item: int, place: int) -> Tensor:
            if place % whole == 0:
                return (x1 if place else x0)[item]
            picture: Tensor = own[item][place]
            return picture[: x0.shape[1]]

        options = {"leftover": True} if leftover else {}
        for width in (whole >> k for k in range(1, _HALVINGS + 1)):
            missing = {}
            for item, place in enumerate(places):
                middle = place // (2 * width) * 2 * width + width
                if place % (2 * width) and middle not in own[item]:
                    missing[id(own[item]), middle] = item
            if missing:
                items = list(missing.values())
                pairs = (
                    torch.stack([at(item, middle + side) for (_, middle), item in missing.items()])
                    for side in (-width, width)
                )
                half = x0.new_full((len(items), 1, 1, 1), 0.5)
                own_options = {name: each[items] for name, each in overall.items()}
                middles = self(*pairs, half, scale, **options, **own_options)
                for ((_, middle), item), picture in zip(missing.items(), middles, strict=True):
                    own[item][middle] = picture
        for place, each, now in zip(places, known, own, strict=True):
            each.update(now)
            # A middle is of use up to the end of its right half.
            for passed in [middle for middle in now if middle + (middle & -middle) <= place]:
                each.pop(passed, None)
        empty = [x0.new_zeros((1, *x0.shape[2:]))] if leftover else []
        return torch.stack(
            [
                own[item][place] if place % whole else torch.cat([at(item, place), *empty])
                for item, place in enumerate(places)
            ]
        )


class Predictor(Model):
    """A model that forecasts the pictures that follow ``spec.context`` pictures.

    A model family defines ``forward``, or ``_steps`` if a later forecast needs more than the frames
    before it, such as a flow to the last real frame or a state.
    """

    def forward(self, context: Tensor) -> Tensor:
        """Run the network of the model family.

        Args:
            context: (B, T, 3, H, W) float32, oldest first, T = ``spec.context``, H and W multiples
                of ``spec.multiple``. Nominally in [0, 1].

        Returns:
            (B, 3, H, W) float32, the next frame.
        """
        return next(self._steps(context, 1))

    @torch.no_grad()
    def predict(self, context: Tensor) -> Tensor:
        """Return the next frame, (B, 3, H, W) float32; see :meth:`forecast`."""
        return next(self.forecast(context, 1))

    @torch.no_grad()
    def forecast(self, context: Tensor, steps: int) -> Iterator[Tensor]:
        """Yield the next ``steps`` frames, each (B, 3, H, W) float32.

        Args:
            context: (B, T, 3, H, W), oldest first, any size, without repeats of a frame. Copies of
                the oldest frame may replace missing frames. The model reads the last
                ``spec.context`` frames, and up to ``spec.past`` before them.
            steps: the number of frames.

        Raises:
            PictureError: the context has too few frames, or is not a tensor of that shape.
        """
        check = pictures.float_check(context, self._shape)
        made = self.forecast_checked(context, steps)
        first = list(islice(made, 1))
        check.finish()
        yield from first
        yield from made

    @property
    def _shape(self) -> str:
        return f"(B, T, 3, H, W) with T of at least {self.spec.context}"

    @torch.no_grad()
    def forecast_checked(self, context: Tensor, steps: int) -> Iterator[Tensor]:
        """Yield the frames of :meth:`forecast` for a context of decoded or forecast pictures.

        The samples are not checked, so the CPU does not wait for a GPU.
        """
        own, (height, width) = context.device, context.shape[-2:]
        if context.ndim != 5 or context.shape[2] != 3 or context.shape[1] < self.spec.context:
            raise pictures.tensor_needed(self._shape, tuple(context.shape))
        latest = context[:, -(self.spec.context + self.spec.past) :].to(self._device(own)).float()
        padded = pad_to_multiple(latest.flatten(0, 1), self.spec.multiple)
        for made in self._steps(padded.view(*latest.shape[:2], *padded.shape[1:]), steps):
            yield made[..., :height, :width].to(own)

    def _steps(self, context: Tensor, steps: int) -> Iterator[Tensor]:
        """Yield the next frames of a padded context.

        By default each frame is made from the latest frames, forecasts included (a rollout).
        """
        for _ in range(steps):
            made: Tensor = self(context)
            yield made
            context = torch.cat((context[:, 1:], made[:, None]), 1)


class Reconstructor(Model):
    """A model that reconstructs a picture from a smaller description."""

    def forward(self, picture: Tensor) -> Tensor:
        """Map (B, 3, H, W) float32, sides multiples of ``spec.multiple``, to the same shape."""
        raise NotImplementedError

    @torch.no_grad()
    def reconstruct(self, picture: Tensor) -> Tensor:
        """Reconstruct (B, 3, H, W) RGB of any size, nominally in [0, 1]; return float32.

        Raises PictureError if the pictures are not a floating-point tensor of that shape.
        """
        check = pictures.float_check(picture, "(B, 3, H, W)")
        if picture.ndim != 4 or picture.shape[1] != 3:
            raise pictures.tensor_needed("(B, 3, H, W)", tuple(picture.shape))
        height, width = picture.shape[2:]
        made: Tensor = self(pad_to_multiple(picture.float(), self.spec.multiple))
        check.finish()
        return made[..., :height, :width]
