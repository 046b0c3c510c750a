"""Divide the last frames into layers, and draw the layers at a later time."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, product

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.forecasting.camera import (
    LITTLE,
    MEASURED,
    after,
    camera_of,
    transform,
)
from cloudconv.forecasting.painter import SOFT, Painter, nearest_last, painter_of
from cloudconv.forecasting.plate import EVEN, RIM, Mask
from cloudconv.forecasting.regions import (
    MOST_COVERED,
    Thing,
    background_of,
    things_of,
)
from cloudconv.forecasting.sampling import sample_on_threads, sample_sharply
from cloudconv.forecasting.things import Things
from cloudconv.forecasting.ways import FIT
from cloudconv.images import (
    LONGEST_SIDE,
    Area,
    Bytes,
    Floats,
    Motion,
    bounds,
    grid_of,
    luma,
    measured_flow,
    reduced,
    sample,
    smooth,
    whole,
    wider,
)
from cloudconv.transfer import upload

SIDE = 640
"""The longest side of the pictures in which motion is measured."""
_BENT = 2  # steps for which the remaining motion, such as that of legs, continues


@dataclass(frozen=True, slots=True)
class Layer:
    """A part of a picture, (1, 3, h, w), and a matte, (1, 1, h, w), at ``top``, ``left``.

    The background has no matte. ``rest`` is a motion of the layer's parts in a step, such
    as that of legs: (1, 2, h, w), backward, in pixels; ``reach`` is the largest one.
    """

    picture: Tensor
    matte: Tensor | None
    top: int
    left: int
    rest: Tensor
    reach: float

    def onto(self, target: Tensor, motion: Motion, bent: int) -> None:
        """Draw the layer onto ``target``, (1, 3, H, W).

        ``motion`` maps positions of the target to the layer's, whose parts move for
        ``bent`` steps. Beyond the edges of the background its mirror image follows.
        """
        height, width = self.picture.shape[2:]
        rows, columns = self._reached(motion, target.shape[2:], bent * self.reach)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        # grid_sample takes positions from -1 to 1 between the centres of the outer pixels.
        scale = np.diag([2 / max(width - 1, 1), 2 / max(height - 1, 1)])
        linear = scale @ motion[:2, :2]
        start = motion[:2] @ np.array([columns.start, rows.start, 1.0])
        offset = scale @ (start - (self.left, self.top)) - 1
        numbers = np.column_stack([linear, offset, bent * scale.diagonal()]).astype(
            np.float32
        )
        (sent,) = upload([torch.from_numpy(numbers)], target.device)
        x = torch.arange(columns.stop - columns.start, device=target.device)[None, :, None]
        y = torch.arange(rows.stop - rows.start, device=target.device)[:, None, None]
        grid = (x * sent[:, 0] + (y * sent[:, 1] + sent[:, 2]))[None]
        if self.reach:
            rest = sample_on_threads(self.rest, grid, "bilinear", "border")
            grid = grid + rest.permute(0, 2, 3, 1) * sent[:, 3]
        area = target[:, :, rows, columns]
        if self.matte is None:
            area.copy_(sample_sharply(self.picture, grid))
            return
        colours = sample_sharply(self.picture, grid)
        matte = sample_on_threads(self.matte, grid, "bilinear", "zeros")
        area.lerp_(colours, matte)

    def _reached(self, motion: Motion, size: Sequence[int], reach: float) -> Area:
        """Return the rows and columns of the target that the layer may reach."""
        if self.matte is None:
            return whole(size)
        height, width = self.picture.shape[2:]
        x = (self.left - reach, self.left + width + reach)
        y = (self.top - reach, self.top + height + reach)
        outline = np.array([*product(x, y)], np.float32)
        corners = transform(np.asarray(np.linalg.inv(motion), float), outline)
        least = np.floor(corners.min(0)) - 1
        most = np.ceil(corners.max(0)) + 2
        left, right = np.clip([least[0], most[0]], 0, size[1]).astype(int)
        top, bottom = np.clip([least[1], most[1]], 0, size[0]).astype(int)
        return slice(int(top), int(bottom)), slice(int(left), int(right))


@dataclass(frozen=True, slots=True)
class Scene:
    """The last frame's layers, farthest first, each with its velocity one step back."""

    layers: tuple[tuple[Layer, Motion], ...]
    size: tuple[int, int]

    def pictures(self, steps: Sequence[int]) -> Iterator[Tensor]:
        """Yield the pictures at some steps after the last frame, each (1, 3, H, W)."""
        (ground, camera), *things = self.layers
        background = torch.empty_like(ground.picture)
        drawn = 0
        for step in steps:
            bent = min(step, _BENT)
            if bent != drawn or camera.any():
                ground.onto(background, after(camera, step, self.size), bent)
            drawn = bent
            target = background.clone()
            for thing, velocity in things:
                thing.onto(target, after(velocity, step, self.size), bent)
            yield target


