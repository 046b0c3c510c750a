"""Define tensor operations that networks share: padding, resizing, boxes, warping."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.errors import ModelError


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Return (B, C, H, W) with repeated right and lower edges: both sides are multiples.

    Return ``images`` itself if both sides are multiples already.
    """
    height, width = images.shape[-2:]
    below, right = -height % multiple, -width % multiple
    if not (below or right):
        return images
    return F.pad(images, (0, right, 0, below), mode="replicate")


def strip_rows(picture: Tensor, rows: int = 128) -> int:
    """Return the rows to process at once: few that fit a CPU's caches, on a GPU all."""
    return rows if picture.device.type == "cpu" else picture.shape[2]


def enlarged(images: Tensor, size: Sequence[int]) -> Tensor:
    """Return (B, C, h, w) enlarged to ``size``, (H, W), with bilinear interpolation."""
    return F.interpolate(images, (size[0], size[1]), mode="bilinear", align_corners=False)


def shrunk_like(picture: Tensor, other: Tensor) -> Tensor:
    """Return ``picture`` averaged down to the size of ``other``."""
    return F.adaptive_avg_pool2d(picture, (other.shape[2], other.shape[3]))


def laplacian_pyramid(images: Tensor, levels: int) -> tuple[list[Tensor], Tensor]:
    """Return the bands of ``images``, the finest first, and the rest.

    Each band is half as large as the one before, rounded up. There are fewer bands than
    ``levels`` if a side of the rest is a single pixel. Source: Burt and Adelson, The
    Laplacian Pyramid as a Compact Image Code, 1983; with means over areas instead of their
    filter.
    """
    bands: list[Tensor] = []
    while len(bands) < levels and min(images.shape[2:]) > 1:
        height, width = images.shape[2:]
        small = F.interpolate(images, (-(-height // 2), -(-width // 2)), mode="area")
        bands.append(images - enlarged(small, (height, width)))
        images = small
    return bands, images


def sampling_grid(
    flow: Tensor, height: int, width: int, *, gain: float = 1.0, top: int = 0
) -> Tensor:
    """Return the grid for ``torch.nn.functional.grid_sample`` from a flow on a picture.

    ``flow``: (B, 2, rows, width), backward (dx, dy) in pixels, to multiply by ``gain``; the
    rows begin at row ``top`` of the picture. The grid, (B, rows, width, 2) with aligned
    corners, is always float32: positions in float16 are too coarse for sides of more than
    about 2,000 pixels.
    """
    flow = flow.float()
    x = torch.linspace(-1, 1, width, device=flow.device)
    y = torch.linspace(-1, 1, height, device=flow.device)[top : top + flow.shape[2], None]
    # One plane for each axis, because whole rows are faster to write and to read.
    grid = torch.empty_like(flow, memory_format=torch.contiguous_format)
    # The grid goes from -1 to 1. With corners aligned, one pixel is a step of 2 / (side -
    # 1).
    grid[:, 0] = torch.add(x, flow[:, 0], alpha=2 * gain / max(width - 1, 1))
    grid[:, 1] = torch.add(y, flow[:, 1], alpha=2 * gain / max(height - 1, 1))
    return grid.permute(0, 2, 3, 1)


def resize(images: Tensor, factor: float, multiple: int = 1) -> Tensor:
    """Return pictures at ``factor`` times the size, bilinear, corners not aligned.

    There is no antialiasing. At half, a quarter … of the size, each pixel of the result
    covers a cell of pixels, and is the mean of the four pixels in the middle of the cell.
    Both sides are padded to a multiple of ``multiple`` first, see :func:`pad_to_multiple`.
    """
    cell = round(1 / factor)
    sides = [side + -side % multiple for side in images.shape[2:]]
    uneven = factor > 0.5 or cell % 2 or any(side % cell for side in sides)
    # ``interpolate`` is one kernel on a GPU. On a CPU, to add only the lines in the middle
    # of the cells takes a third of the time.
    if uneven or images.device.type != "cpu":
        images = pad_to_multiple(images, multiple)
        if factor == 1:
            return images
        return F.interpolate(
            images, scale_factor=factor, mode="bilinear", align_corners=False
        )
    for axis, side in zip((-2, -1), sides, strict=True):
        images = _middles(images, axis, cell, side // cell)
    return images.div_(4)


def _middles(images: Tensor, axis: int, cell: int, count: int) -> Tensor:
    """Return the sums of the two middle lines of each of ``count`` cells along ``axis``.

    The last line of the picture is repeated for cells beyond the edge.
    """
    size = images.shape[axis]
    first = cell // 2 - 1
    whole = min(count, max(0, (size - first - 2) // cell + 1))
    lines = [slice(start, start + cell * whole, cell) for start in (first, first + 1)]
    upper, lower = (images[..., k, :] if axis == -2 else images[..., k] for k in lines)
    sums = upper + lower
    if whole == count:
        return sums
    last = images.narrow(axis, size - 1, 1)
    end = images.narrow(axis, min(first + cell * whole, size - 1), 1) + last
    shape = list(end.shape)
    shape[axis] = count - whole - 1
    return torch.cat((sums, end, (2 * last).expand(shape)), axis)


def strips(images: Tensor, factor: float, rows: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the result of ``resize`` in strips of rows, which fit into a CPU's caches.

    Each strip comes after the number of its first row, and may be a view. If ``factor`` is
    an even number, ``rows`` must be a multiple of that number. The last strip may have
    fewer rows. On other devices than a CPU there is one strip with all rows.
    """
    if images.device.type != "cpu":
        yield 0, resize(images, factor)
        return
    step = rows
    phases = round(factor)
    if factor == phases and phases % 2 == 0:
        # Widen the images first, while they have few rows.
        step = rows // phases
        height, width = images.shape[2:]
        images = _between_lines(
            F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, phases, 0, width
        )
        for top in range(0, height, step):
            count = min(step, height - top)
            yield top * phases, _between_lines(images, 2, phases, top, count)
        return
    images = resize(images, factor)
    for top in range(0, images.shape[2], step):
        yield top, images[:, :, top : top + step]


def _between_lines(
    images: Tensor, axis: int, factor: int, first: int, count: int
) -> Tensor:
    """Return ``count`` lines along ``axis``, 2 or 3, enlarged by an even factor.

    Each line of the result is a weighted mean of two lines. ``images`` has one more line at
    each end, and ``first`` is the number of the first line to enlarge without these.
    """
    shape = list(images.shape)
    shape[axis : axis + 1] = [count, factor]
    result = images.new_empty(shape)
    for phase in range(factor):
        later = phase * 2 >= factor
        upper = images.narrow(axis, first + later, count)
        lower = images.narrow(axis, first + later + 1, count)
        weight = (phase + 0.5) / factor + (-0.5 if later else 0.5)
        lerp_into(result.select(axis + 1, phase), upper, lower, weight)
    return result.flatten(axis, axis + 1)


def joined(parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Return (B, C, H, W) tensors joined along C in ``dtype``, channels last in memory."""
    return torch.cat(list(parts), 1).to(dtype, memory_format=torch.channels_last)


def shuffled(features: Tensor, channels: int) -> Tensor:
    """Shuffle (B, 4C, h, w) by 2 into the first channels: (B, channels, 2h, 2w) float32."""
    if features.device.type != "cpu" or torch.is_grad_enabled():
        return F.pixel_shuffle(features[:, : 4 * channels].float(), 2).contiguous()
    batch, _, height, width = features.shape
    # Two neighbours in a row of the result are also neighbours in channels-last memory. To
    # move both as one word takes a third of the time.
    word = {2: torch.int32, 4: torch.int64}[features.itemsize]
    pairs = features.permute(0, 2, 3, 1).contiguous().view(word).flatten(0, 2)
    planes = pairs.t().contiguous().view(features.dtype)[: 2 * channels]
    rows = planes.view(channels, 2, batch, height, 2 * width).permute(2, 0, 3, 1, 4)
    result = rows.new_empty(rows.shape, dtype=torch.float32)
    return result.copy_(rows).flatten(2, 3)


def lerp_into(target: Tensor, start: Tensor, end: Tensor, weight: Tensor | float) -> None:
    """Write ``torch.lerp`` to ``target``; gradients can pass, unlike with its ``out``."""
    if torch.is_grad_enabled():
        target.copy_(torch.lerp(start, end, weight))
    else:
        torch.lerp(start, end, weight, out=target)


def warp(images: Tensor, flow: Tensor) -> Tensor:
    """Sample each picture where the flow points: bilinear, float32, with repeated edges.

    ``flow``: (B, 2, H, W), backward: the result at (x, y) is the picture at (x + dx, y +
    dy).
    """
    return sample(images, sampling_grid(flow, *images.shape[-2:]))


def sample(images: Tensor, grid: Tensor, mode: str = "bilinear") -> Tensor:
    """Sample (B, C, H, W) at a grid of :func:`sampling_grid`: (B, C, h, w) float32.

    Raises ModelError if the grid is not finite and gradients would follow: on a CPU these
    would be written to memory outside of the picture.
    """
    if grid.requires_grad and grid.device.type != "cuda" and not grid.isfinite().all():
        raise ModelError(
            "motion-not-finite: The motion that the model estimates is not a number any "
            "more: use --precision=fp32, or for train a lower --learning-rate. The best "
            "weights so far are kept."
        )
    return F.grid_sample(
        images.float(), grid, mode, padding_mode="border", align_corners=True
    )


def box_mean(x: Tensor, side: int) -> Tensor:
    """Return means over squares of an odd ``side``, (K, H, W), with repeated edges."""
    if x.device.type != "cpu":
        padded = F.pad(x, (side // 2,) * 4, mode="replicate")
        return F.avg_pool2d(F.avg_pool2d(padded, (side, 1), 1), (1, side), 1)
    import cv2

    result = torch.empty_like(x)
    for plane, target in zip(x.numpy(), result.numpy(), strict=True):
        cv2.blur(plane, (side, side), target, borderType=cv2.BORDER_REPLICATE)
    return result


def box_most(mask: Tensor, side: int) -> Tensor:
    """Return the largest of whole numbers up to 255 in squares, (K, H, W) float32."""
    if mask.device.type != "cpu":
        rows = F.max_pool2d(mask, (side, 1), 1, (side // 2, 0))
        return F.max_pool2d(rows, (1, side), 1, (0, side // 2))
    import cv2

    square = np.ones((side, side), np.uint8)
    planes = [cv2.dilate(plane, square) for plane in mask.byte().numpy()]
    return torch.from_numpy(np.stack(planes)).float()
