"""Audio, subtitles, chapters and attachments are copied bit for bit and in time, or named."""

import itertools
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition
from PIL import Image

from cloudconv.media.carry import Carry, add_copy
from cloudconv.media.copier import timecode_at_rate
from cloudconv.media.frame import Frame
from cloudconv.media.probe import probe
from cloudconv.settings import EncodeSettings
from tests.helpers.factory import packets_of, picture, read_times, set_chapters, sine, write_clip
from tests.helpers.sinks import open_sink

RATE = Fraction(24)
SRT = [(Fraction(1, 2), Fraction(1), "Clouds & rain"), (Fraction(2), Fraction(1, 2), "Sun")]


def video(
    path, *, offset=Fraction(0), seconds=3, audio="aac", subtitles="srt", cover=None, **extra
):
    """Write a clip with two audio tracks, subtitles, chapters and, in Matroska, an attachment."""
    count = int(seconds * RATE)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        video.width, video.height = 32, 32
        video.codec_context.time_base = 1 / RATE
        tracks = [out.add_stream(audio, rate=48000) for _ in range(2)] if audio else []
        for track, language in zip(tracks, ("deu", "fra"), strict=False):
            track.layout = "mono"
            track.metadata["language"] = language
            track.metadata["title"] = f"Ton {language}"
        if tracks:
            tracks[1].disposition = Disposition.comment
        texts = out.add_stream(subtitles) if subtitles else None
        if texts is not None:
            texts.codec_context.subtitle_header = b"[Script Info]\n[Events]\n"
            texts.metadata["language"] = "eng"
        if path.suffix == ".mkv":
            out.add_attachment("font.ttf", "font/ttf", b"glyphs" * 20)
        if cover:
            out.add_attachment("cover.png", "image/png", cover)
        out.metadata.update({"title": "Wolken", "comment": "sehr schön", **extra})
        half = Fraction(3, 2)
        set_chapters(out, [(0, half, "one"), (half, seconds, "two")])
        for index in range(count):
            frame = picture(index, 32, 32)
            frame.pts, frame.time_base = index + int(offset * RATE), 1 / RATE
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for number, track in enumerate(tracks):
            sine(out, track, 440 * (number + 1), int(seconds * 48000), int(offset * 48000))
        for start, duration, text in SRT if texts is not None else ():
            _text(out, texts, start + offset, duration, text)
    return path


def _text(out, stream, start, duration, text):
    from av.subtitles.subtitle import SubtitleSet

    words = f"0,0,Default,,0,0,0,,{text}".encode()
    made = SubtitleSet.create(words, 0, int(duration * 1000))
    packet = stream.codec_context.encode_subtitle(made)
    packet.time_base = Fraction(1, 1000)
    packet.pts = packet.dts = int(start * 1000)
    packet.duration = int(duration * 1000)
    packet.stream = stream
    out.mux(packet)


def convert(source, target, *, start=None, end=None, audio=True, factor=2, slow=None):
    """Write new pictures at ``factor`` times the clip's rate and copy everything else.

    With ``slow``, the video is that many times slower.
    """
    info = probe(source)
    rate = (info.timing.rate or RATE) * factor
    first = info.timing.start + (start or 0)
    last = info.timing.end if end is None else info.timing.start + end
    fast = {"encoder": "libx264", "preset": "ultrafast"}
    if target.suffix == ".webm":
        fast = {"encoder_option": (("cpu-used", "8"),)}
    carry = Carry(
        info,
        first,
        None if start is None else first,
        None if end is None else last,
        audio=audio,
        slowdown=slow,
    )
    with open_sink(
        target,
        info,
        rate=rate,
        time_base=1 / rate,
        settings=EncodeSettings(**({} if target.suffix == ".gif" else fast)),
        carry=carry,
    ) as sink:
        for k in range(int((last - first) * rate * (slow or 1))):
            sink.write(Frame(picture(k, info.width, info.height), k / rate, 1 / rate))
    return sink


def subtitles_of(path):
    """Return start, duration and plain text of each subtitle."""
    found = []
    with av.open(str(path)) as clip:
        stream = clip.streams.subtitles[0]
        for packet in clip.demux(stream):
            if packet.size:
                decoded = stream.codec_context.decode2(packet)
                text = decoded[0].dialogue.decode() if decoded is not None and decoded else ""
                if text:
                    begin = packet.pts * packet.time_base
                    found.append((begin, packet.duration * packet.time_base, text))
    return found


def first_times(path, kind):
    with av.open(str(path)) as clip:
        stream = next(s for s in clip.streams if s.type == kind)
        return [p.pts * p.time_base for p in clip.demux(stream) if p.size]


