"""Compute the new frames of one batch."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import chain, pairwise
from threading import Lock
from typing import Any, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.doubts import PLACES
from cloudconv.images import Area, reduced_size
from cloudconv.media.colour.color import from_channels, thumbnail, to_channels
from cloudconv.media.colour.light import Light, change_of_light
from cloudconv.media.frames.formats import is_float, layout
from cloudconv.media.frames.frame import Frame, FrameTask
from cloudconv.models.base import COLOURS, Interpolator, Made, matted, unmatted
from cloudconv.models.catalogue import FOUR
from cloudconv.models.pair import Pair, PairPicture, PairPictures
from cloudconv.models.shifts import move_exactly
from cloudconv.render.exposure import UNKNOWN_MOTION, Exposure, moments, pictures_of
from cloudconv.render.inplace import Place, change_between, changed_in_place, hold
from cloudconv.render.memory import Sizes, grid
from cloudconv.render.painting import area_of, paint, painted, without
from cloudconv.render.tiling import tiled
from cloudconv.timeline import OuterFrame
from cloudconv.transfer import Arriving, download, upload

Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class SourcePicture:
    """A source frame on the device; batches that run at the same time share it.

    ``_source``: None until a batch needs the picture.
    """

    frame: Frame
    _source: PairPicture | None = None
    _compared: dict[tuple[Any, Fraction], Any] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def on(self, device: torch.device) -> PairPicture:
        """Return RGB and opacity, if any; only the first call converts."""
        with self._lock:
            if self._source is None:
                channels = to_channels(upload(self.frame.planes(), device), self.frame)
                self._source = PairPicture(channels[None])
            return self._source

    def compared(
        self, other: "SourcePicture", compare: Callable[..., Result], *known: Any
    ) -> Result:
        """Return what a function finds in the thumbnails of this picture and another one.

        Each pair is compared once, also if ``known`` results follow. The result is kept by
        the other's time, because a reference would keep all earlier pictures.
        """
        key = compare, other.frame.time
        if key not in self._compared:
            self._compared[key] = compare(self.thumbnail(), other.thumbnail(), *known)
        return self._compared[key]  # type: ignore[no-any-return]

    def thumbnail(self) -> Tensor:
        """Return the luma in [0, 1] of a small picture, (h, w), on the CPU."""
        luma = self.frame.luma
        if luma is None:  # no detector has seen the frame, as in a worker
            luma = thumbnail(self.frame, *_THUMBNAIL).cpu()
            self.frame = replace(self.frame, luma=luma)
        return luma

    def part(self, area: Area) -> Tensor:
        """Return an area of the first plane, in [0, 1], as a thumbnail on the CPU."""
        plane = self.frame.planes()[0][area].to(torch.float32).cpu()
        if not is_float(self.frame.pix_fmt):
            plane = plane / (2 ** layout(self.frame.pix_fmt).depth - 1)
        return F.adaptive_avg_pool2d(plane[None], _THUMBNAIL)[0]


_Part = tuple[FrameTask, list[SourcePicture]]
_THUMBNAIL = (36, 64)
_PARTS = 8  # parts of an exposure that are computed together


@dataclass(frozen=True, slots=True)
class Inference:
    """A model on its device, with the sizes of batches and tiles.

    ``judges``: measure the doubt of each place of the new frames. ``fills``: repeat the
    last frame of a batch up to a power of two, at most a whole batch, because a caching
    allocator keeps memory for each size.
    """

    model: Interpolator
    device: torch.device
    scale: float = 1.0
    judges: bool = False
    sizes: Sizes = field(default_factory=Sizes)
    fills: bool = False

    @torch.inference_mode()
    def make(self, tasks: list[FrameTask], pictures: list[list[SourcePicture]]) -> Arriving:
        """Make one frame for each task.

        ``tasks``: at most a batch. ``pictures``: for each task its source pictures: x0, x1,
        and the frames before and after the pair, see ``ModelSpec.frames``. The result has
        the planes of all frames, the sum of each frame's values, and what
        :func:`cloudconv.doubts.unexplained` reads of each, or nothing.
        """
        new, places = self._made(tasks, pictures)
        return self._arriving(new, tasks[0].left, places)

    @torch.inference_mode()
    def expose(self, task: FrameTask, pictures: list[list[SourcePicture]]) -> Arriving:
        """Make the mean of what an open shutter sees; ``pictures``: those of each part.

        The device has computed the motion of the parts when the call returns.
        """
        exposure = Exposure(task.left, self.device)
        parts = deque(zip(task.seen, pictures, strict=True))
        pictures.clear()
        while parts:
            # The pictures of a long exposure are not on the device at once.
            some = [parts.popleft() for _ in range(min(len(parts), _PARTS))]
            self._add(exposure, some)
        mean = exposure.mean()[None]
        return self._arriving(mean, task.left, mean.new_empty(0))

    def _add(self, exposure: Exposure, parts: list[_Part]) -> None:
        """Add the source frames of some parts, and then the new frames between them."""
        counts = self._counts([part for part in parts if part[0].right])
        new: list[tuple[_Part, float]] = []
        for part, sources in parts:
            if part.right is None:
                exposure.add(sources[0].on(self.device).channels[0], float(part.duration))
                continue
            for t, weight in moments(part, counts.pop(0)):
                if 0 < t < 1:
                    new.append(((replace(part, t=t), sources), weight))
                else:
                    exposure.add(sources[int(t)].on(self.device).channels[0], weight)
        for start in range(0, len(new), self.sizes.batch):
            some = new[start : start + self.sizes.batch]
            tasks = [task for (task, _), _ in some]
            made, _ = self._made(tasks, [sources for (_, sources), _ in some])
            for picture, (_, weight) in zip(made, some, strict=True):
                exposure.add(picture, weight)

    def _counts(self, parts: list[_Part]) -> list[int]:
        """Return how many pictures stand for each pair, by the motion of the pair alone."""
        half = torch.tensor([0.5])
        pairs = (
            Pair(self._sides([sources], 2), half, None, self.scale) for _, sources in parts
        )
        motions = [x for x in map(self.model.motion, pairs) if x is not None]
        if not motions:
            return [UNKNOWN_MOTION] * len(parts)
        return [*map(pictures_of, download([torch.cat(motions)]).planes()[0].tolist())]

    def _made(
        self, tasks: list[FrameTask], pictures: list[list[SourcePicture]]
    ) -> tuple[Tensor, Tensor]:
        """Return the new frames as RGB and opacity, (B, 3 or 4, H, W), and their places."""
        count = len(tasks)
        whole = min(self.sizes.batch, 1 << (count - 1).bit_length())
        more = whole - count if self.fills else 0
        wanted = tasks + tasks[-1:] * more
        padded = pictures + pictures[-1:] * more
        reaches = [(_reach(task.before), _reach(task.after)) for task in wanted]
        times = torch.tensor([float(task.t) for task in wanted])
        sides = self._sides(padded, FOUR)
        new = self._new(Pair(sides, times, torch.tensor(reaches), self.scale))[:count]
        if not self.model.has_maps:
            new = self._relit(new, tasks, pictures)
            self._paint(new, torch.empty_like(new[:, :1]), tasks, pictures)
            return new, new.new_empty(0)
        made = Made.of(new)
        move_exactly(made, sides, times.tolist(), reaches[:count])
        # A source frame that is held keeps its own light.
        new = self._relit(made.pictures, tasks, pictures)
        nearer = [
            row[int(2 * task.t > 1)].on(self.device)
            for task, row in zip(tasks, pictures, strict=True)
        ]
        hold(made, sides, nearer, [*map(_place, tasks, pictures)])
        self._paint(new, made.apart, tasks, pictures)
        places = _by_place(made.apart) if self.judges else new.new_empty(0)
        return new, places

    def _paint(
        self,
        new: Tensor,
        apart: Tensor,
        tasks: list[FrameTask],
        pictures: list[list[SourcePicture]],
    ) -> None:
        """Set the fast objects of each task on its new picture."""
        for number, (task, row) in enumerate(zip(tasks, pictures, strict=True)):
            areas = [area_of(thing, new.shape[2:]) for thing in task.objects]
            things = [
                painted(thing, float(task.t), area, self.device)
                for thing, area in zip(task.objects, areas, strict=True)
            ]
            grounds = [self._ground(task, row, area) for area in areas]
            paint(new[number], apart[number], things, grounds)

    def _ground(self, task: FrameTask, row: list[SourcePicture], area: Area) -> Tensor:
        """Return an area of a new picture without fast objects, (C, h, w)."""
        mattes = [*zip(*((*x.ends, *x.beside) for x in task.objects), strict=True)]
        # A frame of the pair may stand for a missing one beside it.
        roles = [0, 1, 2 * (task.before is not None), 1 + 2 * (task.after is not None)]
        pictures = (source.on(self.device).channels for source in row)
        clean = [
            SourcePicture(
                source.frame,
                PairPicture(without(picture, area, mattes[role])),
                source._compared,
            )
            for source, picture, role in zip(row, pictures, roles, strict=False)
        ]
        pair = Pair(
            self._sides([clean], FOUR),
            torch.tensor([float(task.t)]),
            torch.tensor([[_reach(task.before), _reach(task.after)]]),
            self.scale,
        )
        new = self._new(pair)[:, : pair.x0.shape[1]]  # maps may follow the pictures
        return self._relit(new, [task], [clean])[0]

    def _arriving(self, new: Tensor, like: Frame, places: Tensor) -> Arriving:
        """Return the planes of new frames, and the sum of the values of each."""
        planes = [*chain.from_iterable(from_channels(picture, like) for picture in new)]
        # A sum is finite only if all values are. The CPU checks the sums when they arrive,
        # so the device does not wait for the check.
        totals = new.sum((1, 2, 3))
        if like.planes()[0].device.type == "cpu":
            return download([*planes, totals, places])
        return download([totals, places], stay=planes)

    def _sides(self, pictures: list[list[SourcePicture]], count: int) -> list[PairPictures]:
        """Return the pictures of each side, all of a pair in the light of its x0."""
        firsts = [row[0] for row in pictures]
        sides = zip(*(row[:count] for row in pictures), strict=True)
        return [tuple(map(self._seen, side, firsts)) for side in sides]

    def _seen(self, source: SourcePicture, first: SourcePicture) -> PairPicture:
        """Return a picture as the network sees it, in the light of another one."""
        picture = self._lit(source, first)
        if self._mattes(picture.channels[0]):
            return picture.derived(matted, matted)
        return picture

    def _mattes(self, picture: Tensor) -> bool:
        return self.model.carries_alpha and len(picture) > COLOURS

    def _lit(self, source: SourcePicture, first: SourcePicture) -> PairPicture:
        """Return a picture in the light of the first one of its pair."""
        picture = source.on(self.device)
        light = self._light(source, first)
        if light is None:
            return picture
        return picture.derived(light, partial(_in_light, light))

    def _light(self, picture: SourcePicture, first: SourcePicture) -> Light | None:
        """Return the light that brings a picture to the first one of its pair, if any."""
        return (
            picture.compared(first, change_of_light) if self.model.follows_motion else None
        )

    def _relit(
        self, new: Tensor, tasks: list[FrameTask], pictures: list[list[SourcePicture]]
    ) -> Tensor:
        """Return new frames in the light of their times, and with their full colours."""
        for picture, task, (first, second, *_) in zip(new, tasks, pictures, strict=True):
            if self._mattes(picture):
                x0, x1 = (self._lit(one, first).channels[0] for one in (first, second))
                picture.copy_(unmatted(picture, x0.lerp(x1, float(task.t))))
            light = self._light(second, first)
            if light is not None:
                picture.copy_(_in_light(light.back(float(task.t)), picture))
        return new

    def _new(self, pair: Pair) -> Tensor:
        tile = self.sizes.tile
        if tile is None:
            return self.model.between(pair, maps=self.model.has_maps)

        def run(rows: slice, columns: slice) -> Tensor:
            # Motion of a tile also serves the next pairs, so that tiles are kept.
            name = "tile", rows.start, rows.stop, columns.start, columns.stop
            part = pair.derived(name, lambda picture: picture[..., rows, columns])
            part = replace(part, whole=pair)
            return self.model.between(part, maps=self.model.has_maps)

        multiple, overlap = grid(self.model, self.scale)
        size = pair.x0.shape[2:]
        return tiled(run, size, self.device, tile=tile, overlap=overlap, multiple=multiple)


def _place(task: FrameTask, pictures: list[SourcePicture]) -> Place | None:
    """Return the places of a pair that change at once; None if a frame beside it lacks."""
    if task.before is None or task.after is None:
        return None
    x0, x1, before, after = pictures
    row = before, x0, x1, after
    changes = [a.compared(b, change_between) for a, b in pairwise(row)]
    size = x0.frame.height, x0.frame.width
    return x0.compared(x1, changed_in_place, changes, size, [each.part for each in row])


def _in_light(light: Light, picture: Tensor) -> Tensor:
    """Return a picture, (…, C, H, W), whose colours are in another light."""
    colours, others = picture.tensor_split((COLOURS,), -3)
    return torch.cat((light.of(colours), others), -3)


def _by_place(apart: Tensor) -> Tensor:
    """Return the levels of each place of :mod:`cloudconv.doubts`, (B, h, w) uint8."""
    levels = (
        255 * F.adaptive_avg_pool2d(apart, reduced_size(apart.shape[2:], PLACES, 1))[:, 0]
    )
    return levels.round_().clamp_(0, 255).to(torch.uint8)


def _reach(outer: OuterFrame[Frame] | None) -> float:
    return 0.0 if outer is None else float(outer[1])
