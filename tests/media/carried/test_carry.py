"""Audio, subtitles, chapters and attachments: copied bit for bit in time, or named."""

import itertools
import re
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.subtitles.subtitle import SubtitleSet
from PIL import Image

from cloudconv.errors import EncoderError, OutputError
from cloudconv.events import Warnings
from cloudconv.media.carried import tracks
from cloudconv.media.carried.audio import is_lossless
from cloudconv.media.carried.carry import Carry, kept_chapters
from cloudconv.media.containers.matroska import amend, prepare
from cloudconv.media.containers.muxed import MuxedFile
from cloudconv.media.containers.muxing import add_copy
from cloudconv.media.containers.timecode import timecode_at_rate
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from cloudconv.media.writing.sink import Sink, try_streams
from cloudconv.timemap import TimeMap
from tests.helpers import calls
from tests.helpers.factory import (
    packet_times,
    packets_of,
    picture,
    read_times,
    remux,
    same,
    set_chapters,
    sound,
    tone,
    write_clip,
)
from tests.helpers.sinks import plan_encoding
from tests.helpers.system import largest_file
from tests.media.writing.test_sink import even, write

SRT = [(Fraction(1, 2), Fraction(1), "Clouds & rain"), (Fraction(2), Fraction(1, 2), "Sun")]
HALF = Fraction(3, 2)
NTSC = Fraction(30000, 1001)


def video(
    path,
    *,
    audio="aac",
    tracks=None,
    seconds=3,
    rate=24,
    start=0,
    subtitles=None,
    cover=None,
    white=(),
    languages=("deu", "fra"),
    second=Disposition.comment,
    texts_given=SRT,
    texts_flag=Disposition.default,
    **metadata,
):
    """Write a clip with two audio tracks, chapters and, in Matroska, an attachment.

    ``tracks`` are given as (codec, start, samples). The pictures with numbers in ``white``
    are white. The second audio track has the flag ``second``.
    """
    if tracks is None:
        tracks = [(audio, start, tone(440 * k, seconds * 48000)) for k in (1, 2) if audio]
    with av.open(str(path), "w") as out:
        video_stream = out.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        video_stream.width = video_stream.height = 32
        video_stream.codec_context.time_base = Fraction(1, rate)
        video_stream.metadata["language"] = languages[0]
        streams = [out.add_stream(codec, rate=48000) for codec, *_ in tracks]
        for number, stream in enumerate(streams):
            stream.layout = "mono"
            stream.metadata.update(
                {"language": languages[number], "title": f"Ton {number}"}
            )
            stream.disposition = second if number else Disposition.default
        texts = out.add_stream(subtitles) if subtitles else None
        if texts is not None:
            texts.codec_context.subtitle_header = b"[Script Info]\n[Events]\n"
            texts.metadata["language"] = "eng"
            texts.disposition = texts_flag
        if path.suffix == ".mkv":
            out.add_attachment("font.ttf", "font/ttf", b"glyphs" * 20)
        if cover:
            out.add_attachment("cover.png", "image/png", cover)
        out.metadata.update({"title": "Wolken", "comment": "sehr schön", **metadata})
        set_chapters(out, [(0, HALF, "one"), (HALF, seconds, "two")])
        for index in range(seconds * rate):
            frame = picture(index, 32, 32)
            if index in white:
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 255, np.uint8))
            frame.pts = index + start * rate
            frame.time_base = Fraction(1, rate)
            out.mux(video_stream.encode(frame))
        out.mux(video_stream.encode(None))
        for stream, (_, begin, samples) in zip(streams, tracks, strict=True):
            sound(out, stream, samples, int(begin * 48000))
        for begin, duration, text in texts_given if texts is not None else ():
            words = f"0,0,Default,,0,0,0,,{text}".encode()
            result = SubtitleSet.create(words, 0, int(duration * 1000))
            packet = texts.codec_context.encode_subtitle(result)
            packet.time_base = Fraction(1, 1000)
            packet.stream = texts
            packet.pts = packet.dts = int((begin + start) * 1000)
            packet.duration = int(duration * 1000)
            out.mux(packet)
    return path


def convert(source, target, *, start=None, end=None, audio=True, factor=1, slow=None):
    """Write new pictures at ``factor`` times the clip's rate and copy everything else.

    With ``slow``, the video is that many times slower, or follows that map.
    """
    info = probe(source)
    rate = (info.timing.rate or Fraction(24)) * factor
    first = info.timing.start + (start or 0)
    last = info.timing.end if end is None else info.timing.start + end
    span = (None if start is None else first, None if end is None else last)
    speed = {".webm": [("cpu-used", "8")], ".gif": []}
    options = tuple(speed.get(target.suffix, [("preset", "ultrafast")]))
    shows = TimeMap.even(1 / slow) if isinstance(slow, int | Fraction) else slow
    carry = Carry(info, first, *span, audio=audio, shows=shows)
    length = last - first
    count = int((length if shows is None else shows.output(length)) * rate)
    frames = even(count, (info.width, info.height), rate=rate)
    return write(target, frames, info, rate=rate, carry=carry, encoder_option=options)


def subtitles_of(path):
    """Return start, duration and plain text of each subtitle."""
    result = []
    with av.open(str(path)) as clip:
        stream = clip.streams.subtitles[0]
        for packet in clip.demux(stream):
            decoded = stream.codec_context.decode2(packet) if packet.size else None
            if decoded:
                times = packet.pts * packet.time_base, packet.duration * packet.time_base
                result.append((*times, decoded[0].dialogue.decode()))
    return [subtitle for subtitle in result if subtitle[2]]


def chapters_of(path):
    """Return start, end and title of each chapter."""
    with av.open(str(path)) as clip:
        return [
            (*(c[key] * c["time_base"] for key in ("start", "end")), title_of(c))
            for c in clip.chapters()
        ]


def title_of(chapter):
    return chapter["metadata"].get("title")


def said(sink, words):
    """Return the warnings of a sink that contain the words."""
    return [text for text in map(str, sink.warnings) if words in text]


