"""Compute convolutions of networks on a CPU, by one of two engines.

:mod:`cloudconv.models.engines` chooses the engine. ncnn computes 3x3 convolutions of stride
1 in float32 by Winograd's algorithm, with a quarter of the multiplications (Lavin and Gray,
Fast Algorithms for Convolutional Neural Networks, arXiv 1509.09308). PyTorch can compute
these too, with less traffic to the memory. PyTorch computes the others, those in 16 bits,
and all of them where ncnn is missing. Two engines round differently, so that a sample of a
picture may differ by two levels.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.errors import ModelError
from cloudconv.files import storing_temporarily
from cloudconv.host import version_of

SLOPE = 0.2
"""The slope of rectifiers for negative values, in RIFE, FILM and the research models."""

PYTORCH = "PyTorch"
_NCNN = "ncnn"
_LANES = {"DEFAULT": 4, "AVX2": 8, "AVX512": 16}
"""Neighbouring channels of a pixel in ncnn's memory. Another number is slower, but not
wrong."""
# In bytes, of values whose channels are in groups; without it ncnn ends the process.
_ALIGNMENT = 64
_TILE = 4  # lines of a result that Winograd's algorithm computes at once, or a multiple
_LEAST_LINES = 16  # fewest lines for each thread
_WIDEST = 160  # channels; wider layers are computed in smaller tiles
# With fewer channels the copies to and from ncnn take longer than they save.
_LEAST_CHANNELS = 32

_Values = NDArray[np.float32]
"""Values in ncnn's order: (groups of channels, lines, columns, channels of a group)."""

Packed = dict[torch.dtype, Tensor]
"""The weights of a convolution in the order of oneDNN, for each type."""

EngineOf = Callable[[int], str]
"""A function that returns the engine for layers of so many channels."""


class HiddenLayer(NamedTuple):
    """A 3x3 convolution, and its rectifier's slopes: one, one per channel, or None."""

    weight: Tensor
    bias: Tensor
    stride: int = 1
    slope: Tensor | float | None = SLOPE


def usual_engine() -> str:
    """Return ncnn with its version, or PyTorch where ncnn is missing."""
    has_ncnn = find_spec(_NCNN) is not None and _ncnn() is not None
    return f"{_NCNN} {version_of(_NCNN)}" if has_ncnn else PYTORCH


class HiddenLayers:
    """Convolutions one after the other, for inference.

    The weights cannot be trained afterwards. ``layers`` returns the layers, with the
    parameters of the network as they are then: a move to another device replaces these.
    ``channels`` are those of the first layer's input. ``engine_of`` is asked in each call
    on a CPU in float32. ncnn copies the weights in its first call; PyTorch reads the
    weights in each call. Several threads may call the object.
    """

    def __init__(
        self,
        layers: Callable[[], Sequence[HiddenLayer]],
        channels: int,
        engine_of: EngineOf,
    ) -> None:
        self._layers = layers
        self._engine_of = engine_of
        now = layers()
        self._packed: list[Packed] = [{} for _ in now]
        inputs = [channels, *(len(layer.weight) for layer in now)]
        count = len(now)
        while count and _suits_winograd(now[count - 1], inputs[count - 1]):
            count -= 1
        self._others = count  # the number of first layers that PyTorch always computes

    def apply(self, x: Tensor) -> Tensor:
        """Return the last layer's result, with channels last in memory on a CPU.

        If the caller has no other reference to ``x``, its memory is free after the first
        layer.
        """
        is_plain = x.device.type == "cpu" and x.dtype == torch.float32
        chooses = is_plain and not torch.is_grad_enabled()
        steps = zip(self._layers(), self._packed, strict=True)
        for number, (layer, packed) in enumerate(steps):
            if number == self._others and chooses:
                engine = self._engine_of(x.shape[1])
                if engine != PYTORCH:
                    pictures = list(torch.split(x, 1))
                    del x
                    return self._winograd.apply(pictures)
            x = _computed(x, layer, packed)
        return x

    @cached_property
    def _winograd(self) -> "_Winograd":
        return _Winograd(self._layers()[self._others :])


def _suits_winograd(layer: HiddenLayer, channels: int) -> bool:
    outputs, inputs, *kernel = layer.weight.shape
    is_dense = inputs == channels  # not in groups
    is_wide = inputs >= _LEAST_CHANNELS <= outputs
    return is_dense and is_wide and kernel == [3, 3] and layer.stride == 1


