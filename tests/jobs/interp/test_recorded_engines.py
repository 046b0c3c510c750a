"""A run chooses its engines once; whoever goes on with the run takes the same ones."""

import pytest
import torch

from cloudconv.errors import DeviceError, Interrupted
from cloudconv.models import engines
from cloudconv.models.convolutions import PYTORCH, usual_engine
from tests.helpers import calls
from tests.helpers.factory import assert_same_frames, picture, write_clip
from tests.helpers.jobs import stop_after

NCNN = usual_engine()
pytestmark = pytest.mark.skipif(NCNN == PYTORCH, reason="ncnn is missing")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "a.mkv"
    write_clip(path, [picture(k, 64, 64) for k in range(12)], rate=24)
    return path


def interp(clip, out, **settings):
    usual = {"factor": 2, "model": "cloud-turbo", "precision": "fp32", "device": "cpu"}
    return calls.interpolate(clip, out, **usual, **calls.lossless(out), **settings)


@pytest.fixture
def processor(monkeypatch):
    """Let this process be one on another processor, with the engines that this has."""
    monkeypatch.delenv("CLOUDCONV_ENGINE")

    def become(name):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        monkeypatch.setattr(engines, "processor_name", lambda: name)

    return become


@pytest.fixture
def stopped(clip, tmp_path, processor):
    """Return the output of an interrupted run, whose narrow layers PyTorch computes."""
    processor("Intel Xeon")
    with pytest.raises(Interrupted):
        interp(clip, tmp_path / "b.mkv", watch=stop_after(20))
    return tmp_path / "b.mkv"


def test_a_resumed_run_takes_the_engines_that_the_first_one_has_recorded(
    clip, stopped, processor
):
    assert interp(clip, stopped.with_name("pytorch.mkv")).new_frames
    processor("AMD EPYC")
    assert interp(clip, stopped).resumed
    assert_same_frames(stopped, stopped.with_name("pytorch.mkv"))


def test_a_recorded_engine_that_is_missing_is_an_error_and_the_work_is_kept(
    clip, tmp_path, processor, monkeypatch
):
    processor("AMD EPYC")
    out = tmp_path / "b.mkv"
    with pytest.raises(Interrupted):
        interp(clip, out, watch=stop_after(20))
    with monkeypatch.context() as patch:
        patch.setattr(engines, "usual_engine", lambda: PYTORCH)
        with pytest.raises(DeviceError, match=r"computes convolutions with ncnn.*finished"):
            interp(clip, out)
    assert interp(clip, out).resumed


@pytest.mark.usefixtures("ray")
@pytest.mark.full
def test_workers_take_the_engines_of_the_run(clip, tmp_path, processor, monkeypatch):
    """Workers are other processes, on the true processor."""
    for name in ("Intel Xeon", "AMD EPYC"):
        processor(name)
        interp(clip, tmp_path / "one.mkv", overwrite=True)
        interp(clip, tmp_path / "two.mkv", overwrite=True, workers="local:2")
        assert_same_frames(tmp_path / "two.mkv", tmp_path / "one.mkv")
    # This process alone has another version, which the workers lack.
    monkeypatch.setattr(engines, "usual_engine", lambda: "ncnn 0")
    with pytest.raises(DeviceError, match=f"with ncnn 0, and here is {NCNN}"):
        interp(clip, tmp_path / "three.mkv", workers="local:2")
