"""A warning that is found before an error or an interrupt is printed, once."""

import av
import pytest

from cloudconv.errors import InputError
from cloudconv.jobs.compare import run as comparing
from cloudconv.jobs.extend import dream as dreaming
from cloudconv.jobs.extend import extrapolate as extrapolating
from cloudconv.jobs.extend import preview as previewing
from cloudconv.jobs.interp import run as interpolating
from cloudconv.training import loop
from tests.helpers.command import invoke
from tests.helpers.factory import picture, write_clip

COMMANDS = {
    "interp": ((interpolating, "open_source"), "-o {}/o.mkv --factor 2 --model blend"),
    "batch": (
        (interpolating, "open_source"),
        "{}/a.mkv --out-dir {}/out --factor 2 --model blend",
    ),
    "extrapolate": ((extrapolating, "_resolve"), "-o {}/o.mkv --frames 2"),
    "dream": ((dreaming, "_resolve"), "-o {}/o.mkv --frames 2 --mode flow"),
    "preview": ((previewing, "gather_material"), "--preview {}/o.png"),
    "compare": ((comparing, "Scorer"), "--model blend"),
    "train": (
        (loop, "Trainer"),
        "{}/b.mkv -o {}/o.safetensors --model conv --steps 1 --crop 32 --batch 2",
    ),
}
NAMES = {"batch": "interp", "preview": "dream"}
"""The commands of what has a job of its own."""
TEXTS = {"train": "Some of the 2 clips are left out"}
"""The warning, if it is not the one about the video streams."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Return a file with two video streams, of which every command names the chosen one."""
    path = tmp_path_factory.mktemp("two") / "a.mkv"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("ffv1", rate=12) for _ in range(2)]
        for stream in streams:
            stream.width = 64
            stream.height = 64
            stream.pix_fmt = "yuv420p"
        for number in range(24):
            for stream in streams:
                frame = picture(number, 64, 64)
                frame.pts = number
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("error", [InputError("no-frame: No frame."), KeyboardInterrupt()])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_warning_before_an_error_or_an_interrupt_is_printed_once(
    clip, tmp_path, monkeypatch, name, error
):
    (module, function), words = COMMANDS[name]

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(module, function, fail)
    (tmp_path / "a.mkv").write_bytes(clip.read_bytes())
    write_clip(tmp_path / "b.mkv", 2)  # too short for a training
    words = words.replace("{}", str(tmp_path)).split()
    command = NAMES.get(name, name)
    done = invoke(command, *([] if name == "batch" else [tmp_path / "a.mkv"]), *words)
    assert done.exit_code == (1 if isinstance(error, InputError) else 130), done.stderr
    text = TEXTS.get(name, "The file has several video streams")
    assert done.stderr.count(text) == 1, done.stderr
