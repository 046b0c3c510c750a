"""Define EMA-VFI in two sizes, with plain attention.

Source: Zhang et al., Extracting Motion and Appearance via Inter-Frame Attention for
Efficient Video Frame Interpolation, CVPR 2023 (arXiv 2303.00440; MCG-NJU/EMA-VFI,
Apache-2.0). Each picture's features are compared with the other picture's within windows.
The comparison gives the appearance that both show, and the motion between them. Two heads
estimate flows and a mask from both, and a further network corrects the mixed picture.
"""

from collections.abc import Container, Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models.base import COLOURS
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import joined, resize, sampling_grid, warp
from cloudconv.models.pair import Pair
from cloudconv.models.published import (
    FLOWS,
    Published,
    StateDict,
    colours_of,
    has,
    row,
    sides,
    warp_all,
)

_SCALES = (16, 8)  # of the features that the heads read
_LEVELS = 3  # of convolutions; the two levels of attention follow
_WINDOW = 7
_HEAD = 32  # channels
_COORDINATES = 2
_FAR = -100.0  # the logit of a pair that must not attend to each other
_PUBLISHED: dict[tuple[int, tuple[int, ...]], str] = {
    (16, (2, 2)): "small",
    (32, (4, 4)): "full",
}

FAMILY = "EMA-VFI"


def detect(state: StateDict) -> ModelSpec | None:
    """Return the EMA-VFI network that tensors show; None for other networks."""
    first = "feature_bone.block1.conv.0.weight"
    if not has(state, first, None, COLOURS, 3, 3):
        return None
    depths = []
    for level in (_LEVELS + 1, _LEVELS + 2):
        if not has(state, f"{_block(level, 0)}.attn.cor_embed.weight", None, _COORDINATES):
            return None
        depths.append(_depth(state, level))
    width = state[first].shape[0]
    size = _PUBLISHED.get((width, tuple(depths)), "of no published size")
    limits = {"multiple": 32, "bytes_per_pixel": 200 + 106 * width}
    return row(state, FAMILY, size, "Zhang et al., CVPR 2023", "ema_vfi:EmaVfi", **limits)


def _block(level: int, number: int) -> str:
    return f"feature_bone.block{level}.{number}"


def _depth(names: Container[str], level: int) -> int:
    depth = 0
    while f"{_block(level, depth)}.norm1.weight" in names:
        depth += 1
    return depth


