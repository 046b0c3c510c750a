"""A renderer moves by exact shifts: the same in batches and tiles, in any format."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import cloudconv
from cloudconv.media.colour.color import color_space, from_rgb
from cloudconv.media.frames.formats import layout
from cloudconv.media.frames.frame import ColorTags, Frame, make_picture
from cloudconv.timeline import Task
from tests.helpers.tiers import MODELS
from tests.models.test_shifts import CLIPS, SIZE
from tests.render.test_renderer import renderer

TAGS = ColorTags(1, 1, 1, 1)
LABEL = CLIPS["a label that slides"]


def frame(number, pix_fmt="yuv444p"):
    rgb = np.pad(LABEL(int(4 * number)), ((0, 0), (0, 120), (0, 0)), "edge")
    form = layout(pix_fmt)
    size = SIZE[1] + 120, SIZE[0]
    channels = torch.from_numpy(rgb / 255).permute(2, 0, 1)
    planes = from_rgb(channels, form, color_space(TAGS, form, *size))
    return Frame(
        make_picture(planes, pix_fmt, *size), Fraction(number), Fraction(1, 24), TAGS
    )


def new_frames(count=1, pix_fmt="yuv444p", **options):
    before, left, right, after = (frame(k, pix_fmt) for k in (-1, 0, 1, 2))
    one = Fraction(1)
    tasks = [
        Task(
            *(left, right, Fraction(k, count + 1), left.time, left.duration),
            before=(before, one),
            after=(after, one),
        )
        for k in range(1, count + 1)
    ]
    work = renderer("cloud-turbo", **options)
    made = (item.frame for item in work.render(tasks))
    return [torch.cat([p.float().flatten() for p in new.planes()]) for new in made]


def error(new, pix_fmt="yuv444p"):
    truth = frame(Fraction(1, 2), pix_fmt).planes()
    return float((new - torch.cat([p.float().flatten() for p in truth])).square().mean())


@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv420p", "yuv444p10le"])
def test_a_label_is_where_it_should_be_in_any_format(monkeypatch, pix_fmt):
    (moved,) = new_frames(pix_fmt=pix_fmt)
    monkeypatch.setattr("cloudconv.render.inference.move_exactly", lambda *_: None)
    (lost,) = new_frames(pix_fmt=pix_fmt)
    assert error(moved, pix_fmt) < error(lost, pix_fmt) / 4


def fence(start, period, fine=4, size=(160, 320)):
    """Return a view of pickets before grass, so many pixels further to the right."""
    height, width = size
    noise = np.random.default_rng(5).normal(size=(height, width + 120, 3))
    grass = sum(gaussian_filter(noise, (s, s, 0)) * s for s in (2, 6))
    grass = 0.4 + 0.25 * grass / np.abs(grass).max()
    columns = (np.arange((width + 120) * fine) + 0.5) / fine % period < period / 2
    shown = grass.repeat(fine, 1)
    shown[40:120, columns] = (0.88, 0.86, 0.8)
    first = round((start + 40) * fine)
    view = shown[:, first : first + width * fine]
    return np.float32(view.reshape(height, width, fine, 3).mean(2))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("period", "speed"), [(14, 5), (14, 9), (14, 18), (28, 7)])
def test_a_fence_in_a_level_pan_is_at_its_place(model, period, speed):
    """A motion that is off by a whole picket leaves both moved pictures alike."""
    noise = np.random.default_rng(1).normal(size=(4, 160, 320, 3)) * 2 / 255
    pictures = [fence(speed * k - speed, period) + np.float32(noise[k]) for k in range(4)]
    new = list(cloudconv.interpolate_frames(pictures, 2, model=model, device="cpu"))[3]
    assert np.square(new - fence(speed / 2, period)).mean() < 10**-3.4


def test_batches_change_no_bit():
    alone, together = (new_frames(3, batch=batch) for batch in (1, 3))
    assert all(map(torch.equal, alone, together))


def test_threads_change_no_bit():
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(new_frames())
    torch.set_num_threads(threads)
    assert all(map(torch.equal, *results))


@pytest.mark.full
def test_tiles_change_nothing_that_is_seen():
    whole, tiled = (new_frames(tile=tile)[0] for tile in ("off", 256))
    assert float((whole - tiled).square().mean()) < 1
    assert error(tiled) < 2 * error(whole) + 1