@dataclass(frozen=True, slots=True)
class StillScene:
    """The things before a camera that stands, and the last of their pictures."""

    things: Things
    painter: Painter
    last: Tensor

    def pictures(self, steps: Sequence[int]) -> Iterator[Tensor]:
        """Yield the pictures at some steps after the last frame, each (1, 3, H, W)."""
        end = self.things.plate.count - 1
        sights = [sight for track in self.things.tracks if (sight := track.sight(end))]
        background = self.last[0].cpu().permute(1, 2, 0).numpy().copy()
        self.painter.clear(background, end, sights)
        for step in steps:
            target = background.copy()
            for seen in nearest_last(
                going.after(end + step) for going in self.things.going
            ):
                self.painter.paint(target, end, seen)
            picture = torch.from_numpy(target).to(self.last.device)
            yield picture.permute(2, 0, 1)[None]


def scene_of(frames: Sequence[Callable[[], Tensor]]) -> Scene | StillScene:
    """Return the layers of the last frame, or the things before a camera that stands.

    Each of ``frames`` returns a picture, (3, H, W) on the device that draws, oldest first.
    """
    last = frames[-1]()[None].float()
    latest: deque[Bytes] = deque(maxlen=2 * FIT)
    still = _still_scene(frames, latest, last)
    if still is not None:
        return still
    pictures = [*reversed(latest)]
    height, width = last.shape[2:]
    small = [reduced(picture, SIDE) for picture in pictures]
    greys = [luma(picture) for picture in small]
    camera = camera_of(greys)
    flows = [
        measured_flow(later, earlier) for later, earlier in pairwise(greys[: MEASURED + 1])
    ]
    things = things_of(small, camera, flows)
    if sum(int(thing.mask.sum()) for thing in things) > MOST_COVERED * greys[0].size:
        things = []
    velocities = [camera.velocity, *(thing.velocity for thing in things)]
    flow = np.mean(flows, 0)
    insides = _insides(things, flow.shape[:2])
    rests = [
        _rest(greys, flow, *layer_parts)
        for layer_parts in zip(velocities, insides, strict=True)
    ]
    mattes = [_soft(thing, (width, height)) for thing in things]
    background = last
    if things:
        behind = (np.max(mattes, 0) > 0.5).astype(np.uint8)
        plate = background_of(pictures, behind, camera.extended(greys), things)
        (sent,) = upload([torch.from_numpy(plate)], last.device)
        background = sent.permute(2, 0, 1)[None].float().div(255)
    layers = [layer_of(background, rests[0], None)]
    layers += [
        layer_of(last, *layer_parts) for layer_parts in zip(rests[1:], mattes, strict=True)
    ]
    return Scene(tuple(zip(layers, velocities, strict=True)), (height, width))


