"""Damaged files give one sentence or a file that decodes, and never a crash.

The seeds are generated clips of many kinds; the damage is random with a fixed seed. A few dozen
cases run by default, more than a thousand with ``-m slow``.
"""

import json
import os
import shutil
import sys
from collections import Counter
from fractions import Fraction

import av
import av.error
import numpy as np
import pytest
from PIL import Image

from tests.helpers.factory import picture, write_clip
from tests.helpers.fuzzing import GIBIBYTE, damaged, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the test forks and limits memory")

SECONDS = 60
FEW, MANY = 48, 1200
FORMER_CRASHES = (185, 1097)  # offsets in a Matroska header that once crashed the program
SIZE = (64, 48)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Return small undamaged clips, one of each common kind."""
    folder = tmp_path_factory.mktemp("seeds")
    h264 = {"codec": "libx264", "options": {"bf": "2", "g": "6", "preset": "ultrafast"}}
    vp9 = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}
    h265 = {"x265-params": "log-level=none", "preset": "ultrafast"}
    uneven = [Fraction(k, 25) for k in (0, 1, 3, 4, 7, 8, 9, 12, 13, 14)]
    kinds = {
        "a.mp4": (10, {**h264, "audio": ["aac"]}),
        "b.mkv": (10, {**h264, "times": uneven}),
        "c.webm": (8, vp9),
        "d.avi": (10, {"codec": "mpeg4", "audio": ["mp3"]}),
        "e.ts": (10, h264),
        "f.mov": (6, {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}),
        "g.mkv": (8, {"codec": "ffv1", "pix_fmt": "yuva420p"}),
        "h.flv": (10, h264),
        "i.mp4": (8, {"codec": "libx265", "options": h265}),
        "j.mpg": (10, {"codec": "mpeg2video", "rate": 25}),
    }
    clips = [write_clip(folder / name, n, size=SIZE, **kind) for name, (n, kind) in kinds.items()]
    stills = [Image.fromarray(picture(k, *SIZE).to_ndarray(format="rgb24")) for k in range(6)]
    for name in ("k.gif", "l.webp", "m.png"):
        stills[0].save(folder / name, save_all=True, append_images=stills[1:], duration=40)
        clips.append(folder / name)
    return clips


def fault_of(ended, output):
    """Return the fault that a user would report, or None if there is none."""
    if ended.code is None:
        return f"it took more than {SECONDS} s"
    if ended.code not in (0, 1):
        return f"exit code {ended.code}"
    if "Traceback" in ended.stderr or "report it as a bug" in ended.stderr:
        return "a failure that nobody foresaw"
    if ended.peak_bytes > GIBIBYTE:
        return f"{ended.peak_bytes >> 20} MiB of memory"
    if ended.code == 1:
        errors = [x for x in ended.stderr.splitlines() if not x.startswith("warning: ")]
        if len(errors) != 1 or not errors[0].startswith("error: "):
            return "not one sentence"
        return "a file in spite of the error" if output.exists() else None
    reported = json.loads(ended.stdout)["output_frames"]
    try:
        with av.open(str(output)) as made:
            found = sum(1 for _ in made.decode(video=0))
    except av.error.FFmpegError as error:
        return f"success, and an output that does not decode: {error}"
    return None if found == reported else f"success with {reported} frames, but {found} are there"


def run_cases(seeds, folder, cases):
    ends = Counter()
    wrong = []
    for case in cases:
        random = np.random.default_rng(case)
        seed, other = (seeds[int(k)] for k in random.integers(len(seeds), size=2))
        kind, data = damaged(seed.read_bytes(), other.read_bytes(), random)
        broken = folder / f"case{seed.suffix}"
        output = folder / "made.mkv"
        broken.write_bytes(data)
        options = ["--factor", "2", "--model", "blend", "--threads", "1", "--json"]
        ended = run("interp", str(broken), str(output), *options, seconds=SECONDS)
        ends["made" if ended.code == 0 else "refused"] += 1
        problem = fault_of(ended, output)
        if problem is not None:
            wrong.append(f"case {case}, {kind} in {seed.name}: {problem}\n{ended.stderr[-2000:]}")
        output.unlink(missing_ok=True)
        if f"{output}.work keeps" in ended.stderr:
            shutil.rmtree(f"{output}.work")
        left = os.listdir(folder)
        if left != [broken.name]:
            wrong.append(f"case {case}, {kind} in {seed.name}: left behind {left}")
        broken.unlink()
    assert not wrong, "\n".join([f"{len(wrong)} of {len(cases)} cases:", *wrong[:20]])
    return ends


@pytest.mark.full
def test_damaged_files_give_one_sentence_or_a_complete_video(seeds, tmp_path):
    ends = run_cases(seeds, tmp_path, [*range(FEW), *FORMER_CRASHES])
    # Damage that makes every run fail, or none, would test nothing.
    assert ends["made"] > FEW // 8
    assert ends["refused"] > FEW // 8


@pytest.mark.slow
def test_many_damaged_files(seeds, tmp_path):
    run_cases(seeds, tmp_path, range(FEW, FEW + MANY))
