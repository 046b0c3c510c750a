"""Define EMA-VFI in two sizes, with plain attention.

Source: Zhang et al., Extracting Motion and Appearance via Inter-Frame Attention for Efficient Video
Frame Interpolation, CVPR 2023 (arXiv 2303.00440; MCG-NJU/EMA-VFI, Apache-2.0). Each picture's
features are compared with the other picture's within windows. The comparison gives the appearance
that both show, and the motion between them. Two heads estimate flows and a mask from both, and a
further network corrects the mixed picture.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import COLOURS, Memo, once
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import joined, resize, warp
from cloudconv.models.published import Published, StateDict, has, row
from cloudconv.models.published.unet import Unet, layer, moved_features

_FLOWS, _MASK = 4, 1
_SCALES = (16, 8)  # of the features that the heads read
_SHUFFLE = 4  # pixel shuffles make the features larger by this factor
_LEVELS = 3  # of convolutions; the two levels of attention follow
_WINDOW = 7
_HEAD = 32  # channels
_COORDINATES = 2
_EXPANSION = 4
_FAR = -100.0  # the logit of a pair that must not attend to each other
_PUBLISHED: dict[tuple[int, tuple[int, ...]], str] = {(16, (2, 2)): "small", (32, (4, 4)): "full"}


FAMILY = "EMA-VFI"


def detect(state: StateDict) -> ModelSpec | None:
    """Return the EMA-VFI network that tensors show; None for other networks."""
    first = "feature_bone.block1.conv.0.weight"
    if not has(state, first, None, COLOURS, 3, 3):
        return None
    depths, motions = [], []
    for level in (_LEVELS + 1, _LEVELS + 2):
        depth = 0
        while f"feature_bone.block{level}.{depth}.norm1.weight" in state:
            depth += 1
        motion = f"feature_bone.block{level}.0.attn.cor_embed.weight"
        if not has(state, motion, None, _COORDINATES):
            return None
        depths.append(depth)
        motions.append(state[motion].shape[0])
    width = state[first].shape[0]
    if width % 4 or any(m % (width << (_LEVELS + k) >> 5) for k, m in enumerate(motions)):
        return None
    return row(
        FAMILY,
        _PUBLISHED.get((width, tuple(depths)), "of no published size"),
        "Zhang et al., CVPR 2023",
        "ema_vfi:EmaVfi",
        {"width": width, "depths": tuple(depths), "motions": tuple(motions)},
        multiple=32,
        bytes_per_pixel=200 + 106 * width,
    )


class EmaVfi(Published):
    """An EMA-VFI network with ``width`` channels of the features at full size.

    ``depths`` are the numbers of attention blocks at an eighth, and at a sixteenth of the size.
    Each block estimates ``motions`` channels of motion.
    """

    reads_bgr = remembers = True
    middle_is_optional = True  # the weights "ours" make the middle only, "ours_t" any timestep

    def __init__(
        self, spec: ModelSpec, width: int, depths: Sequence[int], motions: Sequence[int]
    ) -> None:
        super().__init__(spec)
        self.feature_bone = _Features(width, depths, motions)
        heads = []
        for number, level in enumerate((1, 0)):
            channels = motions[level] * depths[level]
            channels += width << (_LEVELS + level)
            inputs = 2 * channels // _SHUFFLE**2 + 2 * COLOURS
            inputs += (2 * COLOURS + _MASK + _FLOWS) if number else 0
            heads.append(_Head(inputs, 4 * width))
        self.block = nn.ModuleList(heads)
        self.unet = Unet(4 * COLOURS + _MASK + _FLOWS + 2 * width, 2 * width)

    def estimate(
        self, seen: list[Tensor], timestep: Tensor, scale: float, memo: Memo | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Published.estimate``."""
        features = once(memo, "features", lambda: self.feature_bone(*seen))
        appearance = features[0]
        small = [resize(x, scale) for x in seen]
        found = features
        if scale != 1:
            found = once(memo, "scaled", lambda: self.feature_bone(*small))
        made = self._motion(small, found[0], found[1], timestep)
        flows, mask = (resize(part, 1 / scale) for part in made)
        flows = flows / scale
        moved = [
            moved_features([each.chunk(2)[k] for each in appearance], flow)
            for k, flow in enumerate(flows.chunk(2, 1))
        ]
        warped = [warp(x, flow) for x, flow in zip(seen, flows.chunk(2, 1), strict=True)]
        pairs = list(zip(*moved, strict=True))
        residual = self.unet([*seen, *warped, mask, flows, *pairs[0]], pairs[1:])
        return flows, mask.sigmoid(), residual

    def _motion(
        self,
        seen: Sequence[Tensor],
        appearance: Sequence[Tensor],
        motion: Sequence[Tensor],
        timestep: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the flows, (B, 4, H, W), and the logit of the mask, (B, 1, H, W)."""
        flows = mask = seen[0].new_zeros(())
        for number, (size, head) in enumerate(zip(_SCALES, self.block, strict=True)):
            m0, m1 = motion[-1 - number].float().chunk(2)
            a0, a1 = appearance[-1 - number].float().chunk(2)
            features = torch.cat((timestep * m0, (1 - timestep) * m1, a0, a1), 1)
            features = F.pixel_shuffle(F.pixel_shuffle(features, 2), 2)  # not the same as one by 4
            inputs, factor = list(seen), size // _SHUFFLE
            if number:
                pairs = zip(seen, flows.chunk(2, 1), strict=True)
                inputs += [*(warp(x, flow) for x, flow in pairs), mask, flows / factor]
            made = head([features, *(resize(x, 1 / factor) for x in inputs)])
            made = resize(made, factor)
            flows, mask = flows + made[:, :_FLOWS] * factor, mask + made[:, _FLOWS:]
        return flows, mask


class _Head(nn.Module):
    """Three convolutions that estimate flows and a mask."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            layer(inputs, width), layer(width, width), layer(width, _FLOWS + _MASK)
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Map inputs, (B, C, h, w), to (B, 5, h, w) float32."""
        made: Tensor = self.conv(joined(inputs, next(self.parameters()).dtype))
        return made.float().contiguous()


class _Features(nn.Module):
    """Appearance and motion of two pictures at five sizes."""

    def __init__(self, width: int, depths: Sequence[int], motions: Sequence[int]) -> None:
        super().__init__()
        for level in range(_LEVELS):
            wide = width << level
            if level:
                self.add_module(f"patch_embed{level + 1}", layer(wide // 2, wide, 2))
            layers = (*layer(wide if level else COLOURS, wide), *layer(wide, wide))
            block = nn.Sequential(OrderedDict(conv=nn.Sequential(*layers)))
            self.add_module(f"block{level + 1}", block)
        for level in (_LEVELS, _LEVELS + 1):
            wide, number = width << level, level - _LEVELS
            embed = _Patches(wide // 2, wide) if number else _CrossScale(width, wide)
            motion = motions[number]
            blocks = [
                _Attending(wide, motion, shift=_WINDOW // 2 * (k % 2))
                for k in range(depths[number])
            ]
            self.add_module(f"patch_embed{level + 1}", embed)
            self.add_module(f"block{level + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{level + 1}", _norm(wide))

    def forward(self, x0: Tensor, x1: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Map (B, 3, H, W) to appearance at 1, 1/2 … 1/16 of the size, and motion at 1/8 and 1/16.

        The results are (2B, C, h, w), the items of ``x0`` first.
        """
        x = joined([torch.cat((x0, x1))], next(self.parameters()).dtype)
        appearance: list[Tensor] = []
        motion: list[Tensor] = []
        for level in range(_LEVELS):
            if level:
                x = self.get_submodule(f"patch_embed{level + 1}")(x)
            x = self.get_submodule(f"block{level + 1}")(x)
            appearance.append(x)
        for level in (_LEVELS, _LEVELS + 1):
            embed = self.get_submodule(f"patch_embed{level + 1}")
            x = embed(appearance if level == _LEVELS else x)  # (2B, h, w, C)
            blocks = self.get_submodule(f"block{level + 1}")
            assert isinstance(blocks, nn.ModuleList)
            found = []
            for block in blocks:
                x, moved = block(x)
                found.append(moved)
            x = self.get_submodule(f"norm{level + 1}")(x).permute(0, 3, 1, 2).contiguous()
            appearance.append(x)
            motion.append(torch.cat(found, 3).permute(0, 3, 1, 2).contiguous())
        return appearance, motion


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-6)


