"""Each command is run once from end to end and compared with a golden output.

``python -m tests.test_commands`` writes ``tests/golden/commands.json`` anew after an
intended change of the weights or of the JSON. Review the difference before a commit.
"""

import json
import tempfile
from pathlib import Path

import av
import cv2
import pytest

from cloudconv.media.reading.decode import VideoFile
from cloudconv.media.reading.source import Source
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.factory import picture, write_clip

GOLDEN = Path(__file__).parent / "golden" / "commands.json"
EXACT = ("--encoder", "ffv1", "--precision", "fp32")
COMMANDS = {
    "interp": ("interp", "a.mkv", "out.mkv", "--factor", "2", *EXACT),
    # In the trial of auto the faults of layers and flow differ by 1 % here, so a model is
    # named.
    "extrapolate": (
        *("extrapolate", "a.mkv", "out.mkv", "--frames", "3", "--model", "layers"),
        *EXACT,
    ),
    # The length of a dream that may leave its film early is known when it begins.
    "dream": (
        *("dream", "a.mkv", "out.mkv", "--frames", "6", "--mode", "texture"),
        *("--leave", "end", *EXACT),
    ),
    "compare": ("compare", "a.mkv", "--frames", "4", "--precision", "fp32"),
    "train": (
        *("train", "a.mkv", "--init", "unet-middle", "--steps", "2", "--batch", "2"),
        *("--crop", "32", "--seed", "1", "-o", "mine.safetensors"),
    ),
    "models": ("models",),
    "doctor": ("doctor",),
}
CHANGES = {
    "wall_seconds", "output_bytes", "bits_per_second",
    "frames_per_second", "seconds_per_frame", "seconds", "seconds_left", "time",
    "sha256", "size_bytes", "parameters", "scores", "rows", "history", "steps_per_second",
    "minutes", "version", "limits", "vitals", "verdict", "why", "threads", "device",
    "licence", "domain", "faults", "advice",
}  # fmt: skip
"""Keys whose values depend on the machine or the weights, or have tests of their own."""
NEAR = 4  # levels of 255 by which pictures may differ on another machine


def result_of(*words):
    result = invoke(*words, "--json", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def run(name, folder):
    """Run a command on a generated clip; return its JSON and its pictures, reduced.

    A dry run before it must write nothing and state what the run then makes.
    """
    count, cut = (48, 48) if name == "train" else (16, 8)
    clip = [picture(k, 96, 64, step=3.0, scene=k // cut) for k in range(count)]
    write_clip(folder / "a.mkv", clip)
    plan = {} if name in ("models", "doctor") else result_of(*COMMANDS[name], "--dry-run")
    assert [file.name for file in folder.iterdir()] == ["a.mkv"]
    data = result_of(*COMMANDS[name])
    for key in plan.keys() & data.keys() - {"warnings"}:
        assert plan[key] == (list(data[key]) if key == "methods" else data[key]), key
    recorded = {"json": sorted(data) if name == "doctor" else kept(data)}
    if name == "models":
        recorded = {"json": sorted(data["models"][0]), "first": data["models"][0]["name"]}
    if (folder / "out.mkv").exists():
        with av.open(str(folder / "out.mkv")) as output:
            recorded["frames"] = [
                [str(frame.pts * frame.time_base), *small(frame)]
                for frame in output.decode(video=0)
            ]
    return recorded


def small(frame):
    """Return the luma of a frame, reduced to (3, 4) pixels, in one list."""
    luma = cv2.resize(
        frame.to_ndarray()[: frame.height], (4, 3), interpolation=cv2.INTER_AREA
    )
    return [int(level) for level in luma.ravel()]


def kept(value):
    """Return the JSON with None for values that differ between machines."""
    if isinstance(value, dict):
        # The text of a warning may change, but not the number of warnings.
        counted = {"warnings": len(value["warnings"])} if "warnings" in value else {}
        return {
            k: None if k in CHANGES else kept(v) for k, v in {**value, **counted}.items()
        }
    if isinstance(value, list):
        return [kept(item) for item in value]
    return value


def assert_near(actual, golden, where):
    """Compare two values of the same structure.

    Numbers may differ as they do between machines.
    """
    if isinstance(golden, dict):
        assert actual.keys() == golden.keys(), where
        for key, value in golden.items():
            assert_near(actual[key], value, f"{where}.{key}")
    elif isinstance(golden, list):
        for number, (one, other) in enumerate(zip(actual, golden, strict=True)):
            assert_near(one, other, f"{where}[{number}]")
    elif isinstance(golden, float):
        assert actual == pytest.approx(golden, rel=0.02, abs=0.02), where
    elif type(golden) is int and "frames[" in where:
        assert abs(actual - golden) <= NEAR, where
    else:
        assert actual == golden, where


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_makes_its_golden_output(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    golden = json.loads(GOLDEN.read_text("utf-8"))[name]
    assert_near(run(name, tmp_path), golden, name)


def main():
    recorded = {}
    for name in COMMANDS:
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            recorded[name] = run(name, Path(folder))
    lines = [
        f'"{name}": '
        + json.dumps(value)
        .replace(' "frames": [[', '\n"frames": [\n[')
        .replace("], [", "],\n[")
        for name, value in recorded.items()
    ]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


SHORT = {
    "interp": ("interp", "a.mkv", "out.mkv", "--factor", "2", "--model", "blend"),
    "parts": (
        *("interp", "a.mkv", "out.mkv", "--speed", "0=1,0.2=2", "--model", "blend"),
        *("--start", "0.1", "--end", "0.4"),
    ),
    "extrapolate": (
        "extrapolate",
        "a.mkv",
        "out.mkv",
        "--frames",
        "2",
        "--model",
        "linear",
    ),
    "dream": ("dream", "a.mkv", "out.mkv", "--frames", "2", "--mode", "flow"),
    "compare": ("compare", "a.mkv", "--model", "blend", "--against", "hold"),
    "train": (
        *("train", "a.mkv", "--model", "tiny", "--steps", "2", "--batch", "2"),
        *("--crop", "32", "--val-part", "0.5:1", "-o", "mine.safetensors"),
    ),
}


@pytest.fixture
def left(monkeypatch):
    """Return the sources and video files that were opened, without those that closed."""
    left = []

    def note(kind, name, is_end):
        call = getattr(kind, name)

        def noted(self, *words, **options):
            left[:] = [other for other in left if other is not self]
            if not is_end:
                left.append(self)
            call(self, *words, **options)

        monkeypatch.setattr(kind, name, noted)

    for kind, end in ((Source, "__exit__"), (VideoFile, "close")):
        note(kind, "__init__", is_end=False)
        note(kind, end, is_end=True)
    return left


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("name", SHORT)
def test_no_source_is_open_after_a_command(name, tmp_path, monkeypatch, left):
    write_clip(tmp_path / "a.mkv", 16, rate=24)
    monkeypatch.chdir(tmp_path)
    assert invoke(*SHORT[name]).exit_code == 0
    assert not left


def test_no_source_is_open_after_an_interrupt(tmp_path, left):
    def stop(event):
        if getattr(event, "stage", "") == "rendering":
            assert left
            raise KeyboardInterrupt

    clip = write_clip(tmp_path / "a.mkv", 48, rate=24)
    with pytest.raises(KeyboardInterrupt):
        calls.interpolate(clip, tmp_path / "b.mkv", factor=2, model="blend", watch=stop)
    assert not left


if __name__ == "__main__":
    main()
