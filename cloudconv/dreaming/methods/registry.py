"""List the modes of dreaming. A new mode needs a module and an entry in ``METHODS``."""

from __future__ import annotations

from cloudconv.dreaming.methods.base import MethodSpec
from cloudconv.dreaming.methods.collage import Collage
from cloudconv.dreaming.methods.flow import Flow
from cloudconv.dreaming.methods.rollout import Rollout
from cloudconv.dreaming.methods.texture import Texture, doubt_of

COLLAGE = MethodSpec(
    name="collage",
    description="new sky from the clip's own footage, which blows in while the old blows out",
    least_frames=8,
    build=Collage,
    repeats=False,
    static=True,
    skies=True,
)
TEXTURE = MethodSpec(
    name="texture",
    description="plays the clip's own frames, jumps where nothing tells, turns where it must",
    least_frames=2,
    build=Texture,
    repeats=True,
    static=False,
    as_filmed=True,
    doubt=doubt_of,
)
FLOW = MethodSpec(
    name="flow",
    description="one picture that keeps moving along a steady field; also from a still",
    least_frames=1,
    build=Flow,
    repeats=True,
    static=True,
    options=("wind",),
)
ROLLOUT = MethodSpec(
    name="rollout",
    description="feeds a predictor with its own pictures, collapse and all",
    least_frames=1,
    build=Rollout,
    repeats=False,
    static=False,
    options=("model", "texture_keep"),
)

METHODS: tuple[MethodSpec, ...] = (COLLAGE, TEXTURE, FLOW, ROLLOUT)


def method(name: str) -> MethodSpec:
    """Return the description of a mode by its name, which the settings have checked."""
    return next(spec for spec in METHODS if spec.name == name)
