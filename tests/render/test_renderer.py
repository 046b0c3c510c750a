"""The renderer returns the right frames in order, for any batch, format and memory."""

import gc
import weakref
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.errors import CloudconvError, DeviceError
from cloudconv.media.frames.frame import ColorTags, Frame
from cloudconv.models import registry
from cloudconv.models.baselines import Blend
from cloudconv.models.engines import Engines
from cloudconv.render import memory
from cloudconv.render.memory import WantedSizes
from cloudconv.render.renderer import Renderer
from cloudconv.timeline import Task
from tests.helpers.factory import picture, planes_of
from tests.models.test_contract import Midpoint

BLEND = registry.spec("blend")

CPU = torch.device("cpu")
LIMITED = ColorTags(1, 1, 1, 1)


def clip(count, pix_fmt="yuv420p", **options):
    return [
        Frame(
            picture(k, pix_fmt=pix_fmt, **options),
            Fraction(k, 24),
            Fraction(1, 24),
            LIMITED,
        )
        for k in range(count)
    ]


def multiplied(frames, factor):
    """Return a whole factor's tasks: each gap is divided, the last frame is repeated."""
    step = Fraction(1, 24 * factor)
    for k, frame in enumerate(frames):
        right = frames[k + 1] if k + 1 < len(frames) else None
        for number in range(factor):
            yield Task(
                frame, right, Fraction(number, factor), (k * factor + number) * step, step
            )


def renderer(model="tiny", **options):
    """Return a renderer; options that are sizes go into its wanted sizes."""
    loaded = registry.load(model) if isinstance(model, str) else model
    sizes = {k: options.pop(k) for k in ("batch", "tile", "cpu_streams") if k in options}
    options = {"device": CPU, "engines": Engines(), **options}
    return Renderer(loaded, **options, wanted=WantedSizes(**sizes))


def pixels(frames):
    return [planes_of(frame.picture) for frame in frames]


def assert_alike(first, second, levels=0):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        for p, q in zip(a, b, strict=True):
            assert p.dtype == q.dtype
            assert np.abs(p.astype(int) - q.astype(int)).max() <= levels


class LimitedBlend(Blend):
    """A blend that can allocate only a limited number of pixels at once."""

    def __init__(self, room):
        super().__init__(replace(BLEND, multiple=8, overlap=8))
        self.room = room
        self.sizes = []

    def forward(self, pair):
        batch, _, height, width = pair.x0.shape
        self.sizes.append(tuple(pair.x0.shape))
        if batch * height * width > self.room:
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to get more"
            )
        return super().forward(pair)


def test_source_frames_pass_unchanged_at_their_own_times():
    frames = clip(4)
    work = renderer()
    result = list(work.frames(multiplied(frames, 3)))
    assert [frame.time for frame in result] == [Fraction(k, 72) for k in range(12)]
    assert {frame.duration for frame in result} == {Fraction(1, 72)}
    assert [frame.picture for frame in result[::3]] == [frame.picture for frame in frames]
    # The last interval has no right frame, so its frame is repeated.
    assert result[10].picture is result[11].picture is frames[3].picture
    assert len({id(frame.picture) for frame in result}) == 4 + 6
    assert not [*work.warnings.new()]


@pytest.mark.parametrize(
    "pix_fmt",
    [
        "yuv420p",
        "yuv422p10le",
        "yuv444p12le",
        "gray",
        "gray16le",
        "gbrp",
        "gbrap",
        "yuva420p",
    ],
)
@pytest.mark.parametrize("size", [(96, 64), (33, 17)])
def test_every_pixel_format_is_blended_plane_by_plane(pix_fmt, size):
    width, height = size
    frames = clip(2, pix_fmt, width=width, height=height)
    work = renderer("blend")
    middle = list(work.frames(multiplied(frames, 2)))[1]
    planes = [planes_of(f.picture) for f in (*frames, middle)]
    levels = 2 if "16" in pix_fmt else 1
    for left, right, made in zip(*planes, strict=True):
        assert made.dtype == left.dtype
        assert np.abs(made - (left.astype(float) + right) / 2).max() <= levels


