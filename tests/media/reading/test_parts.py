"""A part of a file has the frames, times and sound that it has in the whole file."""

import random
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

import av
import pytest

from cloudconv.media.carried import tracks as carried
from cloudconv.media.carried.carry import Carry
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.scan import Scan
from cloudconv.media.reading.source import Source
from cloudconv.timemap import TimeMap
from tests.helpers.factory import (
    picture,
    planes_of,
    remux,
    samples,
    tone,
    write_clip,
)
from tests.media.writing.test_sink import even, write


class Part(NamedTuple):
    """A part in seconds from the first frame; None is no bound."""

    start: Fraction | None = None
    end: Fraction | None = None


FRAMES = 480
NTSC = Fraction(30000, 1001)
X264 = {"preset": "ultrafast", "bf": "2", "g": "25"}
OPEN = {"preset": "veryfast", "x264-params": "open-gop=1:keyint=25:bframes=3:scenecut=0"}
REFRESHED = {"preset": "ultrafast", "x264-params": "intra-refresh=1:keyint=25"}
VP9 = {"g": "25", "deadline": "realtime", "cpu-used": "8", "lag-in-frames": "8"}
UNEVEN = [Fraction(1, 24) * (1 + (k * k % 7 == 2)) for k in range(FRAMES)]
KINDS = {
    "closed": ("libx264", X264, 24, 0),
    "open": ("libx264", OPEN, 24, 0),
    "late": ("libx264", X264, 24, 5),
    "ntsc": ("libx264", X264, NTSC, 0),
    "uneven": ("libx264", X264, None, 0),
    "refreshed": ("libx264", REFRESHED, 24, 0),
    "vp9": ("libvpx-vp9", VP9, 24, 0),
}
SUFFIXES = ("mkv", "mp4", "mov", "ts")
CASES = [(kind, suffix) for kind in KINDS for suffix in SUFFIXES if kind != "vp9"]
CASES += [("vp9", "webm"), ("vp9", "mkv"), ("vp9", "mp4")]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Return a function of a kind and a suffix that writes the clip once."""
    folder = tmp_path_factory.mktemp("clips")

    def clip(kind, suffix):
        path = folder / f"{kind}.{suffix}"
        if not path.exists():
            codec, options, rate, start = KINDS[kind]
            gaps = UNEVEN if rate is None else [1 / Fraction(rate)] * FRAMES
            times = list(accumulate(gaps[:-1], initial=Fraction(start)))
            form = {"rate": rate or 24, "size": (64, 48), "noise": 3.0}
            write_clip(path, FRAMES, times=times, codec=codec, options=options, **form)
        return path

    return clip


def frames_of(info, part):
    with Source(info, start=part.start, end=part.end) as source:
        return [
            (frame.time, frame.duration, *map(bytes, planes_of(frame.picture)))
            for frame in source.frames()
        ]


def parts_of(length, seed):
    """Return parts at random, and some at the edges, in seconds."""
    numbers = random.Random(seed)
    times = [Fraction(numbers.randrange(int(length * 90)), 90) for _ in range(3)]
    spans = [(time, time + Fraction(numbers.randrange(1, 200), 90)) for time in times]
    return [Part(*span) for span in [*spans, (times[0], None), (None, times[1] + 1)]]


def assert_alike(info, part, everything):
    """Check that the frames of a part are those of the whole file."""
    start = info.timing.start + (part.start or 0)
    end = info.timing.end if part.end is None else info.timing.start + part.end
    found = frames_of(info, part)
    expected = [frame for frame in everything if start <= frame[0] < end]
    assert [frame[0] for frame in found] == [frame[0] for frame in expected]
    assert [frame[2:] for frame in found] == [frame[2:] for frame in expected]


@pytest.mark.full
@pytest.mark.parametrize(("kind", "suffix"), CASES)
def test_a_part_has_the_frames_and_times_of_the_whole(clips, kind, suffix):
    whole = probe(clips(kind, suffix))
    everything = frames_of(whole, Part())
    sought = 0
    for part in [*parts_of(Fraction(19), kind), Part(Fraction(15), Fraction(16))]:
        info = probe(clips(kind, suffix), part=part)
        assert_alike(info, part, everything)
        timing = info.timing
        assert (timing.start, timing.rate) == (whole.timing.start, whole.timing.rate)
        sought += timing.is_part
    # Transport streams are read as for a whole run, and the index of MP4 has all times.
    assert bool(sought) == (suffix in ("mkv", "webm"))


@pytest.mark.full
@pytest.mark.parametrize("missing", [1, Fraction(61, 2)])
def test_an_even_part_of_an_uneven_file_has_its_own_rate(tmp_path, missing):
    """Frames are lost at 10 s: at a whole number of them, the rate of a part is known."""
    times = [Fraction(k + missing * (k >= 240), 24) for k in range(FRAMES)]
    form = {"size": (64, 48), "codec": "libx264", "options": X264, "noise": 3.0}
    path = write_clip(tmp_path / "a.mkv", FRAMES, times=times, **form)
    whole = probe(path)
    everything = frames_of(whole, Part())
    assert whole.timing.rate is None
    for part in [Part(Fraction(2), Fraction(4)), Part(Fraction(15), Fraction(17))]:
        timing = probe(path, part=part).timing
        is_on_grid = part.start == 2 or missing == 1
        assert timing.rate == (24 if is_on_grid else None)
        found = frames_of(probe(path, part=part), part)
        expected = [f for f in everything if part.start <= f[0] < part.end]
        assert [frame[2:] for frame in found] == [frame[2:] for frame in expected]
        errors = [abs(a[0] - b[0]) for a, b in zip(found, expected, strict=True)]
        assert max(errors) <= whole.timing.time_base


def cut_in_disorder(source, target):
    """Copy all but the last two packets, which are shown before others."""
    count = iter(range(FRAMES - 2))
    return remux(
        source, target, lambda packet: None if next(count, None) is None else packet
    )


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_an_index_gives_the_times_that_packets_have(clips, tmp_path, monkeypatch, kind):
    """The data of later packets is not read, also where the end lacks some frames."""
    taken = []
    take = Scan._take
    monkeypatch.setattr(Scan, "_take", lambda s, packet: (taken.append(0), take(s, packet)))
    whole = clips(kind, "mp4")
    for path in (whole, cut_in_disorder(whole, tmp_path / "cut.mp4")):
        taken.clear()
        by_index = probe(path)
        assert len(taken) < 100 < by_index.timing.frames
        with monkeypatch.context() as patch:
            patch.setattr(Scan, "_take_index", lambda self: False)
            by_packets = probe(path)
        assert by_index.timing == by_packets.timing


def without_cues(source, target):
    """Copy a Matroska file as on the way to a pipe, without an index."""
    return remux(source, target, live="1")


def with_wrong_cues(source, target):
    """Copy a Matroska file, and move all positions of its index to the first one."""
    data = bytearray(source.read_bytes())
    cues = data.rindex(b"\x1c\x53\xbb\x6b")
    first = None
    at = cues
    while (at := data.find(b"\xf1", at + 1)) > 0:  # CueClusterPosition
        size = data[at + 1] & 0x0F
        first = first or data[at + 2 : at + 2 + size]
        if 0 < size < 5 and len(first) <= size:
            data[at + 2 : at + 2 + size] = bytes(size - len(first)) + first
    target.write_bytes(data)
    return target


def with_late_cues(source, target):
    """Copy a Matroska file whose index leads to the last key frame, whatever the time."""
    data = bytearray(source.read_bytes())
    cues = data.rindex(b"\x1c\x53\xbb\x6b")
    places = []
    at = cues
    while (at := data.find(b"\xf1", at + 1)) > 0:  # CueClusterPosition
        size = data[at + 1] & 0x0F
        if 0 < size < 5:
            places.append((at + 2, size))
    last, size = places[-1]
    for place, length in places:
        if length == size:
            data[place : place + length] = data[last : last + size]
    target.write_bytes(data)
    return target


def joined(source, target):
    """Write a Matroska file twice into one: its index is that of the first half."""
    target.write_bytes(source.read_bytes() * 2)
    return target


def joined_without_cues(source, target):
    """Write a recording without an index, and without a length, twice into one file."""
    return joined(without_cues(source, target.with_name("one.mkv")), target)


@pytest.mark.full
@pytest.mark.parametrize(
    "spoilt", [without_cues, with_wrong_cues, with_late_cues, joined, joined_without_cues]
)
def test_a_part_of_a_file_without_a_right_index_is_the_same(clips, tmp_path, spoilt):
    path = spoilt(clips("open", "mkv"), tmp_path / "spoilt.mkv")
    whole = probe(path)
    everything = frames_of(whole, Part())
    for start in (Fraction(15), Fraction(25)):
        part = Part(start, start + 1)
        if start < whole.timing.end:
            assert_alike(probe(path, part=part), part, everything)


@pytest.mark.full
def test_frames_before_the_start_of_an_edit_list_are_in_no_part(tmp_path):
    """The first frames of an MP4 whose times are below 0 are hidden."""
    times = [Fraction(k - 30, 24) for k in range(FRAMES)]
    form = {"size": (64, 48), "codec": "libx264", "options": X264}
    path = write_clip(tmp_path / "a.mp4", FRAMES, times=times, **form)
    whole = probe(path)
    assert whole.timing.frames < FRAMES
    everything = frames_of(whole, Part())
    for part in parts_of(Fraction(18), 1):
        assert_alike(probe(path, part=part), part, everything)


# The codecs of sound and of subtitles by container.
FILMS = {
    ".mkv": ("aac", "flac", "subrip"),
    ".webm": ("libopus", "libopus", "webvtt"),
    ".mp4": ("aac", "alac", "mov_text"),
    ".mov": ("aac", "pcm_s16le", "mov_text"),
    ".ts": ("aac", "mp2", None),
}


def film(path, *, sound_begins=Fraction(0), long=Fraction(4), texts=None):
    """Write 20 s with two tracks of sound and subtitles, one of which lasts long."""
    if texts is None:
        texts = [(Fraction(k), long if k == 5 else Fraction(1, 2)) for k in range(1, 20)]
    with av.open(str(path), "w") as out:
        codec = "libvpx" if path.suffix == ".webm" else "libx264"
        options = {"g": "25", "deadline": "realtime"} if codec == "libvpx" else X264
        video = out.add_stream(codec, rate=24, options=options)
        video.width, video.height = 64, 48
        video.codec_context.time_base = Fraction(1, 24)
        *codecs, words = FILMS[path.suffix]
        tracks = [out.add_stream(codec, rate=48000) for codec in codecs]
        for track in tracks:
            track.layout = "mono"
        if words is None:
            texts = []
        else:
            subtitles = out.add_stream(words)
            subtitles.codec_context.subtitle_header = b"[Script Info]\n[Events]\n"
        waves = [tone(440 * k, 48000) for k in range(1, 21)]
        for second in range(20):
            for number in range(24):
                frame = picture(24 * second + number, 64, 48)
                frame.pts, frame.time_base = 24 * second + number, Fraction(1, 24)
                frame.pict_type = 0
                out.mux(video.encode(frame))
            first = int((second + sound_begins) * 48000)
            for track in tracks:
                samples(out, track, waves[second], first)
            for begin, lasts in texts:
                if second <= begin < second + 1:
                    out.mux(text(subtitles, begin, lasts))
        for stream in (video, *tracks):
            out.mux(stream.encode(None))
    return path


def text(stream, begin, lasts):
    words = f"0,0,Default,,0,0,0,,from {begin}".encode()
    result = av.subtitles.subtitle.SubtitleSet.create(words, 0, int(lasts * 1000))
    packet = stream.codec_context.encode_subtitle(result)
    packet.time_base, packet.stream = Fraction(1, 1000), stream
    packet.pts = packet.dts = int(begin * 1000)
    packet.duration = int(lasts * 1000)
    return packet


def written(source, target, part, slow=None):
    """Write an output of a part, and return its sink."""
    info = probe(source, part=part)
    first = info.timing.start + (part.start or 0)
    last = info.timing.end if part.end is None else info.timing.start + part.end
    ends = None if part.end is None else last
    shows = None if slow is None else TimeMap.even(1 / slow)
    carry = Carry(info, first, first, ends, shows=shows)
    count = int((last - first) * 24 * (slow or 1))
    frames = even(count, (info.width, info.height), rate=24)
    more = {"carry": carry, "encoder_option": (("preset", "ultrafast"),)}
    if target.suffix == ".webm":
        more = {"carry": carry}
    return write(target, frames, info, rate=Fraction(24), **more)


def beside_packets(source, target, part, *, slow=None):
    """Return all packets beside the video of an output of a part, and the warnings."""
    sink = written(source, target, part, slow)
    with av.open(str(target)) as out:
        packets = [
            (p.stream.index, p.pts, p.dts, p.duration, bytes(p))
            for p in out.demux()
            if p.size and p.stream.type != "video"
        ]
    target.unlink()
    return packets, [str(warning) for warning in sink.warnings]


def heard(path, number):
    """Return the packets of a track of sound, and the time and the samples of each."""
    with av.open(str(path)) as container:
        packets = [bytes(p) for p in container.demux(audio=number) if p.size]
    # Transport streams have a header of 7 bytes before each packet of AAC.
    packets = [p[7:] if p[:2] == b"\xff\xf1" else p for p in packets]
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=number))
    return packets, [(f.pts * f.time_base, f.to_ndarray().astype(float)) for f in frames]


@pytest.mark.full
@pytest.mark.parametrize("suffix", FILMS)
def test_a_part_with_sound_is_that_of_the_whole(tmp_path, suffix):
    """The output decodes without an error, and its sound is that of the film."""
    path = film(tmp_path / f"a{suffix}")
    part = Part(Fraction(27, 2), Fraction(31, 2))
    whole = probe(path)
    assert_alike(probe(path, part=part), part, frames_of(whole, Part()))
    target = tmp_path / f"o{suffix if suffix != '.ts' else '.mkv'}"
    sink = written(path, target, part)
    assert not list(sink.warnings)
    with av.open(str(target)) as out:
        assert sum(1 for _ in out.decode(video=0)) == 48
    for number in range(2):
        copied, found = heard(target, number)
        packets, everything = heard(path, number)
        at = packets.index(copied[0])
        assert packets[at : at + len(copied)] == copied
        begin = whole.timing.start + part.start
        # A decoder of Opus needs some packets before its samples are those of the film.
        found = [frame for frame in found[:-1] if frame[0] > Fraction(1, 3)]
        first = found[0][0] + begin
        at = min(range(len(everything)), key=lambda k: abs(everything[k][0] - first))
        beside = list(zip(found, everything[at:], strict=False))
        assert len(beside) > 10
        for (time, sound), (expected, original) in beside:
            assert abs(time + begin - expected) <= Fraction(2, 1000)
            assert abs(sound - original).max() <= 0.01 * max(1, abs(original).max())


@pytest.mark.full
@pytest.mark.parametrize(
    ("begins", "slow"),
    [
        (Fraction(0), None),
        (Fraction(3, 2), None),
        (Fraction(-1, 2), None),
        (Fraction(-1, 2), Fraction(2)),
    ],
)
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".webm", ".ts"])
def test_a_part_has_the_sound_and_subtitles_of_the_whole(
    tmp_path, monkeypatch, suffix, begins, slow
):
    """The sound may begin before the pictures; a subtitle lasts from 5 s to 14 s."""
    path = film(tmp_path / f"a{suffix}", sound_begins=begins, long=Fraction(9))
    parts = [Part(Fraction(a, 2), Fraction(b, 2)) for a, b in [(27, 31), (33, 38), (4, 7)]]
    parts += [Part(Fraction(15)), Part(None, Fraction(2))]
    found = [beside_packets(path, tmp_path / "o.mkv", part, slow=slow) for part in parts]
    assert found[0][0]
    monkeypatch.setattr(carried, "_AROUND", Fraction(1000))  # reads everything
    for part, alone in zip(parts, found, strict=True):
        assert alone == beside_packets(path, tmp_path / "o.mkv", part, slow=slow)


@pytest.mark.full
@pytest.mark.parametrize(
    ("suffix", "has_cues"),
    [(".mkv", True), (".mkv", False), (".webm", True), (".webm", False), (".mp4", True)],
)
def test_subtitles_that_are_shown_for_long_are_shown_in_a_part(tmp_path, suffix, has_cues):
    """They begin up to 14 s before the part; MP4 shows one at a time."""
    lasts = {2: 15, 3: 14, 4: 1} if suffix != ".mp4" else {2: 15}
    texts = [(Fraction(begin), Fraction(length)) for begin, length in lasts.items()]
    path = film(tmp_path / f"a{suffix}", texts=texts)
    if not has_cues:
        path = without_cues(path, tmp_path / f"b{suffix}")
    packets, _ = beside_packets(path, tmp_path / "o.mkv", Part(Fraction(16), Fraction(18)))
    found = [packet[1:4:2] for packet in packets if b"from" in packet[-1]]
    assert found == [(0, 1000)] * sum(length > 10 for length in lasts.values())


@pytest.mark.full
def test_a_part_of_a_fragmented_file_is_a_seek(clips, tmp_path):
    """Such an MP4 has no index of all packets."""
    options = {"movflags": "frag_keyframe+empty_moov"}
    path = remux(clips("uneven", "mp4"), tmp_path / "f.mp4", **options)
    everything = frames_of(probe(path), Part())
    part = Part(Fraction(15), Fraction(16))
    info = probe(path, part=part)
    assert info.timing.is_part
    assert_alike(info, part, everything)
