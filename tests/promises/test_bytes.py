"""A part costs what the part costs, and a whole run reads its input few times.

The times of MP4 are in its index. Matroska is read for them, and again for the frames and
for the other streams: a whole run reads all of it, and a part what is near.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
import pytest

from cloudconv import jobs
from cloudconv.errors import Interrupted
from cloudconv.events import Finished
from cloudconv.jobs.interp import run as interpolating
from cloudconv.jobs.interp.segments import SegmentWork
from cloudconv.media.reading import identity
from cloudconv.settings import InterpSettings
from tests.helpers import calls
from tests.helpers.counting import counted
from tests.helpers.factory import picture, samples, tone
from tests.helpers.jobs import stop_after
from tests.helpers.tiers import needs_ray

SECONDS, RATE, GROUP = 40, 12, 6
BUFFER = 1 << 12
FIXED = 40 * BUFFER
"""Bytes to identify an input, and to open it some times: a few buffers each."""
BLEND = {"factor": 2, "model": "blend", "preset": "ultrafast"}
X264 = {"preset": "ultrafast", "bf": "2", "g": str(GROUP), "crf": "10"}
VP8 = {"deadline": "realtime", "cpu-used": "16", "g": str(GROUP), "b": "5M", "crf": "4"}

pytestmark = pytest.mark.full


@pytest.fixture(scope="module", params=["mp4", "mkv"])
def clip(request, tmp_path_factory):
    return noisy_film(tmp_path_factory.mktemp("clip") / f"a.{request.param}")


def noisy_film(path, seconds=SECONDS):
    """Write 40 s of noise with sound, with a key frame every half second."""
    frames = [picture(k, 320, 240, noise=40.0) for k in range(GROUP)]
    wave = tone(440, 48000)
    codecs = ("libvpx", "libopus") if path.suffix == ".webm" else ("libx264", "aac")
    with av.open(str(path), "w") as out:
        options = VP8 if path.suffix == ".webm" else X264
        video = out.add_stream(codecs[0], rate=RATE, options=options)
        video.width, video.height = 320, 240
        video.codec_context.time_base = Fraction(1, RATE)
        track = out.add_stream(codecs[1], rate=48000)
        track.layout = "mono"
        for number in range(seconds * RATE):
            frame = frames[number % GROUP]
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            out.mux(video.encode(frame))
            if number % RATE == 0:
                samples(out, track, wave, number // RATE * 48000)
        for stream in (video, track):
            out.mux(stream.encode(None))
    return path


@pytest.fixture
def count(clip, monkeypatch):
    """Return a function that counts the bytes that are read of the clip in a block."""
    monkeypatch.setattr(identity, "MOST_HASHED", 0)
    return lambda: counted(monkeypatch, clip, BUFFER)


def size_of(clip, seconds=SECONDS):
    return clip.stat().st_size * seconds / SECONDS


def has_index(clip):
    return clip.suffix in (".mp4", ".mov")


def scanned(clip):
    """Return the bytes of a whole scan: MP4 has an index, and no data is read."""
    return head(clip) if has_index(clip) else size_of(clip) * 1.05


def is_matroska(clip):
    return clip.suffix in (".mkv", ".webm")


def carried(clip):
    """Return the bytes that are read for the streams beside the video.

    Matroska is read once more, because no index says where its pictures are.
    """
    return size_of(clip) * (1.05 if is_matroska(clip) else 0.15)


def head(clip):
    """Return the bytes of the beginning, whatever the length of the file.

    A probe decodes 48 frames, and the trial of what is carried reads two seconds.
    """
    return size_of(clip, 54 / RATE + 2) + FIXED


def most_of_a_part(clip, seconds):
    """Return the bytes of a part and of the groups of pictures around it, and a half.

    Of Matroska 2.2 times as many: those of the times, the frames and the sound.
    """
    once = 1.5 * size_of(clip, seconds + 2 * GROUP / RATE) + head(clip)
    return once * (2.2 if is_matroska(clip) else 1)


PARTS = [(20, 21), (5, 15), (39, None), (None, 1)]


@pytest.mark.parametrize(
    ("clip", "start", "end"),
    [
        *((container, *part) for container in ("mp4", "mkv") for part in PARTS),
        ("mov", *PARTS[0]),
        ("webm", *PARTS[0]),
    ],
    indirect=["clip"],
)
def test_a_part_reads_the_part(clip, tmp_path, count, start, end):
    seconds = (end or SECONDS) - (start or 0)
    with count() as read:
        calls.interpolate(clip, tmp_path / "o.mkv", start=start, end=end, **BLEND)
    assert read.bytes < most_of_a_part(clip, seconds)
    with count() as read:
        output = tmp_path / "p.mkv"
        jobs.plan(InterpSettings(clip, output, start=start, end=end, **BLEND))
    most = 0.5 * size_of(clip, seconds + 2 * GROUP / RATE) + head(clip)
    assert read.bytes < (most_of_a_part(clip, seconds) if is_matroska(clip) else most)


@pytest.mark.parametrize("clip", ["ts"], indirect=True)
def test_a_part_of_a_transport_stream_reads_all_for_its_times_alone(clip, tmp_path, count):
    """Each of the four openings reads 40 MB, too, to find streams that begin late."""
    with count() as read:
        calls.interpolate(clip, tmp_path / "o.mkv", start=20, end=21, **BLEND)
    assert read.bytes < (1.2 + 4) * size_of(clip) + most_of_a_part(clip, 1)


def test_a_whole_run_reads_the_file_once_before_it_starts_and_once_while_it_works(
    clip, tmp_path, count
):
    with count() as read:
        jobs.plan(InterpSettings(clip, tmp_path / "o.mkv", **BLEND))
    assert read.bytes < scanned(clip) + FIXED
    with count() as read:
        calls.interpolate(clip, tmp_path / "o.mkv", **BLEND)
    assert read.bytes < scanned(clip) + size_of(clip) + carried(clip) + FIXED


def test_a_resumed_run_reads_the_file_as_often(clip, tmp_path, count):
    with pytest.raises(Interrupted):
        calls.interpolate(clip, tmp_path / "o.mkv", watch=stop_after(500), **BLEND)
    with count() as read:
        assert calls.interpolate(clip, tmp_path / "o.mkv", **BLEND).resumed
    assert read.bytes < scanned(clip) + size_of(clip) + carried(clip) + FIXED


class InThisProcess:
    """Workers that render the segments in this process, where their reads are counted."""

    def map(self, job, segments, keep) -> Iterator:
        work = SegmentWork()
        for segment in filter(None, segments):
            for event in work(job, segment):
                if isinstance(event, Finished):
                    keep(segment, event.result)
                yield segment.number, event


@needs_ray
def test_workers_read_the_file_once_more(clip, tmp_path, count, monkeypatch):
    """The plan of the segments decodes the file, and the workers decode it again."""

    @contextmanager
    def start(config):
        yield InThisProcess()

    monkeypatch.setattr(interpolating, "start", start)
    with count() as read:
        calls.interpolate(clip, tmp_path / "o.mkv", workers="local:2", **BLEND)
    segments = SECONDS * RATE / 64 + 4
    again = segments * size_of(clip, GROUP / RATE)
    assert read.bytes < scanned(clip) + 2.15 * size_of(clip) + carried(clip) + again + FIXED


def test_a_comparison_of_a_part_reads_the_part(clip, count):
    with count() as read:
        calls.compare(clip, model="blend", start=20, end=21)
    # The part is decoded twice: first for its regular repeats.
    assert read.bytes < most_of_a_part(clip, 1) + size_of(clip, 2)


@pytest.mark.parametrize(
    ("job", "options", "seconds"),
    [
        (calls.extrapolate, {"model": "linear"}, Fraction(64, RATE) + 1),
        (calls.dream, {"mode": "flow"}, Fraction(300, RATE) + 2),
    ],
)
def test_a_continuation_without_the_film_reads_the_end_of_the_film(
    clip, tmp_path, count, job, options, seconds
):
    with count() as read:
        job(clip, tmp_path / "o.mkv", frames=2, only_new=True, **options)
    # Matroska is read whole for the time of its end.
    most = most_of_a_part(clip, seconds) + scanned(clip) * (not has_index(clip))
    assert read.bytes < most


def test_a_continuation_reads_the_film_and_its_end(clip, tmp_path, count):
    with count() as read:
        calls.extrapolate(clip, tmp_path / "o.mkv", frames=2, model="linear")
    most = scanned(clip) + size_of(clip) + carried(clip) + most_of_a_part(clip, 4)
    assert read.bytes < most
