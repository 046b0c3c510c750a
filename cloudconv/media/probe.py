"""Describe a file: its video stream, its exact timing, and its other streams and tags.

The timing comes from the time stamps of all packets, because a header may be wrong. The file is
read once from end to end, and only its first frame is decoded.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from cloudconv.errors import InputError, ReadError
from cloudconv.events import Warned
from cloudconv.media.demux import (
    VideoClock,
    is_chapters,
    is_shown,
    main_video,
    no_stream,
    only,
    open_container,
    open_decoder,
    read_packets,
    too_short,
)
from cloudconv.media.filters import MEASURED_PICTURES, FieldMeter
from cloudconv.media.formats import LINEAR, SRGB, is_float, widened, working_format
from cloudconv.media.frame import ColorTags
from cloudconv.media.identity import input_fingerprint, input_stamp
from cloudconv.media.info import MediaInfo, StreamInfo, Timing, reader_of
from cloudconv.media.input import growth_of, local_file
from cloudconv.media.matroska import segment_end
from cloudconv.media.pictures import (
    SEQUENCE_RATE,
    Pictures,
    common_format,
    open_pictures,
    subfolders_of,
)
from cloudconv.media.rates import Film, constant_rate, film_parts, film_rate, middle_distance
from cloudconv.media.sidedata import chroma_location, side_data_of
from cloudconv.messages import counted, listed, plural, shortened

# If the last frame lasts at least this many times as long as the others, the length is intended.
_LONG_GAP = 2

_LONGEST_LAST = 600  # seconds; a longer last frame is an error of the file

# Packets for each one without a time, from which on the others give the times of the frames.
_FEW_UNSTAMPED = 10

_NO_TIME = -(2**63)  # before every time
_FRAMES_FOR_RATE = 48  # frames to read before the rate of an arriving input is computed
_FAR_FUTURE = 10**9  # seconds; the assumed length of an input that is still arriving


def probe(
    path: Path | str,
    picture_rate: Fraction | None = None,
    *,
    live: bool = False,
    deinterlace: bool = False,
    stream: int | None = None,
) -> MediaInfo:
    """Probe a video file, animation, still, folder of pictures or ``%05d`` pattern.

    ``-`` is standard input. Its temporary copy exists as long as the description. With ``live``,
    the description of Matroska comes from its first seconds, and the rest is read while the input
    arrives. ``picture_rate`` is in frames per second, for pictures without times. With
    ``deinterlace``, the description is of two frames for each interlaced picture, one for each
    field; the first pictures show the order of the fields. ``stream`` is the number of the video
    stream; None takes the best one. Raises InputError if the input has no decodable video, or has
    times of its own and a ``picture_rate`` is given.
    """
    file = local_file(path, live=live)
    growth, stamp, fingerprint = growth_of(file), "", ""
    # Both are taken first, the stamp before the content, so that every later change is noticed.
    if growth is None:
        try:
            stamp, fingerprint = input_stamp(file), input_fingerprint(file)
        except InputError as error:
            if isinstance(error, ReadError):
                raise  # later code gives a better message for others
    meter = FieldMeter(MEASURED_PICTURES if deinterlace else 1)
    try:
        info = _probe(file, picture_rate, meter, stream)
    finally:
        if growth is not None and growth.interrupt is not None:
            raise growth.interrupt  # which has ended the wait for the input
    if picture_rate is not None and not info.reader.is_pictures:
        raise InputError(
            f"rate-of-video: {path} has times of its own, and --input-fps is for pictures only: "
            "leave it out."
        )
    if stream not in (None, info.video_index):
        raise no_stream(stream, [info.video_index], file)
    untold = "several-videos" if stream is not None else ""
    warnings = tuple(warned for warned in info.warnings if warned.code != untold)
    info = replace(info, fingerprint=fingerprint, stamp=stamp, warnings=warnings)
    return _with_fields(info, meter) if deinterlace else info


def _with_fields(info: MediaInfo, meter: FieldMeter) -> MediaInfo:
    """Return the description of two frames for each picture, unless all are progressive."""
    warnings = tuple(warned for warned in info.warnings if warned.code != "interlaced")
    timing = info.timing
    kind = None if timing.film and timing.rate else meter.kind
    if kind is not None:
        fields = timing.of_fields()
        return replace(info, warnings=warnings, fields=kind, coded=timing, timing=fields)
    text = (
        f"not-interlaced: The first {meter.pictures} pictures of the video are not interlaced: "
        "--deinterlace changes nothing."
    )
    return replace(info, warnings=(*warnings, Warned(text)))


def _probe(
    path: Path, picture_rate: Fraction | None, meter: FieldMeter, number: int | None
) -> MediaInfo:
    pictures = open_pictures(path, picture_rate)
    if pictures is not None:
        return _probe_pictures(path, pictures, meter, picture_rate)
    with open_container(path) as container:
        stream = main_video(container, path, number)
        only(container, (stream.index,))
        scan = _Scan(container, stream, meter, briefly=growth_of(path) is not None)
        if meter.first is None:
            codec, tried = scan.decoder.codec.canonical_name, counted(scan.packets, "packet")
            raise InputError(
                f"data-damaged: No frame of {path} can be decoded: its {codec} data is damaged, "
                f"incomplete or encrypted ({tried} tried). Give a complete file that players show."
                if scan.packets
                else too_short(path)
            )
        timing = _timing(container, stream, scan, meter.first, picture_rate)
        return _describe(path, container, stream, scan, meter.first, timing)


class _Scan:
    """The packets of a file, of which ``shown`` have a visible frame; times in ticks.

    ``times`` are the different times of those, sorted, and ``unstamped`` those without a time.
    """

    def __init__(
        self, container: InputContainer, stream: Any, meter: FieldMeter, *, briefly: bool
    ) -> None:
        self.decoder = open_decoder(stream)
        self.expected_aspect = self.decoder.sample_aspect_ratio  # before the first frame
        self.packets, self.is_brief = 0, False
        codec, clock = self.decoder.codec.canonical_name, VideoClock(container, stream)
        stamps, durations, decoded = array("q"), array("q"), array("q")
        # If a codec reorders frames, and the times still increase, they may be decode times.
        may_decode = self.decoder.reorder_depth > 0 and not briefly
        for packet in chain(read_packets(container, stream, clock), [None]):
            if meter.pictures < meter.most or (may_decode and len(decoded) < _FRAMES_FOR_RATE):
                for picture in _decoded(self.decoder, packet):
                    decoded.append(_NO_TIME if picture.pts is None else picture.pts)
                    if meter.pictures < meter.most:
                        meter.push(picture)
            self.packets += packet is not None
            if packet is not None and is_shown(packet, codec):
                may_decode &= packet.pts is not None and (not stamps or packet.pts > stamps[-1])
                stamps.append(_NO_TIME if packet.pts is None else packet.pts)
                durations.append(packet.duration or 0)
                if briefly and meter.first is not None and len(stamps) >= _FRAMES_FOR_RATE:
                    self.is_brief = True
                    break
        self.shifts = clock.shifts
        times, self.durations = np.array(stamps, np.int64), set(durations)
        self.shown, self.unstamped = len(times), int((times == _NO_TIME).sum())
        jumps = any(after < before for before, after in pairwise(decoded))
        states_none = reader_of(container.format.name).stamps_decoding
        self.in_order = may_decode and self.shown > 1 and (jumps or states_none)
        self.last_duration = durations[int(times.argmax())] if durations else 0
        self.times = np.unique(times[times != _NO_TIME])


def _decoded(decoder: Any, packet: Any) -> list[VideoFrame]:
    try:
        frames: list[VideoFrame] = decoder.decode(packet)
    except av.error.BlockingIOError:  # the system starts no more threads
        raise
    except av.error.FFmpegError:
        return []
    return [frame for frame in frames if frame.width and frame.height]


def _timing(
    container: InputContainer,
    stream: Any,
    scan: _Scan,
    first: VideoFrame,
    picture_rate: Fraction | None,
) -> Timing:
    time_base, reader = Fraction(stream.time_base), reader_of(container.format.name)
    rates = (stream.guessed_rate, stream.average_rate, stream.base_rate)
    hints = [Fraction(rate) for rate in rates if rate]
    times, is_timed = scan.times, not scan.in_order
    if first.pts is not None and is_timed:
        # The recording starts mid-stream: frames before the first key frame cannot be decoded.
        times = times[times >= first.pts]
    if scan.is_brief:
        # Frames that are stored out of order leave gaps among the last times read.
        times = times[: -_FRAMES_FOR_RATE // 2]
    all_equal = len(times) == 1 and scan.shown > 1
    if scan.unstamped * _FEW_UNSTAMPED <= scan.shown and len(times) > 1:
        # A further time is in the middle of each of the longest gaps.
        gaps = np.diff(times)
        longest = np.argsort(gaps)[len(gaps) - min(scan.unstamped, len(gaps)) :]
        times = np.union1d(times, times[longest] + gaps[longest] // 2)
    elif scan.unstamped or all_equal or not len(times):
        # Elementary streams and some program streams have a frame order and a rate, but no times.
        duration = scan.durations.pop() if len(scan.durations) == 1 else 0
        rate = 1 / (duration * time_base) if duration else next(iter(hints), Fraction(25))
        start = (int(times[0]) if len(times) else first.pts or 0) * time_base
        end = start + scan.shown / rate
        return Timing(start, scan.shown, rate, 1 / rate, time_base, end, False)
    start, count = int(times[0]) * time_base, len(times)
    constant: Fraction | None
    film: tuple[Film, ...] = ()
    if count == 1 and (picture_rate is not None or not scan.last_duration):
        constant = picture_rate or next((rate for rate in hints if 1 <= rate <= 1000), Fraction(25))
    else:
        stamps = times if count > 1 else np.array([0, scan.last_duration])
        if reader.guesses_rate:
            # No rate is stated. Equal gaps were written exactly.
            steps = set(np.diff(stamps).tolist())
            hints = [1 / (step * time_base) for step in steps] if len(steps) == 1 else []
        constant = constant_rate(stamps, time_base, hints)
        film = film_parts(times, time_base) if constant is None and not scan.is_brief else ()
        constant = film_rate(times, time_base, hints) if film else constant
    lasts = _last_duration(container, stream, scan, times) * time_base
    last = int(times[-1]) * time_base if constant is None else start + (count - 1) / constant
    before, even, lag = constant, None, Fraction(0)
    if constant is not None and (count == 1 or lasts < _LONG_GAP / constant):
        before, even, lasts = None, constant, 1 / constant
        lag = middle_distance(times, time_base, constant)
    about: Any = {"rate_before_last": before, "film": film, "lag": lag}
    return Timing(start, count, even, lasts, time_base, last + lasts, is_timed, **about)


def _is_cut_off(container: InputContainer, stream: Any, scan: _Scan) -> bool:
    return reader_of(container.format.name).has_index and stream.frames > scan.packets


def _last_duration(
    container: InputContainer, stream: Any, scan: _Scan, times: NDArray[np.int64]
) -> int:
    """Return the duration of the last frame in ticks; 0 for a single frame without a duration.

    The duration is the first possible one of: what the track's length leaves, that of the packet,
    and the median of the others.
    """
    possible = [scan.last_duration]
    stated = _stated_seconds(stream)
    if stated and not scan.is_brief and not _lacks_its_end(container):
        # Matroska rarely states a frame's duration, so the length of the track gives the duration.
        left = int(stated / stream.time_base) - int(times[-1])
        if left > _LONG_GAP * (scan.last_duration or 1):
            possible.insert(0, left)
    length = stream.duration if reader_of(container.format.name).has_index else None
    if length and stream.start_time is not None and not _is_cut_off(container, stream, scan):
        # The last packet in decode order is not the last one shown, so its duration may belong to
        # another frame. The length of the track gives the right duration.
        possible.insert(0, stream.start_time + length - int(times[-1]))
    gaps = np.sort(np.diff(times))
    least, usual = (int(gaps[0]) // 4, int(gaps[len(gaps) // 2])) if len(gaps) else (0, 0)
    most = int(_LONGEST_LAST / stream.time_base)
    return next((ticks for ticks in possible if max(least, 1) <= ticks <= most), usual)


def _describe(
    path: Path,
    container: InputContainer,
    stream: Any,
    scan: _Scan,
    first: VideoFrame,
    timing: Timing,
) -> MediaInfo:
    timing, times = replace(timing, shifts=scan.shifts, in_order=scan.in_order), scan.times
    if timing.rate is None and len(gaps := np.diff(times)):
        at, base = int(gaps.argmax()), timing.time_base
        timing = replace(
            timing,
            median_gap=int(np.sort(gaps)[len(gaps) // 2]) * base,
            shortest_gap=int(gaps.min()) * base,
            longest_gap=(int(times[at]) * base, int(times[at + 1]) * base),
            rate_but_gap=_rate_but_gap(times, at, base) if timing.gap_rate is None else None,
        )
    if scan.is_brief:
        timing = replace(
            timing, end=timing.start + _FAR_FUTURE, rate_before_last=None, open_ended=True
        )
    context = stream.codec_context
    ratio, of_frame = stream.sample_aspect_ratio, scan.decoder.sample_aspect_ratio
    if ratio == scan.expected_aspect:
        # The container's ratio may be a copy of the decoder's, so the first frame has priority.
        ratio = of_frame or ratio
    others: list[Any] = [each for each in container.streams if each.index != stream.index]
    starts = [
        (each.type, each.start_time, each.time_base) for each in others if not is_chapters(each)
    ]
    return _described(
        path,
        first,
        context,
        container=container.format.name,
        timing=timing,
        suffix=path.suffix.lower(),
        codec=context.codec.canonical_name,
        profile=context.profile or "",
        video_index=stream.index,
        aspect=Fraction(ratio) if ratio and ratio != 1 else None,
        chroma_location=chroma_location(stream),
        interlaced=bool(first.interlaced_frame),
        streams=tuple(
            StreamInfo(kind, start * base if start is not None and base else None)
            for kind, start, base in starts
        ),
        metadata=dict(container.metadata),
        warnings=tuple(_warnings(container, stream, scan, timing, bool(first.interlaced_frame))),
        chapters=len(container.chapters()),
    )


def _rate_but_gap(times: NDArray[np.int64], at: int, time_base: Fraction) -> Fraction | None:
    """Return the rate of all frames but for the gap after frame ``at``; None if it is no rate."""
    fewer, more = sorted((times[: at + 1], times[at + 1 :]), key=len)
    rate = constant_rate(more, time_base) if len(more) > 1 else None
    alike = len(fewer) < 2 or rate is None or constant_rate(fewer, time_base, [rate]) == rate
    return rate if alike else None


def _described(
    path: Path,
    first: VideoFrame,
    context: Any = None,
    *,
    codec: str,
    warnings: tuple[Warned, ...],
    **known: Any,
) -> MediaInfo:
    """Return what is known and what the first picture shows; ``context`` is a file's decoder."""
    name = first.format.name
    if is_float(name) and int(first.color_trc) == LINEAR:
        text = (
            "Pictures of linear light are converted to sRGB with 16 bits; values above 1 become 1."
        )
        warnings = (Warned(f"linear-light: {text}"), *warnings)
    try:
        working = working_format(name)
    except ValueError as error:
        raise InputError(
            f"unusable-pixel-format: The pixel format {name} of {path} has samples that do not fit "
            "whole numbers of at most 16 bits: convert to a format such as yuv420p or yuv444p10le."
        ) from error
    side_data = side_data_of(first, codec)
    return MediaInfo(
        path=path,
        codec=codec,
        display_matrix=side_data.pop("DISPLAYMATRIX", None),
        side_data=side_data,
        width=first.width,
        height=first.height,
        pix_fmt=name,
        working_pix_fmt=working,
        tags=_tags(first, context),
        warnings=warnings,
        **known,
    )