def chapters_of(path):
    """Return start, end and title of each chapter."""
    with av.open(str(path)) as clip:
        return [
            (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]["title"])
            for c in clip.chapters()
        ]


@pytest.mark.full
@pytest.mark.parametrize(
    "suffixes", [("mp4", "mp4"), ("mkv", "mkv"), ("mp4", "mkv"), ("mkv", "mp4")]
)
def test_audio_is_bit_exact_and_labelled(tmp_path, suffixes):
    before, after = suffixes
    source = video(tmp_path / f"in.{before}", subtitles=None, location="Basel", BPS="12")
    target = tmp_path / f"out.{after}"
    sink = convert(source, target)
    assert packets_of(target) == packets_of(source)
    with av.open(str(target)) as clip:
        assert [track.language for track in clip.streams.audio] == ["deu", "fra"]
        tags = {key.lower(): value for key, value in clip.metadata.items()}
        assert clip.streams.audio[1].disposition & Disposition.comment
    half = Fraction(3, 2)
    assert chapters_of(target) == [(0, half, "one"), (half, 3, "two")]
    assert (tags["title"], tags["comment"]) == ("Wolken", "sehr schön")
    assert tags.get("location", "Basel") == "Basel"
    assert ("location" in tags) == (before == "mkv")
    assert "bps" not in tags  # of the source's streams
    assert not [text for text in map(str, sink.warnings) if "font" not in text]
    if (before, after) == ("mp4", "mp4"):
        assert first_times(target, "audio") == first_times(source, "audio")
    assert read_times(target)[0] == 0


@pytest.mark.full
@pytest.mark.parametrize("name", ["out.mkv", "out.mp4", "-"])
def test_audio_from_a_transport_stream_is_copied(tmp_path, name):
    """A transport stream has AAC with headers of its own, which other containers do not allow.

    A pipe cannot seek, so the header there must contain the configuration of the audio at once.
    """
    source, target = video(tmp_path / "in.ts", subtitles=None), tmp_path / name
    if name == "-":
        script = (
            "from pathlib import Path\n"
            "from tests.media.test_carry import convert\n"
            f"convert(Path({str(source)!r}), Path('-'))\n"
        )
        command, root = [sys.executable, "-c", script], Path(__file__).parents[2]
        done = subprocess.run(command, capture_output=True, check=True, cwd=root)
        assert done.stderr == b""
        target.write_bytes(done.stdout)
    else:
        convert(source, target)
    kept = [[packet[7:] for packet in track] for track in packets_of(source)]
    made = packets_of(target)
    assert made == [track[len(track) - len(made[0]) :] for track in kept]
    with av.open(str(target)) as clip:
        assert clip.streams.audio[0].codec_context.extradata == bytes.fromhex("1188")
        assert sum(frame.samples for frame in clip.decode(audio=0)) >= 2.9 * 48000


def test_a_late_start_keeps_audio_and_subtitles_in_step(tmp_path):
    source = video(tmp_path / "in.mkv", offset=Fraction(5), audio="flac")
    target = tmp_path / "out.mkv"
    convert(source, target)
    assert packets_of(target) == packets_of(source)
    moved = [time - 5 for time in first_times(source, "audio")]
    assert first_times(target, "audio") == moved
    assert [(a, b) for a, b, _ in subtitles_of(target)] == [(a, b) for a, b, _ in SRT]


@pytest.mark.parametrize("slow", [None, 2])
def test_a_part_keeps_its_own_audio_subtitles_and_chapters(tmp_path, slow):
    source = video(tmp_path / "in.mkv", audio=None if slow else "flac")
    target = tmp_path / "out.mkv"
    start, end, by = Fraction(1), Fraction(9, 4), slow or 1
    convert(source, target, start=start, end=end, factor=1, slow=slow)
    # The first subtitle starts before the part; the second ends after it.
    shown = [(a / by, b / by) for a, b, _ in subtitles_of(target)]
    assert shown == [(0, Fraction(1, 2)), (1, Fraction(1, 4))]
    half = Fraction(by, 2)
    assert chapters_of(target) == [(0, half, "one"), (half, (end - start) * by, "two")]
    if slow is None:
        given = zip(packets_of(source)[0], first_times(source, "audio"), strict=True)
        assert packets_of(target)[0] == [packet for packet, time in given if start <= time < end]
        times = first_times(target, "audio")
        assert 0 <= times[0] < Fraction(1, 10)
        assert times[-1] < end - start


