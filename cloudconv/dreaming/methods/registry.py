"""List the modes of dreaming. A new mode needs a module and an entry in ``METHODS``."""

from __future__ import annotations

from cloudconv.dreaming.methods.base import MethodSpec
from cloudconv.dreaming.methods.collage import Collage
from cloudconv.dreaming.methods.flow import Flow
from cloudconv.dreaming.methods.rollout import Rollout
from cloudconv.dreaming.methods.texture import Texture
from cloudconv.dreaming.vitals.vitals import DreamKind

_CYCLE = "The picture returns in a cycle."

METHODS = (
    MethodSpec("collage", 8, Collage, DreamKind(pasted=True, sky=True)),
    MethodSpec("texture", 2, Texture, DreamKind(repeats=True)),
    MethodSpec("flow", 1, Flow, DreamKind(repeats=True, pasted=True), ("wind",), _CYCLE),
    MethodSpec("rollout", 1, Rollout, DreamKind(), ("model",)),
)


def method(name: str) -> MethodSpec:
    """Return the description of a mode by its name, which the settings have checked."""
    return next(spec for spec in METHODS if spec.name == name)
