"""Make two frames of each interlaced picture, and measure how a video is interlaced.

An interlaced picture has two fields, which were filmed one after the other: the even lines
and the odd lines. A progressive picture in an interlaced stream was filmed at once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Literal

import av

from cloudconv.errors import InputError
from cloudconv.media.frames.filters import Chain
from cloudconv.media.frames.formats import repack, working_format

Order = Literal["tff", "bff", "auto"]
"""The earlier field: the even lines (``tff``), the odd lines (``bff``), or that which a
picture states (``auto``)."""

MEASURED_PICTURES = 25  # first pictures that show whether and how a video is interlaced
_TALLEST = 1088  # lines of an interlaced picture

# The filter compares the fields of a picture with those of the pictures beside it. With its
# own threshold of 1.5 for progressive pictures it leaves 40 % of them undetermined.
_DETECTOR = "idet", "intl_thres=1.1:prog_thres=1.1"

# A picture, its time in seconds, and its captions.
TimedPicture = tuple[av.VideoFrame, Fraction, bytes]


@dataclass(frozen=True, slots=True)
class FieldKind:
    """The fields of an interlaced video."""

    order: Order = "auto"
    # Whether each picture states if it is interlaced. Otherwise all count as interlaced.
    marked: bool = True


class FieldMeter:
    """A measurement of the first pictures of a video: whether and how they are interlaced.

    ``pictures`` is their number, ``most`` the wanted number, ``first`` the first picture,
    and ``aspect`` the sample aspect ratio that the decoder had then. ``is_opaque``: all
    pictures are decoded, and are known to be opaque.
    """

    def __init__(self, most: int) -> None:
        self.first: av.VideoFrame | None = None
        self.aspect: Fraction | None = None
        self.is_opaque = False
        self.pictures = 0
        self.most = most
        self._marked = False
        self._detector: Chain | None = None
        self._found: Counter[str] = Counter()

    def push(self, picture: av.VideoFrame) -> None:
        """Add the next picture.

        A single one, and pictures unlike the first, are not measured.
        """
        self.first = self.first or picture
        self.pictures += 1
        self._marked |= bool(picture.interlaced_frame)
        if picture.height > _TALLEST:
            self.most = 1
        if self.most > 1:
            # Later code gives a better message for a format that changes or cannot be used.
            with suppress(ValueError):
                picture = repack(picture, working_format(picture.format.name))
                self._detector = self._detector or Chain(picture, _DETECTOR)
                for measured in self._detector.push(picture, pts=picture.pts):
                    self._found[_found(measured)] += 1

    @property
    def kind(self) -> FieldKind | None:
        """Return the kind of the fields; None if most pictures are progressive.

        Pictures that state to be interlaced are interlaced, and so are those in which
        nothing moves.
        """
        order: Order = "auto"
        top, bottom = self._found["tff"], self._found["bff"]
        if self._found["progressive"] > top + bottom:
            return FieldKind(order) if self._marked else None
        if max(top, bottom) > 2 * min(top, bottom):
            order = "tff" if top > bottom else "bff"
        return FieldKind(order, self._marked)


def frames_of_fields(
    pictures: Iterable[TimedPicture],
    kind: FieldKind,
    second: Callable[[Fraction, Fraction | None], Fraction],
) -> Iterator[TimedPicture]:
    """Yield two whole frames for each picture, one for each field, by ``bwdif``.

    The lines of the other field are computed from the fields before and after. A
    progressive picture is yielded twice. ``second`` returns the time of a picture's second
    frame, from the time of the picture and that of the next one, None after the last one.
    Raises InputError if a plane is smaller than 3x4 samples.
    """
    source = iter(pictures)
    first = next(source, None)
    if first is None:
        return
    like = first[0]
    step = f"mode=send_field:parity={kind.order}:deint=all"
    try:
        filters = Chain(like, ("bwdif", step), ("format", like.format.name))
    except av.error.FFmpegError as error:
        raise InputError(
            f"not-deinterlaced: Pictures of {like.width}x{like.height} cannot be "
            "deinterlaced: leave --deinterlace out."
        ) from error
    unmarked = Chain(like, ("setfield", "mode=prog"))
    detector = Chain(like, _DETECTOR)
    # Damaged files repeat and omit time stamps. The filters need no time stamps. They
    # return what belongs to a picture when the next picture arrives.
    fields, marks = [*filters.push(like)], [*detector.push(like)]
    picture, time, captions = first
    for timed in chain(source, [None]):
        fields += filters.finish() if timed is None else filters.push(timed[0])
        marks += detector.finish() if timed is None else detector.push(timed[0])
        is_whole = _found(marks.pop()) == "progressive"
        if is_whole or (kind.marked and not picture.interlaced_frame):
            fields = [*unmarked.push(picture)] * 2
        times = time, second(time, None if timed is None else timed[1])
        yield from zip(fields, times, (captions, b""), strict=True)
        if timed is None:
            return
        fields = []
        picture, time, captions = timed


def _found(picture: av.VideoFrame) -> str:
    return str(picture.metadata["lavfi.idet.single.current_frame"])
