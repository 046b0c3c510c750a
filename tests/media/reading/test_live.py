"""Standard input is processed while it arrives."""

import signal
import sys
import time
from contextlib import suppress
from fractions import Fraction as F
from threading import Event, Thread

import av
import pytest

from tests.helpers.factory import packets_of, read_times, write_clip
from tests.helpers.system import Running

COMMAND = (
    *("interp", "-", "-o", "-", "--factor", "2"),
    *("--model", "tiny", "--device", "cpu", "--threads", "1"),
)


@pytest.mark.full
@pytest.mark.parametrize("frames", [240, 20])
def test_matroska_is_interpolated_before_its_end_arrives(tmp_path, frames):
    form = {"codec": "libx264", "audio": ["aac"], "noise": 3, "size": (64, 48)}
    clip = write_clip(tmp_path / "a.mkv", frames, rate=25, **form)
    result = bytearray()
    some = Event()
    data = clip.read_bytes()
    first = len(data) * 4 // 5 if frames > 100 else len(data)

    def read(out):
        while data := out.read1(1 << 16):
            result.extend(data)
            if len(result) > 4000:
                some.set()

    with Running(*COMMAND) as run:
        reader = Thread(target=read, args=[run.stdout])
        reader.start()
        run.stdin.write(data[:first])
        run.stdin.flush()
        if frames > 100:
            assert some.wait(90), "no output arrived before the end of the input"
        run.stdin.write(data[first:])
        run.stdin.close()
        reader.join(90)
        assert run.wait(30) == 0, run.stderr.read()
    (tmp_path / "b.mkv").write_bytes(result)
    assert read_times(tmp_path / "b.mkv") == [F(k, 50) for k in range(2 * frames)]
    assert packets_of(tmp_path / "b.mkv") == packets_of(clip)


@pytest.mark.full
@pytest.mark.parametrize(
    ("frames", "said"), [(48, b"says 1.92 s"), (240, b"it ended before")]
)
def test_an_input_that_ends_too_early_is_named(tmp_path, frames, said):
    """The first frames of a long input are shown before the end is known."""
    clip = write_clip(
        tmp_path / "a.mkv", frames, rate=25, codec="libx264", noise=9, size=(64, 48)
    )
    data = clip.read_bytes()
    result = []
    with Running(*COMMAND) as run:
        reader = Thread(target=lambda: result.append(run.stdout.read()))
        reader.start()
        run.stdin.write(data[: len(data) * 6 // 10])
        run.stdin.close()
        warned = run.stderr.read()
        reader.join(90)
        assert run.wait(30) == 0, warned
    assert warned.count(b"is cut off: ") == warned.count(said) == 1
    (tmp_path / "b.mkv").write_bytes(*result)
    times = read_times(tmp_path / "b.mkv")
    assert frames < len(times) < 1.4 * frames
    # The last frame does not stand for what is missing.
    with av.open(str(tmp_path / "b.mkv")) as made:
        assert max(p.duration * p.time_base for p in made.demux() if p.size) < F(1, 5)


@pytest.mark.skipif(
    sys.platform == "win32", reason="a signal ends a process of Windows at once"
)
@pytest.mark.parametrize(
    ("part", "output"),
    [
        *(
            pytest.param(*values, marks=pytest.mark.full)
            for values in ((0, "o.mkv"), (5000, "-"))
        ),
        # The wait for the rest of a header, or with a file as the output, is the same.
        *(
            pytest.param(*values, marks=pytest.mark.slow)
            for values in ((100, "-"), (5000, "o.mkv"))
        ),
    ],
)
def test_a_signal_is_answered_while_standard_input_is_waited_for(tmp_path, output, part):
    """The writer of standard input neither writes more nor closes."""
    data = write_clip(tmp_path / "a.mkv", 60, rate=25, codec="libx264").read_bytes()
    target = output if output == "-" else tmp_path / output
    words = ["interp", "-", "-o", target, "--factor", "2", "--model", "blend"]
    with Running(*words) as run:
        run.stdin.write(data[:part])
        run.stdin.flush()
        time.sleep(1)
        run.send_signal(signal.SIGTERM)
        try:
            assert run.wait(10) == 130
        finally:
            run.kill()
        assert b"interrupted" in run.stderr.read()
    assert not (tmp_path / "o.mkv").exists()


@pytest.mark.full
@pytest.mark.parametrize("more", [[], ["--end", "9", "--many-frames"]])
def test_a_gap_of_days_in_an_arriving_input_is_refused(tmp_path, more):
    """The gap comes after the first frames, from which the rate was found."""
    days = [F(k, 25) + 10**6 * (k >= 200) for k in range(210)]
    clip = write_clip(tmp_path / "a.mkv", 210, times=days, size=(16, 16), codec="libx264")
    result = []
    with Running(*COMMAND, *more) as run:
        reader = Thread(target=lambda: result.append(run.stdout.read()))
        reader.start()
        with suppress(BrokenPipeError):
            run.stdin.write(clip.read_bytes())
            run.stdin.close()
        reader.join(90)
        said = run.stderr.read()
        code = run.wait(30)
    if more:
        assert code == 0, said
        (tmp_path / "b.mkv").write_bytes(*result)
        assert read_times(tmp_path / "b.mkv") == [F(k, 50) for k in range(450)]
        return
    assert code == 1
    assert b"its first 200 frames last 1000008 s" in said
    assert b"--many-frames" in said
