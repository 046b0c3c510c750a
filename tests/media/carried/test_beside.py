"""Every kind of stream beside a video is in every output, or a warning names the stream."""

from collections import defaultdict
from fractions import Fraction
from functools import partial
from itertools import product

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.subtitles.subtitle import SubtitleSet

from cloudconv.media.carried.beside import decide
from cloudconv.media.carried.carry import Carry
from cloudconv.media.containers.containers import CONTAINERS
from cloudconv.media.containers.muxing import codec_name, kind_of
from cloudconv.media.reading.demux import is_made_anew
from cloudconv.media.reading.probe import probe
from cloudconv.timemap import TimeMap
from tests.helpers import calls
from tests.helpers.factory import (
    decoder_errors,
    packets_of,
    picture,
    set_chapters,
    sound,
    tone,
)
from tests.helpers.tiers import first_full

SECONDS = 2
RATE = 8
PIECES = {
    "whole": {},
    "part": {"start": "0.5", "end": "1.5"},
    "slow": {"slowmo": 2, "audio": "stretch"},
}
FAST = (("preset", "ultrafast"),)
BLUE = np.uint8([[[20, 40, 200]]])


COVERS = {"png": ("png", "rgb24"), "jpeg": ("mjpeg", "yuvj420p")}


def cover(kind="png"):
    """Return a picture of 16x16 as a file of that kind."""
    codec, form = COVERS[kind]
    encoder = av.CodecContext.create(codec, "w")
    encoder.width = encoder.height = 16
    encoder.pix_fmt = form
    encoder.time_base = Fraction(1, 25)
    shown = av.VideoFrame.from_ndarray(BLUE.repeat(16, 0).repeat(16, 1), "rgb24")
    (packet,) = encoder.encode(shown.reformat(format=form))
    return bytes(packet)


def add_cover(out, kind="png"):
    """Add a picture that players show for the file."""
    if out.format.name == "matroska":
        out.add_attachment(f"cover.{kind}", f"image/{kind}", cover(kind))
        return lambda: None
    stream = out.add_mux_stream(COVERS[kind][0], width=16, height=16)
    stream.disposition = Disposition.attached_pic

    def finish():
        packet = av.Packet(cover(kind))
        packet.stream = stream
        packet.time_base = Fraction(1, 25)
        packet.pts = packet.dts = 0
        packet.is_keyframe = True
        out.mux(packet)

    return finish


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
    add_cover: ("still", "mp4 m4v mkv"),
    add_font: ("still", "mkv"),
    add_sound: ("audio", "mp4 mov mkv webm ts avi"),
    add_texts: ("subtitle", "mp4 mov mkv webm"),
    add_bitmaps: ("subtitle", "mp4 mkv"),
    add_data: ("data", "mp4 ts"),
    add_chapters: ("chapter", "mp4 mov mkv webm"),
    add_time_code: ("time code", "mp4 mov mkv"),
}
INPUTS = [(add, name) for add, (_, names) in ADDED.items() for name in names.split()]


def film(path, *added, codec=None):
    """Write two seconds of video and sound, and what each of ``added`` adds."""
    is_mp4 = path.suffix in (".m4a", ".m4v")
    form, brand = ("mp4", {"brand": "M4A "}) if is_mp4 else (None, {})
    with av.open(str(path), "w", format=form, container_options=brand) as out:
        is_webm = out.format.name == "webm"
        options = {"cpu-used": "8"} if is_webm else {"preset": "ultrafast"}
        video = out.add_stream(
            "libvpx" if is_webm else "libx264", rate=RATE, options=options
        )
        video.width = video.height = 32
        track = out.add_stream(codec or ("libopus" if is_webm else "aac"), rate=48000)
        track.layout = "mono"
        finishes = [add(out) for add in added]
        for number in range(SECONDS * RATE):
            frame = picture(number, 32, 32)
            frame.pts = number
            frame.time_base = Fraction(1, RATE)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        sound(out, track, tone(440, SECONDS * 48000))
        for finish in finishes:
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
    fast = (("cpu-used", "8"),) if target.suffix == ".webm" else FAST
    rate = {} if "slowmo" in part else {"factor": 2}
    settings = {"model": "blend", "encoder_option": fast, **rate, **part}
    result = calls.interpolate(source, target, **settings)
    return [str(warning).lower() for warning in result.warnings]


WAYS = {
    ".mp4": {"aac": "copy", "srt": "encode", "dvdsub": "copy", "png": "copy"},
    ".mov": {"aac": "copy", "srt": "encode", "dvdsub": "leave", "png": "leave"},
    ".mkv": {"aac": "copy", "srt": "copy", "dvdsub": "copy", "png": "attach"},
    ".webm": {"aac": "encode", "srt": "encode", "dvdsub": "leave", "png": "leave"},
}


@pytest.mark.parametrize("suffix", WAYS)
def test_the_way_of_a_stream_is_the_first_whose_header_the_container_takes(
    tmp_path, suffix
):
    source = film(tmp_path / "in.mkv", add_cover, add_texts, add_bitmaps)
    info = probe(source)
    slowed = {"shows": TimeMap.even(Fraction(1, 2))}
    with av.open(str(source)) as clip:
        streams = {codec_name(stream): stream for stream in [*clip.streams][1:]}

        def ways(**settings):
            carry = Carry(info, info.timing.start, **settings)
            return {
                name: decide(stream, CONTAINERS[suffix], carry)
                for name, stream in streams.items()
            }

        found = ways()
        assert {name: way.how for name, way in found.items()} == WAYS[suffix]
        for way in found.values():
            assert (" is left out: FFmpeg cannot write" in way.why) == (way.how == "leave")
        assert ways(**slowed)["aac"].how == "encode"
        assert "at the old speed." in ways(**slowed)["dvdsub"].why
        assert "--audio=stretch" in ways(**slowed, audio=False)["aac"].why
        assert ways(is_mute=True)["aac"] == ("leave", None, "")


