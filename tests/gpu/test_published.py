"""Published networks on a GPU make the frames of the CPU, within the rules of CUDA."""

from fractions import Fraction

import pytest
import torch
from safetensors.torch import save_file

from cloudconv.media.frame import Frame
from cloudconv.models import registry
from cloudconv.render.memory import WantedSizes
from cloudconv.render.renderer import Renderer
from cloudconv.timeline import Task
from tests.gpu.test_interp import BATCH, NEAREST, OURS, check, decibels, interp
from tests.helpers.factory import picture, write_clip
from tests.helpers.published import recorded

NETWORKS = ["rife_4_0", "rife_4_25", "rife_eccv", "ifrnet_s", "ema_vfi_small"]


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
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "a.mkv"
    return write_clip(path, 5, size=(128, 96), step=3.0)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_gpu_makes_the_frames_of_the_cpu(gpu, file, clip, tmp_path, name, precision):
    interp(clip, tmp_path / "expected.mkv", model=file(name))
    with gpu() as record:
        options = {"device": "cuda", "precision": precision, "model": file(name)}
        interp(clip, tmp_path / "a.mkv", **options)
    assert decibels(tmp_path / "a.mkv", tmp_path / "expected.mkv") >= NEAREST[precision]
    check(record, clip, tmp_path / "a.mkv")


@pytest.mark.parametrize("options", [{"tile": 256}, {"fallback": "blend"}, {"factor": 4}])
def test_tiles_fallback_and_quarters_follow_the_rules(gpu, file, tmp_path, options):
    size = (320, 96) if "tile" in options else (128, 96)
    clip = write_clip(tmp_path / "clip.mkv", 5, size=size, noise=6.0)
    given = {"model": file("rife_4_0"), **options}
    interp(clip, tmp_path / "expected.mkv", **given)
    with gpu() as record:
        interp(clip, tmp_path / "a.mkv", device="cuda", **given)
    assert decibels(tmp_path / "a.mkv", tmp_path / "expected.mkv") >= NEAREST["fp32"]
    check(record, clip, tmp_path / "a.mkv", batch=1 if "tile" in options else BATCH)


@pytest.mark.parametrize("name", [*OURS, *NETWORKS, "film"])
def test_the_plan_covers_the_memory_that_is_used(gpu, file, name):
    size, one, own = (256, 192), Fraction(1), name in OURS
    motion = {"noise": 6.0} if own else {"step": 3.0}
    frames = [Frame(picture(k, *size, **motion), Fraction(k), one) for k in range(7)]
    with gpu(limit=2**40) as record:
        if record is None:
            pytest.skip("a real GPU uses additional memory of its own")
        device = torch.device("cuda")
        network = registry.load(name if own else file(name), device, torch.float16 if own else None)
        weights = record.peak
        work = Renderer(network, device=device, wanted=WantedSizes(2), fallback=own)
        tasks = []
        for k in range(1, 5):
            times = one / 2, frames[k].time, one / 2
            beside = {"before": (frames[k - 1], one), "after": (frames[k + 2], one)}
            tasks.append(Task(*frames[k : k + 2], *times, **(beside if own else {})))
        assert len(list(work.render(tasks))) == 4
        assert record.peak - weights <= work.plan(*size).memory_bytes