@pytest.mark.full
@pytest.mark.parametrize(
    "suffixes", [("mp4", "mp4"), ("mkv", "mkv"), ("mp4", "mkv"), ("mkv", "mp4")]
)
def test_audio_is_bit_exact_and_labelled(tmp_path, suffixes):
    before, after = suffixes
    source = video(tmp_path / f"in.{before}", location="Basel", BPS="12")
    target = tmp_path / f"out.{after}"
    sink = convert(source, target, factor=2)
    assert packets_of(target) == packets_of(source)
    with av.open(str(target)) as clip:
        assert [track.language for track in clip.streams.audio] == ["deu", "fra"]
        names = [
            t.metadata.get("title", t.metadata.get("name")) for t in clip.streams.audio
        ]
        assert names == ["Ton 0", "Ton 1"]
        tags = {key.lower(): value for key, value in clip.metadata.items()}
        assert clip.streams.audio[1].disposition & Disposition.comment
    assert chapters_of(target) == [(0, HALF, "one"), (HALF, 3, "two")]
    assert (tags["title"], tags["comment"]) == ("Wolken", "sehr schön")
    assert tags.get("location") == ("Basel" if before == "mkv" else None)
    assert "bps" not in tags  # of the source's streams
    assert said(sink, "") == said(sink, "font")
    if (before, after) == ("mp4", "mp4"):
        assert packet_times(target) == packet_times(source)
    assert read_times(target)[0] == 0


@pytest.mark.full
@pytest.mark.parametrize("name", ["out.mkv", "out.mp4", "-"])
def test_audio_from_a_transport_stream_is_copied(tmp_path, name):
    """A transport stream's AAC has its own headers, which other containers do not allow.

    A pipe cannot seek, so the header there must contain the configuration of the audio at
    once.
    """
    source = video(tmp_path / "in.ts")
    target = tmp_path / name
    if name == "-":
        script = (
            "from pathlib import Path\n"
            "from tests.media.carried.test_carry import convert\n"
            f"convert(Path({str(source)!r}), Path('-'))\n"
        )
        command = [sys.executable, "-c", script]
        root = Path(__file__).parents[3]
        done = subprocess.run(command, capture_output=True, check=True, cwd=root)
        assert done.stderr == b""
        target.write_bytes(done.stdout)
    else:
        convert(source, target)
    kept = [[packet[7:] for packet in track] for track in packets_of(source)]
    copied = packets_of(target)
    assert copied == [track[len(track) - len(copied[0]) :] for track in kept]
    with av.open(str(target)) as clip:
        assert clip.streams.audio[0].codec_context.extradata == bytes.fromhex("1188")
        assert sum(frame.samples for frame in clip.decode(audio=0)) >= 2.9 * 48000


def test_a_late_start_keeps_audio_and_subtitles_in_step(tmp_path):
    source = video(tmp_path / "in.mkv", start=5, audio="flac", subtitles="srt")
    target = tmp_path / "out.mkv"
    convert(source, target)
    assert packets_of(target) == packets_of(source)
    assert packet_times(target) == [time - 5 for time in packet_times(source)]
    assert [(a, b) for a, b, _ in subtitles_of(target)] == [(a, b) for a, b, _ in SRT]


@pytest.mark.parametrize("slow", [None, 2])
def test_a_part_keeps_its_own_audio_subtitles_and_chapters(tmp_path, slow):
    source = video(tmp_path / "in.mkv", audio=None if slow else "flac", subtitles="srt")
    target = tmp_path / "out.mkv"
    start = Fraction(1)
    by = slow or 1
    end = Fraction(24 * 4608, 48000)  # where a packet of audio begins
    convert(source, target, start=start, end=end, slow=slow)
    # The first subtitle starts before the part; the second ends after it.
    shown = [(a / by, b / by) for a, b, _ in subtitles_of(target)]
    assert shown == [(0, Fraction(1, 2)), (1, end - 2)]
    half = Fraction(by, 2)
    assert chapters_of(target) == [(0, half, "one"), (half, (end - start) * by, "two")]
    if slow is None:
        packets = zip(packets_of(source)[0], packet_times(source), strict=True)
        assert packets_of(target)[0] == [
            packet for packet, time in packets if start <= time < end
        ]
        times = packet_times(target)
        assert 0 <= times[0] < Fraction(1, 10)
        assert times[-1] < end - start


@pytest.mark.parametrize("slow", [None, Fraction(5, 2)])
@pytest.mark.parametrize(
    ("given", "becomes"),
    [((".mkv", "srt"), (".mp4", "mov_text")), ((".mp4", "mov_text"), (".mkv", "subrip")),
     ((".mkv", "ass"), (".mp4", "mov_text")), ((".mkv", "srt"), (".webm", "webvtt")),
     ((".mkv", "ass"), (".mkv", "ass")), ((".mp4", "mov_text"), (".mov", "mov_text"))],
)  # fmt: skip
def test_subtitles_and_chapters_fit_the_container_and_the_speed(
    tmp_path, given, becomes, slow
):
    source = video(tmp_path / f"in{given[0]}", audio=None, subtitles=given[1])
    target = tmp_path / f"out{becomes[0]}"
    sink = convert(source, target, slow=slow)
    with av.open(str(target)) as clip:
        assert clip.streams.subtitles[0].codec_context.name in (becomes[1], "srt", "ssa")
        assert clip.streams.subtitles[0].language == "eng"
    by = slow or 1
    for (start, span, text), (*times, line) in zip(SRT, subtitles_of(target), strict=True):
        assert times == [start * by, span * by]
        assert text in line
    assert chapters_of(target) == [(0, HALF * by, "one"), (HALF * by, 2 * HALF * by, "two")]
    loses_styles = given[1] == "ass" and becomes[1] != "ass"
    assert bool(said(sink, "loses its styles")) == loses_styles
    assert all("font" in text for text in said(sink, "left out"))


