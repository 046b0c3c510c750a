"""How close a made picture is to the true one: one function a metric, with the field's definitions.

Pictures are RGB, (3, H, W) or (B, 3, H, W), floating point in [0, 1], made from 8-bit frames (see
:func:`eight_bit`). Scores are float64, one per picture: shape () for (3, H, W), (B,) for
(B, 3, H, W). A score that is not defined for a size is NaN, never an error: SSIM needs a side of
at least 11 pixels, MS-SSIM of 176, GDL and sharpness of 2.

SSIM is torchmetrics', called so that float32 is enough, which is several times as fast as float64.
The catch is E[x²] - E[x]²: two *identical* pictures of bright, flat sky would score 0.9976. So the
picture goes through in tiles, and each tile twice: with its mean taken away for the contrast and
structure term, which a shift does not change, and as it is for the luminance term, where nothing
cancels. The other term's constant is then so large that the term is 1. Tiles overlap by the
window's margin, and that margin, which torchmetrics fills by reflection, is cut off, so that each
window lies inside the picture as in Wang's own code. scikit-image with ``gaussian_weights=True,
sigma=1.5, use_sample_covariance=False, data_range=1`` crops the same margin and agrees to 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as functional
from torch import Tensor

PERFECT = 100.0
"""What a perfect frame scores in dB, where the formula says infinity. No frame scores more."""

SSIM_WINDOW = 11
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_SIDE = SSIM_WINDOW * 2 ** (len(MS_SSIM_WEIGHTS) - 1)

# Tiles go through as channels, which is what a CPU's convolutions are fastest at; a group of these
# fits its caches.
_TILE = 54
_GROUP = 16
_MARGIN = SSIM_WINDOW // 2
_SWITCHED_OFF = 2.0**20
_NO_ENERGY = 1e-12
"""Far below what rounding to 8 bits leaves; a flat frame between flat ones has its texture."""


def eight_bit(rgb: Tensor) -> Tensor:
    """RGB as an 8-bit file would hold it: clamped to [0, 1] and rounded to n/255, same shape."""
    return rgb.clamp(0, 1).mul(255).round_().div_(255)


def luma(rgb: Tensor) -> Tensor:
    """(…, 3, H, W) RGB to (…, H, W) luma: 0.299 R + 0.587 G + 0.114 B, full range.

    The weights of ITU-R BT.601, as in the reference code of Wang 2004; the same for all sources,
    so that scores of different clips mean the same.
    """
    weights = rgb.new_tensor((0.299, 0.587, 0.114))
    return torch.einsum("...chw,c->...hw", rgb, weights)


def psnr(test: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB: 10·log10(1 / MSE) over all channels, at most 100."""
    return _decibel(l2(test, truth))


