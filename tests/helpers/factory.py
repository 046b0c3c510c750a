"""Generated clips with exact pixels and times, and functions that read clips."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from cloudconv.media.containers.muxing import add_copy


def planes_of(frame: VideoFrame) -> list[NDArray[Any]]:
    """Return copies of a frame's planes without padding; uint16 above 8 bits."""
    wide = any(component.bits > 8 for component in frame.format.components)
    dtype = np.dtype(np.uint16 if wide else np.uint8)
    return [
        np.frombuffer(plane, dtype)
        .reshape(plane.height, plane.line_size // dtype.itemsize)[:, : plane.width]
        .copy()
        for plane in frame.planes
    ]


def picture(
    index: int,
    width: int = 96,
    height: int = 64,
    pix_fmt: str = "yuv420p",
    *,
    step: float = 2.0,
    noise: float = 0.0,
    scene: int = 0,
) -> VideoFrame:
    """Return a smooth texture moved right by ``index * step`` pixels.

    ``scene`` is its seed.

    All values are within the limited range and within the RGB gamut.
    """
    frame = VideoFrame(width, height, pix_fmt)
    for plane, values in zip(
        frame.planes,
        _texture(index, width, height, pix_fmt, step, noise, scene),
        strict=True,
    ):
        rows = np.frombuffer(plane, values.dtype).reshape(plane.height, -1)
        rows[:, : plane.width] = values
    return frame


@functools.lru_cache(maxsize=2000)
def _texture(
    index: int, width: int, height: int, pix_fmt: str, step: float, noise: float, scene: int
) -> list[NDArray[Any]]:
    frame = VideoFrame(width, height, pix_fmt)
    depth = max(component.bits for component in frame.format.components)
    random = np.random.default_rng([scene, index])
    phase = np.random.default_rng(scene).uniform(0, 6, 4) if scene else np.zeros(4)
    planes = []
    for number, plane in enumerate(frame.planes):
        y, x = np.ogrid[: plane.height, : plane.width]
        x = x * (width / plane.width) - index * step
        y = y * (height / plane.height)
        wave = (
            np.sin(x / 7 + phase[0]) * np.cos(y / 9 + phase[1])
            + 0.6 * np.sin((x + y) / (15 + 3 * scene % 5) + phase[2])
            + 0.4 * np.cos(x / 23 - y / 11 + phase[3])
        )
        is_chroma = number in (1, 2) and pix_fmt.startswith("yuv")
        level, swing = (128, 12) if is_chroma else (120 + 25 * ((scene * 2) % 3 - 1), 35)
        if number == 3:
            level, swing = 128, 50
        values = level + swing * wave / 2
        if noise and number == 0:
            values = values + random.normal(0, noise, values.shape)
        values = np.clip(np.rint(values * 2 ** (depth - 8)), 0, 2**depth - 1)
        planes.append(values.astype(np.uint16 if depth > 8 else np.uint8))
    return planes


FIELDS = {"flags": "+ilme+ildct", "x264-params": "bff=1", "crf": "8"}
"""Options with which libx264 writes pictures of two fields, the odd lines first."""
FIELD_STEP = 2.5


def interlaced(
    index: int, order: str = "bff", *, size: tuple[int, int] = (96, 64)
) -> VideoFrame:
    """Return a picture of two fields, which show the motion at 2 * index and one later."""
    first, second = (picture(2 * index + k, *size, step=FIELD_STEP) for k in range(2))
    upper, lower = (first, second) if order == "tff" else (second, first)
    for target, source in zip(upper.planes, lower.planes, strict=True):
        width = target.line_size
        rows = np.frombuffer(target, np.uint8).reshape(-1, width)
        rows[1::2] = np.frombuffer(source, np.uint8).reshape(-1, width)[1::2]
    return upper


def write_clip(
    path: Path | str,
    pictures: Iterable[VideoFrame] | int = 12,
    *,
    rate: Fraction | int = 24,
    times: Sequence[Fraction] | None = None,
    last_duration: Fraction | None = None,
    time_base: Fraction | None = None,
    codec: str = "ffv1",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = (96, 64),
    pix_fmt: str = "yuv420p",
    colour: tuple[int, int, int, int] | None = None,
    aspect: Fraction | None = None,
    matrix: bytes | None = None,
    audio: Sequence[str] = (),
    audio_seconds: Fraction | None = None,
    metadata: dict[str, str] | None = None,
    chapters: Sequence[tuple[Fraction, Fraction, str | None]] = (),
    **picture_options: Any,
) -> Path:
    """Write a clip whose timestamps are exactly ``times`` (default: ``k / rate``).

    ``colour`` is (primaries, transfer, matrix, range) as FFmpeg's integers. Each name in
    ``audio`` adds a sine track with that codec; track k has 440·(k+1) Hz.
    """
    rate = Fraction(rate)
    if isinstance(pictures, int):
        pictures = [picture(i, *size, pix_fmt, **picture_options) for i in range(pictures)]
    images = list(pictures)
    if times is None:
        times = [k / rate for k in range(len(images))]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    gaps.append(last_duration or 1 / rate)
    if time_base is None:
        time_base = Fraction(
            1, np.lcm.reduce([t.denominator for t in [*times, *gaps]], dtype=int)
        )
    is_mp4 = str(path)[-4:] in (".mp4", ".mov")
    extra = {"movie_timescale": str(time_base.denominator)} if is_mp4 else {}
    with av.open(str(path), "w", container_options=extra) as out:
        video: Any = out.add_stream(codec, rate=rate, options=options or {})
        video.width, video.height = (
            size if not images else (images[0].width, images[0].height)
        )
        video.pix_fmt = images[0].format.name if images else pix_fmt
        video.codec_context.time_base = time_base
        names = ("color_primaries", "color_trc", "colorspace", "color_range")
        for name, value in zip(names, colour or (), strict=bool(colour)):
            setattr(video.codec_context, name, value)
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        if matrix:
            video.set_display_matrix([int(v) for v in np.frombuffer(matrix, "<i4")])
        out.metadata.update(metadata or {})
        if chapters:
            set_chapters(out, chapters)
        tracks: list[Any] = [
            out.add_stream(name, rate=48000, bit_rate=128_000) for name in audio
        ]
        ticks = [int(time / time_base) for time in times]
        lasts = dict(zip(ticks, (int(gap / time_base) for gap in gaps), strict=True))
        for frame, tick in zip([*images, None], [*ticks, 0], strict=True):
            if frame is not None:  # the last call flushes the encoder
                frame.pts = tick
                frame.time_base = time_base
                frame.pict_type = 0
            for packet in video.encode(frame):
                packet.duration = lasts[packet.pts]
                out.mux(packet)
        seconds = audio_seconds if audio_seconds is not None else sum(gaps, Fraction(0))
        for number, track in enumerate(tracks):
            sound(out, track, tone(440 * (number + 1), int(seconds * 48000)))
    return Path(path)


def animation(path: Path, durations: Sequence[int], **options: Any) -> Path:
    """Write a GIF, APNG or WebP of 16x8 pixels, redder by time; durations in milliseconds.

    ``options`` are those of Pillow.
    """
    reds = range(0, 240, 240 // len(durations))
    first, *others = (
        Image.new("RGB", (16, 8), (reds[k], 10, 20)) for k in range(len(durations))
    )
    keywords = {"lossless": True, "duration": list(durations), **options}
    first.save(path, save_all=True, append_images=others, **keywords)
    return path


def set_chapters(
    out: Any, chapters: Sequence[tuple[Fraction, Fraction, str | None]]
) -> None:
    """Give an output chapters, each as (start, end, title); times in seconds.

    A title of None is none.
    """
    about: Any = {"time_base": Fraction(1, 1000)}
    times = [{"start": int(a * 1000), "end": int(b * 1000)} for a, b, _ in chapters]
    titles = [
        {"metadata": {} if title is None else {"title": title}} for *_, title in chapters
    ]
    parts = zip(times, titles, strict=True)
    out.set_chapters([{"id": k, **about, **a, **b} for k, (a, b) in enumerate(parts)])


def tone(hertz: float, samples: int) -> NDArray[np.float32]:
    """Return a sine at 48 kHz with a little noise, so that no two packets are equal."""
    wave = 0.2 * np.sin(2 * np.pi * hertz * np.arange(samples) / 48000)
    noisy: NDArray[np.float32] = wave + np.random.default_rng(0).normal(0, 0.001, samples)
    return noisy.astype(np.float32)


def sound(out: Any, track: Any, wave: NDArray[np.float32], first: int = 0) -> None:
    """Encode samples in mono at 48 kHz into a track.

    The first one has the number ``first``.
    """
    for start in range(0, len(wave), 1024):
        block = wave[None, start : start + 1024]
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate = 48000
        frame.pts = first + start
        frame.time_base = Fraction(1, 48000)
        out.mux(track.encode(frame))
    out.mux(track.encode(None))


def samples(out: Any, track: Any, wave: NDArray[np.float32], first: int) -> None:
    """Encode samples in the format of a mono track of 48000 Hz, which goes on.

    The first one has the number ``first``.
    """
    for start in range(0, len(wave), 1000):
        block = wave[None, start : start + 1000]
        form = track.codec_context.format.name
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, first + start
        frame.time_base = Fraction(1, 48000)
        for ready in av.AudioResampler(form, "mono", 48000).resample(frame):
            out.mux(track.encode(ready))


def read_times(path: Path | str) -> list[Fraction]:
    """Return the exact time of every decoded frame."""
    with av.open(str(path)) as clip:
        return [f.pts * f.time_base for f in clip.decode(video=0)]  # type: ignore[operator]


def read_planes(path: Path | str) -> list[list[NDArray[Any]]]:
    """Return the planes of every decoded frame."""
    with av.open(str(path)) as clip:
        return [planes_of(f) for f in clip.decode(video=0)]


def same(some: Any, others: Any) -> bool:
    """Return whether two frames, or lists of frames, have the same planes, bit for bit."""
    if isinstance(some, np.ndarray):
        return np.array_equal(some, others)
    return len(some) == len(others) and all(map(same, some, others))


def assert_same_frames(found: Path, expected: Path) -> None:
    """Assert that two clips have the same times and, bit for bit, the same planes."""
    assert read_times(found) == read_times(expected)
    assert same(read_planes(found), read_planes(expected))


def packets_of(path: Path | str, kind: str = "audio") -> list[list[bytes]]:
    """Return the payload of every packet, one list for each stream of that kind."""
    with av.open(str(path)) as clip:
        result: dict[int, list[bytes]] = {
            s.index: [] for s in clip.streams if s.type == kind
        }
        for packet in clip.demux():
            if packet.size and packet.stream.index in result:
                result[packet.stream.index].append(bytes(packet))
        return list(result.values())


def decoder_errors(path: Path | str) -> list[str]:
    """Decode every stream of a file to its end; return the errors that FFmpeg names."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as lines, av.open(str(path)) as clip:
            for packet in clip.demux():
                if packet.stream.type in ("video", "audio", "subtitle"):
                    packet.decode()
    finally:
        av.logging.set_level(level)
    return [text for severity, _, text in lines if severity <= av.logging.ERROR]


def packet_times(path: Path | str, kind: str = "audio") -> list[Fraction]:
    """Return the exact time of every packet of the first stream of that kind."""
    with av.open(str(path)) as clip:
        stream: Any = next(s for s in clip.streams if s.type == kind)
        return [p.pts * p.time_base for p in clip.demux(stream) if p.size]


def remux(
    source: Path,
    target: Path,
    change: Callable[[Any], Any] = lambda packet: packet,
    **options: str,
) -> Path:
    """Copy what ``change`` returns for each packet.

    ``options`` are those of the container.
    """
    with (
        av.open(str(source)) as clip,
        av.open(str(target), "w", container_options=options) as out,
    ):
        streams = {stream.index: add_copy(out, stream) for stream in clip.streams}
        for packet in clip.demux():
            target_stream = streams[packet.stream.index]
            changed = change(packet) if packet.size else None
            if changed is not None:
                changed.stream = target_stream
                out.mux(changed)
    return target