# Apple's list of languages for MOV has German as ger, and French as fra.
@pytest.mark.parametrize("language", ["fre", "deu", "hrv", "eng"])
@pytest.mark.parametrize(("suffix", "is_forced"), [(".mp4", True), (".mov", False)])
def test_languages_are_kept_and_flags_if_the_container_has_them(
    tmp_path, suffix, is_forced, language
):
    options = {"languages": ("pt-BR", language), "second": Disposition.forced}
    source = video(tmp_path / "in.mkv", **options)
    target = tmp_path / f"out{suffix}"
    convert(source, target)
    with av.open(str(target)) as clip:
        assert [stream.language for stream in clip.streams.audio] == ["por", language]
        assert clip.streams.video[0].language == "por"
        flags = clip.streams.audio[1].disposition
        assert bool(flags & Disposition.forced) == is_forced


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("flag", [0, Disposition.forced, Disposition.default])
def test_subtitles_that_nobody_chose_stay_hidden(tmp_path, flag, suffix):
    source = video(tmp_path / "in.mkv", audio=None, subtitles="srt", texts_flag=flag)
    convert(source, tmp_path / f"out{suffix}")
    again = tmp_path / "again.mp4"
    convert(tmp_path / f"out{suffix}", again)
    for path in (tmp_path / f"out{suffix}", again):
        with av.open(str(path)) as clip:
            kept = clip.streams.subtitles[0].disposition & Disposition.default
        assert bool(kept) == (flag == Disposition.default)
        assert len(subtitles_of(path)) == len(SRT)


@pytest.mark.parametrize(("suffix", "becomes"), [(".mp4", "mov_text"), (".webm", "webvtt")])
def test_subtitles_that_lose_their_place_are_counted(tmp_path, suffix, becomes):
    texts = [
        (Fraction(k), Fraction(1), text)
        for k, text in enumerate((r"{\an8}Sun", r"{\i1}Rain"))
    ]
    source = video(tmp_path / "in.mkv", audio=None, subtitles="srt", texts_given=texts)
    (warning,) = said(convert(source, tmp_path / f"out{suffix}"), "Subtitle")
    assert f"becomes {becomes}, in which FFmpeg writes no positions" in warning
    assert "1 text loses them" in warning
    assert not said(convert(source, tmp_path / "out.mkv"), "Subtitle")