@pytest.mark.full
@settings(deadline=None, max_examples=20)
@given(
    st.integers(1, 7),
    st.integers(1, 3),
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4)), max_size=20
    ),
)
def test_batches_change_neither_order_nor_pictures(batch, cpu_streams, wanted):
    frames = clip(4, width=24, height=16)
    tasks = [
        Task(
            frames[a],
            None if b == 3 else frames[b],
            Fraction(t, 5),
            Fraction(k),
            Fraction(1),
        )
        for k, (a, b, t) in enumerate(wanted)
    ]
    one = list(renderer(batch=1).frames(tasks))
    many = list(renderer(batch=batch, cpu_streams=cpu_streams).frames(iter(tasks)))
    assert [f.time for f in many] == [task.time for task in tasks]
    assert_alike(pixels(one), pixels(many), levels=1)


@pytest.mark.parametrize("batch", [1, 3, 7, 16])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_midpoint_model_makes_each_middle_of_a_pair_once(batch, factor):
    model = Midpoint()
    result = list(renderer(model, batch=batch).frames(multiplied(clip(4), factor)))
    assert model.items == 3 * (factor - 1)
    assert_alike(
        pixels(result), pixels(renderer("blend").frames(multiplied(clip(4), factor))), 1
    )


@pytest.mark.parametrize("batch", [1, 6])
def test_frames_are_freed_during_the_work(batch):
    class Watched(ColorTags):  # the only part of a frame that a test can see being freed
        pass

    references = []

    def watched(index):
        tags = Watched()
        references.append(weakref.ref(tags))
        return Frame(picture(index), Fraction(index), Fraction(1), tags)

    def tasks():
        left = watched(0)
        for index in range(1, 40):
            right = watched(index)
            yield Task(left, None, Fraction(0), Fraction(index), Fraction(1))
            yield Task(left, right, Fraction(1, 2), Fraction(index), Fraction(1))
            left = right

    work = renderer(batch=batch)
    for _ in work.frames(tasks()):
        assert sum(tags() is not None for tags in references) <= batch + 3
    assert len(references) == 40


@pytest.mark.parametrize(
    ("size", "room", "sizes", "said"),
    [
        ((96, 64), 2 * 96 * 64, (8, 1), ["batch is now 4.", "batch is now 2."]),
        # After one stream instead of three.
        ((96, 64), 2 * 96 * 64, (4, 3), ["batch is now 2."]),
        (
            (480, 200),
            130 * 130,
            (2, 1),
            ["batch is now 1.", "tiles of 240 ", "tiles of 120 "],
        ),
    ],
)
def test_a_lack_of_memory_gives_one_stream_then_smaller_batches_then_tiles(
    size, room, sizes, said
):
    frames = clip(4, width=size[0], height=size[1])
    threads = torch.get_num_threads()
    work = renderer(LimitedBlend(room), batch=sizes[0], cpu_streams=sizes[1])
    result = pixels(work.frames(multiplied(frames, 4)))
    assert_alike(result, pixels(renderer("blend").frames(multiplied(frames, 4))))
    for text, part in zip(map(str, work.warnings.new()), said, strict=True):
        assert part in text
    assert torch.get_num_threads() == threads


class PoolBlend(Blend):
    """A blend on a device with room for ``room`` pictures, those of failed calls too."""

    def __init__(self, room):
        super().__init__(BLEND)
        self.room = room
        self.taken = []

    def forward(self, pair):
        # Exists as long as this call, or the error that ends it.
        mine = torch.empty_like(pair.x0)
        self.taken.append(weakref.ref(mine))
        if sum(len(t) for taken in self.taken if (t := taken()) is not None) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(pair)


