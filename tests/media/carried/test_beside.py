"""Every kind of stream beside a video is in every output, or a warning names the stream."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.subtitles.subtitle import SubtitleSet

from cloudconv.media.reading.demux import is_made_anew
from tests.helpers import calls
from tests.helpers.factory import packets_of, picture, set_chapters, sound, tone

SECONDS = 2
RATE = 8
BLUE = np.uint8([[[20, 40, 200]]])


def add_cover(out):
    """Add a PNG that players show for the file."""
    stream = out.add_stream("png", rate=25)
    stream.width = stream.height = 16
    stream.pix_fmt = "rgb24"
    stream.disposition = Disposition.attached_pic

    def finish():
        out.mux(stream.encode(av.VideoFrame.from_ndarray(BLUE.repeat(16, 0).repeat(16, 1))))

    return finish


def add_attached_cover(out):
    encoder = av.CodecContext.create("png", "w")
    encoder.width = encoder.height = 16
    encoder.pix_fmt = "rgb24"
    encoder.time_base = Fraction(1, 25)
    (packet,) = encoder.encode(
        av.VideoFrame.from_ndarray(BLUE.repeat(16, 0).repeat(16, 1), "rgb24")
    )
    out.add_attachment("cover.png", "image/png", bytes(packet))
    return lambda: None


def add_font(out):
    out.add_attachment("font.ttf", "font/ttf", b"glyphs" * 20)
    return lambda: None


def add_sound(out):
    codec = "libopus" if out.format.name == "webm" else "aac"
    track = out.add_stream(codec, rate=48000)
    track.layout = "mono"
    return lambda: sound(out, track, tone(880, SECONDS * 48000))


def add_texts(out):
    codecs = {"matroska": "subrip", "webm": "webvtt"}
    stream = out.add_stream(codecs.get(out.format.name, "mov_text"))
    stream.codec_context.subtitle_header = b"[Script Info]\n[Events]\n"

    def finish():
        for begin in (200, 900, 1500):
            result = SubtitleSet.create(b"0,0,Default,,0,0,0,,a text", 0, 400)
            packet = stream.codec_context.encode_subtitle(result)
            packet.time_base = Fraction(1, 1000)
            packet.stream = stream
            packet.pts = packet.dts = begin
            packet.duration = 400
            out.mux(packet)

    return finish


def add_packets(codec, payload):
    """Return a function that adds a stream of such packets, three of them."""

    def add(out):
        stream = out.add_mux_stream(codec, time_base=Fraction(1, 90000))

        def finish():
            for begin in (0, 90000, 135000):
                packet = av.Packet(payload)
                packet.stream = stream
                packet.time_base = Fraction(1, 90000)
                packet.pts = packet.dts = begin
                packet.duration = 27000
                out.mux(packet)

        return finish

    return add


add_bitmaps = add_packets("dvdsub", b"\0\x14" + bytes(18))
add_data = add_packets("bin_data", b"measured" * 4)


def add_chapters(out):
    set_chapters(out, [(0, 1, "one"), (1, SECONDS, "two")])
    return lambda: None


def add_time_code(out):
    out.metadata["timecode"] = "01:00:00:00"
    return lambda: None


# What a function adds, as `contents` counts that, and the inputs that can have it.
ADDED = {
    add_cover: ("still", "mp4 m4v"),
    add_attached_cover: ("still", "mkv"),
    add_font: ("still", "mkv"),
    add_sound: ("audio", "mp4 mov mkv webm ts avi"),
    add_texts: ("subtitle", "mp4 mov mkv webm"),
    add_bitmaps: ("subtitle", "mp4 mkv"),
    add_data: ("data", "mp4 ts"),
    add_chapters: ("chapter", "mp4 mov mkv webm"),
    add_time_code: ("time code", "mp4 mov mkv"),
}
INPUTS = [(add, name) for add, (_, names) in ADDED.items() for name in names.split()]


def film(path, add):
    """Write two seconds of video and sound, and what ``add`` adds."""
    form = {"m4v": "mp4"}.get(path.suffix[1:])
    with av.open(str(path), "w", format=form) as out:
        is_webm = out.format.name == "webm"
        options = {"cpu-used": "8"} if is_webm else {"preset": "ultrafast"}
        video = out.add_stream(
            "libvpx" if is_webm else "libx264", rate=RATE, options=options
        )
        video.width = video.height = 32
        track = out.add_stream("libopus" if is_webm else "aac", rate=48000)
        track.layout = "mono"
        finish = add(out)
        for number in range(SECONDS * RATE):
            frame = picture(number, 32, 32)
            frame.pts = number
            frame.time_base = Fraction(1, RATE)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        sound(out, track, tone(440, SECONDS * 48000))
        finish()
    return path


def contents(path):
    """Return how many streams of each kind a file has, and chapters and time code."""
    with av.open(str(path)) as clip:
        streams = [stream for stream in clip.streams if not is_made_anew(stream)]
        stills = [
            stream
            for stream in streams
            if stream.type == "attachment" or stream.disposition & Disposition.attached_pic
        ]
        counts = {
            kind: sum(each.type == kind and each not in stills for each in streams)
            for kind in ("video", "audio", "subtitle", "data")
        }
        tags = [clip.metadata, *(stream.metadata for stream in clip.streams)]
        has_code = any(key.lower() == "timecode" for each in tags for key in each)
        return counts | {
            "still": len(stills),
            "chapter": len(clip.chapters()),
            "time code": int(has_code),
        }


def run(source, target, **part):
    """Double a clip; return the warnings."""
    fast = ("cpu-used", "8") if target.suffix == ".webm" else ("preset", "ultrafast")
    settings = {"factor": 2, "model": "blend", "encoder_option": (fast,), **part}
    result = calls.interpolate(source, target, **settings)
    return [str(warning).lower() for warning in result.warnings]


@pytest.mark.full
@pytest.mark.parametrize(("add", "given"), INPUTS)
def test_each_stream_is_in_each_output_or_named(tmp_path, add, given):
    source = film(tmp_path / f"in.{given}", add)
    before = contents(source)
    assert before[ADDED[add][0]] > (add is add_sound)
    for suffix in ("mp4", "mov", "mkv", "webm"):
        for name, part in {"whole": {}, "part": {"start": "0.5", "end": "1.5"}}.items():
            target = tmp_path / f"{name}.{suffix}"
            warnings = run(source, target, **part)
            found = contents(target)
            for what, count in before.items():
                word = "stream" if what == "still" else what
                named = sum(word in text for text in warnings)
                assert count - found[what] <= named, (target.name, what, warnings)


def test_the_cover_of_an_mp4_is_copied(tmp_path):
    source = film(tmp_path / "in.mp4", add_cover)
    (cover,) = packets_of(source, "video")[1:]
    assert len(cover) == 1
    for part in ({}, {"start": "0.5", "end": "1.5"}):
        target = tmp_path / f"out{len(part)}.mp4"
        assert run(source, target, **part) == []
        assert packets_of(target, "video")[1:] == [cover]
