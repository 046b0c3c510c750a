"""Mode ``flow``: move one picture along a steady field, from a clip or from a still.

Source: Holynski et al., Animating Pictures with Eulerian Motion Fields, CVPR 2021 (arXiv
2011.15128). The picture moves forwards and backwards along a field that does not change
with time. The two movements are cross-faded over a period, so that the result repeats
without a seam. Unlike in the paper, pictures are sampled along backward flow. Where one of
the two movements leads out of the picture, the other movement is used.
"""

from collections.abc import Iterator

import numpy as np

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.wind import (
    Drift,
    SkyBehind,
    end_flow,
    mean_flow,
    unfolded,
)
from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.compositing import blended
from cloudconv.dreaming.methods.transition import Seam, order_of
from cloudconv.dreaming.planes import colours, held
from cloudconv.images import (
    TINY,
    Floats,
    in_channels,
    lerp,
    lerp_into,
    resized_flow,
    spread,
    weight_size,
)

# Distance that the fastest parts move in a period, of the longer side. A measured motion is
# uneven and distorts clouds; with an even wind the sky enters again before it has left.
_TRAVEL = 0.1
_TRAVEL_EVEN = 0.8
_SHORTEST, _LONGEST = 24, 320  # least and greatest number of frames in a period
_CALM = 1 / 960  # default wind of a still picture, in widths per frame
_HORIZON = 0.6  # speed at the horizon, relative to the speed at the top of the sky
_SOFT = 0.13, 0.33  # one place's fades, see `Seam`, in periods


def flow(material: Material, options: Options) -> Iterator[Floats]:
    """Yield forward and backward movements of a picture, cross-faded, along a steady field.

    The option ``wind`` replaces the measured motion of a clip. For a still picture, the
    option replaces a slow wind from the left.
    """
    frames = options.frames
    loop = options.loop
    loop_to = options.loop_to
    if bool(material.views.land.all()):
        # Nothing moves in the clip, so the last frame is a single picture.
        material = Material(material.frames[-1:], step=material.step)
    last = material.picture(-1)
    still = material.matte
    size = weight_size(*material.size)
    measured = len(material) > 1 and options.wind is None
    wind = _wind(material, options, measured)
    # In a loop with the source, the source's first frame follows the dream's last.
    turns = frames + (loop_to is not None)
    period = (
        _period(unfolded(wind, 1), _TRAVEL) if measured else _period(wind, _TRAVEL_EVEN)
    )
    rounds = max(1, round(turns / period)) if loop else -(-turns // period)
    # A loop is a whole number of periods, whose lengths differ by a frame at most.
    period = -(-turns // rounds) if loop else period
    behind = SkyBehind(still)
    first = wind
    if measured:
        # The first period begins with a forecast from the motion of the last frames.
        first = end_flow(material, period)
        wind = unfolded(wind, period)
    full = colours(*material.size)

    leaving, entering = (Drift(held(last), travel, behind) for travel in (first, wind))
    # The order in which pixels cross-fade moves with the wind.
    drifts = resized_flow(wind, size)
    order = order_of(drifts, np.random.default_rng(options.seed), size)
    share = in_channels(still)
    number = 0
    target = last
    for k in range(1, rounds + 1):
        end = turns * k // rounds if loop else period * k
        if loop_to is not None and end == turns:
            target = loop_to
            entering = Drift(held(loop_to), wind, behind)
        count = end - number
        fine, coarse = (count * soft for soft in _SOFT)
        seam = Seam(coarse / 2 + (count - coarse) * order, (0, 0), (fine, coarse))
        for phase in range(1, min(end, frames) - number + 1):
            weights = seam.weights(np.float32(phase - count // 2) * drifts, phase, size)
            # Where one of the two is from outside the picture, the other is better.
            old, new = (
                drift.covers(by, size)[..., None]
                for drift, by in ((leaving, phase), (entering, phase - count))
            )
            weights = np.maximum(weights * np.maximum(new, 1 - old), (new - old).clip(0))
            looks = leaving.look(phase, sky=k > 1), entering.look(phase - count, sky=True)
            both = [look.whole(full) for look in looks]
            sky = blended(both, [1 - weights, weights])
            lerp_into(sky, lerp(last, target, phase / count), share)
            yield sky
        leaving = entering
        number = end


def _wind(material: Material, options: Options, measured: bool) -> Floats:
    """Return the backward flow per frame, (h, w, 2), in pixels of the small picture."""
    if measured:
        return mean_flow(material, spread(len(material), 1))
    (height, width), (rows, columns) = material.original.size, material.small_size
    dx, dy = options.wind or (_CALM * width, 0.0)
    wind = np.array([-dx * columns / width, -dy * rows / height], np.float32)
    speed = np.ones(rows, np.float32)
    (sky,) = (material.views.land == 0).any(1).nonzero()
    if len(material) == 1 and len(sky) and material.views.land.any():
        # Clouds near the horizon are further away and move more slowly.
        down = np.arange(rows, dtype=np.float32) / np.float32(sky[-1] + 1)
        speed = 1 - np.float32(1 - _HORIZON) * down.clip(0, 1)
    return np.tile(wind * speed[:, None, None], (1, columns, 1))


def _period(wind: Floats, travel: float) -> int:
    far = travel * max(wind.shape)
    fastest = float(np.linalg.norm(wind, axis=-1).max())
    return int(min(max(far / max(fastest, TINY), _SHORTEST), _LONGEST))