class _Patches(nn.Module):
    """A convolution that halves the size, and a normalisation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, outputs, 3, 2, 1)
        self.norm = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, H / 2, W / 2, outputs)."""
        made: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return made


class _CrossScale(nn.Module):
    """Convolutions with several dilations, which bring features of all sizes to an eighth."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(width << (_LEVELS - 1 - k), width, 3, 2 ** (k + 1), 1 + j, 1 + j)
            for k in range(_LEVELS)
            for j in range(2**k)
        )
        self.proj = nn.Conv2d(width * len(self.layers), outputs, 1)
        self.norm = _norm(outputs)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features at 1, 1/2 and 1/4 of the size to (B, H / 8, W / 8, outputs)."""
        read = [features[_LEVELS - 1 - k] for k in range(_LEVELS) for _ in range(2**k)]
        made = [conv(x) for conv, x in zip(self.layers, read, strict=True)]
        result: Tensor = self.norm(self.proj(torch.cat(made, 1)).permute(0, 2, 3, 1))
        return result


class _Attending(nn.Module):
    """A block in which each picture attends to the other one, within windows that are shifted."""

    def __init__(self, width: int, motion: int, shift: int) -> None:
        super().__init__()
        self._shift = shift
        self.norm1, self.norm2 = _norm(width), _norm(width)
        self.attn, self.mlp = _Attention(width, motion), _Mlp(width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (2B, h, w, width) to the same shape, and to the motion, (2B, h, w, motion)."""
        batch, height, width, _ = x.shape
        below, right = -height % _WINDOW, -width % _WINDOW
        edges = (0, 0, right // 2, right - right // 2, below // 2, below - below // 2)
        place = _coordinates(height, width, x.device).to(x.dtype)
        padded, places = F.pad(x, edges), F.pad(place, edges)
        rows, columns = padded.shape[1:3]
        if self._shift:
            padded = padded.roll((-self._shift, -self._shift), (1, 2))
            places = places.roll((-self._shift, -self._shift), (1, 2))
        seen = self.norm1(_windows(padded))
        other = torch.cat(seen.chunk(2)[::-1])
        mask = self._mask(height, width, x.device)
        found, moved = self.attn(seen, other, _windows(places), mask)
        results = []
        for each in (seen + found, moved):
            whole = _whole(each, batch, rows, columns)
            if self._shift:
                whole = whole.roll((self._shift, self._shift), (1, 2))
            top, left = below // 2, right // 2
            results.append(whole[:, top : top + height, left : left + width])
        x, moved = results
        return x + self.mlp(self.norm2(x)), moved

    def _mask(self, height: int, width: int, device: torch.device) -> Tensor | None:
        """Return logits, (windows, 1, N, N), that keep apart what padding or a shift joins."""
        regions = []  # the region of each row, and of each column
        for side in (height, width):
            more = -side % _WINDOW
            line, bounds = torch.arange(side + more, device=device), [more // 2, more // 2 + side]
            if self._shift:
                bounds += [side + more - _WINDOW, side + more - self._shift]
            elif not (-height % _WINDOW or -width % _WINDOW):
                return None
            regions.append(torch.stack([line >= bound for bound in bounds]).sum(0))
        rows, columns = regions
        windows = _windows((len(rows) * rows[:, None] + columns)[None, :, :, None])[..., 0]
        return (windows[:, None] != windows[:, :, None])[:, None] * _FAR


def _windows(x: Tensor) -> Tensor:
    """Map (B, H, W, C) to windows, (B · H / 7 · W / 7, 49, C)."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // _WINDOW, _WINDOW, width // _WINDOW, _WINDOW, channels)
    return x.transpose(2, 3).reshape(-1, _WINDOW**2, channels)


def _whole(windows: Tensor, batch: int, height: int, width: int) -> Tensor:
    """Map windows to (B, H, W, C)."""
    rows, columns = height // _WINDOW, width // _WINDOW
    x = windows.view(batch, rows, columns, _WINDOW, _WINDOW, -1)
    return x.transpose(2, 3).reshape(batch, height, width, -1)


def _coordinates(height: int, width: int, device: torch.device) -> Tensor:
    """Return the place of each pixel, (1, H, W, 2), both axes from -1 to 1."""
    x, y = (torch.linspace(-1, 1, side, device=device) for side in (width, height))
    return torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)), 2)[None]


