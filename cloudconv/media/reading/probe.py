"""Describe a file: its video stream, its exact timing, and its other streams and tags.

The timing comes from the time stamps of the packets, because a header may be wrong. They
are read once (`scan`), and only the first frames are decoded. `frames/timing.py` makes
times of the stamps. Some key frames are kept, so that a source seeks once.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame

from cloudconv.errors import InputError, SettingsError
from cloudconv.events import Warned
from cloudconv.media.containers.input import growth_of, local_file
from cloudconv.media.containers.matroska import segment_end
from cloudconv.media.containers.sidedata import has_own_colours, marks_of, side_data_of
from cloudconv.media.frames.clock import (
    SHORTEST,
    SHOWN,
    Part,
    is_of_pictures,
)
from cloudconv.media.frames.deinterlace import MEASURED_PICTURES, FieldMeter
from cloudconv.media.frames.formats import (
    LINEAR,
    OPAQUE,
    SRGB,
    is_float,
    is_opaque,
    widened,
    working_format,
)
from cloudconv.media.frames.frame import ColorTags, MediaInfo
from cloudconv.media.frames.timing import Stamps, Timing, timing_of
from cloudconv.media.reading import demux
from cloudconv.media.reading.adts import SoundFormats
from cloudconv.media.reading.identity import input_fingerprint, input_stamp
from cloudconv.media.reading.pictures import (
    SEQUENCE_RATE,
    Pictures,
    common_format,
    open_pictures,
    rest_of,
    subfolders_of,
    visible_in,
)
from cloudconv.media.reading.scan import Scan
from cloudconv.media.reading.tiff import pages_of, says_more
from cloudconv.messages import counted, listed, plural, shortened
from cloudconv.settings.numbers import parse_time

_DOLBY = Warned(
    "dolby-vision: The video is Dolby Vision of profile 5. Its colours are right only with "
    "its metadata, which is not applied: the output is green and purple. Convert the video "
    "to HDR10 first, with a program that applies the metadata."
)


def probe(
    path: Path | str,
    picture_rate: Fraction | None = None,
    *,
    live: bool = False,
    deinterlace: bool = False,
    stream: int | None = None,
    part: Part = (None, None),
) -> MediaInfo:
    """Probe a video file, animation, still, folder of pictures or ``%05d`` pattern.

    ``-`` is standard input. Its temporary copy exists as long as the description. With
    ``live``, the description of Matroska comes from its first seconds. ``picture_rate`` is
    in frames per second, for pictures without times. With ``deinterlace``, the description
    is of two frames for each interlaced picture. ``stream`` is the number of the video
    stream; None takes the best one. Of a ``part``, only the frames around it are read if a
    seek is sure to find it: the number of all frames is then approximate. Raises InputError
    if the input has no decodable video, or has times of its own and a ``picture_rate`` is
    given.
    """
    file = local_file(path, live=live)
    growth = growth_of(file)
    identity: dict[str, Any] = {}
    if growth is None:
        # First, so that every later change is noticed; the stamp before the content.
        identity = {"stamp": input_stamp(file), "fingerprint": input_fingerprint(file)}
    try:
        info = _probe(file, picture_rate, stream, part, deinterlace=deinterlace)
    finally:
        if growth is not None and growth.interrupt is not None:
            raise growth.interrupt  # an interrupt has ended the wait for the input
    if picture_rate is not None and not info.input_format.is_pictures:
        raise InputError(
            f"rate-of-video: {path} has times of its own, and --input-fps is for pictures "
            "only: leave it out."
        )
    if stream not in (None, info.video_index):
        raise demux.no_stream(stream, [info.video_index], file)
    return replace(info, **identity)


def _with_fields(info: MediaInfo, meter: FieldMeter) -> MediaInfo:
    """Return the description of two frames for each picture, unless all are progressive."""
    warnings = tuple(warned for warned in info.warnings if warned.code != "interlaced")
    timing = info.timing
    kind = None if timing.film and timing.rate else meter.kind
    if kind is not None:
        fields = timing.of_fields()
        return replace(info, warnings=warnings, fields=kind, coded=timing, timing=fields)
    text = (
        f"not-interlaced: The first {counted(meter.pictures, 'picture')} of the video "
        f"{plural(meter.pictures, 'is', 'are')} not interlaced: --deinterlace changes "
        "nothing."
    )
    return replace(info, warnings=(*warnings, Warned(text)))


def _probe(
    path: Path,
    rate: Fraction | None,
    number: int | None,
    part: Part,
    *,
    deinterlace: bool,
) -> MediaInfo:
    meter = FieldMeter(MEASURED_PICTURES if deinterlace else 1)
    pictures = open_pictures(path, rate)
    if pictures is None:
        info = _probe_file(path, rate, meter, number, part)
    else:
        info = _probe_pictures(path, pictures, meter, rate)
    if info is None:
        return _probe(path, rate, number, (None, None), deinterlace=deinterlace)
    return _with_fields(info, meter) if deinterlace else info


def _probe_file(
    path: Path, rate: Fraction | None, meter: FieldMeter, number: int | None, part: Part
) -> MediaInfo | None:
    """Describe a file; return None if only the whole file tells the times of a part."""
    briefly = growth_of(path) is not None
    with demux.open_container(path) as container:
        # Matroska files that were put together have the index of the first one.
        if "matroska" in container.format.name and _stated_size(path) != container.size:
            part = (None, None)
        stream = demux.main_video(container, path, number)
        sounds = SoundFormats(container)
        demux.only(container, {stream.index, *(each.index for each in sounds.streams)})
        decoder = demux.open_decoder(stream)
        expected_aspect = decoder.sample_aspect_ratio  # before the first frame
        stamps = Scan(
            container, stream, decoder, meter, sounds, briefly=briefly, part=part
        ).read()
        seconds = None if stamps.is_brief else _stated_seconds(stream)
        if seconds is None and not (stamps.ends or stamps.is_brief):
            seconds = Fraction(container.duration or 0, av.time_base)
        if seconds is not None and not lacks_its_end(path):
            stamps = replace(stamps, length=seconds)
        first = meter.first
        context = stream.codec_context
        if first is None:
            codec = decoder.codec.canonical_name
            tried = counted(stamps.packets, "packet")
            raise InputError(
                f"data-damaged: No frame of {path} can be decoded: its {codec} data is "
                f"damaged, incomplete or encrypted ({tried} tried). Give a complete file "
                "that players show."
                if stamps.packets
                else demux.too_short(path)
            )
        is_still = stamps.shown == 1 and is_of_pictures(container)
        if is_still:  # GIF states a duration, and FFmpeg reads photos at 1 frame a second
            stamps = replace(stamps, header_rates=(), last_duration=0)
        timing = timing_of(stamps, rate)
        if timing.is_part and (
            not timing.has_timestamps
            or timing.film
            or timing.restarts
            # No seek has found a key frame before the part.
            or int(stamps.times[0]) * stamps.tick - timing.start > (part[0] or 0)
        ):
            return None
        ratio = stream.sample_aspect_ratio
        of_frame = meter.aspect
        if ratio == expected_aspect:
            # The container's ratio may be a copy of the decoder's, so the first frame has
            # priority.
            ratio = of_frame or ratio
        place, marks = marks_of(stream)
        return _described(
            path,
            first,
            context,
            marks=marks,
            opaque=meter.is_opaque,
            container="image2" if is_still else container.format.name,
            timing=timing,
            suffix=path.suffix.lower(),
            codec=context.codec.canonical_name,
            profile=context.profile or "",
            video_index=stream.index,
            aspect=Fraction(ratio) if ratio and ratio != 1 else None,
            chroma_location=place,
            interlaced=bool(first.interlaced_frame),
            streams=tuple(
                (
                    s.type,
                    None if s.start_time is None else s.start_time * (s.time_base or 0),
                )
                for s in container.streams
                if s.index != stream.index and not demux.is_chapters(s)
            ),
            sound_changes=sounds.changes(timing.restarts),
            metadata=dict(container.metadata),
            warnings=tuple(
                _warnings(path, container, stream, stamps, timing, first, number)
            ),
            chapters=len(container.chapters()),
        )


def _described(
    path: Path,
    first: VideoFrame,
    context: Any = None,
    *,
    codec: str,
    warnings: tuple[Warned, ...],
    file: Path | None = None,
    marks: dict[str, bytes] | None = None,
    opaque: bool = False,
    **fields: Any,
) -> MediaInfo:
    """Return the description from what is known and from the first picture.

    ``context`` is a file's decoder. ``file`` is the first picture if ``path`` is no file;
    ``marks`` is the side data of the stream. ``opaque``: no picture uses the opacity of the
    format.
    """
    name = first.format.name
    if is_float(name) and int(first.color_trc) == LINEAR:
        text = (
            "Pictures of linear light are converted to sRGB with 16 bits; values above 1 "
            "become 1."
        )
        warnings = (Warned(f"linear-light: {text}"), *warnings)
    try:
        working = working_format(OPAQUE[name] if opaque else name)
    except ValueError as error:
        why = "samples that do not fit whole numbers of at most 16 bits"
        if name.startswith("xyz"):
            why = "the colours of digital cinema (XYZ), which most players do not show"
        raise InputError(
            f"unusable-pixel-format: The pixel format {name} of {path} has {why}: convert "
            "to a format such as yuv420p or yuv444p10le."
        ) from error
    side_data = side_data_of(first, codec)
    if has_own_colours(side_data):
        warnings = (_DOLBY, *warnings)
    if codec in ("tiff", "tif") and not says_more(file or path):
        side_data.pop("EXIF", None)  # FFmpeg calls all tags of a TIFF so
    return MediaInfo(
        path=path,
        codec=codec,
        display_matrix=side_data.pop("DISPLAYMATRIX", None),
        side_data=side_data | (marks or {}),
        width=first.width,
        height=first.height,
        pix_fmt=name,
        working_pix_fmt=working,
        tags=_tags(first, context),
        warnings=warnings,
        **fields,
    )


def _tags(frame: VideoFrame, context: Any = None) -> ColorTags:
    full = frame.format.name.startswith(("yuvj", "mono"))
    names = ("color_primaries", "color_trc", "colorspace")
    tags = [int(getattr(frame, name)) for name in names]
    extent = 2 if full else int(frame.color_range)
    if is_float(frame.format.name) and tags[1] == LINEAR:
        tags[1] = SRGB
    elif context is not None:
        # The value 2 means unspecified; for the range, 0 does.
        for number, name in enumerate(names):
            if tags[number] == 2:
                tags[number] = int(getattr(context, name))
        extent = extent or int(context.color_range)
    return ColorTags(tags[0], tags[1], tags[2], extent)


def _warnings(
    path: Path,
    container: InputContainer,
    stream: Any,
    stamps: Stamps,
    timing: Timing,
    first: VideoFrame,
    number: int | None,
) -> Iterator[Warned]:
    if stamps.hurried:
        yield _hurried(stamps.hurried)
    if stamps.early:
        yield Warned(
            f"starts-without-key: The recording begins between two key frames: "
            f"{counted(stamps.early, 'frame')} before the first one cannot be decoded."
        )
    stated = None if stamps.is_brief else _stated_seconds(stream)
    shortfall = 3 * timing.last_duration + Fraction(1, 10)
    if stamps.is_cut_off:
        yield Warned(
            "cut-off-index: The file is cut off: its index lists "
            f"{len(stream.index_entries)} frames, and {stamps.packets} exist."
        )
    elif stated and timing.end < stated - shortfall and lacks_its_end(path):
        yield Warned(
            f"cut-off-length: The file is cut off: its header says {float(stated):.2f} s, "
            f"but its video ends at {float(timing.end):.2f} s."
        )
    if count := len(timing.restarts):
        again = plural(count, "once", f"{count} times")
        yield Warned(
            f"clock-restarts: The time stamps of the file start again {again}; the frames "
            "after that follow without a gap."
        )
    if stamps.late:
        yield Warned(
            f"numbers-change: The number of the video stream changes: "
            f"{counted(stamps.late, 'frame')} before such a change, which FFmpeg returns "
            f"after all others, {plural(stamps.late, 'is', 'are')} left out."
        )
    if timing.film:
        what = "The video is" if timing.rate else "Parts of the video are"
        yield Warned(
            f"film: {what} film whose pictures last two and three fields in turn (soft "
            "telecine): they get even times, about 24 a second, as they were filmed. "
            "--refill and --deinterlace change nothing there."
        )
    if first.interlaced_frame:
        yield Warned(
            "interlaced: The video is marked as interlaced, and its pictures are used as "
            "they are. If moving edges look like combs, --deinterlace makes two whole "
            "frames of each picture."
        )
    videos = [
        s for s in container.streams.video if not s.disposition & Disposition.attached_pic
    ]
    others = [str(video.index) for video in videos if video.index != stream.index]
    if others and number is None:
        yield Warned(
            f"several-videos: The file has several video streams; stream {stream.index} is "
            f"used. --stream takes another: {listed(others, 'or')}."
        )


def _hurried(count: int) -> Warned:
    last = plural(count, "picture lasts", "pictures last")
    return Warned(
        f"short-delays: {count} {last} {float(SHORTEST):g} s or less by the file, and "
        f"{plural(count, 'gets', 'get')} {float(SHOWN):g} s, as browsers show such "
        "pictures."
    )


def _stated_seconds(stream: Any) -> Fraction | None:
    with suppress(SettingsError):
        return parse_time(stream.metadata.get("DURATION", "").strip("\0 "))
    return None


def lacks_its_end(path: Path) -> bool:
    """Return whether a Matroska file is shorter than its header states."""
    end = _stated_size(path)
    return end is not None and path.stat().st_size < end


def _stated_size(path: Path) -> int | None:
    with path.open("rb") as file:
        return segment_end(file.read(1 << 12))


def _probe_pictures(
    path: Path, pictures: Pictures, meter: FieldMeter, picture_rate: Fraction | None
) -> MediaInfo:
    common = common_format(pictures.files)
    for picture in islice(filter(None, pictures.decode(0)), meter.most):
        meter.push(picture if common is None else widened(picture, common))
    first = meter.first
    if first is None:
        raise no_frame(path)
    suffix = pictures.files[0].suffix.lower()
    # With so fine a tick, equal durations give their rate exactly. WebP has milliseconds.
    ticks_a_second = math.lcm(
        {"webp": 1_000}.get(pictures.container, 10_000),
        *(duration.denominator for duration in pictures.durations),
    )
    ticks = [int(duration * ticks_a_second) for duration in pictures.durations]
    stamps = Stamps(
        tick=Fraction(1, ticks_a_second),
        times=np.array([0, *accumulate(ticks[:-1])]),
        packets=len(ticks),
        shown=len(ticks),
        durations=frozenset(ticks),
        last_duration=ticks[-1],
        is_rate_guessed=True,
    )
    return _described(
        path,
        first,
        container=pictures.container,
        timing=timing_of(stamps, None),
        suffix=suffix,
        codec=pictures.codec,
        file=pictures.files[0],
        # Only PNGs may have a transparent colour in one palette and none in another.
        opaque=first.format.name == "pal8" and is_opaque(first),
        # JPEG has the samples of chroma in the middle of the pixels that they cover.
        chroma_location="center" if suffix in (".jpg", ".jpeg") else None,
        warnings=tuple(_picture_warnings(path, pictures, picture_rate)),
    )


def no_frame(path: Path) -> InputError:
    """Return the error for an input of which no frame can be decoded."""
    why = (
        "can be decoded: the file is damaged, or of a kind that FFmpeg does not read, such "
        "as EXR with named layers only. Give a complete file, or convert it."
    )
    return InputError(f"no-frame-decoded: No frame of {path} {why}")


def _picture_warnings(
    path: Path, pictures: Pictures, rate: Fraction | None
) -> Iterator[Warned]:
    if pictures.hurried:
        yield _hurried(pictures.hurried)
    if rate is None and pictures.container == "image2" and len(pictures.files) > 1:
        yield Warned(
            f"rate-assumed: The pictures have no times and are read at {SEQUENCE_RATE} "
            "fps: give another rate with --input-fps."
        )
    if missing := pictures.missing():
        gaps = shortened([str(a) if a == b else f"{a}-{b}" for a, b in missing], 6)
        yield Warned(
            f"pictures-missing: Numbers are missing among the pictures: {gaps}. The "
            "picture after a gap directly follows the one before."
        )
    parts = [] if len({*pictures.files}) < len(pictures.files) else pictures.files
    if stacks := [file.name for file in parts if pages_of(file) > 1]:
        yield Warned(
            f"pages-left-out: Only the first page of each TIFF is used, and {len(stacks)} "
            f"have more ({shortened(stacks, 3)}): give such a file alone."
        )
    if not path.is_dir():
        return
    others = sorted({*visible_in(path)}.difference(pictures.files))
    kind = f"{pictures.files[0].suffix} pictures"
    yield from rest_of(path, kind, chain(subfolders_of(path), others))
