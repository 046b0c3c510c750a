"""Run published networks from a user's file, known by names and shapes of the tensors."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from itertools import chain
from pkgutil import iter_modules
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import COLOURS, Interpolator, maps_of
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import joined, resize, sample, sampling_grid, warp
from cloudconv.models.pair import Pair
from cloudconv.models.rife import largest_motion

StateDict = Mapping[str, Tensor]
"""Tensors by name. Recognition reads names and shapes only, so the tensors may be meta
tensors."""

_PREFIXES = re.compile(r"^(?:(?:module|flownet|model|net)\.)+")
_TRAINING_ONLY = ("teacher.", "caltime.", "block_tea.")
_FILM = ("extract.", "predict_flow.", "fuse.")
_FILM_LAYER = re.compile(r"\.conv\.(weight|bias)$")
"""The name of a layer in the older of FILM's two layouts."""

_CACHED = (".attn_mask", ".HW")
"""Ends of names of tensors that EMA-VFI computes again for each size."""

_BLOCK = re.compile(r"^blocks\.(\d+)\.")
_UNUSED_BY_4 = ("contextnet.", "unet.")
"""Parts in files of RIFE 4.x that only the paper's network, with three blocks, uses."""

_REDUCED = 4  # the factor by which pictures are smaller that show the largest motion
FLOWS, MASK = 4, 1
"""Channels of an estimate. Features that a block hands to the next one may follow."""

LEVELS = 4  # of the network that corrects a picture, and of the features that it reads


def row(
    state: StateDict, family: str, version: str, source: str, network: str, **others: Any
) -> ModelSpec:
    """Return the spec of a network that tensors, ``state``, of a user's file show.

    A family is a module of this folder: its name, ``FAMILY``; its network; and ``detect``,
    which returns this row for tensors that show the network, or None. ``version``: the
    published ones with these tensors, which may differ in weights only. ``source``: authors
    and publication. ``network``: module and class, as ``rife:Rife4``.
    """
    usual: dict[str, Any] = {
        "name": "",
        "task": "interpolate",
        "context": 2,
        "overlap": 128,
        "network": f"published.{network}",
        "options": {"shapes": shapes(state)},
        "origin": f"{family} {version} ({source}); a user's own file",
        "domain": "a published network from your own file; filmed and drawn footage",
        "arbitrary_timestep": True,
        "entry": None,
    }
    return ModelSpec(**{**usual, **others})


def has(state: StateDict, name: str, *shape: int | None) -> bool:
    """Return whether a tensor of that name and shape exists.

    None stands for any length above 0.
    """
    size = state[name].shape if name in state else ()
    return len(size) == len(shape) and all(
        length > 0 and wanted in (None, length)
        for wanted, length in zip(shape, size, strict=True)
    )


def normalised(state: StateDict) -> dict[str, Tensor]:
    """Return tensors under the network's own names, without those for training only."""
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        name = _PREFIXES.sub("", name)
        if name.startswith(_FILM):
            name = _FILM_LAYER.sub(r".0.\1", name)
        result[_BLOCK.sub(r"block\1.", name)] = tensor
    has_four = any(name.startswith("block3.") for name in result)
    unused = _TRAINING_ONLY + (_UNUSED_BY_4 if has_four else ())
    return {
        k: v for k, v in result.items() if not (k.startswith(unused) or k.endswith(_CACHED))
    }


def recognise(state: StateDict) -> ModelSpec | None:
    """Return the network of :func:`normalised` tensors by names and shapes, or None."""
    return next((spec for family in families() if (spec := family.detect(state))), None)


def shapes(state: StateDict) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor by its name."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def unfit(spec: ModelSpec, state: StateDict) -> list[str]:
    """Return the names of tensors that one of network and file lacks, or with other shapes.

    The network runs once, with weights of zero: the same run without values, on the device
    "meta", takes ten times as long.
    """
    try:
        network = spec.build()
    except KeyError as error:  # a name of the file cannot be that of a tensor
        return [str(error)]
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    wrong: list[str] = network.unfit()
    wanted = shapes(network.state_dict())
    own = shapes(state)
    return wrong + [name for name in wanted | own if wanted.get(name) != own.get(name)]


@cache
def families() -> tuple[Any, ...]:
    """Return the modules of this folder that define a family of networks."""
    modules = [
        import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)
    ]
    return tuple(module for module in modules if hasattr(module, "detect"))


