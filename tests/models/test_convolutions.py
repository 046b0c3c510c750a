"""ncnn's convolutions give PyTorch's pictures, and leave no thread or file behind."""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.errors import OutputError
from cloudconv.models import convolutions, registry
from cloudconv.models.convolutions import PYTORCH, HiddenLayer, HiddenLayers, usual_engine
from tests.helpers.system import largest_file
from tests.helpers.tiers import first_full

NCNN = usual_engine()
needs_ncnn = pytest.mark.skipif(NCNN == PYTORCH, reason="ncnn is missing")
SLOPES = [0.2, 0.01, None, "each"]


def by_ncnn(channels):
    return NCNN


def layers(width, slope, count=3):
    numbers = torch.Generator().manual_seed(width)
    made = []
    for _ in range(count):
        weight = torch.randn(width, width, 3, 3, generator=numbers) / (3 * width**0.5)
        bias = torch.randn(width, generator=numbers)
        slopes = torch.rand(width, generator=numbers) if slope == "each" else slope
        made.append(HiddenLayer(weight, bias, 1, slopes))
    return made


def exact(x, some):
    for weight, bias, stride, slope in some:
        x = F.conv2d(x.double(), weight.double(), bias.double(), stride, 1)
        if slope is not None:
            slopes = torch.full((len(bias),), slope) if isinstance(slope, float) else slope
            x = F.prelu(x, slopes.double())
    return x


@torch.no_grad()
@pytest.mark.parametrize("engine", dict.fromkeys([PYTORCH, NCNN]))
@settings(deadline=None, max_examples=25)
@given(
    width=st.sampled_from([32, 36, 48, 64, 192]),
    size=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    slope=st.sampled_from(SLOPES),
)
def test_every_engine_gives_the_same_result_for_every_size(engine, width, size, slope):
    count, height, columns = size
    some = layers(width, slope)
    numbers = torch.Generator().manual_seed(1)
    x = torch.randn(count, width, height, columns, generator=numbers)
    expected = exact(x, some)
    result = HiddenLayers(lambda: some, width, lambda *_: engine).apply(
        x.contiguous(memory_format=torch.channels_last)
    )
    assert result.shape == expected.shape
    assert torch.allclose(
        result.double(), expected, atol=2e-5 * float(expected.abs().max())
    )


@pytest.fixture(scope="module")
def row():
    return HiddenLayers(lambda: layers(64, 0.2), 64, by_ncnn)


@pytest.fixture(scope="module")
def pictures():
    return torch.randn(4, 64, 45, 61, generator=torch.Generator().manual_seed(2))


@pytest.mark.full
@needs_ncnn
@torch.no_grad()
@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from([32, 40, 48, 192]),
    st.integers(28, 90),
    st.integers(1, 50),
    st.integers(2, 5),
)
def test_threads_and_batches_change_no_bit(width, height, columns, threads):
    result = HiddenLayers(lambda: layers(width, "each", 2), width, by_ncnn)
    numbers = torch.Generator().manual_seed(2)
    x = torch.randn(2, width, height, columns, generator=numbers)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = result.apply(x)
        torch.set_num_threads(threads)
        assert torch.equal(result.apply(x), expected)
        assert torch.equal(result.apply(x[1:]), expected[1:])
    finally:
        torch.set_num_threads(before)


@needs_ncnn
def test_several_threads_share_a_network(row, pictures):
    with torch.no_grad():
        expected = row.apply(pictures)

    def one(number):
        with torch.inference_mode():
            return torch.equal(row.apply(pictures[number, None]), expected[number, None])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, [0, 1, 2, 3] * 10))


@needs_ncnn
@torch.no_grad()
@pytest.mark.parametrize("threads", [1, 3])
def test_no_thread_of_ncnn_remains(row, pictures, threads):
    """Neither one of Python nor one of OpenMP."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("the system lists no threads")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.ones(1_000_000).add(1)  # starts the threads of PyTorch
    count = len(list(tasks.iterdir()))
    row.apply(pictures)
    torch.set_num_threads(before)
    # The system lists a thread for a moment after its end.
    deadline = time.monotonic() + 5
    while len(list(tasks.iterdir())) > count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(list(tasks.iterdir())) <= count


FORK = """
import os, torch
from tests.models.test_convolutions import HiddenLayers, by_ncnn, layers
torch.set_num_threads({threads})
x = torch.randn(1, 64, 20, 30)
with torch.no_grad():
    row = HiddenLayers(lambda: layers(64, 0.2), 64, by_ncnn)
    expected = row.apply(x)
    child = os.fork()
    if not child:
        torch.set_num_threads(1)
        os._exit(0 if torch.equal(row.apply(x), expected) else 1)
    assert torch.equal(row.apply(x), expected)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def python(code):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_ncnn
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("threads", first_full([2, 1]))
def test_a_forked_process_computes_the_same(threads):
    python(FORK.format(threads=threads))


def test_an_import_of_cloudconv_does_not_import_ncnn():
    code = "import sys, cloudconv; cloudconv.list_models(); import cloudconv.api"
    assert python(f"{code}; print('ncnn' in sys.modules)") == "False\n"


@pytest.fixture
def without_ncnn(monkeypatch):
    """Let imports of ncnn fail, and name no engine."""
    monkeypatch.delenv("CLOUDCONV_ENGINE")
    monkeypatch.setitem(sys.modules, "ncnn", None)
    convolutions._ncnn.cache_clear()
    yield
    convolutions._ncnn.cache_clear()


@needs_ncnn
def test_without_ncnn_pytorch_makes_the_same_picture(without_ncnn, monkeypatch):
    numbers = torch.Generator().manual_seed(3)
    coarse = torch.rand(2, 3, 12, 16, generator=numbers)
    pair = F.interpolate(coarse, (96, 128), mode="bicubic").clamp(0, 1).split(1)
    make = partial(registry.load, "cloud-turbo")
    assert usual_engine() == PYTORCH
    without = make().interpolate(*pair, 0.5)
    monkeypatch.undo()
    convolutions._ncnn.cache_clear()
    assert usual_engine() == NCNN
    assert (make().interpolate(*pair, 0.5) - without).abs().max() < 1 / 255


@needs_ncnn
@torch.no_grad()
def test_weights_for_ncnn_leave_no_file(pictures, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    HiddenLayers(lambda: layers(64, 0.2), 64, by_ncnn).apply(pictures)
    assert not os.listdir(tmp_path)


@needs_ncnn
@torch.no_grad()
def test_a_full_temporary_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    some = HiddenLayers(lambda: layers(192, 0.2), 192, lambda *_: NCNN)
    with (
        largest_file(10_000),
        pytest.raises(OutputError, match=f" {tmp_path} .* free some space there, or set"),
    ):
        some.apply(torch.zeros(1, 192, 40, 40).to(memory_format=torch.channels_last))
    assert list(tmp_path.iterdir()) == []


@torch.no_grad()
@pytest.mark.parametrize("name", convolutions._FUSED)
def test_a_pytorch_without_a_private_step_gives_the_same_picture(name, monkeypatch):
    some = layers(32, 0.2)
    x = torch.rand(1, 32, 20, 24)
    expected = HiddenLayers(lambda: some, 32, lambda *_: PYTORCH).apply(x)
    kept = {other: Mock() for other in convolutions._FUSED if other != name}
    convolutions._has_fused.cache_clear()
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(**kept), raising=False)
    result = HiddenLayers(lambda: some, 32, lambda *_: PYTORCH).apply(x)
    convolutions._has_fused.cache_clear()
    assert torch.allclose(result, expected, atol=1e-4)
    assert not any(mock.called for mock in kept.values())