def _tags(frame: VideoFrame, context: Any = None) -> ColorTags:
    full = frame.format.name.startswith(("yuvj", "mono"))
    primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
    matrix, extent = int(frame.colorspace), 2 if full else int(frame.color_range)
    if is_float(frame.format.name) and transfer == LINEAR:
        transfer = SRGB
    elif context is not None:
        # The value 2 means unspecified; for the range, 0 does.
        primaries = primaries if primaries != 2 else int(context.color_primaries)
        transfer = transfer if transfer != 2 else int(context.color_trc)
        matrix = matrix if matrix != 2 else int(context.colorspace)
        extent = extent or int(context.color_range)
    return ColorTags(primaries, transfer, matrix, extent)


def _warnings(
    container: InputContainer, stream: Any, scan: _Scan, timing: Timing, interlaced: bool
) -> Iterator[Warned]:
    gaps = np.diff(scan.times)
    delays = sorted(set(gaps.tolist()))
    is_even = timing.rate is not None
    by_turns = len(delays) > 1 and (is_even or bool((gaps[2:] == gaps[:-2]).all()))
    if container.format.name == "gif" and by_turns and len(gaps) > 2:
        named = listed([f"{float(each * timing.time_base):g}" for each in delays], "and")
        yield Warned(
            f"uneven-delays: The pictures of the GIF last {named} s by turns: "
            + (
                f"they get even times, at {timing.in_words}."
                if is_even
                else "the rate is variable."
            )
        )
    stated = None if scan.is_brief else _stated_seconds(stream)
    shortfall = 3 * timing.last_duration + Fraction(1, 10)
    if _is_cut_off(container, stream, scan):
        yield Warned(
            f"cut-off-index: The file is cut off: its index lists {stream.frames} frames, and "
            f"{scan.packets} exist."
        )
    elif stated and timing.end < stated - shortfall and _lacks_its_end(container):
        yield Warned(
            f"cut-off-length: The file is cut off: its header says {float(stated):.2f} s, but its "
            f"video ends at {float(timing.end):.2f} s."
        )
    if timing.shifts:
        again = plural(len(timing.shifts), "once", f"{len(timing.shifts)} times")
        yield Warned(
            f"clock-restarts: The time stamps of the file start again {again}; the frames after "
            "that follow without a gap."
        )
    if timing.film:
        what = "The video is" if timing.rate else "Parts of the video are"
        yield Warned(
            f"film: {what} film whose pictures last two and three fields in turn (soft telecine): "
            "they get even times, about 24 a second, as they were filmed. --refill and "
            "--deinterlace change nothing there."
        )
    if interlaced:
        yield Warned(
            "interlaced: The video is marked as interlaced, and its pictures are used as they "
            "are. If moving edges look like combs, --deinterlace makes two whole frames of each "
            "picture."
        )
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if others := [str(video.index) for video in videos if video.index != stream.index]:
        yield Warned(
            f"several-videos: The file has several video streams; stream {stream.index} is used. "
            f"--stream takes another: {listed(others, 'or')}."
        )


