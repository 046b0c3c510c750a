"""Losses: their values, their options, and their gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cloudconv import metrics
from cloudconv.errors import SettingsError
from cloudconv.settings import TrainSettings
from cloudconv.settings.values import ADVERSARIAL, LOSSES
from cloudconv.training.losses import TERMS, Adversary, Loss, parse_loss

every_term = pytest.mark.parametrize("name", sorted(TERMS))


def pictures(batch=2, side=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand((batch, 3, side, side), generator=generator)
    return truth, (truth + 0.2 * torch.rand(truth.shape, generator=generator)).clamp(0, 1)


def test_the_ssim_loss_agrees_with_torchmetrics():
    from torchmetrics.functional.image import structural_similarity_index_measure

    truth, made = pictures(batch=3, side=40)
    theirs = structural_similarity_index_measure(
        made.double(), truth.double(), sigma=1.5, data_range=1.0, reduction="none"
    )
    for ours, other in zip(TERMS["ssim"](made, truth), 1 - theirs, strict=True):
        assert float(ours) == pytest.approx(float(other), abs=1e-6)


@pytest.mark.full
@every_term
@settings(deadline=None, max_examples=8)
@given(batch=st.integers(1, 3), side=st.integers(12, 30), seed=st.integers(0, 99))
def test_a_loss_is_least_without_error_and_independent_for_each_item(
    name, batch, side, seed
):
    truth, made = pictures(batch, side, seed)
    wrong, right = TERMS[name](made, truth), TERMS[name](truth, truth)
    assert wrong.shape == (batch,)
    assert (right < wrong).all()
    assert float(right.abs().max()) < 2e-3
    alone = TERMS[name](made[:1], truth[:1])
    assert float(alone) == pytest.approx(float(wrong[0]), rel=1e-4)


@every_term
def test_a_step_along_the_gradient_lowers_the_loss(name):
    truth, made = pictures()
    made = made.requires_grad_()
    before = TERMS[name](made, truth).sum()
    (gradient,) = torch.autograd.grad(before, made)
    after = TERMS[name](made - 1e-3 * gradient / gradient.abs().max(), truth).sum()
    assert float(after.detach()) < float(before.detach())


@pytest.mark.parametrize("name", ["l2", "gdl"])
def test_losses_are_the_metrics_of_the_same_name(name):
    truth, made = pictures()
    measured = getattr(metrics, name)(made, truth)
    assert torch.allclose(TERMS[name](made, truth).double(), measured, atol=1e-6)


def test_coarse_errors_weigh_more_in_a_laplacian_pyramid():
    truth, _ = pictures(side=64)
    fine = 0.1 * (torch.arange(64) % 2 * 2 - 1)
    even, checked = (TERMS["laplacian"](truth + each, truth) for each in (0.1, fine))
    assert torch.allclose(even, torch.full_like(even, 0.05))
    assert torch.allclose(checked, even / 8, rtol=0.02)


def test_losses_are_added_with_their_weights_and_the_settings_know_all():
    assert {*TERMS, ADVERSARIAL} == {*LOSSES}
    truth, made = pictures()
    naive = truth.roll(1, 3)
    total = parse_loss("l2:1,gdl:0.5")(made, truth, naive)
    parts = TERMS["l2"](made, truth) + 0.5 * TERMS["gdl"](made, truth)
    assert float(total) == pytest.approx(float(parts.mean()))
    assert parse_loss("charbonnier+gdl") == Loss((("charbonnier", 1.0), ("gdl", 1.0)))
    assert parse_loss("l2+adversarial:0.05").adversarial == 0.05


def test_relative_losses_weigh_items_of_little_and_much_motion_equally():
    truth, _ = pictures()
    quiet, lively = truth[:1] + 0.02, truth[:1] + 0.2
    loss = parse_loss("l1", relative=True)
    shares = [
        float(loss(truth[:1] + 0.5 * (p - truth[:1]), truth[:1], p))
        for p in (quiet, lively)
    ]
    assert shares[0] == pytest.approx(0.5, abs=0.2)
    assert shares[1] == pytest.approx(0.5, abs=0.05)
    still = loss(truth[:1] + 0.02, truth[:1], truth[:1])
    assert float(still) < 3, "a still picture must not outweigh all others"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vgg", "'vgg' is no loss"),
        ("", "'' is no loss"),
        ("l2:zero", "weight above 0"),
        ("l2:-1", "weight above 0"),
        ("l2:nan", "weight above 0"),
        ("l2+l2", "each once"),
        ("adversarial", "add another loss"),
    ],
)
def test_impossible_losses_are_refused(text, said):
    for parse in (parse_loss, lambda loss: TrainSettings("a.mp4", model="tiny", loss=loss)):
        with pytest.raises(SettingsError, match=said):
            parse(text)


def test_a_discriminator_learns_to_distinguish_pictures():
    torch.manual_seed(0)

    class Discriminator(nn.Module):
        def __init__(self):
            super().__init__()
            self.look = nn.Conv2d(6, 1, 3)

        def forward(self, context, picture):
            return [self.look(torch.cat((context[:, -1], picture), 1))]

    adversary = Adversary(Discriminator(), 1e-2)
    truth, _ = pictures(4, 16)
    grey = torch.full_like(truth, 0.2)
    before = float(adversary.loss(truth[:, None], grey).detach())
    for _ in range(30):
        adversary.learn(truth[:, None], grey, truth)
    assert float(adversary.loss(truth[:, None], grey).detach()) > before + 0.3
    assert float(adversary.loss(truth[:, None], truth).detach()) < before