def _still_scene(
    frames: Sequence[Callable[[], Tensor]], latest: deque[Bytes], last: Tensor
) -> StillScene | None:
    """Return the things before a camera that stands, None if things do not hold.

    The last frames are kept in ``latest``.
    """
    if len(frames) < FIT:
        latest.extend(_bytes(frame()) for frame in frames)
        return None
    things = Things([reduced(one, LONGEST_SIDE) for one in _noted(frames, latest)])
    if not things.hold or things.plate.drifts:
        return None
    earlier = map(_bytes, (frame() for frame in frames[: -len(latest)]))
    return StillScene(things, painter_of(things, chain(earlier, latest)), last)


def layer_of(picture: Tensor, rest: Floats, matte: Floats | None) -> Layer:
    """Return the layer of ``picture``, (1, 3, H, W), that a matte shows, (H, W) in [0, 1].

    ``rest`` is the motion of its parts, (h, w, 2), in pixels of its own size.
    """
    height, width = picture.shape[2:]
    visible = (
        np.ones((height, width), np.uint8)
        if matte is None
        else (matte > 0).astype(np.uint8)
    )
    rows, columns = area = bounds(visible)
    large = cv2.resize(rest, (width, height), interpolation=cv2.INTER_LINEAR)[area]
    rest = np.moveaxis(large * np.float32(width / rest.shape[1]), -1, 0)[None]
    planes = [rest, *([] if matte is None else [matte[None, None, rows, columns]])]
    sent = upload([torch.from_numpy(plane.copy()) for plane in planes], picture.device)
    return Layer(
        picture[:, :, rows, columns].contiguous(),
        None if matte is None else sent[1],
        rows.start,
        columns.start,
        sent[0],
        float(np.abs(rest).max()),
    )


def _noted(frames: Sequence[Callable[[], Tensor]], latest: deque[Bytes]) -> Iterator[Bytes]:
    """Yield frames as bytes, and keep the last ones in ``latest``."""
    for frame in frames:
        latest.append(_bytes(frame()))
        yield latest[-1]


def _bytes(frame: Tensor) -> Bytes:
    planes = frame.detach().mul(255).round_().clamp_(0, 255).byte().cpu().numpy()
    return cv2.merge([*planes]).astype(np.uint8, copy=False)


def _insides(things: Sequence[Thing], size: Sequence[int]) -> list[Mask]:
    """Return where only the background is, and for each thing where only that thing is."""
    masks = [thing.mask for thing in things]
    covered = np.bitwise_or.reduce([np.zeros(size, np.uint8), *masks])
    return [1 - wider(covered, RIM), *(1 - wider(1 - mask, RIM) for mask in masks)]


def _rest(greys: Sequence[Bytes], flow: Floats, velocity: Motion, inside: Mask) -> Floats:
    """Return the flow less a layer's own motion, one step back: (h, w, 2).

    The result is 0 where the flow explains the last frame no better than the own motion.
    """
    area = bounds(inside, int(4 * EVEN))
    rest = np.zeros_like(flow)
    grid = grid_of(inside.shape)[area]
    own = transform(after(velocity, 1, inside.shape), grid)
    along = grid + flow[area]
    last, before = (grey.astype(np.float32) for grey in greys[:2])
    wrong, less = (
        cv2.absdiff(last[area], sample(before, places, how=cv2.INTER_LINEAR))
        for places in (own, along)
    )
    share = (smooth(wrong - less, EVEN) > 0) * inside[area]
    even = smooth((along - own) * share[..., None], EVEN)
    weight = smooth(inside[area].astype(np.float32), EVEN)
    rest[area] = even / (weight + LITTLE)[..., None]
    return rest


def _soft(thing: Thing, size: tuple[int, int]) -> Floats:
    soft = cv2.GaussianBlur(thing.mask.astype(np.float32), (0, 0), SOFT)
    soft[soft < 0.02] = 0
    return cv2.resize(soft, size, interpolation=cv2.INTER_LINEAR)
