"""List all models: a row for each.

This module does not import PyTorch, so that lists are fast.

A new model is a class and a row of ``_FLOWING``, ``METHODS`` or ``RESEARCH``, and weights,
if any, with an entry in the manifest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any, Literal

ModelTask = Literal["interpolate", "predict", "reconstruct"]

FOUR = 4
"""The context of an interpolator that reads a pair, and the frames before and after it."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The properties of a model. Code tests these properties, never the name of a model.

    The class of the network has further properties, see
    :class:`cloudconv.models.base.Model`.
    """

    name: str  # on the command line
    context: int  # the number of source frames that the model reads
    multiple: int  # sides are padded to a multiple of this number (at scale 1)
    # The peak working memory for each padded pixel of one batch item at float32 and scale
    # 1, inputs and output included (measured on a CPU).
    bytes_per_pixel: int
    overlap: int  # of neighbouring tiles, which hides the seam, in pixels at scale 1
    network: str  # the class, as `rife:IFNet`, or one of `research`; imported when needed
    # The use of the model in a few words; then footage that suits it, and the limits.
    domain: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)  # of the class
    task: ModelTask = "predict"
    # The source of the method and its weights.
    origin: str = "cloudconv; after earlier research projects"
    # Frames before the context that a predictor also reads, to test its forecasts.
    past: int = 0
    arbitrary_timestep: bool = False  # an interpolator takes any timestep, not only 0.5
    # The manifest entry of the weights, if it is not the model's name; None without
    # weights.
    entry: str | None = ""
    # Whether the model may run in 16 bits; others always run in float32. In measurements
    # the score differs from float32's by at most 0.05 dB, and the PSNR between both is 60
    # dB or more.
    half_precision: bool = True
    # The duration of a frame, relative to the default model of the task (medians of paired
    # runs on a CPU); None if not measured.
    time: float | None = None

    @property
    def cls(self) -> type[Any]:
        """Return the class of the network."""
        module, _, name = self.network.rpartition(":")
        kind: type[Any] = getattr(
            import_module(f"cloudconv.models.{module or 'research'}"), name
        )
        return kind

    @property
    def published(self) -> bool:
        """Return whether this is a published network from a user's file."""
        return self.network.startswith("published.")

    @property
    def family(self) -> str:
        """Return the name of a published network and its version."""
        return self.origin.partition(" (")[0]

    @property
    def licence(self) -> str:
        """Return the licence of the weights."""
        return "see the source of the file" if self.published else "MIT"

    @property
    def weights(self) -> str | None:
        """Return the manifest entry of the weights; None for a method without weights."""
        return self.name if self.entry == "" else self.entry

    @property
    def parameters(self) -> int:
        """Return the number of weights."""
        from torch import device

        with device("meta"):
            return sum(parameter.numel() for parameter in self.build().parameters())

    @property
    def frames(self) -> int:
        """Return the number of source frames that a new frame needs.

        Exact shifts, see :mod:`cloudconv.models.shifts`, need the frames around a pair.
        """
        return FOUR if self.cls.has_maps else self.context

    def build(self) -> Any:
        """Return the network with untrained weights."""
        return self.cls(self, **self.options)


_RIFE = "Huang et al., ECCV 2022"
_OURS = f"cloudconv, started from RIFE 4.6 ({_RIFE}, arXiv 2011.06294)"
_UNET = "cloudconv; after earlier projects and Ronneberger et al. 2015 (arXiv 1505.04597)"
_LSTM = "cloudconv; after earlier research projects and Shi et al. 2015 (arXiv 1506.04214)"
_GAN = "cloudconv; after Mathieu et al. 2015 (arXiv 1511.05440)"
_SMALL = "clouds, water and small motion"
_ANY = "reconstructs any picture"
_NOISY = "trained with noise in the skip connections"
_STEADY = "slow, steady motion such as clouds; blurs after about ten frames"

_linear = partial(ModelSpec, half_precision=False)
_middle = partial(ModelSpec, task="interpolate", origin=_UNET)
_same = partial(ModelSpec, task="reconstruct")
_AUTO = "Autoencoder"
_SKIP = "SkipAutoencoder"
_FIVE = (32, 64, 128, 256, 512)

_method = partial(ModelSpec, origin="cloudconv", half_precision=False, entry=None)
_between = partial(_method, task="interpolate", arbitrary_timestep=True)
_flowing = partial(ModelSpec, task="interpolate", arbitrary_timestep=True, origin=_OURS)

# fmt: off
_FLOWING = (
    _flowing("cloud-best", FOUR, 32, 390, 128, "rife:IFNet",
             "any footage, the default; quiet and noisy pictures too", time=1,
             options={"gated": True}),
    _flowing("cloud-fast", FOUR, 32, 170, 128, "rife:IFNet",
             "long videos; any live footage, quiet and noisy pictures too", time=0.6,
             options={"sizes": (8, 4, 2), "gated": True}),
    _flowing("cloud-turbo", FOUR, 64, 160, 128, "rife:IFNet",
             "slow machines, a first look; any live footage", time=0.5,
             options={"sizes": (16, 8, 4), "gated": True}),
    _flowing("rife-4.6", FOUR, 32, 335, 128, "rife:IFNet",
             "the original of the cloud models; live footage, strong on camera and object "
             "motion",
             time=0.9, origin=f"{_RIFE} (arXiv 2011.06294), version 4.6"),
)