def _computed(x: Tensor, layer: HiddenLayer, packed: Packed) -> Tensor:
    """Return PyTorch's result of a layer, by oneDNN's fused step if there is one."""
    weight, bias, stride, slope = layer
    groups = x.shape[1] // weight.shape[1]
    if x.dtype == torch.bfloat16 and x.shape[3] <= stride > 1:
        # For a result of one column, oneDNN reads memory that is not set (PyTorch 2.13 on
        # AMX). Zeros on the right add a column and change nothing else.
        return _computed(F.pad(x, (0, 2)), layer, packed)[..., :1]
    if not isinstance(slope, float):
        result = F.conv2d(x, weight, bias, stride, 1, 1, groups)
        return result if slope is None else F.prelu(result, slope)
    if x.device.type != "cpu" or torch.is_grad_enabled() or not _has_fused(x.dtype):
        return F.leaky_relu_(F.conv2d(x, weight, bias, stride, 1, 1, groups), slope)
    return _fused(x, layer, packed, slope)


# PyTorch's own compiler calls these steps on a CPU; they have no public names.
_FUSED = (
    "_convolution_pointwise",
    "_reorder_convolution_weight",
    "_is_mkldnn_bf16_supported",
)


def _fused(x: Tensor, layer: HiddenLayer, packed: Packed, slope: float) -> Tensor:
    """Return the result of oneDNN's step for a convolution and a rectifier."""
    weight, bias, stride, _ = layer
    shape = (1, 1), (stride, stride), (1, 1), x.shape[1] // weight.shape[1]
    if x.dtype not in packed:
        # Reorder the weights for oneDNN once; otherwise each call would reorder them.
        packed[x.dtype] = torch.ops.mkldnn._reorder_convolution_weight(
            weight, *shape, x.shape
        )
    step: Callable[..., Tensor] = torch.ops.mkldnn._convolution_pointwise
    return step(x, packed[x.dtype], bias, *shape, "leaky_relu", [slope], "")


@cache
def _has_fused(dtype: torch.dtype) -> bool:
    """Return whether oneDNN runs a convolution and a rectifier as a fast step."""
    # On other processors than x86 the step may exist and be slow.
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    operations = torch.ops.mkldnn
    if not all(hasattr(operations, name) for name in _FUSED):
        return False
    if dtype == torch.bfloat16:
        return bool(operations._is_mkldnn_bf16_supported())
    return dtype == torch.float32


@cache
def _ncnn() -> Any:
    """Return the module ncnn; None if it cannot be imported."""
    try:
        return import_module(_NCNN)
    except (ImportError, OSError):  # no wheel, or one without a library that it needs
        return None


@cache
def _memory() -> Any:
    """Return the pool of memory for one call of any network of this process."""
    pool = _ncnn().PoolAllocator()
    pool.set_size_compare_ratio(0.8)  # a small blob does not take the room of a large one
    return pool