class Published(Interpolator):
    """A published network, with tensors of the names and ``shapes`` of a file.

    A family has no modules. Its methods call the layers, whose sizes follow from the
    tensors. A family whose pictures are mixes of two moved pictures defines ``estimate``
    only. ``estimate(seen, pair)`` takes the colours of x0 and x1, (B, 3, H, W) in [0, 1],
    and their pair. The result is flows, (B, 4, H, W), backward to x0 and to x1 in pixels;
    the weight of x0; and a correction of the colours or None. All are float32 in any dtype.
    """

    scale_option = has_maps = carries_alpha = True
    estimate: Callable[..., tuple[Tensor, Tensor, Tensor | None]]

    def __init__(self, spec: ModelSpec, shapes: Mapping[str, Sequence[int]]) -> None:
        super().__init__(spec)
        self.shapes = shapes
        self._read: dict[str, None] = {}
        for name, shape in shapes.items():
            *parents, last = name.split(".")
            module: nn.Module = self
            for parent in parents:
                if parent not in dict(module.named_children()):
                    module.add_module(parent, nn.Module())
                module = module.get_submodule(parent)
            module.register_parameter(last, nn.Parameter(torch.empty(*shape)))

    def forward(self, pair: Pair, maps: bool = False) -> Tensor:
        """See ``Interpolator.forward``.

        Published networks clamp their result to [0, 1]; here the part of a source colour
        that is outside this range stays. Opacity moves with the colours.
        """
        pictures = pair.x0, pair.x1
        flows, mask, residual = self.estimate(colours_of(*pictures), pair)
        grids = [sampling_grid(flow, *flow.shape[2:]) for flow in flows.chunk(2, 1)]
        warped0, warped1 = map(sample, pictures, grids)
        result = torch.lerp(warped1, warped0, mask)
        if residual is not None:
            colours = result[:, :COLOURS]
            inside = colours.clamp(0, 1)
            mixed = (inside + residual).clamp(0, 1) + (colours - inside)
            result = torch.cat((mixed, result[:, COLOURS:]), 1)
        if maps:
            result = torch.cat((result, maps_of((warped0, warped1), grids)), 1)
        return result

    def motion(self, pair: Pair) -> Tensor | None:
        """See ``Interpolator.motion``; pictures of a quarter of the size are enough."""
        if not hasattr(self, "estimate"):
            return None
        multiple = self.multiple(pair.scale) * _REDUCED
        small = [resize(x, 1 / _REDUCED, multiple) for x in (pair.x0, pair.x1)]
        reduced = Pair.of(small, pair.times, None, pair.scale)
        flows, *_ = self.estimate(colours_of(*small), reduced)
        return largest_motion(flows) * _REDUCED

    @torch.no_grad()
    def unfit(self) -> list[str]:
        """Run the network once; return the tensors that it does not read, or cannot use."""
        side = self.spec.multiple
        picture = torch.zeros(1, COLOURS, side, side)
        try:
            self(Pair.of([picture, picture], torch.tensor([0.5])))
        except AttributeError:  # the tensor is missing
            return [*self._read][-1:]
        except (LookupError, RuntimeError, ValueError):  # in the layer that was read last
            return [[*self._read][-1].replace(".bias", ".weight")]
        return [name for name, _ in self.named_parameters() if name not in self._read]

    def tensor(self, name: str) -> Tensor:
        """Return the tensor of that name."""
        self._read[name] = None
        return self.get_parameter(name)

    def both(self, name: str, outputs: int = 0) -> tuple[Tensor, Tensor]:
        """Return the weight and the bias of a layer; raise ValueError if they do not fit.

        ``outputs`` is the axis of the outputs.
        """
        weight = self.tensor(f"{name}.weight")
        bias = self.tensor(f"{name}.bias")
        shape = weight.shape
        if bias.shape != shape[outputs : outputs + 1] or shape[2:3] != shape[3:]:
            raise ValueError(name)
        return weight, bias

    def conv(self, name: str, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        """Apply a convolution that keeps the size, or divides it by ``stride``."""
        weight, bias = self.both(name)
        padding = (weight.shape[2] - 1) // 2 * dilation
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    def deconv(self, name: str, x: Tensor) -> Tensor:
        """Apply a transposed convolution that doubles the size."""
        weight, bias = self.both(name, 1)
        if len(weight) != x.shape[1]:
            raise ValueError(name)
        return F.conv_transpose2d(x, weight, bias, 2, 1)

    def layer(self, name: str, x: Tensor, stride: int = 1, *, first: int = 0) -> Tensor:
        """Apply a convolution and a PReLU: ``first`` and the next one of a sequence."""
        result = self.conv(f"{name}.{first}", x, stride)
        return F.prelu(result, self.tensor(f"{name}.{first + 1}.weight"))

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Apply a linear layer to the last axis."""
        return F.linear(x, *self.both(name))

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        weight, bias = self.both(name)
        return F.layer_norm(x, weight.shape, weight, bias, 1e-6)

    def halved(self, name: str, x: Tensor) -> Tensor:
        """Apply two layers, of which the first halves the size."""
        return self.layer(f"{name}.conv2", self.layer(f"{name}.conv1", x, 2))

    def correction(
        self, first: Sequence[Tensor], features: Sequence[Sequence[Tensor]]
    ) -> Tensor:
        """Return the colours' correction in RIFE's paper and EMA-VFI: (B, 3, H, W).

        ``first`` are inputs at full size, ``features`` those at a half to a sixteenth of
        the size.
        """
        hidden: list[Tensor] = []
        seen = list(first)
        for level in range(LEVELS):
            hidden.append(self.halved(f"unet.down{level}", joined(seen, self.dtype)))
            seen = [hidden[-1], *features[level]]
        hidden.pop()
        for level in range(LEVELS):
            level_features = self.deconv(f"unet.up{level}.0", joined(seen, self.dtype))
            level_features = F.prelu(
                level_features, self.tensor(f"unet.up{level}.1.weight")
            )
            seen = [level_features, *hidden[-1:]]
            del hidden[-1:]
        return torch.sigmoid(self.conv("unet.conv", level_features).float()) * 2 - 1


def colours_of(*pictures: Tensor) -> list[Tensor]:
    """Return the colours of pictures, which published networks read in [0, 1]."""
    return [x[:, :COLOURS].clamp(0, 1) for x in pictures]


def sides(features: Sequence[Tensor]) -> list[Tensor]:
    """Return the parts of x0 and of x1, (B, …), of each of ``features``, (2B, …)."""
    return [*chain.from_iterable(level.chunk(2) for level in features)]


def warp_all(features: Sequence[Tensor], flow: Tensor) -> list[Tensor]:
    """Return features of a picture, each half of the last's size, moved by a flow."""
    result = []
    for level, picture in enumerate(features):
        if level:
            flow = resize(flow, 0.5) * 0.5
        result.append(warp(picture, flow))
    return result