METHODS = (
    _between("blend", 2, 1, 48, 0, "baselines:Blend",
             "a baseline: moving things look double", time=0.1),
    _between("hold", 2, 1, 36, 0, "baselines:Hold",
             "repeats the earlier frame; motion stays as jerky as before"),
    _method("layers", 5, 1, 720, 64, "baselines:LayersPredictor",
            "cars and walkers before a camera that stands; else it is flow",
            time=0.1, past=40,
            origin="Schödl and Essa, ACM SIGGRAPH SCA 2002, and ECC, Evangelidis and "
                   "Psarakis, IEEE TPAMI 2008, with OpenCV's methods"),
    _method("flow", 5, 1, 210, 64, "baselines:FlowPredictor",
            "steady motion; breaks up where the camera shakes or things collide", time=0.3,
            origin="Kroeger et al., ECCV 2016 (arXiv 1603.03590), by way of OpenCV"),
    ModelSpec("voxelflow", 6, 32, 710, 128, "voxelflow:VoxelFlow",
         "live footage, soft after a few frames; clouds, water, traffic, people", time=1,
         past=5, origin=_OURS),
    _method("hold", 1, 1, 36, 0, "baselines:Last", "a baseline: the picture stands still"),
    _method("linear", 2, 1, 60, 0, "baselines:Linear",
            "slow fades; moving things break up within a few frames"),
)
"""The methods without weights, and the forecaster: see ``RESEARCH`` for the columns."""

RESEARCH: tuple[ModelSpec, ...] = (
    _linear("conv-channel", 1, 1, 155, 8, "Conv",
            "dreams in vivid, chaotic colours", options={"groups": 3}),
    _linear("conv", 2, 1, 125, 8, "Conv", _STEADY),
    _linear("conv-modes", 4, 2, 320, 16, "ConvModes",
            "steady motion in several directions"),
    ModelSpec("conv-deep", 4, 1, 610, 16, "ConvDeep",
         "small motion; blurs after about ten frames"),
    _linear("conv-recurrent", 4, 1, 540, 16, "ConvRecurrent", "slow, steady motion"),
    _linear("conv-pyramid", 2, 16, 175, 64, "ConvPyramid", _STEADY),
    _linear("conv-pyramid-2", 2, 2, 175, 16, "ConvPyramid",
            "very slow motion; blurs after about ten frames"),
    ModelSpec("unet5", 5, 16, 1480, 64, "UNet5", f"{_SMALL}; long forecasts look painted",
         origin=_UNET),
    ModelSpec("convlstm", 4, 4, 325, 64, "ConvLSTM", _SMALL, origin=_LSTM),
    ModelSpec("skip-autoencoder", 4, 32, 310, 64, _SKIP, f"{_SMALL}; {_NOISY}",
         options={"widths": _FIVE, "skips": "noisy"}),
    ModelSpec("skip-autoencoder-plain", 4, 32, 310, 64, _SKIP,
         f"{_SMALL}; plain skip connections", options={"widths": _FIVE, "skips": "plain"}),
    ModelSpec("skip-autoencoder-none", 4, 32, 310, 64, _SKIP,
         f"{_SMALL}; no skip connections", options={"widths": _FIVE, "skips": "none"}),
    ModelSpec("multiscale-gan", 4, 16, 1200, 96, "MultiscaleGan",
         "small motion; keeps detail", origin=_GAN),
    _middle("unet-middle", 2, 16, 950, 64, "UNetMiddle",
            f"a small U-Net (Charbonnier loss); {_SMALL}"),
    _middle("unet-middle-mse", 2, 16, 950, 64, "UNetMiddle",
            f"a small U-Net (squared error); {_SMALL}"),
    _middle("unet-middle-ssim", 2, 16, 950, 64, "UNetMiddle",
            f"a small U-Net (SSIM loss); {_SMALL}"),
    _same("autoencoder", 1, 16, 245, 64, _AUTO, f"{_ANY}; fine detail gets lost",
          options={"widths": _FIVE[:4], "skips": "none"}),
    _same("autoencoder-dense", 1, 1, 40, 64, "DenseAutoencoder",
          "a reference at 32x32 pixels; reconstructs any picture"),
    _same("autoencoder-shallow", 1, 2, 80, 8, _AUTO, f"{_ANY} almost exactly",
          options={"widths": (16,), "skips": "none"}),
    _same("autoencoder-skips", 1, 16, 245, 64, _AUTO,
          f"{_ANY}; skip connections carry most of the detail",
          options={"widths": _FIVE[:4], "skips": "plain"}),
    _same("autoencoder-noisy", 1, 16, 245, 64, _AUTO, f"{_ANY}; {_NOISY}",
          options={"widths": _FIVE[:4], "skips": "noisy"}),
    _same("skip-autoencoder", 1, 32, 245, 64, _AUTO, f"{_ANY}; {_NOISY}",
          options={"widths": _FIVE, "skips": "noisy"}, entry="skip-autoencoder-picture"),
)
"""The research models: name, context, multiple, bytes per pixel, overlap, network and
domain."""

LISTED = (*_FLOWING, *METHODS, *RESEARCH)
"""All models that lists show, the default model first."""
