"""texture: the clip's own frames, played on and on by jumps between those that look alike.

Source: Schödl, Szeliski, Salesin and Essa, Video Textures, SIGGRAPH 2000. A jump is hidden by
moving the new frames to where the old ones had things and letting go of that gradually; only what
is left of the difference then fades, carried along with the motion, so nothing is seen double that
the clip shows in both places.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from cloudconv.dreaming.analysis import grey, resized_flow, small_copy
from cloudconv.dreaming.compositing import blurred, moved
from cloudconv.dreaming.jumps import Jumps
from cloudconv.dreaming.likeness import thumbnail, thumbnails
from cloudconv.dreaming.material import Material
from cloudconv.models.flow import measured_flow
from cloudconv.models.ops import warp

_OVER = 24  # frames that a jump is hidden in
_AREA = 0.012  # of the longer side: how smooth the movement that hides a jump is
_EXPLAINED = 0.6  # share of a difference that moving things may leave
_FAR = 0.02  # of the longer side: further than that nothing is moved
_PLANNED = 4  # of a loop, the last so many lengths of the clip are planned exactly


class Texture:
    """Plays real frames; see the module."""

    def dream(
        self,
        material: Material,
        *,
        frames: int,
        seed: int,
        loop: bool = False,
        loop_to: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """See :class:`~cloudconv.dreaming.base.Method`."""
        count = len(material)
        over = min(_OVER, count // 3)
        jumps = Jumps(thumbnails(material), over)
        walk = jumps.walk(np.random.default_rng(seed), count - 1)
        player = _Player(material, over)
        if not loop:
            yield from (player.show(number) for number in islice(walk, frames))
            return
        start = count - 1
        if loop_to is None:
            # Nothing comes before the first frame, so that it needs no hiding.
            start = next(walk)
            player.begin(start)
            loop_to = material.picture(start)
            yield loop_to
            frames -= 1
        planned = min(frames, _PLANNED * count)
        for number in islice(walk, frames - planned):
            start = number
            yield player.show(number)
        target = thumbnail(small_copy(loop_to, material.small_size))
        path = jumps.path(start, planned, target)
        closing = _Closing(material, path[-1], loop_to) if path else None
        for place, number in enumerate(path):
            picture, left = player.show(number), planned - place
            if closing is not None and left <= over:
                picture = closing.lead(picture, left, over)
            yield picture


class _Offset:
    """What makes a picture of the clip look like another: how it is moved, and what is then left.

    ``wanted`` and ``given`` are full-size pictures (3, H, W).
    """

    def __init__(self, wanted: Tensor, given: Tensor, small_size: tuple[int, int]) -> None:
        a, b = (small_copy(picture, small_size) for picture in (wanted, given))
        flow = torch.from_numpy(measured_flow(grey(a), grey(b))).permute(2, 0, 1).contiguous()
        pair = torch.from_numpy(np.stack((a, b))).permute(0, 3, 1, 2).float().div(255)
        longest = max(small_size)
        before = blurred((pair[0] - pair[1]).abs().mean(0, keepdim=True), _AREA * longest)
        left = (pair[0] - warp(pair[1:], flow[None])[0]).abs().mean(0, keepdim=True)
        # Where flow explains little, or things would have to go far, moving them would tear them.
        good = blurred(left, _AREA * longest) < _EXPLAINED * before
        near = flow.square().sum(0, keepdim=True) < (_FAR * longest) ** 2
        self._flow = blurred(flow * (good & near), _AREA * longest).to(wanted.device)
        self._rest = wanted - moved(given, _full(self._flow, given))

    def apply(self, picture: Tensor, share: float, way: Tensor) -> Tensor:
        """The picture, made like the wanted one by a share.

        ``way``: (2, h, w), where each of its pixels was, or will be, when the two were compared.
        """
        flow = warp(self._flow[None], way[None])[0]
        rest = warp(self._rest[None], _full(way, picture)[None])[0]
        return moved(picture, _full(flow * share, picture)) + rest * share


def _full(flow: Tensor, like: Tensor) -> Tensor:
    return resized_flow(flow[None], (like.shape[1], like.shape[2]))[0]


class _Player:
    """Shows frames of the clip one after the other, and hides where it jumps."""

    def __init__(self, material: Material, over: int) -> None:
        self._material, self._over = material, over
        self._shown = len(material) - 1
        self._offset: _Offset | None = None
        self._age = 0
        self._picture: Tensor | None = None
        self._way = torch.zeros(())

    def begin(self, number: int) -> None:
        """Start from a frame that was shown as it is."""
        self._shown, self._offset, self._picture = number, None, None

    def show(self, number: int) -> Tensor:
        """The next picture: frame ``number``, which need not follow the one before."""
        material = self._material
        flow = _flow_of(material, number)
        if number != self._shown + 1 and number and self._over:
            before = material.picture(self._shown) if self._picture is None else self._picture
            given = material.picture(number - 1)
            self._offset = _Offset(before, given, material.small_size)
            self._way, self._age = torch.zeros_like(flow), 0
        self._shown, self._picture = number, None
        self._age += 1
        if self._offset is None or self._age > self._over:
            self._offset = None
            return material.picture(number)
        self._way = flow + warp(self._way[None], flow[None])[0]
        share = 1 - _eased(self._age / (self._over + 1))
        self._picture = self._offset.apply(material.picture(number), share, self._way)
        return self._picture


class _Closing:
    """Leads the end of a loop to its beginning: the picture ``target`` follows frame ``last``."""

    def __init__(self, material: Material, last: int, target: Tensor) -> None:
        following = min(last + 1, len(material) - 1)
        self._offset = _Offset(target, material.picture(following), material.small_size)
        self._flow = _flow_of(material, following)

    def lead(self, picture: Tensor, left: int, over: int) -> Tensor:
        """The picture that is shown ``left`` frames before the target."""
        return self._offset.apply(picture, 1 - _eased(left / (over + 1)), -left * self._flow)


def _flow_of(material: Material, number: int) -> Tensor:
    """Backward flow, (2, h, w); the first frame moves as the second does."""
    flow = (
        material.flow(max(number, 1)) if len(material) > 1 else np.zeros((*material.small_size, 2))
    )
    return torch.from_numpy(flow).float().permute(2, 0, 1).contiguous().to(material.device)


def _eased(share: float) -> float:
    """From 0 to 1, starting and ending gently, but never much faster than evenly."""
    return (share + share * share * (3 - 2 * share)) / 2
