"""Run published networks in the plain order of their authors: whole pictures at every step.

Tests compare the networks of ``cloudconv.models.published`` with these functions at sizes and
timesteps of which no picture of the authors is recorded. ``benchmarks/published.py`` compares the
time. A reference needs one item in a batch, and sides that are multiples of the network's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models.published.rife4 import Rife4Settings

State = Mapping[str, Tensor]


def rife4(
    state: State,
    settings: Rife4Settings,
    pair: tuple[Tensor, Tensor],
    timestep: float,
    scale: float = 1.0,
    *,
    may_double: bool = True,
) -> Tensor:
    """Return the picture that a RIFE 4.x network makes of a pair, (1, 3, H, W)."""
    x0, x1 = pair
    time = torch.full_like(x0[:, :1], timestep)
    f0, f1 = (_features(state, settings, x) for x in pair)
    seen = [x0, x1, f0, f1, time]
    flow = mask = x0.new_zeros(())
    for number, size in enumerate(settings.scales):
        made = _block(state, settings, number, torch.cat(seen, 1), flow, size / scale)
        change, new_mask, handed = made.split((4, 1, made.shape[1] - 5), 1)
        is_far = change[:, :2].abs().max() > 32 and change[:, 2:].abs().max() > 32
        if settings.style == "prelu" and number == 1 and may_double and is_far:
            return rife4(state, settings, pair, timestep, scale / 2, may_double=False)
        flow = flow + change
        mask = mask + new_mask if settings.adds_mask else new_mask
        w0, w1 = warp(x0, flow[:, :2]), warp(x1, flow[:, 2:])
        wf0, wf1 = warp(f0, flow[:, :2]), warp(f1, flow[:, 2:])
        seen = [w0, w1, wf0, wf1, time, mask, handed]
    mask = torch.sigmoid(mask)
    return w0 * mask + w1 * (1 - mask)


def _features(state: State, settings: Rife4Settings, x: Tensor) -> Tensor:
    layers = sorted({name.split(".")[1] for name in state if name.startswith("encode.")})
    if not layers:
        return x[:, :0]
    for number, layer in enumerate(layers):
        weight, bias = state[f"encode.{layer}.weight"], state[f"encode.{layer}.bias"]
        if number == len(layers) - 1:
            return F.conv_transpose2d(x, weight, bias, 2, 1)
        x = F.conv2d(x, weight, bias, 1 if number else 2, 1)
        if settings.encoder != "pair":
            x = F.leaky_relu(x, 0.2)
    raise AssertionError


def _block(
    state: State, settings: Rife4Settings, number: int, x: Tensor, flow: Tensor, scale: float
) -> Tensor:
    """Return the estimate of a block at full size."""
    x = F.interpolate(x, scale_factor=1 / scale, mode="bilinear", align_corners=False)
    if flow.ndim:
        small = F.interpolate(flow, scale_factor=1 / scale, mode="bilinear", align_corners=False)
        x = torch.cat((x, small / scale), 1)

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight, bias = (state[f"block{number}.{name}.{kind}"] for kind in ("weight", "bias"))
        return F.conv2d(x, weight, bias, stride, 1, groups=x.shape[1] // weight.shape[1])

    def active(x: Tensor, name: str) -> Tensor:
        if settings.style == "prelu":
            return F.prelu(x, state[f"block{number}.{name}.weight"])
        return F.leaky_relu(x, 0.2)

    for layer in ("conv0.0", "conv0.1"):
        x = active(conv(x, f"{layer}.0", 2), f"{layer}.1")
    first, last = x, f"block{number}.lastconv"
    for layer in (f"convblock.{k}" for k in range(8)):
        if settings.style == "beta":
            x = F.leaky_relu(
                conv(x, f"{layer}.conv") * state[f"block{number}.{layer}.beta"] + x, 0.2
            )
        else:
            x = active(conv(x, f"{layer}.0"), f"{layer}.1")
    if settings.style == "beta":
        x = F.conv_transpose2d(x, state[f"{last}.0.weight"], state[f"{last}.0.bias"], 2, 1)
        x = F.pixel_shuffle(x, 2)[:, : 5 + settings.handed]
    else:
        x = x + first if settings.style == "prelu" else x
        x = F.conv_transpose2d(x, state[f"{last}.weight"], state[f"{last}.bias"], 2, 1)
        scale *= 2
    x = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    return torch.cat((x[:, :4] * scale, x[:, 4:]), 1)


def warp(images: Tensor, flow: Tensor) -> Tensor:
    """Return images sampled where a flow in pixels points, with repeated edges."""
    height, width = images.shape[2:]
    x, y = torch.linspace(-1, 1, width), torch.linspace(-1, 1, height)
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], 2)
    step = torch.tensor(((width - 1) / 2, (height - 1) / 2))
    place = grid + flow.permute(0, 2, 3, 1) / step
    return F.grid_sample(images, place, mode="bilinear", padding_mode="border", align_corners=True)


def ifrnet(
    state: State, pair: tuple[Tensor, Tensor], timestep: float, scale: float = 1.0
) -> Tensor:
    """Return the picture that an IFRNet makes of a pair, (1, 3, H, W)."""
    mean = torch.cat(pair, 2).mean((1, 2, 3), keepdim=True)
    centred = [x - mean for x in pair]
    pyramids = [_pyramid(state, _resized(x, scale)) for x in centred]
    flow0 = flow1 = others = mean
    for level in range(4, 0, -1):
        f0, f1 = (pyramid[level - 1] for pyramid in pyramids)
        if level == 4:
            inputs = [f0, f1, torch.full_like(f0[:, :1], timestep)]
        else:
            inputs = [others, warp(f0, flow0), warp(f1, flow1), flow0, flow1]
        made = _decoded(state, f"decoder{level}.convblock", torch.cat(inputs, 1))
        if level < 4:
            flow0 = made[:, :2] + 2 * _resized(flow0, 2)
            flow1 = made[:, 2:4] + 2 * _resized(flow1, 2)
        else:
            flow0, flow1 = made[:, :2], made[:, 2:4]
        others = made[:, 4:]
    mask, residual = torch.sigmoid(others[:, :1]), others[:, 1:]
    flow0, flow1 = (_resized(flow, 1 / scale) / scale for flow in (flow0, flow1))
    mask, residual = _resized(mask, 1 / scale), _resized(residual, 1 / scale)
    w0, w1 = warp(centred[0], flow0), warp(centred[1], flow1)
    return (mask * w0 + (1 - mask) * w1 + mean + residual).clamp(0, 1)


def _resized(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def _layer(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """Return the result of a convolution and a PReLU."""
    weight, bias = state[f"{name}.0.weight"], state[f"{name}.0.bias"]
    x = F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)
    return F.prelu(x, state[f"{name}.1.weight"])


def _pyramid(state: State, x: Tensor) -> list[Tensor]:
    """Return features at four sizes."""
    result = []
    for level in range(1, 5):
        x = _layer(state, f"encoder.pyramid{level}.0", x, 2)
        x = _layer(state, f"encoder.pyramid{level}.1", x)
        result.append(x)
    return result


def _decoded(state: State, name: str, x: Tensor) -> Tensor:
    """Return what a decoder of IFRNet makes, at twice the size."""
    x = _layer(state, f"{name}.0", x)
    side = state[f"{name}.1.conv2.0.weight"].shape[0]
    made = x
    for main, branch in (("conv1", "conv2"), ("conv3", "conv4")):
        made = _layer(state, f"{name}.1.{main}", made)
        changed = _layer(state, f"{name}.1.{branch}", made[:, -side:])
        made = torch.cat((made[:, :-side], changed), 1)
    last = f"{name}.1.conv5"
    made = F.conv2d(made, state[f"{last}.weight"], state[f"{last}.bias"], 1, 1)
    x = F.prelu(x + made, state[f"{name}.1.prelu.weight"])
    return F.conv_transpose2d(x, state[f"{name}.2.weight"], state[f"{name}.2.bias"], 2, 1)