@pytest.mark.parametrize("cpu_streams", [1, 2])
def test_a_failed_attempt_frees_its_memory_before_the_next(cpu_streams):
    frames = clip(8)
    model = PoolBlend(2)
    work = renderer(model, batch=4, cpu_streams=cpu_streams)
    gc.disable()  # memory must be freed without the garbage collector
    try:
        result = pixels(work.frames(multiplied(frames, 4)))
    finally:
        gc.enable()
    assert_alike(result, pixels(renderer("blend").frames(multiplied(frames, 4))))
    assert [str(text).split(": ")[1] for text in work.warnings.new()] == [
        "the batch is now 2."
    ]
    assert not any(taken() is not None for taken in model.taken)


@pytest.mark.parametrize(("factor", "sizes"), [(3, [4, 2]), (4, [4, 4, 1]), (8, [8, 8, 8])])
def test_batches_are_powers_of_two_if_other_sizes_cost_memory(factor, sizes):
    frames = clip(4)
    model = LimitedBlend(room=10**9)
    work = renderer(model, batch=max(sizes))
    work._inference = replace(work._inference, fills=True)
    result = pixels(work.frames(multiplied(frames, factor)))
    assert_alike(result, pixels(renderer("blend").frames(multiplied(frames, factor))))
    assert [shape[0] for shape in model.sizes] == sizes


def test_only_as_many_streams_start_as_fit_into_memory(monkeypatch):
    one = renderer(cpu_streams=1).plan(640, 480)
    assert one.sizes.cpu_streams == 1
    # The plan may use 0.6 of the free memory, so two and a half streams fit.
    monkeypatch.setattr(
        memory, "free_memory", lambda device: int(one.memory_bytes * 2.5 / 0.6)
    )
    assert renderer(cpu_streams=4).plan(640, 480).sizes.cpu_streams == 2


@pytest.mark.parametrize(
    ("sizes", "said"),
    [({"batch": 2}, "or a smaller copy"), ({"tile": "off"}, "tile='auto'")],
)
def test_memory_too_small_for_the_smallest_tile_or_a_whole_frame_is_an_error(sizes, said):
    work = renderer(LimitedBlend(room=10), **sizes)
    with pytest.raises(DeviceError, match=said):
        list(work.frames(multiplied(clip(3), 2)))


def test_other_errors_are_not_treated_as_a_lack_of_memory():
    work = renderer()
    broken = replace(clip(1)[0], picture=picture(0, 48, 32))
    with pytest.raises((RuntimeError, ValueError)):
        list(
            work.frames(
                [Task(clip(1)[0], broken, Fraction(1, 2), Fraction(0), Fraction(1))]
            )
        )
    assert not [*work.warnings.new()]


def test_little_free_memory_gives_tiles_from_the_start(monkeypatch):
    frames = clip(2, width=640, height=480)
    monkeypatch.setattr(memory, "free_memory", lambda device: 55 * 2**20)
    model = LimitedBlend(room=640 * 480)
    model.spec = replace(model.spec, bytes_per_pixel=400)
    work = renderer(model)
    result = pixels(work.frames(multiplied(frames, 3)))
    assert_alike(result, pixels(renderer("blend").frames(multiplied(frames, 3))))
    said = [*work.warnings.new()]
    assert len(said) == 1
    assert "640x480" in str(said[0])
    assert "tiles of" in str(said[0])
    assert max(max(shape[2:]) for shape in model.sizes) < 640


def test_chosen_tiles_give_no_warning():
    model = LimitedBlend(room=10**9)
    work = renderer(model, tile=64)
    list(work.frames(multiplied(clip(2, width=200, height=100), 2)))
    assert not [*work.warnings.new()]
    assert max(max(shape[2:]) for shape in model.sizes) <= 64


@pytest.mark.parametrize(
    ("options", "said"),
    [({"tile": 8}, "Tiles of 8 pixels"), ({"scale": 0.5}, "scale")],
)
def test_impossible_settings_are_refused_at_once(options, said):
    with pytest.raises(CloudconvError, match=said):
        renderer("tiny", **options)
