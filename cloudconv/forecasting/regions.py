"""Find things that move steadily before the background, and their outlines.

A region of the optical flow that differs from the camera's motion proposes a motion. Each
pixel of the last frame then takes the motion, of a thing or of the camera, along which the
pixel had the same colour in the frames before. The background behind the things comes from
the frames before, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from cloudconv.forecasting.camera import (
    LITTLE,
    MEASURED,
    SLOW,
    Camera,
    after,
    logarithm,
    transform,
)
from cloudconv.forecasting.plate import RIM, UNLIKE, Mask
from cloudconv.forecasting.sights import SEARCH, least_area
from cloudconv.images import (
    Area,
    Bytes,
    Floats,
    Motion,
    bounds,
    connected,
    disc,
    gradients,
    grid_of,
    sample,
    solid,
    transformed,
    whole,
    wider,
)

MOST_COVERED = 0.4
"""The largest part of the picture that things cover; more is a view with depth, or
water."""

_DOUBT = 0.08  # error of the flow, as a part of the camera's motion
_SUDDEN = 0.5  # largest change of a velocity over the frames, as a part
_MOST_ERROR = 60.0  # of a pixel, of 255
_PRIOR = 2.5  # gain of a pixel inside the region of the flow


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing: its outline in the last frame, (h, w), 0 or 1, and its motion back.

    ``back`` has for each number of steps the motion to the frame that many steps before, as
    in :class:`~cloudconv.forecasting.camera.Camera`.
    """

    mask: Mask
    velocity: Motion
    back: tuple[Motion, ...]


