"""Damaged files give one sentence or a file that decodes, and never a crash.

The seeds are generated clips of many kinds; the damage is random with a fixed seed. A few
dozen cases run by default, more than a thousand with ``-m slow``.
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

from tests.helpers.factory import picture, read_times, write_clip
from tests.helpers.system import command, finished

resource = pytest.importorskip("resource")  # Windows lacks it
pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the test forks and limits memory"
)

SECONDS = 60
FEW, MANY = 48, 1200
FORMER_CRASHES = (185, 1097)  # cases that once crashed the program
SIZE = (64, 48)
HEADER = 768
NASTY = ["ffffffff", "7fffffff", "80000000", "00000000", "00000001", "ffffff7f"]


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
    clips = [
        write_clip(folder / name, n, size=SIZE, **kind) for name, (n, kind) in kinds.items()
    ]
    stills = [
        Image.fromarray(picture(k, *SIZE).to_ndarray(format="rgb24")) for k in range(6)
    ]
    for name in ("k.gif", "l.webp", "m.png"):
        stills[0].save(folder / name, save_all=True, append_images=stills[1:], duration=40)
        clips.append(folder / name)
    return clips


def damaged(data, other, random):
    """Return the name of a random kind of damage, and the damaged data."""
    kind = str(
        random.choice(
            ("header", "packet", "truncation", "splice", "number", "gap", "twice")
        )
    )
    result = bytearray(data)
    size = len(data)

    def below(most, least=0):
        return int(random.integers(least, most))

    if kind == "header":
        for place in random.integers(0, min(size, HEADER), below(24, 1)):
            result[place] = below(256)
    elif kind == "packet":
        begin = below(size)
        span = below(max(size // 8, 2), 1)
        noise = random.integers(0, 256, span, dtype=np.uint8).tobytes()
        result[begin : begin + span] = noise[: size - begin]
    elif kind == "truncation":
        del result[below(size, 1) :]
    elif kind == "splice":
        result = bytearray(data[: below(size, 1)] + other[below(len(other)) :])
    elif kind == "number":
        for _ in range(below(4, 1)):
            # Sizes, counts, rates and times are stored in the headers at both ends of a
            # file.
            near = below(min(size - 4, 2 * HEADER))
            place = near if random.random() < 0.6 else size - 4 - near
            result[place : place + 4] = bytes.fromhex(NASTY[below(len(NASTY))])
    else:
        begin = below(size)
        span = below(max(size // 4, 2), 1)
        if kind == "gap":
            del result[begin : begin + span]
        else:
            result[begin:begin] = data[begin : begin + span]
    return kind, bytes(result)


MEMORY = 3 << 30  # of a command; libraries reserve more than they use


@pytest.fixture
def run(tmp_path_factory):
    """Return a function that runs the command in a new process.

    It returns the exit code, that of a kill after the time limit, the peak of memory in
    bytes, 0 after a signal, and what was printed.
    """
    peak = tmp_path_factory.mktemp("said") / "peak"

    def run(*words):
        peak.write_bytes(b"")
        done = finished(limited, peak, *words, seconds=SECONDS)
        return done.returncode, int(peak.read_text() or 0), done.stdout, done.stderr

    return run


def limited(peak, *words):
    """Run the command with little memory, and write how much there was at most."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    try:
        command(*words)
    finally:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        peak.write_text(str(most))


def fault_of(code, peak, said, errors, output):
    """Return the fault that a user would report, or None if there is none."""
    if code not in (0, 1):
        return f"exit code {code}, which is -9 after more than {SECONDS} s"
    if "Traceback" in errors or "report it as a bug" in errors:
        return "a failure that nobody foresaw"
    if peak > 1 << 30:
        return f"{peak >> 20} MiB of memory"
    if code == 1:
        lines = [line for line in errors.splitlines() if not line.startswith("warning: ")]
        if len(lines) != 1 or not lines[0].startswith("error: "):
            return "not one sentence"
        return "a file in spite of the error" if output.exists() else None
    reported = json.loads(said)["output_frames"]
    try:
        result = len(read_times(output))
    except av.error.FFmpegError as error:
        return f"success, and an output that does not decode: {error}"
    return (
        None
        if result == reported
        else f"success with {reported} frames, but {result} are there"
    )


def run_cases(run, seeds, folder, cases):
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
        code, *rest, errors = run("interp", str(broken), str(output), *options)
        ends["made" if code == 0 else "refused"] += 1
        problem = fault_of(code, *rest, errors, output)
        if problem is not None:
            wrong.append(f"case {case}, {kind} in {seed.name}: {problem}\n{errors[-2000:]}")
        output.unlink(missing_ok=True)
        if f"{output}.work keeps" in errors:
            shutil.rmtree(f"{output}.work")
        left = os.listdir(folder)
        if left != [broken.name]:
            wrong.append(f"case {case}, {kind} in {seed.name}: left behind {left}")
        broken.unlink()
    assert not wrong, "\n".join([f"{len(wrong)} of {len(cases)} cases:", *wrong[:20]])
    return ends


@pytest.mark.full
def test_damaged_files_give_one_sentence_or_a_complete_video(run, seeds, tmp_path):
    ends = run_cases(run, seeds, tmp_path, [*range(FEW), *FORMER_CRASHES])
    # Damage that makes every run fail, or none, would test nothing.
    assert ends["made"] > FEW // 8
    assert ends["refused"] > FEW // 8


@pytest.mark.slow
def test_many_damaged_files(run, seeds, tmp_path):
    run_cases(run, seeds, tmp_path, range(FEW, FEW + MANY))
