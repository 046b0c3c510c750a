"""Measure the difference between a made picture and the true one, a function per metric.

Pictures are RGB, (3, H, W) or (B, 3, H, W), floating point in [0, 1], made from 8-bit
frames (see :func:`eight_bit`). Scores are float64, one per picture: shape () for (3, H, W),
(B,) for (B, 3, H, W). A score that is not defined for a size is NaN, never an error. SSIM
needs a side of at least 11 pixels, GDL and sharpness of 2.

SSIM uses only windows that are inside the picture, as Wang's code does. scikit-image with
``gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1`` agrees to
1e-5.
"""

import math
from collections.abc import Callable

import cv2
import torch
from torch import Tensor

# The highest score in dB. Identical pictures get this score instead of infinity.
PERFECT = 100.0

# The weights of red, green and blue: those of ITU-R BT.601, as in the reference code of
# Wang 2004.
LUMA = (0.299, 0.587, 0.114)

SSIM_MARGIN = 5
"""The pixels on each side of the centre of a window of SSIM: 11 by 11 in all."""

_C1, _C2 = 1e-4, 9e-4  # the squares of K1 and K2
_STRIP = 64  # rows of windows that are computed at once, so that they fit a CPU's caches
_LEAST_ENERGY = 1e-12
"""The energy that is added to each band, far below the noise of rounding to 8 bits. With
this addition, a flat frame between flat frames scores 0 dB.
"""


def eight_bit(rgb: Tensor) -> Tensor:
    """Return RGB as in an 8-bit file: clamped to [0, 1], rounded to n/255, same shape."""
    return rgb.clamp(0, 1).mul(255).round_().div_(255)


def luma(rgb: Tensor) -> Tensor:
    """Return the luma of RGB, full range: (…, 3, H, W) → (…, H, W).

    The luma is 0.299 R + 0.587 G + 0.114 B. These weights are the same for all sources, so
    that scores of different clips can be compared.
    """
    red, green, blue = rgb.unbind(-3)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def psnr(test: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB: 10·log10(1 / MSE), at most 100."""
    return _decibel(l2(test, truth))


def l2(test: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared error over all channels and pixels, in [0, 1]."""
    return (test - truth).square().mean(dim=(-3, -2, -1), dtype=torch.float64)


def gdl(test: Tensor, truth: Tensor) -> Tensor:
    """Return the gradient difference loss for alpha 1 (arXiv 1511.05440, equation 6).

    The loss is the mean of ``| |∇ truth| - |∇ test| |`` over all vertical neighbours, plus
    the same mean over all horizontal neighbours. Means replace the paper's sums, so that
    the size of the picture does not count. The loss is NaN below 2 pixels per side.
    """
    down, across = (
        (_steps(truth, axis) - _steps(test, axis))
        .abs()
        .mean(dim=(-3, -2, -1), dtype=torch.float64)
        for axis in (-2, -1)
    )
    return down + across


def sharpness(test: Tensor, truth: Tensor) -> Tensor:
    """Return the sharpness difference of Mathieu et al. 2015 in dB.

    The score is 10·log10(1 / mean ``|(∇i truth + ∇j truth) - (∇i test + ∇j test)|``), at
    most 100. ∇i is the absolute difference to the pixel above, ∇j to the pixel on the left.
    The mean is over all pixels that have both. A higher score is better. The score is NaN
    below 2 pixels per side. Source: equation 9 of arXiv 1511.05440.
    """

    def edges(rgb: Tensor) -> Tensor:
        return _steps(rgb, -2)[..., 1:] + _steps(rgb, -1)[..., 1:, :]

    difference = edges(truth) - edges(test)
    return _decibel(difference.abs().mean(dim=(-3, -2, -1), dtype=torch.float64))


def ssim(test: Tensor, truth: Tensor) -> Tensor:
    """Return the structural similarity of Wang et al. 2004 on luma, at most 1.

    The score is the mean over all windows inside the picture. A window is an 11x11 Gaussian
    of sigma 1.5. K1 is 0.01, K2 is 0.03, and variances are those of the population. The
    score is NaN below 11 pixels per side, where no window fits.
    """
    x = test.reshape(-1, *test.shape[-3:])
    y = truth.reshape(-1, *truth.shape[-3:])
    scores = [_ssim(luma(a.float()), luma(b.float())) for a, b in zip(x, y, strict=True)]
    return torch.tensor(scores, dtype=torch.float64).reshape(test.shape[:-3])


PER_FRAME: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    metric.__name__: metric for metric in (psnr, ssim, l2, gdl, sharpness)
}
"""The metrics of a single frame, by their names on the command line."""


