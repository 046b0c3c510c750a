"""Mode ``rollout``: feed a predictor with its own pictures, which get worse with time."""

from collections.abc import Iterator

import torch

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Options
from cloudconv.images import Floats, lerp, picture_from, tensor_of
from cloudconv.models import registry
from cloudconv.settings.extend import DEFAULT_PREDICTOR

_FADE = 24  # frames in which a loop fades into its beginning


def rollout(material: Material, options: Options) -> Iterator[Floats]:
    """Yield frames predicted from the frames before, predicted ones included.

    A prediction is not random, so the seed changes nothing. A prediction cannot aim at a
    frame either: in a loop the last frames fade into the first one.
    """
    frames = options.frames
    loop = options.loop
    loop_to = options.loop_to
    model = registry.load_predictor(
        options.model or DEFAULT_PREDICTOR, options.device, options.dtype
    )
    need = model.spec.context
    numbers = [max(0, len(material) - need + k) for k in range(need)]
    inputs = [tensor_of(material.picture(k)) for k in numbers]
    context = torch.stack(inputs).to(options.device)[None]
    fade = min(_FADE, frames // 2)
    for number in range(frames):
        predicted = next(model.forecast(context, 1, checks=False))
        context = torch.cat((context[:, 1:], predicted[:, None]), 1)
        picture = picture_from(predicted[0])
        if loop and loop_to is None:
            loop_to = picture
        if loop_to is not None:
            share = min((frames - number) / (fade + 1), 1.0)
            picture = lerp(loop_to, picture, share)
        yield picture
