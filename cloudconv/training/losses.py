"""Compute training losses: sums of differences between a predicted and a true picture."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.metrics import SSIM_MARGIN, ssim_terms
from cloudconv.models.ops import laplacian_pyramid
from cloudconv.settings.values import ADVERSARIAL, loss_terms

# A small error, of 60 dB: there charbonnier changes from squared to absolute, and psnr
# counts little.
_SMALL = 1e-3
_LEVELS = 4  # number of levels of the Laplacian pyramid
# Added to the divisor of a relative loss, so that still items do not dominate.
_FLOOR = 2 / 255


def l1(picture: Tensor, truth: Tensor) -> Tensor:
    """Return the mean absolute error of each item: two (B, 3, H, W) give (B,)."""
    return (picture - truth).abs().mean(dim=(1, 2, 3))


def l2(picture: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared error of each item."""
    return (picture - truth).square().mean(dim=(1, 2, 3))


def charbonnier(picture: Tensor, truth: Tensor) -> Tensor:
    """Return the mean of ``sqrt(d² + 10⁻⁶)``, l1 smooth at 0 (Charbonnier et al. 1994)."""
    return ((picture - truth).square() + _SMALL**2).sqrt().mean(dim=(1, 2, 3))


def ssim(picture: Tensor, truth: Tensor) -> Tensor:
    """Return 1 minus the structural similarity (Wang et al. 2004) of all channels.

    Reflection extends the pictures beyond their edges, so that each pixel has a window.
    """
    margin = 4 * (SSIM_MARGIN,)
    luminance, contrast = ssim_terms(
        *(F.pad(x, margin, "reflect") for x in (picture, truth))
    )
    return torch.sub(1, (luminance * contrast).mean(dim=(1, 2, 3)))


def gdl(picture: Tensor, truth: Tensor) -> Tensor:
    """Return the gradient difference loss of Mathieu et al. (arXiv 1511.05440), alpha 1."""
    total = picture.new_zeros(len(picture))
    for axis in (2, 3):
        difference = picture.diff(dim=axis).abs() - truth.diff(dim=axis).abs()
        total = total + difference.abs().mean(dim=(1, 2, 3))
    return total


def laplacian(picture: Tensor, truth: Tensor) -> Tensor:
    """Return the l1 between Laplacian pyramids of four levels (Bojanowski et al. 2017).

    Each level has twice the weight of the next finer level.
    """
    bands, rest = laplacian_pyramid(picture - truth, _LEVELS - 1)
    means = [band.abs().mean(dim=(1, 2, 3)) for band in (*bands, rest)]
    return torch.stack([0.5 ** (_LEVELS - n) * mean for n, mean in enumerate(means)]).sum(0)


def psnr(picture: Tensor, truth: Tensor) -> Tensor:
    """Return ``ln(1 + 10⁶·MSE)``, so that each decibel up to 60 dB counts the same."""
    return (l2(picture, truth) / _SMALL**2).log1p()


TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    term.__name__: term for term in (l1, l2, charbonnier, ssim, gdl, laplacian, psnr)
}
"""Terms that compare pictures, by their name on the command line."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A weighted sum of terms; ``adversarial`` is the weight of the discriminators' term.

    With ``relative`` each item's term is divided by that of a naive picture, so that
    footage with little motion counts as much as other footage.
    """

    terms: tuple[tuple[str, float], ...]
    adversarial: float = 0.0
    relative: bool = False

    def __call__(self, picture: Tensor, truth: Tensor, naive: Tensor) -> Tensor:
        """Return the mean over (B, 3, H, W) pictures, without the adversarial term."""
        total = picture.new_zeros(())
        for name, weight in self.terms:
            term = TERMS[name](picture, truth)
            if self.relative:
                floor = _FLOOR**2 if name == "l2" else _FLOOR
                with torch.no_grad():
                    naive_term = TERMS[name](naive, truth) + floor
                term = term / naive_term
            total = total + weight * term.mean()
        return total


def parse_loss(text: str, *, relative: bool = False) -> Loss:
    """Parse a loss; see :func:`~cloudconv.settings.values.loss_terms`."""
    weights = loss_terms(text)
    adversarial = weights.pop(ADVERSARIAL, 0.0)
    return Loss(tuple(weights.items()), adversarial, relative)


class Adversary:
    """Discriminators, which learn in training to tell predicted pictures from true ones.

    Goodfellow et al. 2014 (arXiv 1406.2661), in the conditional form of Mathieu et al. 2015
    (arXiv 1511.05440): ``network`` gets (B, T, 3, H, W) contexts and (B, 3, H, W) pictures,
    and returns a list of logits, one tensor for each scale, above 0 for pictures that look
    true.
    """

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        self.network = network
        self.optimiser = torch.optim.Adam(
            network.parameters(), learning_rate, betas=(0.5, 0.999)
        )

    def learn(self, context: Tensor, picture: Tensor, truth: Tensor) -> None:
        """Make one training step of the discriminators."""
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(context, truth) + self.loss(context, picture.detach(), 0.0)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    def loss(self, context: Tensor, picture: Tensor, wanted: float = 1.0) -> Tensor:
        """Return a loss: small if ``picture`` is taken for true (1.0), or for not (0.0)."""
        logits: list[Tensor] = self.network(context, picture)
        losses = []
        for scale in logits:
            scale = scale.float()
            truth = torch.full_like(scale, wanted)
            losses.append(F.binary_cross_entropy_with_logits(scale, truth))
        return torch.stack(losses).mean()
