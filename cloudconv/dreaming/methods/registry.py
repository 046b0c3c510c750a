"""List the modes of dreaming. A new mode needs a module and an entry in ``METHODS``."""

from __future__ import annotations

from cloudconv.dreaming.methods.base import MethodSpec
from cloudconv.dreaming.methods.collage import Collage
from cloudconv.dreaming.methods.flow import Flow
from cloudconv.dreaming.methods.rollout import Rollout
from cloudconv.dreaming.methods.texture import Texture
from cloudconv.dreaming.vitals.vitals import DreamKind

METHODS: tuple[MethodSpec, ...] = (
    MethodSpec(
        name="collage",
        least_frames=8,
        build=Collage,
        kind=DreamKind(pasted=True, sky=True),
    ),
    MethodSpec(
        name="texture",
        least_frames=2,
        build=Texture,
        kind=DreamKind(repeats=True),
    ),
    MethodSpec(
        name="flow",
        least_frames=1,
        build=Flow,
        kind=DreamKind(repeats=True, pasted=True),
        options=("wind",),
        note="The picture returns in a cycle.",
    ),
    MethodSpec(
        name="rollout",
        least_frames=1,
        build=Rollout,
        kind=DreamKind(),
        options=("model",),
    ),
)


def method(name: str) -> MethodSpec:
    """Return the description of a mode by its name, which the settings have checked."""
    return next(spec for spec in METHODS if spec.name == name)