def texture(test: Tensor, reference: Tensor) -> Tensor:
    """Return a frame's fine texture relative to its neighbours, in dB: (…, 3, H, W) → (…).

    The score is 10·log10 of the frame's energy over the neighbours' energy, within ±100. A
    score of 0 means equal energies, and a negative score a softer frame. ``reference``:
    :func:`texture_energy` of the neighbour, or the geometric mean of two neighbours.
    """
    ratio = (texture_energy(test) + _LEAST_ENERGY) / (reference + _LEAST_ENERGY)
    return ratio.log10().mul(10).clamp(-PERFECT, PERFECT)


def texture_energy(rgb: Tensor) -> Tensor:
    """Return the mean square of the finest band of luma: (…, 3, H, W) → (…).

    The band is luma less its Gaussian blur of sigma 1. Edge pixels are repeated beyond the
    edges.
    """
    sharp = luma(rgb)
    return (sharp - _blurred(sharp, 1.0, 4)).square().mean((-2, -1), dtype=torch.float64)


def _blurred(image: Tensor, sigma: float, reach: int) -> Tensor:
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = (-at.square() / (2 * sigma**2)).exp()
    weights /= weights.sum()
    for axis in (-2, -1):
        size = image.shape[axis]
        steps = torch.arange(-reach, size + reach, device=image.device).clamp(0, size - 1)
        wide = image.index_select(axis, steps)
        # Add shifted copies: convolutions with one channel are slow on a CPU.
        image = torch.zeros_like(image)
        for k, weight in enumerate(weights.tolist()):
            image.add_(wide.narrow(axis, k, size), alpha=weight)
    return image


def brightness(test: Tensor, truth: Tensor) -> float:
    """Return the mean luma of a frame, (3, H, W), less the mean luma of the true frame."""
    return float(
        luma(test).mean(dtype=torch.float64) - luma(truth).mean(dtype=torch.float64)
    )


def error_map(test: Tensor, truth: Tensor) -> Tensor:
    """Return a picture of the error of a frame: (3, H, W) RGB in [0, 1].

    The colour shows the mean absolute error of the three channels, times 4, from black
    through violet and orange to pale yellow.
    """
    error = (test - truth).abs().mean(dim=-3).mul(4 * 255).clamp(max=255).byte()
    colours = cv2.applyColorMap(error.cpu().numpy(), cv2.COLORMAP_MAGMA)
    return torch.from_numpy(colours).flip(-1).permute(2, 0, 1).float().div(255)


def _decibel(error: Tensor) -> Tensor:
    return error.log10().mul(-10).clamp(max=PERFECT)


def _steps(rgb: Tensor, axis: int) -> Tensor:
    return rgb.diff(dim=axis).abs()


def ssim_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return two terms for each window of SSIM: luminance, and contrast with structure.

    SSIM is the mean of their product. With the difference d = y - x, the terms are 1 -
    E[d]² / (E[x]² + E[y]² + C1) and 1 - var(d) / (var(x) + var(y) + C2). In this form
    float32 is precise: two identical pictures score exactly 1, and rounding errors of the
    denominators count little where the pictures differ little. ``x``, ``y``: one channel of
    pictures, (…, H, W) in [0, 1]. The terms are (…, H - 10, W - 10), at most 1.
    """
    d = y - x
    maps = _blurred(torch.stack((x, d, x * x + y * y, d * d)), 1.5, SSIM_MARGIN)
    inner = slice(SSIM_MARGIN, -SSIM_MARGIN)
    mean, shift, squares, error = maps[..., inner, inner]
    means = mean.square() + (mean + shift).square()
    shifts = shift.square()
    return 1 - shifts / (means + _C1), 1 - (error - shifts) / (squares - means + _C2)


def _ssim(x: Tensor, y: Tensor) -> float:
    height, width = (side - 2 * SSIM_MARGIN for side in x.shape)
    if min(height, width) < 1:
        return math.nan
    ssim = 0.0
    for row in range(0, height, _STRIP):
        strip = slice(row, row + _STRIP + 2 * SSIM_MARGIN)
        luminance, contrast = ssim_terms(x[strip], y[strip])
        ssim += float((luminance * contrast).sum(dtype=torch.float64))
    return ssim / (height * width)