@pytest.mark.parametrize("slow", [None, Fraction(5, 2)])
@pytest.mark.parametrize(
    ("given", "becomes"),
    [((".mkv", "srt"), (".mp4", "mov_text")), ((".mp4", "mov_text"), (".mkv", "subrip")),
     ((".mkv", "ass"), (".mp4", "mov_text")), ((".mkv", "srt"), (".webm", "webvtt")),
     ((".mkv", "ass"), (".mkv", "ass")), ((".mp4", "mov_text"), (".mov", "mov_text"))],
)  # fmt: skip
def test_subtitles_and_chapters_fit_the_container_and_the_speed(tmp_path, given, becomes, slow):
    source = video(tmp_path / f"in{given[0]}", audio=None, subtitles=given[1])
    target = tmp_path / f"out{becomes[0]}"
    said = [str(warned) for warned in convert(source, target, factor=1, slow=slow).warnings]
    with av.open(str(target)) as clip:
        assert clip.streams.subtitles[0].codec_context.name in (becomes[1], "srt", "ssa")
        assert clip.streams.subtitles[0].language == "eng"
    by = slow or 1
    for (start, span, text), (*times, line) in zip(SRT, subtitles_of(target), strict=True):
        assert times == [start * by, span * by]
        assert text in line
    half = Fraction(3, 2) * by
    assert chapters_of(target) == [(0, half, "one"), (half, 2 * half, "two")]
    loses_styles = given[1] == "ass" and becomes[1] != "ass"
    assert any("loses its styles" in text for text in said) == loses_styles
    assert not [text for text in said if "left out" in text and "font" not in text]