class _Winograd:
    """A row of layers in ncnn; its calls release the GIL, and may be at the same time.

    A thread of PyTorch's computes the whole row. If there are several threads, each
    computes some lines of each layer. These are whole tiles of the algorithm, so that every
    number of threads gives the same bits.
    """

    def __init__(self, layers: Sequence[HiddenLayer]) -> None:
        net = self._net = _ncnn().Net()
        options = net.opt
        options.num_threads = 1  # ncnn's own threads would remain
        options.use_bf16_storage = options.use_fp16_storage = False
        options.use_fp16_packed = options.use_fp16_arithmetic = False
        # Tiles of 6x6 are less exact. Those of 2x2 are slower, but need half of the memory
        # for the weights of wide layers, which have few pixels.
        is_wide = max(len(layer.weight) for layer in layers) > _WIDEST
        options.use_winograd23_convolution = is_wide
        options.use_winograd43_convolution = not is_wide
        options.use_winograd63_convolution = False
        options.blob_allocator = options.workspace_allocator = _memory()
        lines = ["Input in 0 1 0"]
        numbers = []
        self._names = ["0"]  # of the input and of each layer's result
        for weight, bias, _, slope in layers:
            shape = f"0={len(weight)} 1=3 4=1 5=1 6={weight.numel()}"
            leaky = f" 9=2 -23310=1,{slope}" if isinstance(slope, float) else ""
            at = len(lines)
            lines.append(f"Convolution {at} 1 1 {at - 1} {at} {shape}{leaky}")
            numbers += [torch.zeros(1), weight, bias]  # 0: the weights are float32
            if isinstance(slope, Tensor):
                at += 1
                lines.append(f"PReLU {at} 1 1 {at - 1} {at} 0={slope.numel()}")
                numbers.append(slope)
            self._names.append(str(at))
        text = "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines, ""])
        if net.load_param_mem(text) or not _has_read(net, numbers):
            raise ModelError("ncnn-refuses: ncnn cannot load this network: uninstall ncnn.")

    def apply(self, pictures: list[Tensor]) -> Tensor:
        """Map (1, C, H, W) each to (B, C, H, W); empty the list."""
        threads = torch.get_num_threads()
        result = []
        while pictures:
            result.append(self._of_one(pictures.pop(0), threads))
        _memory().clear()
        return result[0] if len(result) == 1 else torch.cat(result)

    def _of_one(self, picture: Tensor, threads: int) -> Tensor:
        height, width = picture.shape[2:]
        values = _grouped(picture)
        del picture
        count = min(threads, height // _LEAST_LINES)
        if count > 1:
            with ThreadPoolExecutor(count, "cloudconv-ncnn") as pool:
                for names in pairwise(self._names):
                    values = self._in_bands(values, names, count, pool)
        else:
            ends = self._names[0], self._names[-1]
            values = self._computed(values, 0, height, ends)
        result = torch.from_numpy(values).permute(1, 2, 0, 3).reshape(height, width, -1)
        return result.permute(2, 0, 1)[None]

    def _in_bands(
        self, values: _Values, names: tuple[str, str], count: int, pool: ThreadPoolExecutor
    ) -> _Values:
        tiles = -(-values.shape[1] // _TILE)
        tops = [_TILE * (tiles * number // count) for number in range(count)]
        bands = list(pairwise([*tops, values.shape[1]]))
        rows = list(
            pool.map(lambda band: self._computed(values, band[0], band[1], names), bands)
        )
        return np.concatenate(rows, 1)

    def _computed(
        self, values: _Values, top: int, end: int, names: tuple[str, str]
    ) -> _Values:
        """Return some lines of the blob ``names[1]`` from all of the blob ``names[0]``.

        ``top`` is a multiple of a tile's lines, and so is ``end`` if it is not the last
        line.
        """
        groups, height, width, lanes = values.shape
        first = max(0, top - _TILE)
        last = min(height, end + _TILE)
        lines = values[:, first:last]
        if lines.ctypes.data % _ALIGNMENT or last - first < height:
            lines = _copied(lines)
        # ``inputs`` shares the memory of ``lines``.
        inputs = _ncnn().Mat(lines.reshape(groups, last - first, width * lanes))
        inputs.w = width
        inputs.elemsize = 4 * lanes
        inputs.elempack = lanes
        inputs.cstep = (last - first) * width
        extractor = self._net.create_extractor()
        extractor.input(names[0], inputs)
        # The other form of this call would create Python's objects without the GIL.
        outputs = _ncnn().Mat()
        if extractor.extract(names[1], outputs, 1):  # 1: as it is in memory
            raise MemoryError("ncnn: not enough memory")
        lanes = outputs.elempack
        outputs.w = outputs.w * lanes
        outputs.cstep = outputs.cstep * lanes
        outputs.elemsize = 4
        outputs.elempack = 1
        result: _Values = np.asarray(outputs).reshape(-1, last - first, width, lanes)
        return result[:, top - first : end - first]


def _grouped(picture: Tensor) -> _Values:
    """Return a picture, (1, C, H, W), in ncnn's order."""
    channels, height, width = picture.shape[1:]
    lanes = _LANES.get(torch.backends.cpu.get_cpu_capability(), 1)
    lanes = 1 if channels % lanes else lanes
    groups = (
        picture[0].permute(1, 2, 0).reshape(height, width, -1, lanes).permute(2, 0, 1, 3)
    )
    return torch.empty(groups.shape).copy_(groups).numpy()


def _copied(values: _Values) -> _Values:
    copy: _Values = torch.empty(values.shape).numpy()  # memory of PyTorch is aligned
    copy[...] = values
    return copy


def _has_read(net: Any, tensors: Sequence[Tensor]) -> bool:
    """Return whether ncnn can read these weights, which ncnn takes from a file."""
    numbers = (tensor.detach().float().contiguous().numpy() for tensor in tensors)
    with storing_temporarily(), TemporaryDirectory(prefix="cloudconv-") as folder:
        path = Path(folder) / "weights.bin"
        path.write_bytes(b"".join(tensor.tobytes() for tensor in numbers))
        return not net.load_model(str(path))
