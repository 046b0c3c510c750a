"""The engine of convolutions: chosen by the processor, or named by the environment."""

import pytest
import torch

from cloudconv.errors import DeviceError, SettingsError
from cloudconv.models import engines
from cloudconv.models.convolutions import PYTORCH, usual_engine
from cloudconv.models.engines import Engines

NCNN = usual_engine()
needs_ncnn = pytest.mark.skipif(NCNN == PYTORCH, reason="ncnn is missing")


@pytest.fixture
def processor(monkeypatch):
    """Let this machine have another processor, and name no engine."""
    monkeypatch.delenv("CLOUDCONV_ENGINE")

    def become(name, kind):
        monkeypatch.setattr(engines, "processor_name", lambda: name)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: kind)

    return become


@needs_ncnn
@pytest.mark.parametrize(
    ("name", "kind", "narrow"),
    [
        ("Intel(R) Xeon(R) Processor @ 2.10GHz", "AVX512", PYTORCH),
        ("Intel(R) Core(TM) i7-8700 CPU", "AVX2", NCNN),
        ("AMD EPYC", "AVX512", NCNN),
    ],
)
def test_only_narrow_layers_on_an_intel_with_avx512_are_not_those_of_ncnn(
    processor, name, kind, narrow
):
    processor(name, kind)
    chosen = Engines()
    assert [chosen.of(channels) for channels in (48, 64)] == [narrow] * 2
    assert [chosen.of(channels) for channels in (96, 192)] == [NCNN] * 2


def test_pytorch_computes_all_without_ncnn(processor, monkeypatch):
    processor("AMD EPYC", "AVX512")
    monkeypatch.setattr(engines, "usual_engine", lambda: PYTORCH)
    assert {Engines().of(channels) for channels in (48, 192)} == {PYTORCH}


def test_the_environment_sets_the_engine(processor, monkeypatch):
    processor("Intel Xeon", "AVX512")
    for name, engine in {"pytorch": PYTORCH, "ncnn": NCNN}.items():
        if name == "ncnn" and NCNN == PYTORCH:
            continue
        monkeypatch.setenv("CLOUDCONV_ENGINE", name)
        assert {Engines().of(channels) for channels in (48, 192)} == {engine}
    monkeypatch.setenv("CLOUDCONV_ENGINE", "mkl")
    with pytest.raises(SettingsError, match='must be pytorch or ncnn, got "mkl"'):
        Engines().of(48)


def test_an_engine_that_is_set_and_missing_is_an_error(monkeypatch):
    monkeypatch.setenv("CLOUDCONV_ENGINE", "ncnn")
    monkeypatch.setattr(engines, "usual_engine", lambda: PYTORCH)
    with pytest.raises(DeviceError, match="ncnn, which is not installed"):
        Engines().of(48)