def test_attachments_are_copied_or_named(tmp_path):
    source = video(tmp_path / "in.mkv", audio=None, subtitles=None)
    convert(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as clip:
        (attached,) = (s for s in clip.streams if s.type == "attachment")
        assert (attached.metadata["filename"], attached.mimetype) == ("font.ttf", "font/ttf")
        assert attached.data == b"glyphs" * 20
    sink = convert(source, tmp_path / "out.mp4")
    assert any("font.ttf" in w and "MP4 cannot hold it" in w for w in map(str, sink.warnings))


def test_streams_that_webm_cannot_hold_are_named(tmp_path):
    source = video(tmp_path / "in.mp4", subtitles=None)
    sink = convert(source, tmp_path / "out.webm")
    assert sum("WebM cannot hold it" in warning for warning in map(str, sink.warnings)) == 2
    assert any("aac, deu" in warning for warning in map(str, sink.warnings))
    said = map(str, convert(source, tmp_path / "out.gif", factor=1).warnings)
    assert any("GIF cannot hold" in text and "chapters" in text for text in said)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_slow_motion_drops_audio_and_names_it(tmp_path, suffix):
    source = video(tmp_path / f"in{suffix}", subtitles=None)
    target = tmp_path / f"out{suffix}"
    sink = convert(source, target, audio=False, factor=1, slow=Fraction(2))
    with av.open(str(target)) as clip:
        assert "audio" not in {s.type for s in clip.streams}
        assert clip.metadata["title"] == "Wolken"
    left_out = [text for text in map(str, sink.warnings) if "left out" in text]
    assert len(left_out) == 2
    assert all("old speed" in warning and "Audio" in warning for warning in left_out)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_only_new_frames_have_no_chapters_and_a_warning_names_them(tmp_path, suffix):
    text = "srt" if suffix == ".mkv" else "mov_text"
    source = video(tmp_path / f"in{suffix}", audio=None, subtitles=text)
    target = tmp_path / f"out{suffix}"
    sink = convert(source, target, audio=False)
    with av.open(str(target)) as clip:
        assert not clip.chapters()
        assert "subtitle" not in {s.type for s in clip.streams}
    subtitle, chapters = (text for text in map(str, sink.warnings) if "left out" in text)
    assert subtitle.startswith("Subtitle stream 1")
    assert chapters == "2 chapters are left out: chapters do not continue with the new frames."


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le", "pcm_f32le"])
@pytest.mark.parametrize(("suffix", "named"), [(".mp4", True), (".mov", False), (".mkv", False)])
def test_a_warning_names_pcm_that_few_players_read(tmp_path, codec, suffix, named):
    source = write_clip(tmp_path / "in.mkv", 6, codec="libx264", size=(32, 32), audio=[codec])
    target = tmp_path / f"out{suffix}"
    sink = convert(source, target)
    assert packets_of(target) == packets_of(source)
    said = [text for text in map(str, sink.warnings) if f"Few players read {codec} in" in text]
    assert ["Audio stream 1" in text and ".mov" in text for text in said] == [True] * named


def test_cover_art_is_copied(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "cover.png")
    image = (tmp_path / "cover.png").read_bytes()
    source = video(tmp_path / "in.mkv", audio=None, subtitles=None, cover=image)
    names = ["in.mkv", "out.mkv", "out.mp4", "again.mp4", "again.mkv"]
    for given, made in ((0, 1), (0, 2), (2, 3), (2, 4)):
        target = tmp_path / names[made]
        convert(tmp_path / names[given], target)
        assert probe(target).warnings == ()
        with av.open(str(target)) as clip:
            (art,) = (s for s in clip.streams.video if s.disposition & Disposition.attached_pic)
            assert bytes(next(p for p in clip.demux(art) if p.size)) == image
        assert chapters_of(target) == chapters_of(source)


def test_a_second_video_is_copied(tmp_path):
    one, two = (video(tmp_path / f"{n}.mkv", audio=None, subtitles=None) for n in "ab")
    source = tmp_path / "in.mkv"
    with av.open(str(one)) as a, av.open(str(two)) as b, av.open(str(source), "w") as out:
        for clip, stream in [(each, add_copy(out, each.streams.video[0])) for each in (a, b)]:
            for packet in clip.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    target = tmp_path / "out.mkv"
    convert(source, target)
    assert packets_of(target, "video")[1] == packets_of(source, "video")[1]


@pytest.mark.full
def test_audio_is_interleaved_with_the_video(tmp_path):
    """Neither stream is far ahead of the other in the file, so that players need not seek."""
    source = video(tmp_path / "in.mp4", seconds=8, subtitles=None)
    target = tmp_path / "out.mkv"
    convert(source, target)
    latest = {}
    with av.open(str(target)) as clip:
        for packet in clip.demux():
            if packet.size and packet.pts is not None:
                latest[packet.stream.type] = packet.pts * packet.time_base
                if len(latest) == 2:
                    assert abs(latest["audio"] - latest["video"]) < Fraction(3, 2)
    assert len(latest) == 2


def test_audio_that_is_longer_than_the_video_is_complete(tmp_path):
    longer = {"codec": "libx264", "audio": ["aac"], "audio_seconds": Fraction(4)}
    source = write_clip(tmp_path / "in.mp4", 12, **longer)
    convert(source, tmp_path / "out.mp4")
    assert packets_of(tmp_path / "out.mp4") == packets_of(source)


def test_audio_before_the_video_is_cut_with_a_warning(tmp_path):
    source = video(tmp_path / "in.mkv", audio="flac", subtitles=None)
    info = probe(source)
    rate = info.timing.rate
    target = tmp_path / "out.mkv"
    with open_sink(
        target, info, rate=rate, time_base=1 / rate, carry=Carry(info, info.timing.start + 1)
    ) as sink:
        sink.write(Frame(picture(0, 32, 32), Fraction(0), 1 / rate))
    assert any("1.000 s of audio" in warning for warning in map(str, sink.warnings))
    # The file hides the packet before the video, which a decoder of another codec needs.
    assert -Fraction(1, 20) <= first_times(target, "audio")[0] <= 0
    assert read_times(target) == [0]


@pytest.mark.parametrize(
    ("suffix", "rate", "given", "made"),
    [(".mov", 24, "01:00:00:12", "01:00:00:24"), (".mkv", Fraction(1, 10), "01:00:00:00", None)],
)
def test_a_time_code_is_converted_or_left_out_with_a_warning(tmp_path, suffix, rate, given, made):
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write_clip(source, 4, rate=rate, codec="libx264", metadata={"timecode": given})
    warned = convert(source, target).warnings
    assert [each.code for each in warned] == ([] if made else ["time-code"])
    with av.open(str(target)) as clip:
        assert clip.streams.video[0].metadata.get("timecode") == made


def test_the_clock_of_an_mp4_lets_hours_fit_in_32_bits(tmp_path):
    source = write_clip(
        tmp_path / "in.mp4", 6, rate=Fraction(30000, 1001), codec="libx264", audio=["aac"]
    )
    convert(source, tmp_path / "out.mp4")
    data = (tmp_path / "out.mp4").read_bytes()
    scale = int.from_bytes(data[data.index(b"mvhd") + 16 :][:4], "big")
    assert scale % 30000 == 0
    assert scale <= 600_000


@pytest.mark.parametrize(
    ("given", "source", "rate", "offset", "expected"),
    [
        ("01:00:00:12", 24, 48, 0, "01:00:00:24"),
        ("00:00:59:29", 30, 60, 1, "00:01:00:58"),
        ("10:00:00;00", Fraction(30000, 1001), Fraction(60000, 1001), 0, "10:00:00;00"),
        ("00:01:00;02", Fraction(30000, 1001), Fraction(30000, 1001), 0, "00:01:00;02"),
        ("23:59:59:23", 24, 24, Fraction(1, 24), "00:00:00:00"),
        ("noon", 24, 48, 0, None),
    ],
)
def test_time_codes_are_converted_to_a_new_rate(given, source, rate, offset, expected):
    made = timecode_at_rate(given, Fraction(source), Fraction(rate), Fraction(offset))
    assert made == expected


def old_recording(path, codec):
    return write_clip(path, 24, codec="mpeg4", size=(32, 32), audio=[codec])


def decoded_sound(path):
    with av.open(str(path)) as clip:
        return [bytes(plane) for frame in clip.decode(audio=0) for plane in frame.planes]


def test_audio_that_ffmpeg_does_not_list_for_matroska_is_encoded_again(tmp_path):
    source = old_recording(tmp_path / "in.avi", "pcm_alaw")
    (warning,) = map(str, convert(source, tmp_path / "out.mkv").warnings)
    assert warning == "Audio stream 1 (pcm_alaw) becomes aac, as Matroska cannot hold it."
    with av.open(str(tmp_path / "out.mkv")) as clip:
        sound = sum(frame.samples for frame in clip.decode(audio=0))
    assert abs(sound - 48000) <= 1024


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [*itertools.product(["ts", "mp4"], ["aac", "ac3", "libmp3lame"]), ("mp4", "libopus")],
)
def test_sound_that_begins_before_the_video_keeps_its_times_in_matroska(tmp_path, suffix, codec):
    """The first packets are priming: an MP4 hides them by an edit list, other files do not."""
    source = write_clip(tmp_path / f"in.{suffix}", 24, codec="libx264", audio=[codec])
    made = tmp_path / "out.mkv"
    convert(source, made)
    begins = min(first_times(source, "video"))
    given = [time - begins for time in first_times(source, "audio")]
    times = first_times(made, "audio")
    assert given[0] < 0 == min(first_times(made, "video"))
    assert all(abs(b - a) <= Fraction(1, 1000) for a, b in zip(given, times, strict=False))
    if suffix == "mp4":
        assert packets_of(made) == packets_of(source)
        assert decoded_sound(made) == decoded_sound(source)


