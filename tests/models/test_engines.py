"""The engine of convolutions: chosen by time once, kept, and never by chance."""

import json

import pytest
import torch

from cloudconv.errors import DeviceError, SettingsError
from cloudconv.models import engines, registry
from cloudconv.models.convolutions import PYTORCH, usual_engine
from cloudconv.models.engines import Engines, fastest
from cloudconv.render.renderer import Renderer

NCNN = usual_engine()
needs_ncnn = pytest.mark.skipif(NCNN == PYTORCH, reason="ncnn is missing")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Return an empty cache of a process that knows no times, where no engine is set."""
    monkeypatch.delenv("CLOUDCONV_ENGINE")
    monkeypatch.setenv("CLOUDCONV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(engines, "_chosen", {})
    return tmp_path / "cache"


def restart(monkeypatch):
    monkeypatch.setattr(engines, "_chosen", {})


@pytest.fixture
def slower(monkeypatch):
    """Let ncnn take so many times the time of PyTorch, and count the measurements."""
    calls = []

    def set_to(ratio):
        def result(shapes):
            calls.extend(map(str, shapes))
            return {str(shape): {PYTORCH: 10.0, NCNN: 10.0 * ratio} for shape in shapes}

        monkeypatch.setattr(engines, "_measured", result)
        return calls

    return set_to


@needs_ncnn
@pytest.mark.parametrize(("ratio", "engine"), [(1.05, NCNN), (1.2, PYTORCH)])
def test_another_engine_than_the_usual_one_must_be_faster_by_a_tenth(slower, ratio, engine):
    slower(ratio)
    assert fastest(64, 43200) == engine


@needs_ncnn
def test_each_size_is_measured_once_for_a_machine(slower, monkeypatch):
    calls = slower(2)
    for _ in range(2):
        assert fastest(64, 43200) == fastest(64, 30000) == PYTORCH
        assert calls == ["64 channels, 192x192"]
        restart(monkeypatch)
    slower(0.5)  # kept is kept
    assert fastest(64, 43200) == PYTORCH
    assert fastest(64, 10000) == NCNN
    assert calls == ["64 channels, 192x192", "64 channels, 96x96"]


@needs_ncnn
@pytest.mark.parametrize(
    "change", [("processor_name", "another"), ("usual_engine", "ncnn 0")]
)
def test_another_processor_or_version_is_measured_anew(slower, monkeypatch, change):
    calls = slower(2)
    fastest(64, 43200)
    restart(monkeypatch)
    name, value = change
    monkeypatch.setattr(engines, name, lambda: value)
    anew = []

    def measured(shapes):
        anew.extend(shapes)
        return {str(shapes[0]): {PYTORCH: 2, NCNN: 1, value: 1}}

    monkeypatch.setattr(engines, "_measured", measured)
    assert fastest(64, 43200) == engines.usual_engine()
    assert len(calls) == len(anew) == 1


@needs_ncnn
@pytest.mark.parametrize("content", [b"{", b'{"a": 1}', b"\xff" * 100])
def test_a_damaged_cache_is_replaced(slower, cache, content):
    cache.mkdir()
    (cache / "engines.json").write_bytes(content)
    slower(2)
    assert fastest(64, 43200) == PYTORCH
    assert json.loads((cache / "engines.json").read_bytes())


@needs_ncnn
def test_a_cache_that_cannot_be_written_is_no_error(slower, cache, monkeypatch):
    cache.write_bytes(b"a file where the folder should be")
    calls = slower(2)
    assert fastest(64, 43200) == fastest(64, 43200) == PYTORCH
    assert len(calls) == 1


def test_the_environment_sets_the_engine(monkeypatch, slower):
    calls = slower(2)
    for name, engine in {"pytorch": PYTORCH, "ncnn": NCNN}.items():
        if name == "ncnn" and NCNN == PYTORCH:
            continue
        monkeypatch.setenv("CLOUDCONV_ENGINE", name)
        assert fastest(64, 43200) == engine
    assert calls == []
    monkeypatch.setenv("CLOUDCONV_ENGINE", "mkl")
    with pytest.raises(SettingsError, match='must be pytorch or ncnn, got "mkl"'):
        fastest(64, 43200)


def test_an_engine_that_is_set_and_missing_is_an_error(monkeypatch):
    monkeypatch.setenv("CLOUDCONV_ENGINE", "ncnn")
    monkeypatch.setattr(engines, "usual_engine", lambda: PYTORCH)
    with pytest.raises(DeviceError, match="ncnn, which is not installed"):
        fastest(64, 43200)


@needs_ncnn
@pytest.mark.full
def test_a_measurement_lasts_a_second_at_most_and_changes_no_setting(monkeypatch):
    """The time of the processor: other programs may take the rest."""
    spent = []
    clock = engines._clock

    def measured(shapes, inner=engines._measured):
        began = clock()
        result = inner(shapes)
        spent.append(clock() - began)
        return result

    monkeypatch.setattr(engines, "_measured", measured)
    threads = torch.get_num_threads()
    chosen = Engines()
    model = registry.load("cloud-best", engine_of=chosen.of)
    Renderer(model, device=CPU, engines=chosen).choose_sizes(1920, 1080)
    assert torch.get_num_threads() == threads
    assert len(spent) == 1
    assert spent[0] < 1
    assert chosen.chosen.keys() == {"192", "128", "96", "64", "48"}
