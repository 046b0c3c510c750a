"""``interp`` on a GPU makes the CPU's frames, by CUDA's rules, without idle waits."""

import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from av import VideoFrame
from safetensors.torch import save_file

import cloudconv
from cloudconv.media.frames.frame import Frame
from cloudconv.models import registry
from cloudconv.models.engines import Engines
from cloudconv.render.memory import WantedSizes
from cloudconv.render.renderer import Renderer
from cloudconv.timeline import Task
from tests.gpu.simulation import in_loop
from tests.helpers import balls
from tests.helpers.factory import picture, read_planes, write_clip
from tests.helpers.published import recorded
from tests.helpers.tiers import needs_ray

OURS = ["cloud-best", "cloud-fast", "cloud-turbo", "rife-4.6"]
NETWORKS = ["rife_4_0", "rife_4_25", "rife_eccv", "ifrnet_s", "ema_vfi_small"]
NEAREST = {"fp32": 90.0, "fp16": 60.0, "bf16": 60.0}
"""Least PSNR in dB between the frames of the GPU and those of the CPU in float32."""
BATCH, WIDTH, HEIGHT = 2, 128, 96
TWO_BATCHES = 5  # source frames, for four new frames


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Return a function that writes frames of moving or of still noisy texture."""
    folder = tmp_path_factory.mktemp("clips")

    def clip(pix_fmt="yuv420p", noise=0.0, size=(), count=TWO_BATCHES):
        width, height = size or (WIDTH, HEIGHT)
        result = folder / f"{pix_fmt}-{noise}-{width}x{height}-{count}.mkv"
        if not result.exists():
            step = 0.0 if noise else 3.0
            pictures = [
                picture(k, width, height, pix_fmt, step=step, noise=noise)
                for k in range(count)
            ]
            write_clip(result, pictures, pix_fmt=pix_fmt)
        return result

    return clip


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Return a function that writes the file of a network with computed weights."""
    folder = tmp_path_factory.mktemp("files")

    def made(name):
        path = folder / f"{name}.safetensors"
        if not path.exists():
            save_file(recorded(name).state(), path)
        return path

    return made


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Return a function that interpolates on the CPU in float32, once per set of flags."""
    folder = tmp_path_factory.mktemp("expected")
    outputs = {}

    def render(clip, **options):
        key = f"{clip} {sorted(options.items())}"
        if key not in outputs:
            outputs[key] = folder / f"{len(outputs)}.mkv"
            interp(clip, outputs[key], **options)
        return outputs[key]

    return render


def interp(clip, output, **options):
    keywords = {
        "factor": 2,
        "device": "cpu",
        "precision": "fp32",
        "encoder": "ffv1",
        "batch": BATCH,
    }
    return cloudconv.interpolate(clip, output, **{**keywords, "threads": 1, **options})


def decibels(one, other):
    """Return the PSNR between two files with the same number of frames."""
    pairs = list(zip(read_planes(one), read_planes(other), strict=True))
    planes = [(a, b) for first, second in pairs for a, b in zip(first, second, strict=True)]
    top = 1023 if planes[0][0].dtype == np.uint16 else 255
    error = sum(float(((a.astype(float) - b) ** 2).sum()) for a, b in planes)
    error /= sum(a.size for a, _ in planes)
    return math.inf if error == 0 else 10 * math.log10(top**2 / error)


def check(record, clip, made, batch=BATCH, again=0):
    """Check the rules of a GPU, and that the CPU never waits.

    ``again``: frames decoded twice. What flies is searched on the device, which gets each
    frame once more, and returns a map of a byte for each sample of luma, and the blobs.
    """
    if record is None:
        return
    assert not record.faults
    assert not in_loop(record.unordered), "frames may differ from run to run"
    assert not in_loop(record.waits)
    source, shown = read_planes(clip), read_planes(made)
    size = sum(plane.nbytes for plane in source[0])
    new = len(shown) - len(source)
    assert in_loop(record.up).total() <= 2.2 * size * (len(source) + again)
    assert in_loop(record.down).total() <= 1.1 * size * (new + len(source))
    assert record.events <= 2 * math.ceil(new / batch) + 3 * len(source)


WAYS = {
    **{f"{name} "
       f"{kind}": {"model": name, "precision": kind} for name in OURS for kind in NEAREST},
    **{f"{name} {kind}": {"model": name, "precision": kind}
       for name in NETWORKS for kind in ("fp32", "fp16")},
    "10 bit": {"pix_fmt": "yuv420p10le"},
    "alpha": {"pix_fmt": "yuva420p"},
    "4:4:4": {"pix_fmt": "yuv444p"},
    "noise": {"noise": 6.0},
    "tiles": {"size": (320, 96), "tile": 256},
    "tiles of noise": {"size": (320, 96), "tile": 256, "noise": 6.0},
    "loop": {"loop": True},
    "x4": {"factor": 4},
    "x3 with fillers": {"factor": 3, "batch": 7},
    "batch of one": {"batch": 1},
    "half scale": {"scale": 0.5},
}  # fmt: skip


# One published network stands for the others in 16 bits.
RARE = {f"{name} fp16" for name in NETWORKS[1:]}


@pytest.mark.parametrize(
    "way",
    [pytest.param(way, marks=pytest.mark.slow) if way in RARE else way for way in WAYS],
)
def test_the_gpu_makes_the_frames_of_the_cpu(gpu, clips, file, expected, tmp_path, way):
    options = {"model": "cloud-fast", **WAYS[way]}
    clip = clips(
        **{k: options.pop(k) for k in ("pix_fmt", "noise", "size") if k in options}
    )
    precision = options.pop("precision", "fp32")
    if options["model"] not in OURS:
        options["model"] = file(options["model"])
    with gpu() as record:
        interp(clip, tmp_path / "a.mkv", device="cuda", precision=precision, **options)
    assert decibels(tmp_path / "a.mkv", expected(clip, **options)) >= NEAREST[precision]
    batch = 1 if "tile" in options else options.get("batch", BATCH)
    check(record, clip, tmp_path / "a.mkv", batch, 2 if "loop" in options else 0)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p10le"])
def test_a_ball_is_found_on_the_device(gpu, expected, tmp_path, pix_fmt):
    shown = [each.picture.reformat(format=pix_fmt) for each in balls.frames(range(9))]
    clip = write_clip(tmp_path / "in.mkv", shown, pix_fmt=pix_fmt)
    output = tmp_path / "a.mkv"
    with gpu() as record:
        interp(clip, output, device="cuda", model="cloud-fast")
    assert decibels(output, expected(clip, model="cloud-fast")) >= 60
    x, y = np.round(balls.place(4.5)).astype(int)
    assert read_planes(output)[9][0][y, x] > (200 if pix_fmt == "yuv420p" else 800)
    if record is not None:
        assert not record.faults
        assert not in_loop(record.waits)
        assert not in_loop(record.unordered)


def test_what_changes_in_place_is_held_on_the_device(gpu, expected, tmp_path):
    frames = []
    for k in range(6):
        samples = picture(k, 256, 160, step=2.0).to_ndarray()
        strokes = np.random.default_rng(k // 3).integers(0, 2, (8, 40))
        samples[112:144, 32:232] = np.kron(strokes, np.ones((4, 5))) * 219 + 16
        frames.append(VideoFrame.from_ndarray(samples, "yuv420p"))
    clip = write_clip(tmp_path / "in.mkv", frames)
    with gpu() as record:
        interp(clip, tmp_path / "a.mkv", device="cuda", model="cloud-fast")
    assert decibels(tmp_path / "a.mkv", expected(clip, model="cloud-fast")) >= 90
    check(record, clip, tmp_path / "a.mkv")
    shown = read_planes(tmp_path / "a.mkv")
    held = [float(np.abs(shown[5][0] - 1.0 * shown[k][0])[112:144].mean()) for k in (4, 6)]
    assert held[0] < 2 < held[1]


SHUTTERS = {
    "blur": {},
    "of noise": {"noise": 6.0},
    "of 10 bit": {"pix_fmt": "yuv420p10le"},
    "of alpha": {"pix_fmt": "yuva420p"},
    "without motion": {"model": "blend"},
    "of a published network": {"model": "rife_4_25"},
}


@pytest.mark.parametrize("kind", SHUTTERS)
def test_an_exposure_is_added_on_the_device(gpu, clips, file, expected, tmp_path, kind):
    """Each source frame is sent once, and of an exposure only the mean returns."""
    options = {"model": "cloud-fast", **SHUTTERS[kind]}
    about = {k: options.pop(k) for k in ("pix_fmt", "noise") if k in options}
    clip = clips(**about, count=9)
    if options["model"] in NETWORKS:
        options["model"] = file(options["model"])
    shared = {"factor": None, "fps": 8, "shutter": 180, **options}
    with gpu() as record:
        interp(clip, tmp_path / "a.mkv", device="cuda", **shared)
    assert decibels(tmp_path / "a.mkv", expected(clip, **shared)) >= NEAREST["fp32"]
    if record is None:
        return
    source, shown = read_planes(clip), read_planes(tmp_path / "a.mkv")
    size = sum(plane.nbytes for plane in source[0])
    curve = 2**18
    assert not record.faults
    assert not in_loop(record.unordered)
    assert not in_loop(record.waits)
    assert in_loop(record.up).total() <= 2.2 * size * len(source) + curve
    assert in_loop(record.down).total() <= 1.1 * size * (len(shown) + len(source))


def test_the_device_is_idle_only_at_the_end(gpu, clips, tmp_path):
    """While the CPU waits for a batch, the device works on another one."""
    with gpu() as record:
        options = {"model": "cloud-turbo", "factor": 5, "batch": 2}
        interp(clips(count=9), tmp_path / "a.mkv", device="cuda", **options)
    if record is None:
        pytest.skip("a real GPU gives no record")
    assert record.events == 16 + 7  # seven frames are searched
    assert record.idle <= 3


def test_a_lack_of_memory_reduces_the_batch(gpu, clips, expected, tmp_path):
    clip = clips(count=9)
    with gpu(limit=48 * 2**20) as record:
        if record is None:
            pytest.skip("only the simulated GPU has a limit of memory")
        output = tmp_path / "a.mkv"
        options = {"model": "cloud-fast", "batch": 8}
        result = interp(clip, output, device="cuda", **options)
    assert decibels(output, expected(clip, **options)) >= NEAREST["fp32"]
    assert [warned.code for warned in result.warnings][:1] in (
        ["out-of-memory"],
        ["batch-reduced"],
    )
    assert not record.faults


def test_sixteen_bits_that_give_nan_are_an_error(gpu, clips, tmp_path, monkeypatch):
    from cloudconv.models.rife import IFNet

    forward = IFNet.forward

    def broken(network, *inputs, **options):
        result = forward(network, *inputs, **options)
        return result * float("nan") if network.dtype.itemsize == 2 else result

    clip = clips()
    options = {"device": "cuda", "precision": "auto", "model": "cloud-turbo"}
    with gpu():
        monkeypatch.setattr(IFNet, "forward", broken)
        with pytest.raises(cloudconv.CloudconvError, match=r"not finite.*precision=.fp32"):
            interp(clip, tmp_path / "b.mkv", **options)


@needs_ray
@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")  # Ray waits for none
@pytest.mark.parametrize("device", ["cuda", "cuda:all"])
def test_workers_make_the_same_frames(gpu, clips, expected, tmp_path, monkeypatch, device):
    here = Path(__file__).parent
    paths = f"{here / 'child'}:{here.parents[1]}:{os.environ['PYTHONPATH']}"
    clip = clips()
    with gpu() as record:
        if record is not None:
            monkeypatch.setenv("PYTHONPATH", paths)
            monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        workers = {} if device == "cuda:all" else {"workers": "local:2"}
        output = tmp_path / "a.mkv"
        interp(clip, output, device=device, model="tiny", **workers)
    assert decibels(output, expected(clip, model="tiny")) >= NEAREST["fp32"]


# One published network stands for the others, whose plan has the same form.
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in (*NETWORKS[1:], "film")]


@pytest.mark.parametrize("name", [*OURS, NETWORKS[0], *OTHERS])
def test_the_plan_covers_the_memory_that_is_used(gpu, file, name):
    size = (256, 192)
    one = Fraction(1)
    own = name in OURS
    motion = {"noise": 6.0} if own else {"step": 3.0}
    frames = [Frame(picture(k, *size, **motion), Fraction(k), one) for k in range(7)]
    with gpu(limit=2**40) as record:
        if record is None:
            pytest.skip("a real GPU uses additional memory of its own")
        device = torch.device("cuda")
        network = registry.load(
            name if own else file(name), device, torch.float16 if own else None
        )
        weights = record.peak
        wanted = WantedSizes(2)
        work = Renderer(
            network, device=device, engines=Engines(), wanted=wanted, judges=own
        )
        tasks = []
        for k in range(1, 5):
            times = one / 2, frames[k].time, one / 2
            beside = {"before": (frames[k - 1], one), "after": (frames[k + 2], one)}
            tasks.append(Task(*frames[k : k + 2], *times, **(beside if own else {})))
        assert len(list(work.frames(tasks))) == 4
        assert record.peak - weights <= work.plan(*size).memory_bytes


@pytest.mark.slow
def test_the_plan_covers_the_memory_of_exposures(gpu):
    one = Fraction(1)
    frames = [Frame(picture(k, 256, 192, step=3.0), k * one, one) for k in range(40)]
    with gpu(limit=2**40) as record:
        if record is None:
            pytest.skip("a real GPU uses additional memory of its own")
        device = torch.device("cuda")
        network = registry.load("cloud-best", device, torch.float16)
        weights = record.peak
        wanted = WantedSizes(2, exposes=True)
        work = Renderer(network, device=device, engines=Engines(), wanted=wanted)
        tasks = []
        for start in (1, 18):
            parts = []
            for k in range(start, start + 17):
                beside = {"before": (frames[k - 1], one), "after": (frames[k + 2], one)}
                pair = frames[k], frames[k + 1]
                parts.append(Task(*pair, 0 * one, k * one, one, until=one, **beside))
            shown = parts[0].left, None, 0 * one, start * one, one
            tasks.append(Task(*shown, seen=tuple(parts)))
        assert len(list(work.frames(tasks))) == 2
        assert record.peak - weights <= work.plan(256, 192).memory_bytes