def things_of(
    pictures: Sequence[Bytes], camera: Camera, flows: Sequence[Floats]
) -> list[Thing]:
    """Return the things that move before the background.

    Args:
        pictures: (h, w, 3) RGB, the last frame first.
        camera: the motion of the background.
        flows: the optical flow from each picture to the one before, (h, w, 2), ``MEASURED``
            or fewer.
    """
    size = pictures[0].shape[:2]
    grid = grid_of(size)
    paths = []
    path = np.zeros_like(flows[0])
    for flow in flows:
        path = path + sample(flow, grid + path, how=cv2.INTER_LINEAR)
        paths.append(path)
    behind = _error(pictures, camera.back[1 : len(paths) + 1], whole(size))
    proposals = _proposals(paths, camera, grid, behind)
    least = _mean(behind, RIM)
    doubtful = _different(behind)
    best = np.zeros(size, np.uint8)
    for number, (region, motions, _) in enumerate(proposals, 1):
        _, _, width, height = cv2.boundingRect(region)
        near = cv2.dilate(region, disc(int(12.85 + 0.15 * min(width, height)) // 2))
        area = bounds(near, RIM)
        error = _mean(_error(pictures, motions, area), RIM)
        error -= _PRIOR * (region & doubtful)[area]
        better = (near[area] > 0) & (error < least[area])
        least[area][better] = error[better]
        best[area][better] = number
    things = []
    free = np.ones(size, np.uint8)
    for number, (_, motions, velocity) in enumerate(proposals, 1):
        mask = _filled((best == number).astype(np.uint8)) & free
        if mask.sum() >= least_area(size):
            free &= 1 - mask
            things.append(
                Thing(mask, velocity, _followed(mask, velocity, motions, pictures))
            )
    return things


def _proposals(
    paths: Sequence[Floats], camera: Camera, grid: Floats, behind: Floats
) -> list[tuple[Mask, list[Motion], Motion]]:
    """Return regions, each with its motions to the earlier frames and its velocity."""
    own = [
        (path + grid - transform(camera.back[step], grid)) / step
        for step, path in enumerate(paths, 1)
    ]
    relative = np.median(own[-3:], 0).astype(np.float32)
    smooth = [
        cv2.medianBlur(np.ascontiguousarray(relative[..., axis]), 5) for axis in (0, 1)
    ]
    speed = cv2.magnitude(*smooth)
    slopes = [slope for channel in smooth for slope in gradients(channel)]
    cameras = np.linalg.norm(transform(camera.back[1], grid) - grid, axis=-1)
    moving = (speed > SLOW + _DOUBT * cameras) & (_different(behind) > 0)
    moving &= np.abs(slopes).sum(0) < SLOW + 0.1 * speed
    opened = cv2.morphologyEx(
        moving.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
    )
    proposals = []
    regions = connected(opened, least_area(opened.shape), connectivity=4)
    for region in sorted(regions, key=np.sum, reverse=True):
        motions = _motions(region, paths, grid, camera)
        if motions is not None:
            velocity = logarithm(motions[-1], region.shape) / len(motions)
            proposals.append((region, motions, velocity))
    return proposals


def _different(behind: Floats) -> Mask:
    """Return where the camera's motion explains less than elsewhere, 0 or 1."""
    return (_mean(behind, 3) > 2 * float(np.median(behind))).astype(np.uint8)


def _motions(
    region: Mask, paths: Sequence[Floats], grid: Floats, camera: Camera
) -> list[Motion] | None:
    """Return the motion of a region to each earlier frame; None if it is not steady.

    Speeds are relative to the background, because the camera may follow a thing.
    """
    rows, columns = np.nonzero(region)
    step = max(1, len(rows) // 2000)
    rows = rows[::step]
    columns = columns[::step]
    start = grid[rows, columns]
    motions = []
    for path in paths:
        end = start + path[rows, columns]
        affine, _ = cv2.estimateAffinePartial2D(start, end, ransacReprojThreshold=1.0)
        if affine is None:
            affine = np.column_stack([np.eye(2), np.median(end - start, 0)])
        motions.append(np.vstack([affine, [0, 0, 1]]))
    centre = start.mean(0)
    speeds = [
        (transform(motion, centre) - transform(camera.back[n], centre)) / n
        for n, motion in enumerate(motions, 1)
    ]
    change = np.linalg.norm(speeds[-1] - speeds[0])
    return motions if change <= _SUDDEN * np.linalg.norm(speeds[-1]) + SLOW else None


def _error(pictures: Sequence[Bytes], motions: Sequence[Motion], area: Area) -> Floats:
    """Return pixels' differences to earlier frames along motions, without the largest.

    Each pixel may be hidden in one of the frames.
    """
    last = pictures[0][area]
    errors = []
    for picture, motion in zip(pictures[1:], motions, strict=False):
        red, green, blue = cv2.split(cv2.absdiff(last, transformed(picture, motion, area)))
        largest = cv2.max(cv2.max(red, green), blue)
        errors.append(cv2.min(largest, _MOST_ERROR).astype(np.float32))
    worst = len(errors) > 2
    total = np.sum(errors, 0) - (np.max(errors, 0) if worst else 0)
    mean: Floats = (total / (len(errors) - worst)).astype(np.float32)
    return mean


def _filled(mask: Mask) -> Mask:
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc(4))
    return solid(cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), 20)


def _mean(values: Floats, reach: int) -> Floats:
    return cv2.blur(values, (2 * reach + 1, 2 * reach + 1)).astype(np.float32)


def _followed(
    mask: Mask, velocity: Motion, motions: Sequence[Motion], pictures: Sequence[Bytes]
) -> tuple[Motion, ...]:
    """Return the motion of a thing to all earlier frames, by matching its picture."""
    area = bounds(mask, 0)
    around = tuple(slice(span.start - SEARCH, span.stop + SEARCH) for span in area)
    shape = mask[area]
    wanted = pictures[0][area]
    back = [np.eye(3), *motions]
    step = after(velocity, 1, mask.shape)
    for picture in pictures[len(back) :]:
        guess = step @ back[-1]
        # The place of the best match in a window around the thing gives the error of the
        # guess.
        window = transformed(
            picture, guess, (around[0], around[1]), outside=cv2.BORDER_CONSTANT
        )
        errors = cv2.matchTemplate(window, wanted, cv2.TM_SQDIFF, mask=shape)
        row, column = np.unravel_index(np.argmin(errors), errors.shape)
        shift = [[1, 0, column - SEARCH], [0, 1, row - SEARCH], [0, 0, 1]]
        back.append(guess @ np.array(shift, float))
    return tuple(back)


def in_past(thing: Thing, camera: Camera, steps: int) -> Mask:
    """Return where the thing was ``steps`` before, in a picture aligned with the last."""
    motion = np.linalg.inv(thing.back[steps]) @ camera.back[steps]
    return transformed(thing.mask, motion, outside=cv2.BORDER_CONSTANT)


def background_of(
    pictures: Sequence[Bytes], behind: Mask, camera: Camera, things: Sequence[Thing]
) -> Bytes:
    """Return the last frame without its things: (H, W, 3).

    A pixel behind a thing is the median of the latest frames that show the background
    there. Where none does, the surroundings are continued (Telea 2004, in OpenCV's
    version).

    Args:
        pictures: (H, W, 3) RGB, the last frame first.
        behind: where the things are, (H, W), 0 or 1.
        camera: the motion of the background, in pictures of the size of the things' masks.
        things: the things to remove.
    """
    plate = pictures[0].copy()
    small = things[0].mask
    hidden = wider(behind, RIM)
    rows, columns = np.nonzero(hidden)
    height, width = (small.shape[axis] / behind.shape[axis] for axis in (0, 1))
    at = (rows * height).astype(np.intp), (columns * width).astype(np.intp)
    scale = np.diag([width, height, 1.0])
    colours = np.full((MEASURED, len(rows), 3), np.nan, np.float32)
    count = np.zeros(len(rows), np.intp)
    for steps in range(1, len(pictures)):
        there = np.bitwise_or.reduce([in_past(thing, camera, steps) for thing in things])
        inside = transformed(
            np.ones_like(small), camera.back[steps], outside=cv2.BORDER_CONSTANT
        )
        # An outline is less certain in an earlier frame than in the last one.
        free = (inside > 0) & (wider(there, round(2 * RIM * width)) == 0)
        new = np.nonzero(free[at] & (count < MEASURED))[0]
        aligned = transformed(
            pictures[steps], np.linalg.inv(scale) @ camera.back[steps] @ scale
        )
        colours[count[new], new] = aligned[rows[new], columns[new]]
        count[new] += 1
    known = torch.from_numpy(colours)
    median = known.nanmedian(0).values
    unlike = (known - median).abs().amax(-1).nanmedian(0).values.numpy()
    certain = (count >= min(MEASURED, len(pictures) - 1)) & (unlike < UNLIKE)
    bare = plate.astype(np.float32)
    bare[rows[certain], columns[certain]] = median.numpy()[certain]
    plate = _lit(bare, pictures[0], hidden - behind, hidden)
    unseen = np.zeros_like(behind)
    unseen[rows[~certain], columns[~certain]] = 1
    if unseen.any():
        plate = cv2.inpaint(plate, unseen, RIM, cv2.INPAINT_TELEA).astype(np.uint8)
    soft = cv2.GaussianBlur(hidden.astype(np.float32), (0, 0), 2)[..., None]
    soft = np.where(behind[..., None] > 0, 1, soft)
    mixed: Bytes = (plate * soft + pictures[0] * (1 - soft)).round().astype(np.uint8)
    return mixed


def _lit(plate: Floats, last: Bytes, rim: Mask, hidden: Mask) -> Bytes:
    """Return the plate in the last frame's light, which differs by the exposure."""
    weights = rim.astype(np.float32)[..., None]
    both = np.concatenate([(last - plate) * weights, weights], -1)
    near = cv2.GaussianBlur(both, (0, 0), 2 * RIM)
    lighter = near[..., :3] / (near[..., 3:] + LITTLE)
    return (plate + lighter * hidden[..., None]).clip(0, 255).round().astype(np.uint8)