@pytest.mark.full
@pytest.mark.parametrize("below", [Fraction(3, 100), Fraction(1, 2)])
@pytest.mark.parametrize("codec", ["flac", "pcm_s16le", "libmp3lame", "aac", "libopus"])
def test_audio_that_starts_before_zero_stays_in_step(tmp_path, codec, below):
    whole = write_clip(tmp_path / "whole.mkv", 24, rate=24, codec="libx264", audio=[codec])
    source = tmp_path / "in.mkv"
    kept = {"avoid_negative_ts": "disabled"}
    with av.open(str(whole)) as clip, av.open(str(source), "w", container_options=kept) as out:
        streams = {s.index: add_copy(out, s) for s in clip.streams}
        for packet in clip.demux():
            if packet.size:
                if packet.stream.type == "audio":
                    packet.pts -= round(below / packet.time_base)
                    packet.dts = packet.pts
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    assert first_times(source, "audio")[0] <= -below
    convert(source, tmp_path / "out.mkv")
    assert read_times(tmp_path / "out.mkv")[0] == 0
    # Packets after the start of the picture keep their times.
    before, after = (
        [time for time in first_times(path, "audio") if time > Fraction(1, 10)]
        for path in (source, tmp_path / "out.mkv")
    )
    assert after == before
    assert after


@pytest.mark.parametrize("target", ["mkv", "mp4"])
@pytest.mark.parametrize("start", [Fraction(5, 24), Fraction(11, 24)])
def test_audio_cut_from_an_avi_stays_in_step(tmp_path, target, start):
    source, out = old_recording(tmp_path / "in.avi", "libmp3lame"), tmp_path / f"out.{target}"
    with av.open(str(source)) as clip:
        given = {bytes(p): p.pts * p.time_base for p in clip.demux(audio=0) if p.size}
    convert(source, out, start=start, factor=1)
    first = probe(source).timing.start + start
    with av.open(str(out)) as clip:
        packets = [each for each in clip.demux(audio=0) if each.size]
    assert packets
    for packet in packets:
        belongs = given[bytes(packet)] - first
        assert abs(packet.pts * packet.time_base - belongs) <= Fraction(1, 1000)
