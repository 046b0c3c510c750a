"""Draw training data: crops of short windows at random places of clips.

A window is a run of frames of a clip. A sample is a crop of some frames of one window.
Memory does not grow with a clip's length: only the facts that :func:`probe` returns are
kept. The n-th batch depends on the seed and n alone, so a resumed run continues with the
same batches.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import chain, filterfalse, product
from math import ceil, prod
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.errors import InputError
from cloudconv.events import Progress, Warned
from cloudconv.images import reduced_size
from cloudconv.media.colour.color import rgb_of, thumbnail
from cloudconv.media.frames.frame import Frame, MediaInfo
from cloudconv.media.reading import pictures as images
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from cloudconv.messages import counted, shortened
from cloudconv.schedule.cuts import CutDetector, resembles_cut
from cloudconv.schedule.tasks import analyse
from cloudconv.settings import TrainSettings, values
from cloudconv.settings.values import WHOLE, Span, parse_spans, split_path

Picks = Callable[[np.random.Generator], list[int]]

_LEAD = 4  # frames decoded before a window, to notice repeats at its start
_TRIES = 64  # windows tried in a row before an error
_KEPT_BYTES = 1 << 27  # of windows that are kept, because a short clip has few
_CROP_TRIES = 8  # crops tried for enough motion
_LIVELIEST_OF = 4  # windows drawn, of which the one with most motion is used
_SHRUNK = 8  # side of the squares of pixels whose means are compared, to average noise


@dataclass(frozen=True, slots=True, eq=False)
class TrainingClip:
    """A readable clip, its parts to use, and the longest side to which it is shrunk."""

    info: MediaInfo
    spans: tuple[Span, ...] = WHOLE
    size: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Return height and width of the decoded frames, in pixels."""
        sides = self.info.height, self.info.width
        return reduced_size(sides, self.size or max(sides), 1)

    @property
    def gap(self) -> Fraction:
        """Return the mean time between frames, in seconds."""
        timing = self.info.timing
        if timing.gap_rate is not None:
            return 1 / timing.gap_rate
        return (timing.end - timing.start) / timing.frames

    def parts(self) -> list[tuple[int, int]]:
        """Return the first frame number and the exclusive end of each usable part."""
        frames = self.info.timing.frames
        return [(ceil(a * frames), ceil(b * frames)) for a, b in self.spans]


Batch = tuple[Tensor, Tensor]
"""Samples, (B, L, 3, crop, crop) uint8 RGB, and their numbers in windows, (B, L)."""


def open_clips(
    paths: Sequence[str], spans: Sequence[Span] = WHOLE, *, deinterlace: bool = False
) -> list[list[TrainingClip]]:
    """Open the clips of each path: a video, or a folder or pattern of videos or pictures.

    A path may end in ``[0:0.75]``, the part of its clips to use, and in ``@480``, the
    longest side to which its frames are shrunk; ``spans`` are for the others.
    """
    groups = []
    for text in paths:
        name, span, side = split_path(text)
        used = tuple(spans) if span is None else parse_spans(span)
        infos = [probe(file, deinterlace=deinterlace) for file in _files(Path(name))]
        groups.append([TrainingClip(info, used, side) for info in infos])
    return groups


def excluding(
    groups: list[list[TrainingClip]], held_back: list[list[TrainingClip]]
) -> list[list[TrainingClip]]:
    """Return ``groups`` without each clip that has a part in common with ``held_back``."""
    taken: dict[Path, list[Span]] = {}
    for clip in chain.from_iterable(held_back):
        taken.setdefault(clip.info.path.resolve(), []).extend(clip.spans)

    def free(clip: TrainingClip) -> bool:
        others = taken.get(clip.info.path.resolve(), [])
        return not any(a < d and c < b for (a, b), (c, d) in product(clip.spans, others))

    return [[*filter(free, group)] for group in groups]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    clips = images.videos_in(path)
    for folder in images.subfolders_of(path):
        if images.pictures_in(folder) and not images.videos_in(folder):
            clips.append(folder)
    if clips:
        return clips
    try:
        images.open_pictures(path)
    except InputError as error:
        raise InputError(
            f"folder-without-clips: The folder {path} holds no video and no pictures: give "
            "a folder of clips, or files."
        ) from error
    return [path]


