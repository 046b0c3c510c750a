"""Run FFmpeg filters: interpolate by motion vectors, measure XPSNR, extract luma.

PyAV's FFmpeg runs the filters, frame by frame, in a filter graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from math import ceil, lcm

import av
import av.error
import av.filter
import numpy as np
from av.filter.context import FilterContext

from cloudconv.errors import ModelError
from cloudconv.media.frame import Frame

MINTERPOLATE_SIDE = 32
"""The smallest side for minterpolate, which needs two of its 16-pixel blocks along each side."""

XPSNR_PIXELS = 2025
"""The smallest number of pixels for xpsnr (45x45). With fewer pixels the filter would divide by a
block size of zero and end the whole process, so the filter is not called.
"""

PERFECT = 100.0  # dB; replaces an infinite XPSNR
_TICK_LIMIT = 2**31  # FFmpeg's limit of a time base's denominator


def has_filter(name: str) -> bool:
    """Return whether this build of FFmpeg has the filter, for example ``libvmaf``."""
    return name in av.filter.filters_available


def minterpolate(frames: Iterable[Frame], rate: Fraction) -> Iterator[Frame]:
    """Yield frames at ``rate``, made by FFmpeg's motion-compensated interpolation.

    The options are those that FFmpeg users usually choose: ``mi_mode=mci``, ``mc_mode=aobmc``,
    ``me_mode=bidir``, ``vsbmc=1``, with the filter's own scene detection. Output frame k has
    exactly the time ``first.time + k / rate``. The output ends at the last input frame, which is
    included if its time is on this grid. The filter alone would end at the second-last input frame,
    so the filter receives the last one twice. An input frame on the grid keeps its own samples.
    Above 8 bits and in RGB the frame keeps its samples only approximately, because the filter works
    on 8-bit YUV. A single input frame keeps its picture and time, and lasts ``1 / rate``.

    Args:
        frames: frames in order of time, all of one size and pixel format. Only the last one is
            stored.
        rate: output frames per second.

    Raises:
        ModelError: this FFmpeg lacks the filter, or a side is under 32 pixels.
        ValueError: the frames change size or format, or a time does not increase.
    """
    source = iter(frames)
    first = next(source, None)
    if first is None:
        return
    _require("minterpolate")
    if min(first.width, first.height) < MINTERPOLATE_SIDE:
        raise ModelError(
            f"minterpolate-too-small: minterpolate needs at least {MINTERPOLATE_SIDE} pixels a "
            f"side, and these pictures are {first.width}x{first.height}: leave it out of "
            "--against."
        )
    tick = _tick(first, rate)
    options = "mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"
    filters = Chain(
        first.picture,
        *_to_eight_bit(first),
        ("minterpolate", f"fps={rate.numerator}/{rate.denominator}:{options}"),
        ("format", first.pix_fmt),
        tick=tick,
        rate=1 / first.duration,
    )

    def send(frame: Frame, time: Fraction) -> Iterator[Frame]:
        for picture in filters.push(frame.picture, round((time - first.time) / tick)):
            when = first.time + Fraction(picture.pts or 0) / rate
            yield replace(first, picture=picture, time=when, duration=1 / rate)

    yield from send(first, first.time)
    last, gap = first, Fraction(0)
    for frame in source:
        _check_like(first, frame)
        gap = frame.time - last.time
        if gap <= 0:
            raise ValueError(f"frame at {frame.time} s does not follow the one at {last.time} s")
        yield from send(frame, frame.time)
        last = frame
    if gap:
        yield from send(last, last.time + gap)
    else:
        yield first.at(first.time, 1 / rate)


class XpsnrMeter:
    """A measurement of XPSNR (Helmrich et al. 2020) frame by frame, by FFmpeg's ``xpsnr`` filter.

    The filter weights errors by the activity of the true picture in space *and in time*. It
    therefore needs every frame of the output in order, including source frames. Above 32 frames
    per second the weights use the last two frames.

    RGB is scored as YUV 4:4:4 of BT.709. Pictures above 8 bits are converted to 8 bits first,
    because the filter of FFmpeg 8.1 ignores the padding of their rows and returns wrong values (-36
    dB at a width of 90 pixels, 22 dB at 96; fraunhoferhhi/xpsnr issue 5).
    """

    def __init__(self, rate: Fraction) -> None:
        """Prepare a measurement.

        Args:
            rate: frames per second.

        Raises:
            ModelError: this FFmpeg lacks the filter.
        """
        _require("xpsnr")
        self._rate = rate
        self._first: Frame | None = None
        self._count = 0
        self._entries: list[FilterContext] = []
        self._sink: FilterContext

    def push(self, truth: Frame, test: Frame) -> float | None:
        """Return the score of the next frame; None for a frame of fewer than 2,025 pixels.

        The score is (4 Y + U + V) / 6 in dB, the usual single value of XPSNR, each at most 100.

        Raises:
            ValueError: the two frames differ in time, size or pixel format, or the size or format
                changes.
        """
        if truth.time != test.time:
            raise ValueError(f"frames at {truth.time} s and {test.time} s cannot be compared")
        self._first = self._first or truth
        _check_like(self._first, truth)
        _check_like(self._first, test)
        if truth.width * truth.height < XPSNR_PIXELS:
            return None
        if not self._entries:
            self._open(truth)
        for entry, frame in zip(self._entries, (truth, test), strict=True):
            _push(entry, frame.picture, self._count, 1 / self._rate)
        self._count += 1
        (picture,) = _pull(self._sink)
        scores = {key[-1]: float(str(value)) for key, value in picture.metadata.items()}
        luma, *chroma = (min(scores[name], PERFECT) for name in "yuv" if name in scores)
        return (4 * luma + sum(chroma)) / (4 + len(chroma))

    def _open(self, like: Frame) -> None:
        self._graph = av.filter.Graph()
        meter = self._graph.add("xpsnr")
        for pad in range(2):
            nodes = _nodes(
                self._graph, like.picture, _to_eight_bit(like), 1 / self._rate, 1 / like.duration
            )
            self._graph.link_nodes(*nodes)
            nodes[-1].link_to(meter, 0, pad)
            self._entries.append(nodes[0])
        self._sink = self._graph.add("buffersink")
        meter.link_to(self._sink)
        self._graph.configure()


def _require(name: str) -> None:
    if not has_filter(name):
        raise ModelError(
            f"no-filter: This build of FFmpeg ({av.ffmpeg_version_info}) has no filter {name}: "
            f"leave {name} out, or install PyAV's own wheel, which has the filter."
        )


def _check_like(first: Frame, frame: Frame) -> None:
    shape, other = _shape(first.picture), _shape(frame.picture)
    if shape != other:
        raise ValueError(f"one filter graph takes pictures of one kind; got {shape} and {other}")


def _shape(picture: av.VideoFrame) -> tuple[int, int, str]:
    return picture.width, picture.height, picture.format.name


def _tick(first: Frame, rate: Fraction) -> Fraction:
    """Return a time base on which the output grid and usually all input times are whole numbers.

    Other input times are rounded to the time base. At a microsecond or finer this changes no pixel,
    because the filter blends in steps of 1/1024 of a gap.
    """
    steps = lcm(rate.numerator, first.duration.denominator, first.time.denominator)
    steps *= ceil(1_000_000 / steps)
    return Fraction(1, steps if steps < _TICK_LIMIT else 1_000_000_000)


class Chain:
    """A chain of filters for pictures of one size and pixel format."""

    def __init__(
        self,
        like: av.VideoFrame,
        *steps: tuple[str, str],
        tick: Fraction = Fraction(1, 25),
        rate: Fraction = Fraction(25),
    ) -> None:
        """Set up the filters.

        Args:
            like: a picture with the size, pixel format and colours of all pictures.
            steps: the name and the settings of each filter.
            tick: the time base of all pictures, in seconds.
            rate: the pictures per second.

        Raises:
            FFmpegError: a filter refuses such pictures.
        """
        self._tick = tick
        # The graph must exist as long as its filters.
        self._graph = av.filter.Graph()
        nodes = [*_nodes(self._graph, like, steps, tick, rate), self._graph.add("buffersink")]
        self._graph.link_nodes(*nodes).configure()
        self._entry, self._sink = nodes[0], nodes[-1]

    def push(self, picture: av.VideoFrame, pts: int | None) -> Iterator[av.VideoFrame]:
        """Add a picture with its time in ticks or None, and yield the pictures that are ready."""
        _push(self._entry, picture, pts, self._tick)
        return _pull(self._sink)

    def finish(self) -> Iterator[av.VideoFrame]:
        """Yield the last pictures."""
        self._entry.push(None)
        return _pull(self._sink)


def _nodes(
    graph: av.filter.Graph,
    like: av.VideoFrame,
    steps: Iterable[tuple[str, str]],
    tick: Fraction,
    rate: Fraction,
) -> list[FilterContext]:
    """Return the input node, for pictures like ``like``, and the filters, without links."""
    entry = graph.add(
        "buffer",
        f"video_size={like.width}x{like.height}:pix_fmt={like.format.name}:"
        f"time_base={tick}:pixel_aspect=1/1:frame_rate={rate}:"
        f"colorspace={int(like.colorspace)}:range={int(like.color_range)}",
    )
    return [entry, *(graph.add(*step) for step in steps)]


class Luma:
    """A converter of frames to 8-bit luma by FFmpeg.

    Samples above 8 bits are rounded. RGB becomes full-range luma of BT.709.
    """

    def __init__(self, like: Frame) -> None:
        """Set up the filters.

        Args:
            like: a frame with the size and pixel format of all frames.
        """
        self._like = like
        self._filters = Chain(like.picture, *_to_eight_bit(like))
        self._count = 0

    def of(self, frame: Frame) -> bytes:
        """Return the luma, row by row, as height times width bytes.

        Raises:
            ValueError: the frame has another size or pixel format than the first one.
        """
        _check_like(self._like, frame)
        (picture,) = self._filters.push(frame.picture, self._count)
        self._count += 1
        plane = picture.planes[0]
        rows = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)
        return rows[: picture.height, : picture.width].tobytes()


def _to_eight_bit(like: Frame) -> tuple[tuple[str, str], ...]:
    """Return the filters, as (name, settings), that convert frames to 8-bit gray or YUV.

    Chroma subsampling and alpha remain. Frames of 8-bit gray or YUV need no filter.
    """
    layout = like.picture.format
    if layout.is_rgb:
        # Without a given matrix the filter would choose one by the size of the picture.
        alpha = "a" if len(layout.components) == 4 else ""
        return (
            ("scale", "out_color_matrix=bt709:out_range=full:sws_dither=none"),
            ("format", f"yuv{alpha}444p"),
        )
    if layout.components[0].bits == 8:
        return ()
    narrow = like.pix_fmt.removesuffix("le").rstrip("0123456789")
    return ("scale", "sws_dither=none"), ("format", narrow)


def _push(entry: FilterContext, picture: av.VideoFrame, pts: int | None, tick: Fraction) -> None:
    # The filter copies the time at once, so a later change of the picture's time has no effect.
    picture.pts, picture.time_base = pts, tick
    entry.push(picture)


def _pull(sink: FilterContext) -> Iterator[av.VideoFrame]:
    while True:
        try:
            picture = sink.pull()
        except (BlockingIOError, av.error.EOFError):
            return
        assert isinstance(picture, av.VideoFrame)
        yield picture
