"""A renderer moves lost things as wholes, the same in batches, tiles and alone."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from cloudconv.media.colour.color import color_space, from_rgb
from cloudconv.media.frames.formats import layout
from cloudconv.media.frames.frame import ColorTags, Frame, make_picture
from cloudconv.timeline import Task
from tests.models.test_wholes import disc
from tests.models.test_wholes import ground as drawn_ground
from tests.render.test_renderer import renderer

TAGS = ColorTags(1, 1, 1, 1)
STEP = 30


def frame(number):
    rgb = disc(drawn_ground(), 60 + STEP * number)
    rgb = np.pad(rgb, ((0, 0), (0, 120), (0, 0)), "edge")
    form = layout("yuv444p")
    planes = torch.from_numpy(np.float32(rgb.clip(0, 255) / 255)).permute(2, 0, 1)
    height, width = rgb.shape[:2]
    planes = from_rgb(planes, form, color_space(TAGS, form, width, height))
    picture = make_picture(planes, form.name, width, height)
    return Frame(picture, Fraction(number) / 24, Fraction(1, 24), TAGS)


def made(count=1, **options):
    before, left, right, after = map(frame, range(4))
    tasks = [
        Task(
            *(left, right, Fraction(k, count + 1), left.time, left.duration),
            before=(before, Fraction(1)),
            after=(after, Fraction(1)),
        )
        for k in range(1, count + 1)
    ]
    work = renderer("cloud-turbo", **{"fallback": True, "things": True, **options})
    return [
        torch.stack([p.float() for p in new.planes()]) for new in work.render(iter(tasks))
    ]


def test_a_lost_disc_is_whole():
    plain, whole = (made(things=on)[0] for on in (False, True))
    truth = torch.stack([plane.float() for plane in frame(1.5).planes()])
    errors = [float((picture - truth).square().mean()) for picture in (plain, whole)]
    assert errors[1] < errors[0] / 10


@pytest.mark.full
def test_batches_change_no_bit_and_tiles_change_no_thing():
    alone, together = (made(3, batch=batch) for batch in (1, 3))
    assert all(map(torch.equal, alone, together))
    whole, tiled = (made(tile=tile)[0] for tile in ("off", 256))
    assert float((whole - tiled).square().mean()) < 1