@dataclass(slots=True)
class Windows:
    """A source of windows from groups of clips, each group drawn equally often.

    ``picks`` draws the numbers of a sample's frames within a window of ``length`` frames,
    which are ``interval`` differing frames apart.
    """

    groups: list[list[TrainingClip]]
    length: int
    picks: Picks
    settings: TrainSettings
    warnings: list[Warned] = field(default_factory=list)
    _window: Callable[[TrainingClip, int, int, int], Tensor | str] = field(
        init=False, repr=False
    )

    def __post_init__(self) -> None:
        faults = [self._fault(clip) for clip in chain.from_iterable(self.groups)]
        unfit = [fault for fault in faults if fault is not None]
        fit = [list(filterfalse(self._fault, group)) for group in self.groups]
        self.groups = [group for group in fit if group]
        if not self.groups:
            raise InputError(
                f"no-usable-clip: No clip can be used: {shortened(unfit)}. Give longer "
                "or larger clips, or for train a smaller --crop or --interval, or fewer "
                "frames at once."
            )
        largest = max(prod(clip.shape) for clip in chain.from_iterable(self.groups))
        self._window = lru_cache(_KEPT_BYTES // (3 * self.length * largest))(self._read)
        if unfit:
            self.warnings.append(
                Warned(
                    f"clips-left-out: Some of the {len(faults)} clips are left out: "
                    f"{shortened(unfit)}."
                )
            )

    @property
    def interval(self) -> tuple[int, int]:
        """Return the least and the greatest interval."""
        return values.interval(self.settings.interval)

    @property
    def needed(self) -> int:
        """Return the fewest frames that a part of a clip must have."""
        return (self.length - 1) * self.interval[0] + 1

    def draw(self, *key: int) -> Tensor:
        """Return the window of the seed and ``key``, (length, 3, H, W) uint8."""
        random = np.random.default_rng([self.settings.seed, *key, _TRIES + 1])
        if random.random() >= self.settings.lively:
            return self._draw(*key)
        windows = (self._draw(*key, n) for n in range(_LIVELIEST_OF))
        return max(
            windows, key=lambda w: _motion(F.avg_pool2d(w.float(), _SHRUNK, ceil_mode=True))
        )

    def _draw(self, *key: int) -> Tensor:
        reason = ""
        least = self.settings.min_motion
        for attempt in range(_TRIES):
            random = np.random.default_rng([self.settings.seed, *key, attempt])
            group = self.groups[random.integers(len(self.groups))]
            clip = group[random.integers(len(group))]
            low, high = self.interval
            longest = max(end - begin for begin, end in clip.parts())
            steps = max(1, self.length - 1)
            interval = int(
                random.integers(low, max(low, min(high, (longest - 1) // steps)) + 1)
            )
            starts = _starts(clip, steps * interval + 1 if self.length > 1 else 1)
            begin, end = starts[int(random.integers(len(starts)))]
            window = self._window(clip, begin, end, interval)
            if isinstance(window, str):
                reason = window
            elif least and _motion(window) < least:
                reason = f"{clip.info.path.name} hardly moves in that sequence"
            else:
                return window
        raise InputError(
            f"no-window: In {_TRIES} tries no usable sequence of {self.length} frames "
            f"was found; the last try: {reason}. Give other clips, or for train a smaller "
            "--interval."
        )

    def chosen(self) -> Generator[Progress, None, list[Tensor]]:
        """Return windows to validate on, spread evenly over all usable parts of clips."""
        clips = list(chain.from_iterable(self.groups))
        most = self.settings.val_windows
        count = min(most, len(clips))
        per_clip = max(1, most // len(clips))
        windows: list[Tensor] = []
        reason: str | None = None
        for clip in (clips[k * len(clips) // count] for k in range(count)):
            starts = _starts(clip, self.needed)
            for index in np.linspace(
                0, len(starts) - 1, min(per_clip, len(starts))
            ).round():
                window = self._read(clip, *starts[int(index)], self.interval[0])
                if isinstance(window, str):
                    reason = window
                    continue
                side = self.settings.val_crop
                top, left = (max(0, length - side) // 2 for length in window.shape[2:])
                windows.append(
                    window[..., top : top + side, left : left + side].contiguous()
                )
                yield Progress("analysing", len(windows), None, unit="windows")
        if not windows:
            raise InputError(
                "nothing-to-validate: No frames to validate on could be read; the last "
                f"try: {reason}. Give other clips; train takes them with --val."
            )
        return windows

    def _fault(self, clip: TrainingClip) -> str | None:
        """Return why a clip cannot be used; None if it can."""
        name = clip.info.path.name
        needed = self.needed
        crop = self.settings.crop
        longest = max(end - begin for begin, end in clip.parts())
        if longest < needed:
            parts = ",".join(
                f"{float(begin):g}:{float(end):g}" for begin, end in clip.spans
            )
            used = "" if parts == "0:1" else f" in its part {parts}"
            most = counted(longest, "frame")
            return f"{name} has at most {most} in a row{used}, and {needed} are needed"
        height, width = clip.shape
        if min(height, width) < crop:
            return f"{name} is {width}x{height}, smaller than the crop of {crop}"
        return None

    def _read(
        self, clip: TrainingClip, begin: int, end: int, interval: int
    ) -> Tensor | str:
        """Return the window that begins at frame ``begin``, or a reason not to use it."""
        frames: list[Frame] = []
        thumbnails: list[Tensor] = []
        lead = min(begin, _LEAD)
        differing = 0
        with Source(
            clip.info, start=(begin - lead) * clip.gap, end=end * clip.gap, threads=1
        ) as source:
            for number, item in enumerate(analyse(source.frames(), "off")):
                repeated = item.repeats and not self.settings.repeats
                if number < lead or (repeated and frames):
                    continue
                if differing % interval == 0:
                    thumbnails.append(thumbnail(item.frame, *CutDetector.THUMBNAIL))
                    frames.append(item.frame)
                differing += 1
                if len(frames) == self.length:
                    break
        if len(frames) < self.length:
            return f"{clip.info.path.name} ends too soon, or repeats too many frames"
        if resembles_cut(thumbnails):
            return f"{clip.info.path.name} has a cut in that sequence"
        return _pictures(clip, frames)


def batches(
    windows: Windows, position: int = 0, stop: Callable[[], bool] = lambda: False
) -> Iterator[Batch]:
    """Yield batches from number ``position`` on, until ``stop`` returns true."""
    settings = windows.settings
    done, skip = divmod(position, settings.crops)
    while True:
        columns = []
        for slot in range(settings.batch):
            if stop():
                return
            window = windows.draw(done, slot)
            random = np.random.default_rng([settings.seed, done, slot, _TRIES])
            columns.append(
                [_sample(windows, window, random) for _ in range(settings.crops)]
            )
        for row in list(zip(*columns, strict=True))[skip:]:
            frames, indices = zip(*row, strict=True)
            yield torch.stack(frames), torch.stack(indices)
        done += 1
        skip = 0


def _sample(
    windows: Windows, window: Tensor, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    indices = windows.picks(random)
    settings = windows.settings
    turned = settings.reversal and random.random() < 0.5
    crop = _crop(window, [~n for n in indices] if turned else indices, settings, random)
    if settings.augment:
        if random.random() < 0.5:
            crop = crop.flip(3)
        if random.random() < 0.5:
            crop = crop.flip(2)
        if random.random() < 0.5:
            crop = crop.transpose(2, 3)
    if settings.overlays and random.random() < settings.overlays:
        crop = overlaid(crop, random)
    return crop.contiguous(), torch.tensor(indices)


def _crop(
    window: Tensor, numbers: list[int], settings: TrainSettings, random: np.random.Generator
) -> Tensor:
    side = settings.crop
    tried: list[tuple[float, Tensor]] = []
    for _ in range(_CROP_TRIES):
        top = int(random.integers(window.shape[2] - side + 1))
        left = int(random.integers(window.shape[3] - side + 1))
        # Copies only that part.
        crop = window[numbers, :, top : top + side, left : left + side]
        if not settings.min_motion or (motion := _motion(crop)) >= settings.min_motion:
            return crop
        tried.append((motion, crop))
    return max(tried, key=itemgetter(0))[1]


def _motion(frames: Tensor) -> float:
    if len(frames) < 2:
        return float("inf")
    # Differences of uint8 would wrap around.
    values = frames.to(torch.int16)
    return float((values[1:] - values[:-1]).abs().mean(dtype=torch.float32))


def _pictures(clip: TrainingClip, frames: list[Frame]) -> Tensor:
    pictures = []
    for frame in frames:
        rgb = rgb_of(frame)
        if clip.shape != (frame.height, frame.width):
            rgb = F.interpolate(rgb[None], clip.shape, mode="bilinear", antialias=True)[0]
        pictures.append(rgb.clamp_(0, 1).mul_(255).round_().to(torch.uint8))
    return torch.stack(pictures)


def _starts(clip: TrainingClip, needed: int) -> list[tuple[int, int]]:
    starts: list[tuple[int, int]] = []
    for begin, end in clip.parts():
        starts += [(first, end) for first in range(begin, end - needed + 1)]
    return starts


_LINES = (1, 4)  # the fewest and the most lines of text
_GLYPH = 5  # height of a letter, in cells
_CELL = (1, 5)  # the smallest and the largest side of a cell, in pixels
_LONGEST = 60  # lines are shorter than this, in cells
_INK = 0.55  # fraction of the cells that are filled


def overlaid(frames: Tensor, random: np.random.Generator) -> Tensor:
    """Return frames, (L, 3, H, W) uint8, with lines of random cells, often in a box."""
    height, width = frames.shape[2:]
    beside = -(-width // 4)
    below = _LINES[1] * (_GLYPH + 2) * _CELL[1]
    # Lines may reach beyond the edges.
    ink, box = np.zeros((2, height + below, beside + width + _LONGEST * _CELL[1]), bool)
    opacity = float(random.uniform(0.5, 1.0))
    colours = torch.from_numpy(random.integers(0, 256, (2, 3, 1, 1))).float()
    if random.random() < 0.5:  # text in videos is often white
        colours[0] = 255
    boxed = random.random() < 0.5
    cell = int(random.integers(_CELL[0], _CELL[1] + 1))
    top = int(random.integers(height))
    left = int(random.integers(-beside, width)) + beside
    for _ in range(int(random.integers(_LINES[0], _LINES[1] + 1))):
        cells = random.random((_GLYPH, int(random.integers(3, _LONGEST)))) < _INK
        # Empty columns separate the letters.
        cells[:, 3::4] = False
        line = cells.repeat(cell, 0).repeat(cell, 1)
        area = (slice(top, top + line.shape[0]), slice(left, left + line.shape[1]))
        box[area] |= boxed
        ink[area] |= line
        top += line.shape[0] + 2 * cell
    result = frames.float()
    for mask, colour in ((box, colours[1]), (ink, colours[0])):
        weight = opacity * torch.from_numpy(mask[:height, beside:][:, :width]).float()
        result = torch.lerp(result, colour, weight)
    return result.round_().to(torch.uint8)
