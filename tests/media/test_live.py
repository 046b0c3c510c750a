"""Standard input is processed while it arrives."""

from __future__ import annotations

import subprocess
import sys
import threading
from fractions import Fraction as F
from pathlib import Path

import pytest

from tests.helpers.factory import packets_of, read_times, write_clip

COMMAND = (
    *(sys.executable, "-m", "cloudconv", "interp", "-", "-o", "-", "--factor", "2"),
    *("--model", "tiny", "--device", "cpu", "--threads", "1"),
)


@pytest.mark.parametrize("frames", [pytest.param(240, marks=pytest.mark.full), 20])
def test_matroska_is_interpolated_before_its_end_arrives(tmp_path: Path, frames: int) -> None:
    clip = write_clip(
        tmp_path / "a.mkv", frames, rate=25, codec="libx264", audio=["aac"], noise=3, size=(64, 48)
    )
    data = clip.read_bytes()
    first = data[: len(data) * 4 // 5] if frames > 100 else data
    made = bytearray()
    some = threading.Event()
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        out = run.stdout

        def read() -> None:
            while part := out.read1(1 << 16):
                made.extend(part)
                if len(made) > 4000:
                    some.set()

        reader = threading.Thread(target=read)
        reader.start()
        run.stdin.write(first)
        run.stdin.flush()
        if frames > 100:
            assert some.wait(90), "no output arrived before the end of the input"
        run.stdin.write(data[len(first) :])
        run.stdin.close()
        reader.join(90)
        assert run.wait(30) == 0, run.stderr.read() if run.stderr else ""
    (tmp_path / "b.mkv").write_bytes(made)
    grid = [F(k, 50) for k in range(2 * frames)]
    assert read_times(tmp_path / "b.mkv") == grid
    assert packets_of(tmp_path / "b.mkv") == packets_of(clip)