class EmaVfi(Published):
    """An EMA-VFI network of any size, with attention at 1/8 and 1/16 of the size."""

    reads_bgr = True  # in training the colours were blue, green, red
    # The weights "ours" make the middle only, "ours_t" any timestep.
    middle_is_optional = True

    def estimate(self, seen: list[Tensor], pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
        scale = pair.scale
        seen = self._ordered(seen)

        def found(x0: Tensor, x1: Tensor, scale: float = 1.0) -> list[Tensor]:
            return self._features(
                *(resize(x, scale) for x in self._ordered(colours_of(x0, x1)))
            )

        features = own = pair.once("features", found)
        if scale != 1:
            features = pair.once("scaled", partial(found, scale=scale))
        motion = self._motion([resize(x, scale) for x in seen], features, pair.timestep)
        flows, mask = (resize(values, 1 / scale) for values in motion)
        flows = flows / scale
        count = 2 * (_LEVELS + len(_SCALES))
        warped_features = [
            warp_all(own[k:count:2], flow) for k, flow in enumerate(flows.chunk(2, 1))
        ]
        warped = [warp(x, flow) for x, flow in zip(seen, flows.chunk(2, 1), strict=True)]
        pairs = list(zip(*warped_features, strict=True))
        residual = self.correction([*seen, *warped, mask, flows, *pairs[0]], pairs[1:])
        return flows, mask.sigmoid(), self._ordered([residual])[0]

    def _ordered(self, pictures: Sequence[Tensor]) -> list[Tensor]:
        return [x.flip(1) if self.reads_bgr else x for x in pictures]

    def _motion(
        self, seen: Sequence[Tensor], features: Sequence[Tensor], timestep: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the flows, (B, 4, H, W), and the logit of the mask, (B, 1, H, W)."""
        flows = mask = seen[0].new_zeros(())
        both = list(zip(features[::2], features[1::2], strict=True))
        for number, size in enumerate(_SCALES):
            m0, m1 = (x.float() for x in both[-1 - number])
            a0, a1 = (x.float() for x in both[-1 - len(_SCALES) - number])
            large = torch.cat((timestep * m0, (1 - timestep) * m1, a0, a1), 1)
            # One shuffle by 4 would order the channels differently.
            large = F.pixel_shuffle(F.pixel_shuffle(large, 2), 2)
            inputs = list(seen)
            factor = size // 4  # by which pixel shuffles make the features larger
            if number:
                pairs = zip(seen, flows.chunk(2, 1), strict=True)
                inputs += [*(warp(x, flow) for x, flow in pairs), mask, flows / factor]
            motion = joined([large, *(resize(x, 1 / factor) for x in inputs)], self.dtype)
            for k in range(3):
                motion = self.layer(f"block.{number}.conv.{k}", motion)
            motion = resize(motion.float().contiguous(), factor)
            flows = flows + motion[:, :FLOWS] * factor
            mask = mask + motion[:, FLOWS:]
        return flows, mask

    def _features(self, x0: Tensor, x1: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) to appearance at 1, 1/2 … 1/16, and motion at 1/8 and 1/16.

        The results are (B, C, h, w): of x0 and of x1, at each size.
        """
        x = joined([torch.cat((x0, x1))], self.dtype)
        appearance: list[Tensor] = []
        motion: list[Tensor] = []
        for level in range(1, _LEVELS + 1):
            if level > 1:
                x = self.layer(f"feature_bone.patch_embed{level}", x, 2)
            for first in (0, 2):
                x = self.layer(f"feature_bone.block{level}.conv", x, first=first)
            appearance.append(x)
        x = self._cross_scale(appearance)
        for level in (_LEVELS + 1, _LEVELS + 2):
            embed = f"feature_bone.patch_embed{level}"
            x = self.conv(f"{embed}.proj", x, level - _LEVELS).permute(0, 2, 3, 1)
            x = self.norm(f"{embed}.norm", x)  # (2B, h, w, C)
            levels = []
            for number in range(_depth(self.shapes, level)):
                shift = _WINDOW // 2 * (number % 2)
                x, movement = self._attended(_block(level, number), x, shift)
                levels.append(movement)
            x = self.norm(f"feature_bone.norm{level}", x).permute(0, 3, 1, 2).contiguous()
            appearance.append(x)
            motion.append(torch.cat(levels, 3).permute(0, 3, 1, 2).contiguous())
        return sides(appearance + motion)

    def _cross_scale(self, features: Sequence[Tensor]) -> Tensor:
        """Bring features at 1, 1/2 and 1/4 of the size to 1/8, by several dilations."""
        levels: list[Tensor] = []
        for k in range(_LEVELS):
            for dilation in range(1, 2**k + 1):
                name = f"feature_bone.patch_embed{_LEVELS + 1}.layers.{len(levels)}"
                levels.append(self.conv(name, features[-1 - k], 2 ** (k + 1), dilation))
        return torch.cat(levels, 1)

    def _attended(self, name: str, x: Tensor, shift: int) -> tuple[Tensor, Tensor]:
        """Let each picture attend to the other one, within windows that are shifted.

        Map (2B, h, w, C) to the same shape, and to the motion, (2B, h, w, channels of
        motion).
        """
        batch, height, width, _ = x.shape
        below, right = -height % _WINDOW, -width % _WINDOW
        edges = (0, 0, right // 2, right - right // 2, below // 2, below - below // 2)
        place = sampling_grid(x.new_zeros(1, 2, height, width), height, width).to(x.dtype)
        padded, places = (
            F.pad(values, edges).roll((-shift, -shift), (1, 2)) for values in (x, place)
        )
        rows, columns = padded.shape[1:3]
        seen = self.norm(f"{name}.norm1", _windows(padded))
        other = torch.cat(seen.chunk(2)[::-1])
        mask = _mask(height, width, shift, x.device)
        attended, movement = self._attention(
            f"{name}.attn", seen, other, _windows(places), mask
        )
        results = []
        for windows in (seen + attended, movement):
            x = windows.view(
                batch, rows // _WINDOW, columns // _WINDOW, _WINDOW, _WINDOW, -1
            )
            whole = (
                x.transpose(2, 3)
                .reshape(batch, rows, columns, -1)
                .roll((shift, shift), (1, 2))
            )
            top, left = below // 2, right // 2
            results.append(whole[:, top : top + height, left : left + width])
        x, movement = results
        mixed = self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.norm2", x)).permute(
            0, 3, 1, 2
        )
        mixed = self.conv(f"{name}.mlp.dwconv.dwconv", mixed)
        x = x + self.linear(f"{name}.mlp.fc2", F.gelu(mixed.permute(0, 2, 3, 1)))
        return x, movement

    def _attention(
        self, name: str, x: Tensor, other: Tensor, places: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the appearance, (W, N, C), and the motion, (W, N, …), of W windows.

        ``x`` and ``other`` are (W, N, C). ``places``, (windows of one picture, N, 2), and
        the logits ``mask``, (windows of one picture, 1, N, N), belong to one picture.
        """
        pictures = len(x) // len(places)
        heads = x.shape[2] // _HEAD
        q, k, v = (
            projected.view(*projected.shape[:2], heads, -1).transpose(1, 2)
            for projected in (
                self.linear(f"{name}.q", x),
                *self.linear(f"{name}.kv", other).chunk(2, 2),
            )
        )
        embedded = self.linear(f"{name}.cor_embed", places)
        where = embedded.view(*embedded.shape[:2], heads, -1).transpose(1, 2)
        where = where.repeat(pictures, 1, 1, 1)
        logits = (q @ k.transpose(2, 3)) * _HEAD**-0.5
        if mask is not None:
            logits = logits + mask.repeat(pictures, 1, 1, 1).to(logits.dtype)
        weights = logits.softmax(3)
        attended, seen_at = (
            (weights @ values).transpose(1, 2).flatten(2) for values in (v, where)
        )
        motion = self.linear(
            f"{name}.motion_proj", seen_at - embedded.repeat(pictures, 1, 1)
        )
        return self.linear(f"{name}.proj", attended), motion


def _mask(height: int, width: int, shift: int, device: torch.device) -> Tensor | None:
    """Return logits, (windows, 1, N, N), that keep apart what padding or a shift joins."""
    regions = []  # the region of each row, and of each column
    for side in (height, width):
        more = -side % _WINDOW
        line = torch.arange(side + more, device=device)
        bounds = [more // 2, more // 2 + side]
        if shift:
            bounds += [side + more - _WINDOW, side + more - shift]
        elif not (-height % _WINDOW or -width % _WINDOW):
            return None
        regions.append(torch.stack([line >= bound for bound in bounds]).sum(0))
    rows, columns = regions
    windows = _windows((len(rows) * rows[:, None] + columns)[None, :, :, None])[..., 0]
    return (windows[:, None] != windows[:, :, None])[:, None] * _FAR


def _windows(x: Tensor) -> Tensor:
    batch, height, width, channels = x.shape
    x = x.view(batch, height // _WINDOW, _WINDOW, width // _WINDOW, _WINDOW, channels)
    return x.transpose(2, 3).reshape(-1, _WINDOW**2, channels)