def test_attachments_are_copied_or_named(tmp_path):
    source = video(tmp_path / "in.mkv", audio=None)
    convert(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as clip:
        (attached,) = (s for s in clip.streams if s.type == "attachment")
        assert (attached.metadata["filename"], attached.mimetype) == (
            "font.ttf",
            "font/ttf",
        )
        assert attached.data == b"glyphs" * 20
    (warning,) = said(convert(source, tmp_path / "out.mp4"), "font.ttf")
    assert warning.startswith("Attachment stream 1 (font.ttf) is left out")
    assert "FFmpeg cannot write it to MP4" in warning


@pytest.mark.full
def test_streams_that_webm_cannot_hold_are_named(tmp_path):
    source = video(tmp_path / "in.mp4")
    warnings = said(convert(source, tmp_path / "out.webm"), "FFmpeg cannot copy it to WebM")
    assert len(warnings) == 2
    assert "aac, deu" in warnings[0]
    (warning,) = said(convert(source, tmp_path / "out.gif"), "GIF cannot hold")
    assert "chapters" in warning


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_slow_motion_drops_audio_and_names_it(tmp_path, suffix):
    source = video(tmp_path / f"in{suffix}")
    target = tmp_path / f"out{suffix}"
    sink = convert(source, target, audio=False, slow=Fraction(2))
    with av.open(str(target)) as clip:
        assert "audio" not in {s.type for s in clip.streams}
        assert clip.metadata["title"] == "Wolken"
    left_out = said(sink, "left out")
    assert len(left_out) == 2
    assert all("old speed" in warning and "Audio" in warning for warning in left_out)


@pytest.mark.parametrize(("suffix", "text"), [(".mkv", "srt"), (".mp4", "mov_text")])
def test_only_new_frames_have_no_chapters_and_a_warning_names_them(tmp_path, suffix, text):
    source = video(tmp_path / f"in{suffix}", audio=None, subtitles=text)
    target = tmp_path / f"out{suffix}"
    sink = convert(source, target, audio=False)
    with av.open(str(target)) as clip:
        assert not clip.chapters()
        assert "subtitle" not in {s.type for s in clip.streams}
    subtitle, chapters = said(sink, "left out")
    assert subtitle.startswith("Subtitle stream 1")
    assert (
        chapters == "2 chapters are left out: chapters do not continue with the new frames."
    )


OVERLAPPING = [(0, 4, "film"), (0, 2, "one"), (1, 3, "two"), (3, 4, "three")]
"""Chapters of which several last at once, and two begin at once."""


@pytest.mark.parametrize(
    ("start", "kept", "lost"),
    [
        (None, [(0, 1, "one"), (1, 3, "two"), (3, 4, "three")], 1),
        (1, [(0, 1, "one"), (2, 3, "three")], 2),
        (2, [(0, 1, "two"), (1, 2, "three")], 1),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_one_chapter_is_stored_at_a_time(tmp_path, suffix, start, kept, lost):
    chapters = [(*map(Fraction, times), title) for *times, title in OVERLAPPING]
    source = write_clip(
        tmp_path / "in.mkv", 96, codec="libx264", size=(32, 32), chapters=chapters
    )
    sink = convert(source, tmp_path / f"out{suffix}", start=start)
    found = chapters_of(tmp_path / f"out{suffix}")
    if suffix == ".mp4":  # there a chapter lasts until the next one begins
        kept = [(*one[:1], two[0], one[2]) for one, two in pairwise(kept)] + kept[-1:]
    assert found == kept
    (warning,) = said(sink, "left out")
    assert warning.startswith(f"{lost} chapter{'s are' * (lost > 1) or ' is'} left out")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([(2, 3, "a"), (3, 4, "b")], [(0, 2, ""), (2, 3, "a"), (3, 4, "b")]),
        ([(Fraction(1, 4), 4, "a")], [(0, 4, "a")]),
        ([(0, 1, "a"), (1, 2, None), (2, 4, "c")], [(0, 1, "a"), (1, 2, ""), (2, 4, "c")]),
        ([(0, 0, "a"), (1, 1, "b")], [(0, 1, "a"), (1, 4, "b")]),
    ],
)
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_chapters_begin_at_their_times(tmp_path, suffix, given, expected):
    source = write_clip(
        tmp_path / "in.mkv", 96, codec="libx264", size=(32, 32), chapters=given
    )
    sink = convert(source, tmp_path / f"out{suffix}")
    assert chapters_of(tmp_path / f"out{suffix}") == expected
    assert not said(sink, "chapter")


def test_cover_art_is_copied(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "cover.png")
    image = (tmp_path / "cover.png").read_bytes()
    video(tmp_path / "in.mkv", audio=None, cover=image)
    files = [tmp_path / name for name in ("in.mkv", "out.mkv", "out.mp4", "2.mp4", "2.mkv")]
    for given, made in ((0, 1), (0, 2), (2, 3), (2, 4)):
        convert(files[given], files[made])
        assert probe(files[made]).warnings == ()
        with av.open(str(files[made])) as clip:
            (art,) = (
                s for s in clip.streams.video if s.disposition & Disposition.attached_pic
            )
            assert bytes(next(p for p in clip.demux(art) if p.size)) == image
        assert chapters_of(files[made]) == chapters_of(files[0])
    (warning,) = said(convert(files[0], tmp_path / "out.mov"), "png")
    assert warning.startswith("Video stream 2 (png, cover.png) is left out")


def test_sound_that_begins_after_the_part_is_named(tmp_path):
    source = video(tmp_path / "in.mkv", tracks=[("aac", 2, tone(440, 48000))])
    (warning,) = said(convert(source, tmp_path / "out.mp4", end=Fraction(1, 4)), "aac")
    assert "no stream without packets" in warning


def test_slowed_sound_that_begins_after_the_part_is_named(tmp_path):
    source = video(tmp_path / "in.mkv", tracks=[("aac", 2, tone(440, 48000))])
    result = convert(source, tmp_path / "out.mp4", end=Fraction(1, 4), slow=Fraction(2))
    assert any("no stream without packets" in warning for warning in said(result, "aac"))


def test_a_second_video_is_copied(tmp_path):
    one, two = (video(tmp_path / f"{n}.mkv", audio=None) for n in "ab")
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    with av.open(str(one)) as a, av.open(str(two)) as b, av.open(str(source), "w") as out:
        for clip, stream in [
            (each, add_copy(out, each.streams.video[0])) for each in (a, b)
        ]:
            for packet in clip.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    convert(source, target)
    assert packets_of(target, "video")[1] == packets_of(source, "video")[1]


@pytest.mark.full
def test_audio_is_interleaved_with_the_video(tmp_path):
    """Neither stream is far ahead of the other: players need not seek."""
    source = video(tmp_path / "in.mp4", seconds=8)
    target = tmp_path / "out.mkv"
    convert(source, target, factor=2)
    latest = {}
    with av.open(str(target)) as clip:
        for packet in clip.demux():
            if packet.size and packet.pts is not None:
                latest[packet.stream.type] = packet.pts * packet.time_base
                assert max(latest.values()) - min(latest.values()) < HALF
    assert len(latest) == 2


def test_streams_are_read_as_far_as_the_video_has_come(tmp_path, monkeypatch):
    """A merge by the next packet of each stream would read up to the only subtitle."""
    texts = [(Fraction(7), HALF, "late")]
    source = video(tmp_path / "in.mkv", seconds=9, subtitles="srt", texts_given=texts)
    read = []

    def reading(container, streams, real=tracks.read_packets):
        for packet in real(container, streams):
            read.append(packet.pts * packet.time_base)
            yield packet

    monkeypatch.setattr(tracks, "read_packets", reading)
    info = probe(source)
    carry = Carry(info, info.timing.start)
    plan = plan_encoding(tmp_path / "out.mkv", info, rate=Fraction(24), carry=carry)
    with Sink(plan) as sink:
        for number, frame in enumerate(even(9 * 24, (32, 32))):
            sink.write(frame)
            assert max(read, default=0) <= Fraction(number, 24) + Fraction(1, 10)
    assert max(read) > 8
    assert len(subtitles_of(tmp_path / "out.mkv")) == 1


def test_audio_that_is_longer_than_the_video_is_complete(tmp_path):
    longer = {"codec": "libx264", "audio": ["aac"], "audio_seconds": Fraction(4)}
    source = write_clip(tmp_path / "in.mp4", 12, **longer)
    convert(source, tmp_path / "out.mp4")
    assert packets_of(tmp_path / "out.mp4") == packets_of(source)


def test_audio_before_the_video_is_cut_with_a_warning(tmp_path):
    source = video(tmp_path / "in.mkv", audio="flac")
    target = tmp_path / "out.mkv"
    info = probe(source)
    carry = Carry(info, info.timing.start + 1)
    sink = write(target, even(1, (32, 32)), info, rate=24, carry=carry)
    assert said(sink, "1.000 s of audio")
    # The file hides the packet before the video, which a decoder of another codec needs.
    assert -Fraction(1, 20) <= packet_times(target)[0] <= 0
    assert read_times(target) == [0]


@pytest.mark.parametrize(
    ("suffix", "rate", "given", "made"),
    [
        (".mov", 24, "01:00:00:12", "01:00:00:24"),
        (".mkv", Fraction(1, 10), "01:00:00:00", None),
    ],
)
def test_a_time_code_is_converted_or_left_out_with_a_warning(
    tmp_path, suffix, rate, given, made
):
    source = tmp_path / f"in{suffix}"
    target = tmp_path / f"out{suffix}"
    write_clip(source, 4, rate=rate, codec="libx264", metadata={"timecode": given})
    warned = convert(source, target, factor=2).warnings
    assert [warning.code for warning in warned] == ([] if made else ["time-code"])
    with av.open(str(target)) as clip:
        assert clip.streams.video[0].metadata.get("timecode") == made


def test_the_clock_of_an_mp4_lets_hours_fit_in_32_bits(tmp_path):
    form = {"rate": NTSC, "codec": "libx264", "audio": ["aac"]}
    convert(write_clip(tmp_path / "in.mp4", 6, **form), tmp_path / "out.mp4", factor=2)
    data = (tmp_path / "out.mp4").read_bytes()
    scale = int.from_bytes(data[data.index(b"mvhd") + 16 :][:4], "big")
    assert scale % 30000 == 0
    assert scale <= 600_000


@pytest.mark.parametrize(
    ("given", "source", "rate", "offset", "expected"),
    [
        ("01:00:00:12", 24, 48, 0, "01:00:00:24"),
        ("00:00:59:29", 30, 60, 1, "00:01:00:58"),
        ("10:00:00;00", NTSC, 2 * NTSC, 0, "10:00:00;00"),
        ("00:01:00;02", NTSC, NTSC, 0, "00:01:00;02"),
        ("00:00:59;29", NTSC, NTSC, 1 / NTSC, "00:01:00;02"),
        ("00:00:00;00", NTSC, 2 * NTSC, 17982 / NTSC, "00:10:00;00"),
        ("00:00:00;00", NTSC, Fraction(50), Fraction(10), "00:00:10:00"),
        ("23:59:59:23", 24, 24, Fraction(1, 24), "00:00:00:00"),
        ("noon", 24, 48, 0, None),
    ],
)
def test_time_codes_are_converted_to_a_new_rate(given, source, rate, offset, expected):
    result = timecode_at_rate(given, Fraction(source), Fraction(rate), Fraction(offset))
    assert result == expected


def decoded_sound(path):
    with av.open(str(path)) as clip:
        return [bytes(plane) for frame in clip.decode(audio=0) for plane in frame.planes]


def samples_of(path):
    whole = av.AudioResampler("s32", "stereo")
    with av.open(str(path)) as clip:
        frames = [part for frame in clip.decode(audio=0) for part in whole.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


@pytest.mark.parametrize(
    ("name", "codec"), [("in.avi", "pcm_alaw"), ("in.avi", "adpcm_ms"), ("in.wmv", "wmav2")]
)
def test_audio_that_ffmpeg_does_not_list_for_matroska_is_copied(tmp_path, name, codec):
    source = write_clip(tmp_path / name, 24, codec="mpeg4", audio=[codec])
    assert not said(convert(source, tmp_path / "out.mkv"), "")
    assert packets_of(tmp_path / "out.mkv") == packets_of(source)
    sounds = [decoded_sound(tmp_path / made) for made in (name, "out.mkv")]
    assert sounds[0] == sounds[1]


def test_audio_that_cannot_be_copied_gets_advice_that_helps(tmp_path):
    source = write_clip(
        tmp_path / "in.avi", 24, codec="mpeg4", audio=["adpcm_yamaha", "pcm_alaw"]
    )
    (warning,) = said(convert(source, tmp_path / "out.mkv"), "")
    assert warning == (
        "Audio stream 1 (adpcm_yamaha) becomes aac, because FFmpeg cannot copy it to "
        "Matroska."
    )
    info = probe(source)
    strict = Carry(info, info.timing.start, copies_only=True)
    for name in ("out.mkv", "out.mp4"):
        with pytest.raises(OutputError, match="cannot copy Audio stream 1") as error:
            write(tmp_path / name, even(2), info, rate=24, carry=strict)
        assert ".mkv" not in str(error.value)


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
@pytest.mark.parametrize("slow", [None, 2])
def test_audio_that_an_edit_list_hides_is_not_called_lost(tmp_path, name, slow):
    whole = write_clip(tmp_path / "whole.mp4", 72, codec="libx264", audio=["aac"])

    def earlier(packet):
        packet.pts, packet.dts = (
            time - int(Fraction(7, 5) / packet.time_base)
            for time in (packet.pts, packet.dts)
        )
        return packet

    source = remux(whole, tmp_path / "in.mp4", earlier)
    assert not said(convert(source, tmp_path / name, slow=slow), "left out")


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov"])
def test_a_trial_of_the_copies_stores_nothing(tmp_path, name):
    source = video(tmp_path / "in.mp4")
    info = probe(source)
    carry = Carry(info, info.timing.start)
    times = {"rate": Fraction(24), "spans": [Fraction(1, 24)]}
    with largest_file(100):
        plan = plan_encoding(tmp_path / name, info, carry=carry, **times)
        try_streams(plan, warnings := Warnings())
    assert not warnings
    assert [file.name for file in tmp_path.iterdir()] == ["in.mp4"]


def test_many_tracks_of_sound_can_all_state_a_delay(tmp_path):
    path = tmp_path / "in.mkv"
    count = 90
    with av.open(str(path), "w", container_options={"write_crc32": "0"}) as out:
        stream = out.add_stream("ffv1", rate=24)
        stream.width = stream.height = 32
        stream.metadata["title"] = "Many"
        tracks = [out.add_stream("pcm_s16le", rate=48000) for _ in range(count)]
        padding = prepare(out, stream)
        out.mux(stream.encode(picture(0, 32, 32)))
        for track in tracks:
            sound(out, track, tone(440, 480))
    zero = Fraction(0)
    about = (32, 32), None, False, zero, zero, {}, padding, [HALF / 75] * count
    amend(MuxedFile(path, *about))
    with av.open(str(path)) as clip:
        assert clip.streams.video[0].metadata["title"] == "Many"
        assert len(clip.streams.audio) == count
        first = next(packet for packet in clip.demux(audio=0) if packet.size)
        assert first.pts * first.time_base == -Fraction(1, 50)


def test_damaged_subtitles_are_left_out_and_counted(tmp_path):
    whole = video(tmp_path / "whole.mkv", subtitles="subrip")
    source = tmp_path / "in.mkv"

    def damaged(packet):
        if bytes(packet).startswith(b"Clouds"):
            changed = av.Packet(b"\xff\xfe\xc3(" + bytes(packet))
            changed.pts = packet.pts
            changed.dts = packet.dts
            changed.duration = packet.duration
            changed.time_base = packet.time_base
            return changed
        return packet

    with av.open(str(whole)) as clip, av.open(str(source), "w") as out:
        streams = {
            s.index: add_copy(out, s) for s in clip.streams if s.type != "attachment"
        }
        for packet in clip.demux([clip.streams[index] for index in streams]):
            if packet.size:
                index = packet.stream.index
                packet = damaged(packet)
                packet.stream = streams[index]
                out.mux(packet)
    (warning,) = said(convert(source, tmp_path / "out.mp4"), "damaged")
    assert "1 text of Subtitle stream" in warning
    assert [text for *_, text in subtitles_of(tmp_path / "out.mp4")] == ["Sun"]


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [*itertools.product(["ts", "mp4"], ["aac", "ac3", "libmp3lame"]), ("mp4", "libopus")],
)
def test_sound_that_begins_before_the_video_keeps_its_times_in_matroska(
    tmp_path, suffix, codec
):
    """The first packets are priming, which only MP4 hides, by an edit list."""
    source = write_clip(tmp_path / f"in.{suffix}", 24, codec="libx264", audio=[codec])
    target = tmp_path / "out.mkv"
    convert(source, target)
    begins = min(packet_times(source, "video"))
    source_times = [time - begins for time in packet_times(source)]
    times = packet_times(target)
    assert source_times[0] < 0 == min(packet_times(target, "video"))
    assert all(
        abs(b - a) <= Fraction(1, 1000) for a, b in zip(source_times, times, strict=False)
    )
    if suffix == "mp4":
        assert packets_of(target) == packets_of(source)
        assert decoded_sound(target) == decoded_sound(source)


@pytest.mark.full
@pytest.mark.parametrize("below", [Fraction(3, 100), Fraction(1, 2)])
@pytest.mark.parametrize("codec", ["flac", "pcm_s16le", "libmp3lame", "aac", "libopus"])
def test_audio_that_starts_before_zero_stays_in_step(tmp_path, codec, below):
    whole = write_clip(tmp_path / "whole.mkv", 24, rate=24, codec="libx264", audio=[codec])

    def earlier(packet):
        if packet.stream.type == "audio":
            packet.pts = packet.dts = packet.pts - round(below / packet.time_base)
        return packet

    source = remux(whole, tmp_path / "in.mkv", earlier, avoid_negative_ts="disabled")
    assert packet_times(source)[0] <= -below
    convert(source, tmp_path / "out.mkv")
    assert read_times(tmp_path / "out.mkv")[0] == 0
    # Packets after the start of the picture keep their times.
    before, after = (
        [time for time in packet_times(path) if time > Fraction(1, 10)]
        for path in (source, tmp_path / "out.mkv")
    )
    assert after == before
    assert after


@pytest.mark.parametrize("target", ["mkv", "mp4"])
@pytest.mark.parametrize("start", [Fraction(5, 24), Fraction(11, 24)])
def test_audio_cut_from_an_avi_stays_in_step(tmp_path, target, start):
    source = write_clip(tmp_path / "in.avi", 24, codec="mpeg4", audio=["libmp3lame"])
    out = tmp_path / f"out.{target}"
    convert(source, out, start=start)
    given, made = (
        dict(zip(packets_of(path)[0], packet_times(path), strict=True))
        for path in (source, out)
    )
    assert made
    for packet, time in made.items():
        belongs = given[packet] - probe(source).timing.start - start
        assert abs(time - belongs) <= Fraction(1, 1000)


def transport(path, parts, first_pid=0x100, seconds=1, later=0, layout="mono"):
    """Write a transport stream of 25 fps, whose times begin ``later`` seconds later.

    ``parts`` are codecs of sound and their starts.
    """
    options = {"mpegts_start_pid": str(first_pid), "output_ts_offset": str(later)}
    with av.open(str(path), "w", format="mpegts", container_options=options) as out:
        video = out.add_stream(
            "libx264", rate=25, options={"preset": "ultrafast", "bf": "0"}
        )
        video.width, video.height = 64, 48
        streams = [out.add_stream(codec, rate=48000) for codec, _ in parts]
        for stream in streams:
            stream.layout = layout
        for number in range(25 * seconds):
            frame = picture(number, 64, 48)
            frame.pts = number
            frame.time_base = Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for stream, (_, start) in zip(streams, parts, strict=True):
            sound(out, stream, tone(440, 48000 * (seconds - start)), 48000 * start)
    return path


def test_parts_with_other_numbers_of_streams_are_one_video(tmp_path):
    parts = [transport(tmp_path / f"{pid}.ts", [("aac", 0)], pid) for pid in (0x100, 0x200)]
    path, target = tmp_path / "in.ts", tmp_path / "out.mkv"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with Source(path) as source:
        warned = source.info.warnings
        assert [warning.code for warning in warned] == ["clock-restarts", "numbers-change"]
        # FFmpeg returns the last picture of the first part after all others.
        assert len([*source.frames()]) == 49
        assert not source.warnings
    convert(path, target)
    assert len(packets_of(target)[0]) > 90


@pytest.mark.parametrize("overlap", [2, 3, 11])
def test_all_frames_of_parts_that_overlap_are_kept_with_their_sound(tmp_path, overlap):
    later = 1 - overlap / 25
    parts = [transport(tmp_path / f"{t}.ts", [("aac", 0)], later=t) for t in (0, later)]
    path, target = tmp_path / "in.ts", tmp_path / "out.mp4"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert [warning.code for warning in probe(path).warnings] == ["clock-restarts"]
    assert not convert(path, target, factor=2).warnings
    assert read_times(target) == [Fraction(k, 50) for k in range(100)]
    times = packet_times(target)
    lasts = Fraction(1024, 48000)
    assert all(b - a <= 2 * lasts for a, b in itertools.pairwise(times))
    assert abs(times[-1] + lasts - 2) < Fraction(1, 20)


def test_a_change_of_the_channels_after_the_trial_encodes_the_sound_again(tmp_path):
    sounds = {"parts": [("aac", 0)], "seconds": 4}
    parts = [
        transport(tmp_path / f"{k}.ts", later=4 * k, layout=("mono", "stereo")[k], **sounds)
        for k in range(2)
    ]
    path, target = tmp_path / "in.ts", tmp_path / "out.mkv"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    plan = {"rate": Fraction(25), "carry": Carry(probe(path), probe(path).timing.start)}
    try_streams(plan_encoding(target, probe(path), **plan), warnings := Warnings())
    (early,) = warnings
    assert "change at 4.0 s" in str(early)
    assert "encoded again, in the format of its start" in str(early)
    assert [early] == convert(path, target).warnings
    with av.open(str(target)) as clip:
        assert clip.streams.audio[0].layout.name == "mono"
        samples = sum(frame.samples for frame in clip.decode(audio=0))
    assert abs(samples / 48000 - 8) < 0.1
    cut = tmp_path / "cut.mkv"
    assert not said(convert(path, cut, end=Fraction(3)), "change")
    assert not said(convert(path, cut, start=Fraction(5)), "change")


def test_a_wrong_time_of_a_key_frame_begins_no_part(tmp_path):
    options = {"g": "10", "bf": "0"}
    source = write_clip(tmp_path / "in.ts", 40, rate=25, codec="libx264", options=options)
    data = bytearray(source.read_bytes())
    places = [found.end() for found in re.finditer(b"\x00\x00\x01\xe0", data)]
    data[places[20] + 7] -= 2  # the time of the third key frame: .36 s earlier
    source.write_bytes(data)
    assert not probe(source).warnings


def test_a_time_code_whose_mark_the_rate_does_not_have_is_left_out_and_said(tmp_path):
    source, target = tmp_path / "in.mov", tmp_path / "out.mov"
    write_clip(source, 4, rate=24, codec="libx264", metadata={"timecode": "01:02:03:04"})
    data = bytearray(source.read_bytes())
    begins = re.search(rb"stsd.{12}tmcd", data, re.DOTALL).end()
    data[begins + 15] |= 1  # drop-frame
    source.write_bytes(data)
    (warned,) = convert(source, target, factor=2).warnings
    assert warned.code == "unknown-data"
    with av.open(str(target)) as clip:
        assert "timecode" not in clip.streams.video[0].metadata


@pytest.mark.parametrize(("suffix", "lost"), [(".mp4", True), (".mkv", False)])
def test_a_time_code_above_255_fps_is_left_out_of_mp4(tmp_path, suffix, lost):
    source, target = tmp_path / "in.mov", tmp_path / f"out{suffix}"
    write_clip(source, 4, rate=120, codec="libx264", metadata={"timecode": "01:00:00:12"})
    warned = convert(source, target, factor=3).warnings
    assert [warning.code for warning in warned] == ["time-code"] * lost


def bitmaps(path, times, lasts=2**32 - 1):
    """Write one second of video, and bitmap subtitles at times in ms.

    Each has a byte more than the one before, 20 at first. Each has no end, or lasts so many
    milliseconds.
    """
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        stream.width, stream.height = 64, 48
        texts = out.add_mux_stream("dvdsub", time_base=Fraction(1, 1000))
        for number in range(24):
            out.mux(stream.encode(picture(number, 64, 48)))
        out.mux(stream.encode(None))
        for number, time in enumerate(times):
            packet = av.Packet(b"\0\x14" + bytes(18 + number))
            packet.stream = texts
            packet.time_base = Fraction(1, 1000)
            packet.pts = packet.dts = time
            packet.duration = lasts
            out.mux(packet)
    return path


def test_a_bitmap_subtitle_without_an_end_lasts_to_the_end_of_the_video(tmp_path):
    source = bitmaps(tmp_path / "in.mkv", [250])
    target = tmp_path / "out.mp4"
    assert not said(convert(source, target), "left out")
    with av.open(str(target)) as output:
        (packet,) = [packet_ for packet_ in output.demux(subtitles=0) if packet_.size]
        assert packet.duration * packet.time_base <= 1


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize(
    ("lasts", "shown"),
    [(0, [(0, 21), (300, 22)]), (2**32 - 1, [(0, 21), (300, 22)]), (50, [(300, 22)])],
)
def test_a_bitmap_subtitle_that_is_shown_at_the_start_of_a_part_is_kept(
    tmp_path, suffix, lasts, shown
):
    """A bitmap without a duration is shown until the next one begins."""
    source = bitmaps(tmp_path / "in.mkv", [100, 300, 800], lasts)
    target = tmp_path / f"out{suffix}"
    convert(source, target, start=Fraction(1, 2))
    with av.open(str(target)) as output:
        packets = [packet for packet in output.demux(subtitles=0) if packet.size]
        found = [(int(p.pts * p.time_base * 1000), p.size) for p in packets]
    # MP4 fills the time before the first subtitle with an empty one.
    assert [entry for entry in found if entry[1] > 19] == shown


def test_a_packet_that_the_container_refuses_ends_the_run_and_keeps_the_work(
    tmp_path, monkeypatch
):
    source = bitmaps(tmp_path / "in.mkv", [250])
    target = tmp_path / "out.mp4"
    settings = {"factor": 2, "model": "blend", "preset": "ultrafast"}
    with monkeypatch.context() as patched:
        patched.setattr(tracks, "_ENDLESS", Fraction(2**40))  # MP4 refuses the duration
        with pytest.raises(EncoderError, match="choose another container"):
            calls.interpolate(source, target, **settings)
    assert [file.name for file in tmp_path.iterdir()] == ["in.mkv", "out.mp4.work"]
    assert calls.interpolate(source, target, **settings).resumed
    with av.open(str(target)) as output:
        assert [stream.type for stream in output.streams] == ["video", "subtitle"]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_last_packet_that_states_no_length_is_heard(tmp_path, suffix):
    """Packets of ALAC in Matroska state none, and a track of MP4 ends with its last."""
    source = write_clip(tmp_path / "in.mkv", audio=["alac"])
    target = tmp_path / f"out{suffix}"
    convert(source, target)
    assert packets_of(target) == packets_of(source)
    assert samples_of(target).size == 2 * 24_000
    assert same(samples_of(target), samples_of(source))


@pytest.mark.parametrize(("suffix", "box"), [(".mp4", b"----"), (".mov", b"keys")])
def test_tags_without_a_name_for_players_stand_beside_the_others(tmp_path, suffix, box):
    others = {"artist": "vexu", "DIRECTOR": "Someone", "com.apple.quicktime.software": "17"}
    source = video(tmp_path / "in.mkv", seconds=2, **others)
    target = tmp_path / f"out{suffix}"
    sink = convert(source, target)
    data = target.read_bytes()
    assert all(data.count(kind) == 1 for kind in (b"\xa9nam", b"\xa9ART"))
    assert data.count(box) == (2 if suffix == ".mp4" else 1)
    with av.open(str(target)) as clip:
        tags = {key.lower(): value for key, value in clip.metadata.items()}
    expected = {"title": "Wolken", "comment": "sehr schön"}
    expected |= {key.lower(): value for key, value in others.items()}
    assert expected.items() <= tags.items()
    assert not {"lyrics", "keywords"} & tags.keys()
    assert not said(sink, "tags")


@pytest.mark.parametrize(
    ("suffix", "becomes"),
    [(".mkv", "pcm_s16le"), (".mov", "pcm_s16le"), (".mp4", "alac"), (".webm", "opus")],
)
def test_sound_without_loss_is_encoded_without_loss(tmp_path, suffix, becomes):
    source = write_clip(
        tmp_path / "in.vob", 25, rate=25, codec="mpeg2video", audio=["pcm_dvd"]
    )
    target = tmp_path / f"out{suffix}"
    (warning,) = said(convert(source, target), "becomes")
    assert f"becomes {becomes}, because" in warning
    if becomes != "opus":
        before, after = samples_of(source), samples_of(target)
        assert len(before) > 40_000
        assert (before == after[: len(before)]).all()


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_samples_of_64_bits_do_not_become_8_bits(tmp_path, suffix):
    source = write_clip(tmp_path / "in.avi", 24, codec="mpeg4", audio=["pcm_s64le"])
    sink = convert(source, tmp_path / f"out{suffix}")
    assert said(sink, "becomes pcm_s32le")
    before, after = samples_of(source), samples_of(tmp_path / f"out{suffix}")
    assert np.abs(after[: len(before)] - before).max() < 2**8


@pytest.mark.parametrize("layout", ["stereo", "2.1", "quad", "5.1", "5.1(side)", "7.1"])
def test_sound_without_loss_stays_so_in_every_layout(tmp_path, layout):
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as out:
        film = out.add_stream("libx264", rate=25)
        film.width, film.height = 64, 48
        track = out.add_stream("wavpack", rate=48000)
        track.codec_context.layout, track.codec_context.format = layout, "s16p"
        for number in range(25):
            out.mux(film.encode(picture(number, 64, 48)))
        out.mux(film.encode(None))
        count = track.codec_context.layout.nb_channels
        noise = np.random.default_rng(1).integers(-9000, 9000, (1, 48000 * count), np.int16)
        frame = av.AudioFrame.from_ndarray(noise, format="s16", layout=layout)
        frame.sample_rate, frame.pts = 48000, 0
        out.mux([*track.encode(frame), *track.encode(None)])
    convert(source, tmp_path / "out.mp4")
    packed = av.AudioResampler("s16")
    with av.open(str(tmp_path / "out.mp4")) as clip:
        heard = [part for frame in clip.decode(audio=0) for part in packed.resample(frame)]
    samples = np.concatenate([part.to_ndarray() for part in heard], 1)
    assert np.array_equal(samples[:, : noise.size], noise)


@pytest.mark.parametrize(
    ("codec", "is_exact"),
    [
        *(("truehd", True), ("mlp", True), ("s302m", True), ("ape", True), ("flac", True)),
        *(("aac", False), ("dca", False), ("eac3", False), ("adpcm_ms", False)),
    ],
)
def test_sound_is_without_loss_where_ffmpeg_says_so(codec, is_exact):
    """FFmpeg has no encoder for most of these, so no file can be written with them."""
    assert is_lossless(av.Codec(codec, "r")) is is_exact


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_pictures_of_a_second_video_before_its_key_frame_are_counted(tmp_path, suffix):
    one = write_clip(tmp_path / "one.mkv", 24, codec="libx264", options={"g": "12"})
    source = tmp_path / "in.mkv"
    with av.open(str(one)) as clip, av.open(str(source), "w") as out:
        streams = [add_copy(out, clip.streams.video[0]) for _ in range(2)]
        packets = [packet for packet in clip.demux(video=0) if packet.size]
        for packet in packets:
            for stream in streams:
                packet.stream = stream
                out.mux(packet)
    sink = convert(source, tmp_path / f"out{suffix}", start=Fraction(1, 4))
    (warning,) = said(sink, "first key frame in the part")
    assert ": 6 packets before are left out" in warning
    with av.open(str(tmp_path / f"out{suffix}")) as clip:
        second = clip.streams.video[1]
        assert sum(bool(packet.size) for packet in clip.demux(second)) == 12


def test_styles_and_inner_times_of_webvtt_are_named(tmp_path):
    texts = tmp_path / "in.vtt"
    cues = ("line:10%\n<v Roger>Hello", "\nHello <00:00:00.500>you", "\nplain")
    times = [f"00:00:0{k}.000 --> 00:00:0{k}.900 {cue}" for k, cue in enumerate(cues)]
    texts.write_text("\n\n".join(["WEBVTT", *times]))
    whole, source = write_clip(tmp_path / "a.mkv", 72, codec="libx264"), tmp_path / "in.mkv"
    with (
        av.open(str(whole)) as a,
        av.open(str(texts)) as b,
        av.open(str(source), "w") as out,
    ):
        streams = [(clip, add_copy(out, clip.streams[0])) for clip in (a, b)]
        for clip, stream in streams:
            for packet in clip.demux(clip.streams[0]):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    sink = convert(source, tmp_path / "out.mp4")
    assert said(sink, "Subtitle stream 1 (webvtt) becomes mov_text and loses its styles")
    assert not said(sink, "old speed")
    assert not said(convert(source, tmp_path / "out.mkv"), "Subtitle")
    (warning,) = said(convert(source, tmp_path / "slow.mkv", slow=2), "Subtitle")
    assert "Subtitles with inner times keep their old speed" in warning


@pytest.mark.parametrize("ticks", [(1, 1000), (1000, 1)])
def test_of_chapters_that_begin_together_the_shorter_stays_whatever_their_clocks(
    tmp_path, ticks
):
    info = probe(write_clip(tmp_path / "a.mkv", [picture(0)] * 48))
    chapters = [
        {
            "id": number,
            "time_base": Fraction(1, tick),
            "start": 0,
            "end": seconds * tick,
            "metadata": {"title": f"{seconds} s"},
        }
        for number, (tick, seconds) in enumerate(zip(ticks, (1, 2), strict=True))
    ]
    (kept,), others = kept_chapters(chapters, Carry(info, Fraction(0)))
    assert (kept["metadata"]["title"], kept["end"], others) == ("1 s", 10**6, 1)