def _stated_seconds(stream: Any) -> Fraction | None:
    parts = stream.metadata.get("DURATION", "").strip("\0 ").split(":")
    if len(parts) != 3:
        return None
    try:
        hours, minutes, seconds = (Fraction(part) for part in parts)
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds


def _lacks_its_end(container: InputContainer) -> bool:
    path = Path(container.name.removeprefix("file:"))
    if not path.is_file():
        return False  # an input that was read while it arrived is complete
    with path.open("rb") as file:
        end = segment_end(file.read(1 << 12))
    return end is not None and path.stat().st_size < end


def _probe_pictures(
    path: Path, pictures: Pictures, meter: FieldMeter, picture_rate: Fraction | None
) -> MediaInfo:
    common = common_format(pictures.files)
    for picture in islice(filter(None, pictures.decode(0)), meter.most):
        meter.push(picture if common is None else widened(picture, common))
    first = meter.first
    if first is None:
        raise InputError(
            f"no-frame-decoded: No frame of {path} can be decoded: the file is damaged. Give a "
            "complete file."
        )
    durations, gap_rate = pictures.durations, pictures.rate
    is_even = gap_rate and not _LONG_GAP / gap_rate <= durations[-1] <= _LONGEST_LAST
    rate = gap_rate if is_even else None
    suffix = pictures.files[0].suffix.lower()
    timing = Timing(
        Fraction(0),
        len(durations),
        rate,
        durations[-1] if rate is None else 1 / rate,
        Fraction(1, math.lcm(*(d.denominator for d in durations))),
        sum(durations, Fraction(0)) if rate is None else len(durations) / rate,
        rate_before_last=None if is_even else gap_rate,
        median_gap=None if is_even else sorted(durations)[len(durations) // 2],
        shortest_gap=None if is_even else min(durations),
    )
    return _described(
        path,
        first,
        container=pictures.container,
        timing=timing,
        suffix=suffix,
        codec=suffix[1:],
        # JPEG has the samples of chroma in the middle of the pixels that they cover.
        chroma_location="center" if suffix in (".jpg", ".jpeg") else None,
        warnings=tuple(_picture_warnings(path, pictures, picture_rate)),
    )


def _picture_warnings(
    path: Path, pictures: Pictures, picture_rate: Fraction | None
) -> Iterator[Warned]:
    if picture_rate is None and pictures.container == "image2" and len(pictures.files) > 1:
        yield Warned(
            f"rate-assumed: The pictures have no times and are read at {SEQUENCE_RATE} fps: give "
            "another rate with --input-fps."
        )
    if missing := pictures.missing():
        gaps = shortened([str(a) if a == b else f"{a}-{b}" for a, b in missing], 6)
        yield Warned(
            f"pictures-missing: Numbers are missing among the pictures: {gaps}. The picture after "
            "a gap directly follows the one before."
        )
    if path.is_dir() and (folders := subfolders_of(path)):
        names = [folder.name for folder in folders]
        yield Warned(f"subfolders-ignored: Folders inside {path} are ignored: {', '.join(names)}.")
