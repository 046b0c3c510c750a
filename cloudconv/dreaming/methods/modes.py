"""List the modes of dreaming. A new mode needs a module and an entry in ``METHODS``."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Composed, DreamFrame, Options
from cloudconv.dreaming.methods.collage import collage
from cloudconv.dreaming.methods.flow import flow
from cloudconv.dreaming.methods.rollout import rollout
from cloudconv.dreaming.methods.texture import exits, texture
from cloudconv.dreaming.vitals.features import FilmFeatures
from cloudconv.dreaming.vitals.residual import NETWORK
from cloudconv.dreaming.vitals.vitals import Judged, VitalsMeter
from cloudconv.images import Floats


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """The description of a mode.

    Jobs read the description and never branch on a mode's name. ``least_frames``: the
    number of frames that the material needs. ``dream``: yields the frames that follow
    ``material.last``, each with its origin. The pictures are (H, W, 3) float32 RGB,
    nominally in [0, 1] and not clamped. The first follows by one ``material.step``. The
    same material, options and machine give the same frames. Memory does not grow with their
    number. ``options``: the names of the :class:`Options` that a user may give. ``note``:
    words for the user about the dream. ``network``: the model that makes pictures, if
    the user does not name one; empty without one. ``needs_wind``: footage comes in along
    the motion of the clip. ``exits``: returns where the dream may leave the film before its
    end, in points before the last one, at most so many; None if it may not.
    """

    name: str
    least_frames: int
    dream: Callable[[Material, Options], Iterator[DreamFrame]]
    options: tuple[str, ...] = ()
    note: str = ""
    network: str = ""
    needs_wind: bool = False
    exits: Callable[[Material, int], list[int]] | None = None

    def judged(self, film: FilmFeatures, options: Options) -> tuple[VitalsMeter, Judged]:
        """Return the meter of a dream of a film's material, and the frames.

        The meter judges each frame when it is made.
        """
        # A loop of the dream alone follows no frame of the film.
        follows = not options.loop or options.loop_to is not None
        meter = VitalsMeter(film, options.frames, options.leaves if follows else None)
        return meter, meter.judged(self.dream(film.material, options))


def _composed(
    pictures: Callable[[Material, Options], Iterator[Floats]],
) -> Callable[[Material, Options], Iterator[DreamFrame]]:
    """Return a mode all of whose pictures are put together or forecast."""
    return lambda material, options: (
        DreamFrame.made(picture, Composed()) for picture in pictures(material, options)
    )


METHODS = (
    MethodSpec("collage", 8, collage, needs_wind=True),
    MethodSpec("texture", 2, texture, network=NETWORK, exits=exits),
    MethodSpec("flow", 1, _composed(flow), ("wind",), "the picture returns in a cycle"),
    MethodSpec("rollout", 1, _composed(rollout), ("model",)),
)


def method(name: str) -> MethodSpec:
    """Return the description of a mode by its name, which the settings have checked."""
    return next(spec for spec in METHODS if spec.name == name)