class _Attention(nn.Module):
    """Attention of windows to the same windows of the other picture."""

    def __init__(self, width: int, motion: int) -> None:
        super().__init__()
        self._heads = width // _HEAD
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.cor_embed = nn.Linear(_COORDINATES, motion)
        self.proj, self.motion_proj = nn.Linear(width, width), nn.Linear(motion, motion)

    def forward(
        self, x: Tensor, other: Tensor, places: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the appearance, (W, N, width), and the motion, (W, N, motion), of W windows.

        ``x`` and ``other`` are (W, N, width). ``places``, (windows of one picture, N, 2), and the
        logits ``mask``, (windows of one picture, 1, N, N), belong to one picture.
        """
        pictures = len(x) // len(places)
        q, k, v = (
            each.unflatten(2, (self._heads, -1)).transpose(1, 2)
            for each in (self.q(x), *self.kv(other).chunk(2, 2))
        )
        embedded = self.cor_embed(places)
        where = embedded.unflatten(2, (self._heads, -1)).transpose(1, 2).repeat(pictures, 1, 1, 1)
        logits = (q @ k.transpose(2, 3)) * _HEAD**-0.5
        if mask is not None:
            logits = logits + mask.repeat(pictures, 1, 1, 1).to(logits.dtype)
        weights = logits.softmax(3)
        found, seen_at = ((weights @ each).transpose(1, 2).flatten(2) for each in (v, where))
        motion = self.motion_proj(seen_at - embedded.repeat(pictures, 1, 1))
        return self.proj(found), motion


class _Mlp(nn.Module):
    """Two linear layers for each pixel, with a convolution of each channel between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = _EXPANSION * width
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        depthwise = nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden)
        self.dwconv = nn.Sequential(OrderedDict(dwconv=depthwise))  # as in the published names

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.dwconv(self.fc1(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        made: Tensor = self.fc2(F.gelu(mixed))
        return made