def l1(test: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error over all channels and pixels, in [0, 1]."""
    _check(test, truth)
    return (test - truth).abs().mean(dim=(-3, -2, -1), dtype=torch.float64)


def l2(test: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error over all channels and pixels, in [0, 1]."""
    _check(test, truth)
    return (test - truth).square().mean(dim=(-3, -2, -1), dtype=torch.float64)


def gdl(test: Tensor, truth: Tensor) -> Tensor:
    """Gradient difference loss of Mathieu et al. 2015 (arXiv 1511.05440, eq. 6), alpha = 1.

    The mean, over all neighbours one above the other, of ``| |∇ truth| - |∇ test| |``, plus the
    same for neighbours side by side. Means in place of the paper's sums, so that the size of the
    picture does not count. NaN below 2 pixels a side.
    """
    _check(test, truth)
    down, across = (
        (_steps(truth, axis) - _steps(test, axis)).abs().mean(dim=(-3, -2, -1), dtype=torch.float64)
        for axis in (-2, -1)
    )
    return down + across


def sharpness(test: Tensor, truth: Tensor) -> Tensor:
    """Sharpness difference of Mathieu et al. 2015 (arXiv 1511.05440, eq. 9), in dB; more is better.

    10·log10(1 / mean ``|(∇i truth + ∇j truth) - (∇i test + ∇j test)|``) with absolute differences
    to the pixel above (∇i) and to the left (∇j), over all pixels that have both, at most 100.
    NaN below 2 pixels a side.
    """
    _check(test, truth)

    def edges(rgb: Tensor) -> Tensor:
        return _steps(rgb, -2)[..., 1:] + _steps(rgb, -1)[..., 1:, :]

    difference = edges(truth) - edges(test)
    return _decibel(difference.abs().mean(dim=(-3, -2, -1), dtype=torch.float64))


def ssim(test: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of Wang et al. 2004 on luma, at most 1.

    11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, population variances, mean over all
    windows that lie inside the picture. NaN below 11 pixels a side, where none does.
    """
    _check(test, truth)
    return _each(test, truth, _ssim)


def ms_ssim(test: Tensor, truth: Tensor) -> Tensor:
    """Multi-scale SSIM of Wang et al. 2003 on luma, at most 1; windows as in :func:`ssim`.

    Five scales, each the 2x2 mean of the one before, with the paper's weights; a negative term
    counts as 0. NaN below 176 pixels a side, where the smallest scale has no window.
    """
    _check(test, truth)
    return _each(test, truth, _ms_ssim)


PER_FRAME: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "psnr": psnr,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "l1": l1,
    "l2": l2,
    "gdl": gdl,
    "sharpness": sharpness,
}
"""The metrics that look at one frame at a time, by the name that the command line uses."""


TEXTURE = ("texture", "texture2")
"""Scores of a made frame against its kept neighbours, see :func:`texture`, not against the true."""


def texture(test: Tensor, around: Tensor) -> Tensor:
    """How much of the fine texture of its neighbours a frame has, in dB: (…, 3, H, W) → (…, 2).

    10·log10 of the energy of the finest band over the neighbours'; then the same of the octave
    below. 0 is as filmed, negative is softer; within ±100.

    Args:
        around: :func:`texture_energy` of the neighbours: the geometric mean if they are two.
    """
    ratio = (texture_energy(test) + _NO_ENERGY) / (around + _NO_ENERGY)
    return ratio.log10().mul(10).clamp(-PERFECT, PERFECT)


def texture_energy(rgb: Tensor) -> Tensor:
    """Mean squares of the two finest bands of luma: (…, 3, H, W) → (…, 2).

    The bands are luma less its Gaussian blur of sigma 1, and that blur less the one of sigma 2;
    edges are continued.
    """
    sharp = luma(rgb)
    fine = _blurred(sharp, 1.0)
    coarse = _blurred(sharp, 2.0)
    bands = (sharp - fine, fine - coarse)
    return torch.stack([b.square().mean((-2, -1), dtype=torch.float64) for b in bands], -1)


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """(…, H, W) under a Gaussian that is cut off at four sigma."""
    reach = round(4 * sigma)
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = (-at.square() / (2 * sigma**2)).exp()
    weights /= weights.sum()
    for axis in (-2, -1):
        size = image.shape[axis]
        steps = torch.arange(-reach, size + reach, device=image.device).clamp(0, size - 1)
        wide = image.index_select(axis, steps)
        # Shifted copies: a CPU's convolutions are slow with one channel.
        image = torch.zeros_like(image)
        for k, weight in enumerate(weights.tolist()):
            image.add_(wide.narrow(axis, k, size), alpha=weight)
    return image


def brightness(test: Tensor, truth: Tensor) -> float:
    """How much the mean luma of a frame, (3, H, W), is above that of the true one."""
    _check(test, truth)
    return float(luma(test).mean(dtype=torch.float64) - luma(truth).mean(dtype=torch.float64))


class Flicker:
    """How much more, or less, the brightness jumps from frame to frame than it truly does.

    The mean of ``|(m'_k - m'_{k-1}) - (m_k - m_{k-1})|`` over neighbouring frames, with m' and m
    the mean luma of the shown and of the true frame k: 0 is perfect. Feed it every frame of the
    output in order, the kept ones too: a made frame flickers against its kept neighbours.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        self._total = 0.0
        self._count = 0

    def update(self, test: Tensor, truth: Tensor) -> None:
        """Take in the next frame, (3, H, W)."""
        self.add(brightness(test, truth))

    def add(self, brighter: float) -> None:
        """Take in the next frame's :func:`brightness`."""
        if self._last is not None:
            self._total += abs(brighter - self._last)
            self._count += 1
        self._last = brighter

    def interrupt(self) -> None:
        """The next frame does not follow the last one: a cut, or frames left out between."""
        self._last = None

    @property
    def score(self) -> float | None:
        """The mean so far, in [0, 1]; None before two neighbouring frames were seen."""
        return self._total / self._count if self._count else None


def error_map(test: Tensor, truth: Tensor) -> Tensor:
    """Where a frame is wrong, as a picture: (3, H, W) RGB in [0, 1].

    The mean absolute error of the three channels, times 4, from black through violet and
    orange to pale yellow.
    """
    _check(test, truth)
    ramp = test.new_tensor(
        ((0.03, 0.02, 0.07), (0.34, 0.09, 0.43), (0.83, 0.28, 0.31), (0.98, 0.98, 0.72))
    )
    place = (test - truth).abs().mean(dim=-3).mul(4).clamp(0, 1).mul(len(ramp) - 1)
    below = place.floor().clamp(max=len(ramp) - 2).long()
    share = (place - below).unsqueeze(-1)
    return torch.lerp(ramp[below], ramp[below + 1], share).permute(2, 0, 1)


def _check(test: Tensor, truth: Tensor) -> None:
    if test.shape != truth.shape or test.dim() not in (3, 4) or test.shape[-3] != 3:
        raise ValueError(
            "metrics compare two RGB pictures of one size, (3, H, W) or (B, 3, H, W); "
            f"got {tuple(test.shape)} and {tuple(truth.shape)}"
        )
    if not (test.is_floating_point() and truth.is_floating_point()):
        raise ValueError(
            f"metrics take floating-point RGB in [0, 1]; got {test.dtype} and {truth.dtype}"
        )


def _decibel(error: Tensor) -> Tensor:
    """10·log10(1 / error), at most 100; NaN stays NaN."""
    return error.log10().mul(-10).clamp(max=PERFECT)


def _steps(rgb: Tensor, axis: int) -> Tensor:
    return rgb.diff(dim=axis).abs()


def _each(test: Tensor, truth: Tensor, score: Callable[[Tensor, Tensor], float]) -> Tensor:
    """``score`` of the lumas, (H, W), of each picture."""
    x, y = test.reshape(-1, *test.shape[-3:]), truth.reshape(-1, *truth.shape[-3:])
    # CUDA convolves float32 with a mantissa of 10 bits, and is fast enough in float64.
    dtype = torch.float64 if test.is_cuda else torch.float32
    scores = [score(luma(a.to(dtype)), luma(b.to(dtype))) for a, b in zip(x, y, strict=True)]
    return torch.tensor(scores, dtype=torch.float64).reshape(test.shape[:-3])


def _ssim(x: Tensor, y: Tensor) -> float:
    return _mean(x, y, lambda a, b: _luminance(a, b).mul_(_contrast(a, b)))


def _ms_ssim(x: Tensor, y: Tensor) -> float:
    if min(x.shape) < MS_SSIM_SIDE:
        return float("nan")
    product = 1.0
    for weight in MS_SSIM_WEIGHTS[:-1]:
        product *= max(_mean(x, y, _contrast), 0.0) ** weight
        x, y = (functional.avg_pool2d(side[None], 2)[0] for side in (x, y))
    return float(product * max(_ssim(x, y), 0.0) ** MS_SSIM_WEIGHTS[-1])


def _luminance(x: Tensor, y: Tensor) -> Tensor:
    """SSIM's luminance term of tiles (1, N, H, W), for each pixel."""
    return _terms(x, y, 0.01, _SWITCHED_OFF)


def _contrast(x: Tensor, y: Tensor) -> Tensor:
    """SSIM's contrast and structure terms of tiles (1, N, H, W), for each pixel."""
    middle = torch.cat((x, y), -1).mean((-2, -1), keepdim=True)
    return _terms(x - middle, y - middle, _SWITCHED_OFF, 0.03)


def _terms(x: Tensor, y: Tensor, k1: float, k2: float) -> Tensor:
    # Here, because the import takes two seconds, which only those who measure should pay.
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, terms = structural_similarity_index_measure(
        x, y, sigma=1.5, data_range=1.0, k1=k1, k2=k2, return_full_image=True
    )
    assert isinstance(terms, Tensor)
    return terms


def _mean(x: Tensor, y: Tensor, score: Callable[[Tensor, Tensor], Tensor]) -> float:
    """The mean of ``score`` over all windows of the picture; NaN if it holds none."""
    height, width = (side - 2 * _MARGIN for side in x.shape)
    if min(height, width) < 1:
        return float("nan")
    total = 0.0
    for tiles, counts in _tiles(torch.stack((x, y)), height, width):
        terms = score(tiles[:1], tiles[1:])
        inside = terms[0, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        total += float(inside.mul(counts).sum(dtype=torch.float64))
    return total / (height * width)


def _tiles(both: Tensor, height: int, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Groups of tiles, (2, N, side, side), and which of their windows, (N, _TILE, _TILE), count."""
    rows, columns = (-(-length // _TILE) for length in (height, width))
    beyond = (0, columns * _TILE - width, 0, rows * _TILE - height)
    real = functional.pad(both.new_ones(height, width), beyond)
    counts = real.unfold(0, _TILE, _TILE).unfold(1, _TILE, _TILE)
    side = _TILE + 2 * _MARGIN
    # Row by row of tiles, so that the copies stay small.
    padded = functional.pad(both[None], beyond, mode="replicate")[0]
    for row in range(rows):
        strip = padded[:, row * _TILE : row * _TILE + side].unfold(2, side, _TILE)
        strip = strip.transpose(1, 2)
        for first in range(0, columns, _GROUP):
            group = slice(first, first + _GROUP)
            yield strip[:, group].contiguous(), counts[row, group]
