"""Mode ``rollout``: feed a predictor with its own pictures, which get worse with time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Options
from cloudconv.models import registry
from cloudconv.settings.extend import DEFAULT_PREDICTOR

_FADE = 24  # frames in which a loop fades into its beginning


def rollout(material: Material, options: Options) -> Iterator[Tensor]:
    """Yield frames predicted from the frames before, predicted ones included.

    A prediction is not random, so the seed changes nothing. A prediction cannot aim at a frame
    either: in a loop the last frames fade into the first one.
    """
    frames, loop, loop_to = options.frames, options.loop, options.loop_to
    device = material.device
    model = registry.load_predictor(options.model or DEFAULT_PREDICTOR, device, options.dtype)
    need = model.spec.context
    numbers = [max(0, len(material) - need + k) for k in range(need)]
    context = torch.stack([material.picture(k) for k in numbers])[None]
    fade = min(_FADE, frames // 2)
    for number in range(frames):
        made = next(model.forecast(context, 1, checks=False))
        context = torch.cat((context[:, 1:], made[:, None]), 1)
        if loop and loop_to is None:
            loop_to = made[0]
        share = min((frames - number) / (fade + 1), 1.0)
        yield made[0] if loop_to is None else torch.lerp(loop_to, made[0], share)
