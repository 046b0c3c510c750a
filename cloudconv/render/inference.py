"""Compute the new frames of one batch, with trials where motion is doubtful."""

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain
from threading import Lock
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.doubts import shape_of
from cloudconv.media.colour.color import from_channels, to_channels
from cloudconv.media.frames.frame import Frame, FrameTask
from cloudconv.models import fallback as blending
from cloudconv.models import wholes
from cloudconv.models.base import COLOURS, LEFTOVER, MOTION, Interpolator, Made
from cloudconv.models.pair import Pair, PairPicture, PairPictures
from cloudconv.render.exposure import UNKNOWN_MOTION, Exposure, moments, pictures_of
from cloudconv.render.memory import Sizes, grid
from cloudconv.render.tiling import tiled
from cloudconv.timeline import OuterFrame
from cloudconv.transfer import QUEUES, Arriving, download, upload


@dataclass(eq=False, slots=True)
class SourcePicture:
    """A source frame on the device; batches that run at the same time share it.

    ``trials``: the errors of the trials that reconstruct this frame; the key is the times
    of both neighbours. ``_source``: None until a batch needs the picture.
    """

    frame: Frame
    trials: dict[tuple[Fraction, Fraction], Tensor] = field(default_factory=dict)
    _source: PairPicture | None = None
    _lock: Lock = field(default_factory=Lock)

    def on(self, device: torch.device) -> PairPicture:
        """Return RGB and opacity, if any; only the first call converts."""
        with self._lock:
            if self._source is None:
                channels = to_channels(upload(self.frame.planes(), device), self.frame)
                self._source = PairPicture(channels[None])
            return self._source


class _Trial(NamedTuple):
    """A reconstruction of a filmed frame, at ``timestep`` between those around."""

    before: SourcePicture
    after: SourcePicture
    target: SourcePicture
    timestep: Fraction

    @property
    def key(self) -> tuple[Fraction, Fraction]:
        return self.before.frame.time, self.after.frame.time


Result = TypeVar("Result")
Steps = Generator[Arriving | None, None, None]
"""The computation of a batch, which yields None where the CPU would wait for the device,
and last the planes of all frames, followed by the sum of each frame's values, and what
:func:`cloudconv.doubts.unexplained` reads of each, or nothing."""

_Waits = Generator[None, None, Result]
"""A part of a computation, which yields None where the CPU would wait for the device."""

_Part = tuple[FrameTask, list[SourcePicture]]
_OUTSIDE = 0.1  # part of a place that may be outside of a source frame
_PARTS = 8  # parts of an exposure that are computed together


