"""What a dream is made of: the last scene's frames before it begins, retimed to even motion.

The *grid* is the output's own: its last point is the last frame whose content is new, and its
points lie one step of the output apart. What is shown there is the nearest real frame, moved by the
fraction of its flow that is missing. No two frames are ever mixed, so nothing is seen double.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.material.fixed import fixed_parts
from cloudconv.dreaming.material.matte import held_matte, still_matte
from cloudconv.dreaming.pictures import (
    analysis_size,
    grey,
    moved,
    resized,
    resized_flow,
    small_copy,
)
from cloudconv.media.color import rgb_of
from cloudconv.media.frame import Frame
from cloudconv.models.flow import measured_flow

_Floats = NDArray[np.float32]
_Bytes = NDArray[np.uint8]

_KEPT_PICTURES = 4  # full-size pictures that are kept: neighbours in time are asked for together
_PAIRS = 48  # pairs of neighbours whose flow tells how things move
_LOOKS = 40  # frames that tell where nothing moves
_LAG_PAIRS = 24  # pairs of frames that tell how much a pixel changes
_LAG = 30  # frames between them: long enough for slow cloud near the horizon
_HALF = np.float16


class Material:
    """The frames that a dream is made of.

    ``m.picture(k)`` is full size, ``m.small(k)`` and ``m.flow(k)`` are for analysis; ``k`` runs
    from 0 to ``len(m) - 1`` and from the end as in lists. ``step`` is the time between two of
    them, ``last`` the last real frame, ``cut`` the time of the cut that the scene begins with on
    the source's clock. ``cadence`` says how the source's frames repeat, if they do so regularly.

    Args:
        frames: those that differ, oldest first; at least one.
        device: where full-size pictures are made.
        times: when the content of each belongs, in seconds, strictly rising; None for the
            frames' own times.
        step: the time between two frames of the output; None for the usual gap.
        last: the last frame as shown, which may repeat the last of ``frames``.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        *,
        device: torch.device | str = "cpu",
        times: Sequence[Fraction] | None = None,
        step: Fraction | None = None,
        last: Frame | None = None,
        cut: Fraction | None = None,
        cadence: str | None = None,
    ) -> None:
        if not frames:
            raise ValueError("material needs at least one frame")
        self.real_frames = tuple(frames)
        times = [frame.time for frame in frames] if times is None else list(times)
        if len(times) != len(frames):
            raise ValueError(f"one time a frame is needed: {len(times) = }, {len(frames) = }")
        self.device = torch.device(device)
        self.step = step or _usual_gap(times) or frames[-1].duration or Fraction(1, 25)
        self.last = last or frames[-1]
        self.cut = cut
        self.cadence = cadence
        self.size = (self.last.height, self.last.width)
        self.small_size = analysis_size(*self.size)
        self.times = tuple(times)
        self._places = _places(times, self.step)
        gaps = [float(b - a) for a, b in pairwise(times)] or [float(self.step)]
        # How many steps of the output each pair's flow is worth.
        self._paces = [gap / float(self.step) for gap in gaps]
        self._pictures: OrderedDict[int, Tensor] = OrderedDict()
        self._smalls: dict[int, _Bytes] = {}
        self._flows: dict[int, NDArray[np.float16]] = {}
        self._leads: dict[int, NDArray[np.float16]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def picture(self, k: int) -> Tensor:
        """The frame at ``k``: (3, H, W) float32 RGB on ``device``, nominally in [0, 1].

        Not to be written to.

        Raises:
            IndexError: there is no such frame.
        """
        k = self._index(k)
        kept = self._pictures.pop(k, None)
        if kept is None:
            kept = self._picture(k)
        self._pictures[k] = kept
        if len(self._pictures) > _KEPT_PICTURES:
            self._pictures.popitem(last=False)
        return kept

    def glance(self, k: int) -> _Bytes:
        """As ``small``, but the real frame as it is, not moved to where it is at ``k``."""
        return self.real_small(self.place(k)[0])

    def small(self, k: int) -> _Bytes:
        """The frame at ``k`` for analysis: (h, w, 3) uint8, the longest side at most 480."""
        frame, lead = self.place(k)
        still = self.real_small(frame)
        if not lead:
            return still
        levels = torch.from_numpy(still).permute(2, 0, 1).float()
        levels = moved(levels, self._lead(frame, lead)[0])
        return levels.permute(1, 2, 0).round_().clamp_(0, 255).byte().contiguous().numpy()

    def flow(self, k: int) -> _Floats:
        """How things moved up to ``k``: backward flow from ``small(k)`` to ``small(k - 1)``.

        (h, w, 2) float32, (dx, dy) in pixels of the small picture. It is the flow between the
        nearest real frames, scaled to one step.

        Raises:
            IndexError: there is no such frame, or none before it.
        """
        k = self._index(k)
        if k == 0:
            raise IndexError("the first frame of the material has none before it")
        return self._pair_flow(max(self.place(k)[0], 1))

    @cached_property
    def fixed(self) -> Tensor:
        """Where nothing moves in any frame: (h, w) float32 on ``device``, 0 or 1."""
        count = len(self.real_frames)
        if count < 2:
            return torch.zeros(self.small_size, device=self.device)
        chosen = np.unique(np.linspace(0, count - 1, min(count, _LOOKS)).round().astype(int))
        found = fixed_parts([self.real_small(int(k)) for k in chosen])
        return torch.from_numpy(found).to(self.device)

    @cached_property
    def matte(self) -> Tensor:
        """What stands still, at full size: (H, W) float32 on ``device``; see ``still_matte``."""
        count = len(self.real_frames)
        if count < 2:
            return torch.zeros(self.size, device=self.device)
        lag = min(_LAG, count - 1)
        starts = np.unique(np.linspace(0, count - 1 - lag, _LAG_PAIRS).round().astype(int))
        pairs = (
            (self.real(int(k)), self.real(int(k) + lag), self.seen(int(k) + lag, lag))
            for k in starts
        )
        return still_matte(pairs, self.fixed)

    @cached_property
    def held(self) -> Tensor:
        """What must stay when the last frame is moved: (H, W) float32; see ``held_matte``."""
        return held_matte(self.picture(-1), self.matte, self.fixed)

    @cached_property
    def static(self) -> _Floats:
        """What stands still: (h, w) float32 in [0, 1], 1 where nothing ever moves, soft edges."""
        still: _Floats = resized(self.matte[None], self.small_size)[0].cpu().numpy()
        return still

    def place(self, k: int) -> tuple[int, float]:
        """Which of ``real_frames`` is shown at ``k``, and by how many gaps it is moved on."""
        return self._places[self._index(k)]

    @property
    def last_seen(self) -> Tensor:
        """What was seen last, where a dream begins: (3, H, W)."""
        return self.picture(-1)

    def covers(self, k: int) -> Tensor | None:
        """Where the frame at ``k`` is its own, (h, w) in [0, 1]; None for everywhere."""
        return None

    def seen(self, frame: int, lag: int = 1) -> Tensor | None:
        """Where a real frame and that ``lag`` before it are, (h, w) for analysis; None as above."""
        return None

    def _index(self, k: int) -> int:
        count = len(self)
        if not -count <= k < count:
            raise IndexError(f"{k} is no frame of a material of {count}")
        return k % count

    def _picture(self, k: int) -> Tensor:
        frame, lead = self.place(k)
        rgb = self.real(frame)
        if not lead:
            return rgb
        flow = resized_flow(self._lead(frame, lead).to(self.device), self.size)
        return moved(rgb, flow[0])

    def real(self, frame: int) -> Tensor:
        """One of ``real_frames`` at full size: (3, H, W) float32."""
        return rgb_of(self.real_frames[frame], self.device)

    def real_small(self, frame: int) -> _Bytes:
        """The same for analysis: (h, w, 3) uint8."""
        kept = self._smalls.get(frame)
        if kept is None:
            kept = self._smalls[frame] = small_copy(self.real(frame), self.small_size)
        return kept

    def _flow(self, frame: int) -> NDArray[np.float16]:
        """Backward flow from a real frame to the one before it, (h, w, 2) in small pixels."""
        kept = self._flows.get(frame)
        if kept is None:
            flow = measured_flow(grey(self.real_small(frame)), grey(self.real_small(frame - 1)))
            # Half the memory, and finer by far than flow can be measured.
            kept = self._flows[frame] = flow.astype(_HALF)
        return kept

    def real_flow(self, frame: int) -> _Floats:
        """The backward flow from a real frame, from 1 on, to the one before: (h, w, 2)."""
        return self._flow(frame).astype(np.float32)

    def _pair_flow(self, frame: int) -> _Floats:
        """The same, scaled to one step of the output."""
        return self.real_flow(frame) / np.float32(self._paces[frame - 1])

    def _lead(self, frame: int, lead: float) -> Tensor:
        """What moves a real frame on by ``lead`` gaps: (1, 2, h, w) backward, in small pixels."""
        frame = max(frame, 1)
        kept = self._leads.get(frame)
        if kept is None:
            later, earlier = (grey(self.real_small(k)) for k in (frame, frame - 1))
            # For a part of the way, and nearly all frames are led: this had better be quick.
            kept = self._leads[frame] = measured_flow(later, earlier, quick=True).astype(_HALF)
        flow = kept.astype(np.float32) * np.float32(lead)
        flow *= (1 - self.static)[..., None]
        return torch.from_numpy(flow).permute(2, 0, 1)[None]


def spread(count: int) -> list[int]:
    """Numbers of up to 48 of so many frames that have one before them, evenly spread."""
    numbers = np.linspace(1, count - 1, min(count - 1, _PAIRS)).round().astype(int)
    return [int(k) for k in np.unique(numbers)]


def _usual_gap(times: Sequence[Fraction]) -> Fraction | None:
    gaps = sorted(b - a for a, b in pairwise(times))
    return gaps[len(gaps) // 2] if gaps else None


def _places(times: Sequence[Fraction], step: Fraction) -> list[tuple[int, float]]:
    """For each point of the grid the nearest frame, and how many gaps the point lies after it."""
    count = int((times[-1] - times[0]) / step) + 1
    places = []
    frame = len(times) - 1
    for number in range(count):
        time = times[-1] - number * step
        while frame > 0 and abs(times[frame - 1] - time) < abs(times[frame] - time):
            frame -= 1
        later = max(frame, 1)
        gap = times[later] - times[later - 1] if count > 1 else step
        places.append((frame, float((time - times[frame]) / gap)))
    return places[::-1]
