"""Mix a plain blend of two pictures into the model's where the model's motion fails.

If the motion is right, x0 and x1 differ little after both are moved to the timestep. This
difference is the *leftover*, which motion does not explain. A large leftover makes the
motion uncertain. The cause is wrong motion, noise, flicker, ripples, or merely difficult
footage. Trials on filmed frames decide: the model reconstructs x0 from the frame before and
x1, and x1 from x0 and the frame after. The frames of a trial are twice as far apart, which
is harder for the model. So a trial says how large the model's error is relative to the
leftover, and that of a blend relative to the difference of the two frames. Between x0 and
x1 leftover and difference are known, and so is the distance of model and blend. The weight
of the blend with the least squared error follows, near each pixel and over the whole
picture. The method is least squares, as in Wiener's filter, 1949.

The eye sees a thing twice in a blend, which least squares do not count. So no blend is
mixed in where the two pictures differ by more than the noise that motion cannot explain.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.images import UNSEEN
from cloudconv.models.base import COLOURS
from cloudconv.models.ops import enlarged, resize, strip_rows
from cloudconv.models.pair import Pair
from cloudconv.models.sharpening import restore_detail

SHRINK = 0.5
"""The scale of trials. At full size they take four times as long, for nearly the same
blends."""

# The leftovers, relative to the difference of the pair, with an uncertainty of 0 and of 1.
_UNCERTAIN = (0.2, 0.3)
_CELL = 8  # pixels of a trial's picture
_WINDOW = 9  # cells; a window's weight is at most the weight of the whole picture
_LEAST = 0.1  # the weight up to which no blend is mixed in
# Factor of the model's error at full size, where noise is stronger than in a trial.
_FINER = 1.2
_LEAST_ENERGY = 1e-9


def uncertainty(result: Tensor, pair: Pair) -> Tensor:
    """Return the uncertainty of each pair's motion, (B,) in [0, 1], from the leftover.

    ``result``: (B, C + 1, H, W) from ``Interpolator.between``: pictures, then the leftover.
    """
    # Squares give a few cars with the right motion more weight than the noise near the
    # cars.
    leftover = result[:, -1].square().mean((1, 2))
    (total,) = pair.once("difference", _difference)
    least, most = _UNCERTAIN
    return ((leftover / total.clamp_min(_LEAST_ENERGY) - least) / (most - least)).clamp(
        0, 1
    )


def at_trial_size(pictures: Tensor) -> Tensor:
    """Return pictures at the size of trials."""
    return resize(pictures, SHRINK, 2)


def errors(result: Tensor, pair: Pair, filmed: Tensor) -> Tensor:
    """Return the mean squared errors of model and blend in a trial.

    ``result`` is the model's picture of the ``pair`` in the place of ``filmed``, (B, 3, h,
    w), and the leftover; all are of the size of trials. The error of the model is relative
    to the leftover, and that of the blend to the difference of the pair. The errors, (B, 2,
    rows, columns), have one value per cell.
    """
    pictures = torch.stack((result[:, :COLOURS], _blend(pair)), 1)
    return _cells((pictures - filmed[:, None]).square().mean(2)) / _energies(result, pair)


def blend_weight(means: Tensor, result: Tensor, pair: Pair) -> Tensor:
    """Return the weight of the blend, (B, 1, rows, columns), from means of :func:`errors`.

    ``result`` is the model's picture of the ``pair``, and the leftover; both are of the
    size of trials.
    """
    own_error, blend_error = torch.split(means * _energies(result, pair), 1, 1)
    apart = _cells((result[:, :COLOURS] - _blend(pair)).square().mean(1, keepdim=True))
    gain = torch.cat((_FINER * own_error - blend_error, apart), 1)
    padded = F.pad(gain, (_WINDOW // 2,) * 4, mode="replicate")
    near = _best(F.avg_pool2d(padded, _WINDOW, 1))
    best = torch.minimum(near, _best(gain.mean((2, 3), keepdim=True)))
    return ((best - _LEAST) / (1 - _LEAST)).clamp(0, 1) * _unseen(result, pair)


def _unseen(result: Tensor, pair: Pair) -> Tensor:
    """Return by how much nobody sees both pictures in a blend: 0 to 1 for each cell.

    Noise and a change of light, which stay in the leftover, are not seen twice.
    """
    # ``median`` may differ from run to run on a GPU.
    left = _cells(result[:, -1:].abs()).flatten(2).sort(2).values
    noise = left[..., left.shape[2] // 2, None, None]
    apart = _cells((pair.x0 - pair.x1)[:, :COLOURS].mean(1, keepdim=True).abs())
    visible = 4 * pair.timestep * (1 - pair.timestep) * apart - noise
    # Half of the limit is seen by nobody.
    return (2 - visible * (2 * 255 / UNSEEN)).clamp(0, 1)


def mix_in_blend(
    result: Tensor, pair: Pair, weight: Tensor, apart: Tensor | None = None
) -> None:
    """Mix the blend of two pictures into the model's pictures, (B, C, H, W), in place.

    ``weight``: from :func:`blend_weight`. ``apart``: that of
    :class:`~cloudconv.models.base.Made`, which becomes that of the mix.

    The mix is sharpened to the detail of its parts. Further, to that of x0 and x1, it would
    be worse than either: a blend is soft because noise averages out.
    """
    height, width = result.shape[2:]
    cell = round(_CELL / SHRINK)
    whole = enlarged(weight, [cell * n for n in weight.shape[2:]])[..., :height, :width]
    blended = torch.lerp(pair.x0, pair.x1, pair.timestep)
    parts = Pair.of([result.clone(), blended], pair.times)
    result.lerp_(blended, whole)
    if apart is not None:
        unmoved = (pair.x0 - pair.x1)[:, :COLOURS].abs()
        apart.lerp_(unmoved.mean(1, keepdim=True), whole)
    unmoved = weight.new_zeros(len(weight), 4, *weight.shape[2:])
    restore_detail(result, parts, unmoved, cell, 4 * whole * (1 - whole))


def _blend(pair: Pair) -> Tensor:
    return torch.lerp(pair.x0[:, :COLOURS], pair.x1[:, :COLOURS], pair.timestep)


def _cells(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, _CELL, ceil_mode=True, count_include_pad=False)


def _energies(result: Tensor, pair: Pair) -> Tensor:
    """Return energies to which errors of model and blend are relative: (B, 2, 1, 1)."""
    (total,) = pair.once("difference", _difference)
    energies = torch.stack((result[:, -1].square().mean((1, 2)), total), 1)
    return energies.clamp_min(_LEAST_ENERGY)[..., None, None]


def _best(means: Tensor) -> Tensor:
    worse, apart = torch.split(means, 1, 1)
    return 0.5 + worse / (2 * apart + _LEAST_ENERGY)


def _difference(x0: Tensor, x1: Tensor) -> tuple[Tensor]:
    """Return the mean over pixels of the square of the mean colour difference: (B,)."""
    # A CPU takes strips, because passes over a whole picture take a fifth of the network's
    # time.
    rows = strip_rows(x0, 32)
    both = (torch.split(x[:, :COLOURS], rows, 2) for x in (x0, x1))
    strips = zip(*both, strict=True)
    sums = [(a - b).mean(1).square_().sum((1, 2)) for a, b in strips]
    return (torch.stack(sums).sum(0) / (x0.shape[2] * x0.shape[3]),)