@dataclass(frozen=True, slots=True)
class Inference:
    """A model on its device, with the sizes of batches and tiles.

    ``fallback``: blend where a trial on source frames shows that motion fails. ``things``:
    move as wholes the things that the model's motion loses, see
    :mod:`cloudconv.models.wholes`. ``judges``: measure the doubt of each place of the new
    frames. ``fills``: repeat the last frame of a batch up to a power of two, at most a
    whole batch, because a caching allocator keeps memory for each size.
    """

    model: Interpolator
    device: torch.device
    scale: float = 1.0
    fallback: bool = False
    things: bool = False
    judges: bool = False
    sizes: Sizes = field(default_factory=Sizes)
    fills: bool = False

    @torch.inference_mode()
    def make(self, tasks: list[FrameTask], pictures: list[list[SourcePicture]]) -> Steps:
        """Make one frame for each task.

        ``tasks``: at most a batch. ``pictures``: for each task its source pictures: x0, x1,
        and the frames before and after the pair if the model, the fallback or the search
        for things needs them.
        """
        new, places = yield from self._made(tasks, pictures)
        yield self._arriving(new, tasks[0].left, places)

    @torch.inference_mode()
    def expose(self, task: FrameTask, pictures: list[list[SourcePicture]]) -> Steps:
        """Make the mean of what an open shutter sees; ``pictures``: those of each part."""
        exposure = Exposure(task.left, self.device)
        parts = deque(zip(task.seen, pictures, strict=True))
        pictures.clear()
        while parts:
            # The pictures of a long exposure are not on the device at once.
            some = [parts.popleft() for _ in range(min(len(parts), _PARTS))]
            yield from self._add(exposure, some)
        mean = exposure.mean()[None]
        yield self._arriving(mean, task.left, mean.new_empty(0))

    def _add(self, exposure: Exposure, parts: list[_Part]) -> _Waits[None]:
        """Add the source frames of some parts, and then the new frames between them."""
        counts = yield from self._counts([part for part in parts if part[0].right])
        new: list[tuple[_Part, float]] = []
        for part, sources in parts:
            if part.right is None:
                exposure.add(self._picture(sources[0]), float(part.duration))
                continue
            for t, weight in moments(part, counts.pop(0)):
                if 0 < t < 1:
                    new.append(((replace(part, t=t), sources), weight))
                else:
                    exposure.add(self._picture(sources[int(t)]), weight)
        for start in range(0, len(new), self.sizes.batch):
            some = new[start : start + self.sizes.batch]
            tasks = [task for (task, _), _ in some]
            made, _ = yield from self._made(tasks, [sources for (_, sources), _ in some])
            for picture, (_, weight) in zip(made, some, strict=True):
                exposure.add(picture, weight)

    def _counts(self, parts: list[_Part]) -> _Waits[list[int]]:
        """Return how many pictures stand for each pair, by the motion of the pair alone."""
        motions = []
        for _, sources in parts:
            pair = Pair(self._sides([sources], 2), torch.tensor([0.5]), None, self.scale)
            motion = self.model.motion(pair)
            if motion is None:
                return [UNKNOWN_MOTION] * len(parts)
            motions.append(motion)
        if not motions:
            return []
        downloaded = download([torch.cat(motions)])
        if self.device.type in QUEUES:
            yield None
        return [*map(pictures_of, downloaded.planes()[0].tolist())]

    def _picture(self, source: SourcePicture) -> Tensor:
        return source.on(self.device).channels[0]

    def _made(
        self, tasks: list[FrameTask], pictures: list[list[SourcePicture]]
    ) -> _Waits[tuple[Tensor, Tensor]]:
        """Return the new frames as RGB and opacity, (B, 3 or 4, H, W), and their places.

        For the places see :data:`Steps`.
        """
        count = len(tasks)
        whole = min(self.sizes.batch, 1 << (count - 1).bit_length())
        more = whole - count if self.fills else 0
        wanted = tasks + tasks[-1:] * more
        padded = pictures + pictures[-1:] * more
        reaches = [(_reach(task.before), _reach(task.after)) for task in wanted]
        times = torch.tensor([float(task.t) for task in wanted])
        sides = self._sides(padded, self.model.spec.context)
        pair = Pair(sides, times, torch.tensor(reaches), self.scale)
        new = self._new(pair, leftover=self.beside)
        del pair
        new = new[:count]
        if self.decides:
            yield from self._corrected(new, sides, times[:count], tasks, pictures)
        places = _apart_by_place(Made.of(new)) if self.judges else new.new_empty(0)
        return new[:, : new.shape[1] - self.beside], places

    def _arriving(self, new: Tensor, like: Frame, places: Tensor) -> Arriving:
        """Return the planes of new frames, and the sum of the values of each."""
        planes = [*chain.from_iterable(from_channels(picture, like) for picture in new)]
        # A sum is finite only if all values are. The CPU checks the sums when they arrive,
        # so the device does not wait for the check.
        totals = new.sum((1, 2, 3))
        if like.planes()[0].device.type == "cpu":
            return download([*planes, totals, places])
        return download([totals, places], stay=planes)

    @property
    def beside(self) -> int:
        """Return how many channels follow a network's pictures."""
        return MOTION if self.things or self.judges else LEFTOVER * self.fallback

    @property
    def decides(self) -> bool:
        """Return whether the CPU waits for the network, to decide what is corrected."""
        return self.fallback or self.things

    def _corrected(
        self,
        new: Tensor,
        sides: list[PairPictures],
        times: Tensor,
        tasks: list[FrameTask],
        pictures: list[list[SourcePicture]],
    ) -> _Waits[None]:
        """Mix blends into ``new`` and move things, in place.

        The channels that decide follow those of ``new``.
        """
        with_leftover = new[:, : new.shape[1] - self.beside + LEFTOVER]
        pair = Pair([side[: len(tasks)] for side in sides[:2]], times)
        decided = [blending.uncertainty(with_leftover, pair)] if self.fallback else []
        uncertainty = decided[0] if self.fallback else None
        del pair
        made = Made.of(new) if self.beside == MOTION else None
        lost = [wholes.places(made)] if made and self.things else []
        arriving = download([*decided, *lost])
        if self.device.type in QUEUES:
            yield None
        arrived = arriving.planes()
        if uncertainty is not None and arrived[0].any():
            trials = [
                _trials(task, sources) if is_uncertain else []
                for task, sources, is_uncertain in zip(
                    tasks, pictures, arrived[0].tolist(), strict=True
                )
            ]
            self._blend(with_leftover, times, uncertainty, pictures, trials, made)
        if made is None or not self.things:
            return
        size = new.shape[2], new.shape[3]
        searches = [
            wholes.Search(
                Made(*(part[number : number + 1] for part in made)),
                area,
                cells,
                [picture.on(self.device).channels for picture in sources],
                (-_reach(task.before), 1 + _reach(task.after)),
                float(times[number]),
            )
            for number, (task, sources, cells) in enumerate(
                zip(tasks, pictures, arrived[-1].numpy(), strict=True)
            )
            if (area := wholes.area_of(cells, size)) is not None
        ]
        blocks = [search.blocks() for search in searches]
        copies = [*map(download, blocks)]
        if copies and self.device.type in QUEUES:
            yield None
        for search, (before, *_), levels in zip(searches, blocks, copies, strict=True):
            search.finish([block.numpy() for block in levels.planes()])
            area = search.area
            changed = (area.of(search.made.pictures) != before).any(2)
            search.made.apart[0, 0, area.rows, area.columns].masked_fill_(changed, 0)

    def _sides(self, pictures: list[list[SourcePicture]], count: int) -> list[PairPictures]:
        def on_device(column: Sequence[SourcePicture]) -> PairPictures:
            return tuple(picture.on(self.device) for picture in column)

        return [*map(on_device, list(zip(*pictures, strict=True))[:count])]

    def _new(self, pair: Pair, *, leftover: int) -> Tensor:
        tile = self.sizes.tile
        if tile is None:
            return self.model.between(pair, leftover=leftover)

        def run(parts: list[Tensor]) -> Tensor:
            strip = Pair.of(parts, pair.times, pair.reach, self.scale, pair)
            return self.model.between(strip, leftover=leftover)

        multiple, overlap = grid(self.model, self.scale)
        pictures = [pair.joined(side) for side in pair.sides]
        return tiled(run, pictures, tile=tile, overlap=overlap, multiple=multiple)

    def _blend(
        self,
        new: Tensor,
        times: Tensor,
        uncertainty: Tensor,
        pictures: list[list[SourcePicture]],
        trials: list[list[_Trial]],
        made: Made | None,
    ) -> None:
        """Mix blends into ``new``, whose last channel is the leftover, by the trials.

        Mix them into what ``made`` says of the pictures, too.
        """
        self._try(list(chain.from_iterable(trials)))
        results = [[trial.target.trials[trial.key] for trial in some] for some in trials]
        parts = [slice(n, n + 1) for n, some in enumerate(results) if some]
        if self.device.type != "cpu":
            parts = [slice(None)] if parts else []
        for row in parts:
            untried = torch.zeros_like(next(chain.from_iterable(results[row])))
            untried[:, 1] = torch.inf  # no blend
            errors = torch.cat(
                [torch.stack(some or [untried]).mean(0) for some in results[row]]
            )
            pair = Pair(self._sides(pictures[row], 2), times[row])
            result = blending.at_trial_size(new[row])
            weight = blending.blend_weight(errors, result, _small(pair))
            weight *= uncertainty[row].view(-1, 1, 1, 1)
            apart = None if made is None else made.apart[row]
            blending.mix_in_blend(new[row, :-1], pair, weight, apart)

    def _try(self, trials: list[_Trial]) -> None:
        missing = {
            (id(t.target), *t.key): t for t in trials if t.key not in t.target.trials
        }
        waiting = list(missing.values())
        # The planned memory is enough for one tile, or one frame on a CPU, at a time.
        step = (
            1 if self.device.type == "cpu" or self.sizes.tile is not None else len(waiting)
        )
        for start in range(0, len(waiting), max(step, 1)):
            some = waiting[start : start + step]
            numbers = torch.tensor([float(item.timestep) for item in some])
            pair = Pair(
                self._sides([[*item[:3]] for item in some], 3), numbers, None, self.scale
            )
            pair = _small(pair)
            result = self._new(pair, leftover=LEFTOVER)
            errors = blending.errors(result, pair, pair.joined(pair.sides[2]))
            for trial, error in zip(some, torch.split(errors, 1), strict=True):
                trial.target.trials[trial.key] = error