@pytest.mark.full
@pytest.mark.parametrize(("add", "given"), INPUTS)
def test_each_stream_is_in_each_output_or_named(tmp_path, add, given):
    source = film(tmp_path / f"in.{given}", add)
    before = contents(source)
    assert before[ADDED[add][0]] > (add is add_sound)
    for suffix in ("mp4", "mov", "mkv", "webm"):
        for name in ("whole", "part"):
            target = tmp_path / f"{name}.{suffix}"
            warnings = run(source, target, **PIECES[name])
            found = contents(target)
            for what, count in before.items():
                word = "stream" if what == "still" else what
                named = sum(word in text for text in warnings)
                assert count - found[what] <= named, (target.name, what, warnings)
            assert set(decoder_errors(target)) <= set(decoder_errors(source))
            given_packets = beside(source)
            for codec, streams in beside(target).items():
                for copies in streams if codec in given_packets else ():
                    assert stands_in(copies, given_packets[codec]), (target.name, codec)


def beside(path):
    """Return the packets of sound, subtitles and data, by codec: a list for each stream.

    A header that AAC has only in transport streams is left out.
    """
    with av.open(str(path)) as clip:
        packets = [packet for packet in clip.demux() if packet.size]
        result = defaultdict(list)
        for stream in clip.streams:
            if kind_of(stream) in ("audio", "subtitle", "data") and not is_made_anew(
                stream
            ):
                own = [bytes(p) for p in packets if p.stream.index == stream.index]
                result[codec_name(stream)] += [
                    [data[7 * data.startswith(b"\xff\xf1") :] for data in own]
                ]
        return result


def stands_in(copies, streams):
    """Return whether packets are a row of those of one of the streams."""
    count = len(copies)
    return any(
        copies == each[k : k + count] for each in streams for k in range(len(each) + 1)
    )


SOUNDS = ("aac", "ac3", "libmp3lame", "libopus", "flac")
COVERED = [
    *((name, codec) for name in ("mp4", "mkv") for codec in SOUNDS),
    ("m4a", "aac"),
]
OUTPUTS = ("mp4", "mkv", "mov")


def stills_of(path):
    """Return the data of the covers of a file."""
    with av.open(str(path)) as clip:
        kinds = {stream.index: kind_of(stream) for stream in clip.streams}
        packets = [packet for packet in clip.demux() if packet.size]
        return [bytes(p) for p in packets if kinds[p.stream.index] == "still"]


def check_beside(source, target, warnings):
    """Check that an output decodes and has the covers; return its packets of sound."""
    assert decoder_errors(target) == decoder_errors(source) == []
    expected, found = stills_of(source), stills_of(target)
    assert set(found) <= set(expected)
    named = sum("is left out" in text and "video stream" in text for text in warnings)
    assert len(expected) == len(found) + named
    assert not [text for text in warnings if "damaged" in text]
    return packets_of(target)


@pytest.mark.parametrize("kinds", first_full(["jpeg png png", "png", "jpeg"]))
@pytest.mark.parametrize(("given", "codec"), COVERED)
def test_covers_and_copied_sound_are_those_of_the_source(tmp_path, given, codec, kinds):
    added = [partial(add_cover, kind=kind) for kind in kinds.split()]
    source = film(tmp_path / f"in.{given}", *added, add_texts, codec=codec)
    assert len(stills_of(source)) == len(added)
    (sounds,) = packets_of(source)
    for suffix in OUTPUTS:
        for name, part in PIECES.items():
            target = tmp_path / f"{name}.{suffix}"
            warnings = run(source, target, **part)
            (copies,) = check_beside(source, target, warnings)
            if name == "slow" or any(" becomes " in text for text in warnings):
                continue
            assert copies
            assert stands_in(copies, [sounds])
            assert name == "part" or len(copies) == len(sounds)


@pytest.mark.parametrize(
    ("given", "name"), first_full([("mkv", "mp4"), *product(("mp4", "m4a"), OUTPUTS)])
)
def test_covers_are_beside_what_goes_on(tmp_path, given, name):
    source = film(tmp_path / f"in.{given}", add_cover, add_texts)
    target = tmp_path / f"out.{name}"
    for goes_on, settings in (
        (calls.dream, {"seconds": 1, "mode": "flow"}),
        (calls.extrapolate, {"frames": 2, "model": "flow"}),
    ):
        result = goes_on(source, target, encoder_option=FAST, overwrite=True, **settings)
        check_beside(source, target, [str(text).lower() for text in result.warnings])


@pytest.mark.parametrize("given", ["mp4", "mkv"])
def test_a_cover_leaves_the_sound_beside_it_as_it_is(tmp_path, given):
    source = film(tmp_path / f"in.{given}", add_cover)
    target = tmp_path / "out.mp4"
    assert run(source, target) == []
    assert packets_of(target) == packets_of(source)
    assert decoder_errors(target) == []


def test_the_cover_of_an_mp4_is_copied(tmp_path):
    source = film(tmp_path / "in.mp4", add_cover)
    (cover,) = packets_of(source, "video")[1:]
    assert len(cover) == 1
    for part in ({}, {"start": "0.5", "end": "1.5"}):
        target = tmp_path / f"out{len(part)}.mp4"
        assert run(source, target, **part) == []
        assert packets_of(target, "video")[1:] == [cover]