def _apart_by_place(made: Made) -> Tensor:
    """Return the levels by which both pictures of each mix differ, (B, h, w) uint8.

    They are means of the places of :mod:`cloudconv.doubts`; 0 where a source frame does not
    show the place, such as at the edges of a picture that moves.
    """
    size = made.apart.shape[2:]
    counts = shape_of(size)
    # Made on the device: the CPU would wait for a copy.
    numbers = [torch.arange(count, device=made.apart.device) for count in counts]
    rows, columns = (
        (2 * number + 1) * side // (2 * count)
        for number, side, count in zip(numbers, size, counts, strict=True)
    )
    flows = made.flows[:, :, rows[:, None], columns]
    levels = 255 * F.adaptive_avg_pool2d(made.apart, counts)[:, 0]
    places = numbers[1], numbers[0][:, None]
    for number, flow in enumerate(flows.unbind(1)):
        axis = 1 - number % 2
        there = places[number % 2] + flow * (counts[axis] / size[axis])
        levels *= (there > -_OUTSIDE) & (there < counts[axis] - 1 + _OUTSIDE)
    return levels.round_().clamp_(0, 255).to(torch.uint8)


def _reach(outer: OuterFrame[Frame] | None) -> float:
    return 0.0 if outer is None else float(outer[1])


def _small(pair: Pair) -> Pair:
    return pair.derived("small", lambda x: blending.at_trial_size(x[:, :COLOURS]))


def advance(steps: Steps) -> Arriving | Steps:
    """Continue a computation to its next ``yield``.

    Return its result, or ``steps`` if not done.
    """
    return next(steps) or steps


def _trials(task: FrameTask, pictures: list[SourcePicture]) -> list[_Trial]:
    left, right, before, after = pictures
    trials = []
    if task.before is not None:
        trials.append(_Trial(before, right, left, 1 - 1 / (1 + task.before[1])))
    if task.after is not None:
        trials.append(_Trial(left, after, right, 1 / (1 + task.after[1])))
    return trials
