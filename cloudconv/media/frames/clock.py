"""Tell by its format which time stamps of a file can be trusted, and correct the others."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from av.container import InputContainer
from av.format import Flags

# Steps in decode time, in seconds. A larger step back means that the clock was set anew. A
# larger step forward means the same in formats whose clock may restart.
_STEP_BACK = Fraction(1, 2)
_STEP_FORWARD = Fraction(3600)
_TURN = Fraction(2**33, 90_000)  # seconds after which the clock of MPEG begins again
_NEAR = Fraction(1)  # seconds between the starts of a part in two streams, at most
_MOST_EMPTY = 5  # frames; more empty ones are no delay of an encoder
# The longest step, in seconds, that is taken for the duration of the last frame of a part.
_LONGEST_STEP = Fraction(1)
# Browsers show a picture of an animation that lasts at most ``SHORTEST`` for ``SHOWN``, in
# seconds.
SHORTEST, SHOWN = Fraction(1, 100), Fraction(1, 10)


@dataclass(frozen=True, slots=True)
class InputFormat:
    """The special behaviour of one reader."""

    # Whether time stamps are right after a seek. Other readers, above all that of MPEG
    # program streams, return wrong time stamps after a seek.
    seeks: bool = False
    # A seek finds the time when a frame is shown, not when it is decoded.
    finds_shown: bool = False
    # The header lists all frames and gives the right length of the track.
    has_index: bool = False
    stamps_decoding: bool = False  # it knows decode times only; see `VideoClock`
    stamps_audio: bool = True  # audio has times of its own, and does not simply begin at 0
    # A transport stream. Parts that were joined may overlap, so a key frame whose time
    # steps back begins a part. Where the numbers of the streams change, FFmpeg returns the
    # last packet of the part before after all others.
    is_transport: bool = False
    # It subtracts the delay of an audio codec from its time stamps.
    states_delay: bool = False
    guesses_rate: bool = False  # FFmpeg guesses the rate, because the header states none
    is_pictures: bool = False  # it reads one or several picture files, which have no times
    has_streams: bool = True  # it may contain sound and others, which FFmpeg reads
    # Whether it reads pictures or an animation. Both are often RGB, which few players show
    # in MP4.
    is_drawn: bool = False


_FORMATS = {
    "mov": InputFormat(seeks=True, finds_shown=True, has_index=True),
    "matroska": InputFormat(seeks=True, finds_shown=True, states_delay=True),
    "avi": InputFormat(seeks=True, stamps_decoding=True, stamps_audio=False),
    "asf": InputFormat(seeks=True, stamps_decoding=True),
    **dict.fromkeys(
        ("mpegvideo", "gxf"), InputFormat(stamps_decoding=True, stamps_audio=False)
    ),
    "image2": InputFormat(is_pictures=True, is_drawn=True),
    "gif": InputFormat(is_drawn=True, guesses_rate=True),
    "apng": InputFormat(is_drawn=True),
    # Read by Pillow.
    **dict.fromkeys(("webp", "avif"), InputFormat(is_drawn=True, has_streams=False)),
    "mpegts": InputFormat(seeks=True, is_transport=True),
    **dict.fromkeys(("flv", "nut"), InputFormat(seeks=True)),
}


PHOTOS = {"avif", "heic", "heix", "heim", "heis", "mif1", "mif2"}  # brands of files


def is_of_pictures(container: InputContainer) -> bool:
    """Return whether a file with one frame is a picture, without a time and a rate."""
    brand = container.metadata.get("major_brand", "").strip()
    return format_of(container.format.name).is_drawn or brand in PHOTOS


def format_of(container: str) -> InputFormat:
    """Return the behaviour of the reader with FFmpeg's name, such as ``matroska,webm``."""
    if container.endswith("_pipe"):
        return InputFormat(is_pictures=True, is_drawn=True)
    return _FORMATS.get(container.split(",")[0], InputFormat())


Part = tuple[Fraction | None, Fraction | None]
"""The start and the end of a part in seconds from the first frame; None is no bound."""


class Restart(NamedTuple):
    """A new part of a joined recording: its first time and the shift of its times.

    Both are in seconds.
    """

    begins: Fraction
    offset: Fraction


def shift(packet: Any, later: int) -> None:
    """Move a packet by a number of ticks."""
    for name in ("pts", "dts"):
        if getattr(packet, name) is not None:
            setattr(packet, name, getattr(packet, name) + later)


class Clock:
    """A counter of the clocks of a stream, from decode times in the order of the file.

    A recording that was joined from parts has a clock per part. A part begins where the
    time steps back by more than half a second, or by less where a part of the video begins
    too (``restarts``). In formats whose clock may restart, a part also begins where the
    time steps forward by more than an hour. A single time out of order is damage, not a
    part.
    """

    def __init__(self, container: InputContainer, restarts: Sequence[Restart] = ()) -> None:
        self.part = 0
        self._restarts = restarts
        self._jumps = bool(Flags(container.format.flags) & Flags.ts_discont)
        self._last: Fraction | None = None
        self._before: Fraction | None = None
        self._is_fresh = False
        self._least_step: Fraction | int = _STEP_BACK

    def take(self, packet: Any) -> Fraction:
        """Set ``part`` to the part's number of a packet, and return its time in seconds.

        The packet moves to the turn of MPEG's clock that is nearest to the last packet;
        FFmpeg does so near the start of a file only.
        """
        stamp = packet.pts if packet.dts is None else packet.dts
        time = Fraction(stamp * packet.time_base)
        if packet.is_discard:
            return time  # an edit list may take parts of a recording in any order
        last, before = self._last, self._before
        if self._jumps and last is not None:
            turns = round((time - last) / _TURN) * _TURN
            shift(packet, -round(turns / packet.time_base))
            time -= turns
        if self._is_fresh and before is not None and not self._is_apart(before, time):
            self.part -= 1
            self._is_fresh = False
        else:
            self._least_step = 0 if self._may_overlap(time, packet) else _STEP_BACK
            self._is_fresh = self._is_apart(last, time) and (
                before is None or self._is_apart(before, time)
            )
            self.part += self._is_fresh
        self._before = last
        self._last = time
        return time

    def _may_overlap(self, time: Fraction, packet: Any) -> bool:
        """Return whether the packet begins a part if its time steps back at all."""
        following = self._restarts[self.part : self.part + 1]
        return any(abs(time - restart.begins) < _NEAR for restart in following)

    def _is_apart(self, before: Fraction | None, time: Fraction) -> bool:
        if before is None:
            return False
        steps_back = time < before - self._least_step
        return steps_back or (self._jumps and time > before + _STEP_FORWARD)


class VideoClock(Clock):
    """A clock of a video stream, on which each part begins where the previous part ends.

    The times of a reader that knows decode times only are computed from them, with the
    codec's delay. AVI does not delay its audio, so its pictures have no delay either.
    ``hurried`` counts the pictures of an animation that browsers show for longer than the
    file states, and ``late`` the packets that come after all others.
    """

    def __init__(self, container: InputContainer, stream: Any) -> None:
        super().__init__(container)
        reader = format_of(container.format.name)
        codec = stream.codec_context.codec.canonical_name
        depth = stream.codec_context.reorder_depth
        # In frames; None if FFmpeg knows the presentation times.
        self._delay: int | None = None
        if reader.stamps_decoding and not reader.stamps_audio:
            self._delay = 0
        elif reader.stamps_decoding and codec == "h264":
            self._delay = depth
        # XviD with B-frames fills its delay with empty frames after the first one.
        self._fills = self._delay == 0 < depth and codec == "mpeg4"
        self._is_transport = reader.is_transport
        self._tick = Fraction(stream.time_base)
        self._number = stream.index
        self.hurried = 0
        self.late = 0
        self._position = 0  # of the last packet in the file
        self._is_animation = container.format.name in ("gif", "apng")
        self._later = 0  # ticks that longer durations add to the times of an animation
        # Of each part, in ticks: its first time, and its offset.
        self._begins = [0]
        self._offsets = [0]
        self._decoded: int | None = None  # the last decode time in the file
        self._end = 0

    @property
    def restarts(self) -> tuple[Restart, ...]:
        """Return the restarts of the clock."""
        parts = zip(self._begins[1:], self._offsets[1:], strict=True)
        return tuple(
            Restart(begins * self._tick, offset * self._tick) for begins, offset in parts
        )

    def move(self, packet: Any) -> bool:
        """Add the offset of the packet's part to the packet's times.

        Return False if the packet comes too late to be decoded. Packets of other streams
        stay as they are.
        """
        if packet.stream.index != self._number:
            return True
        if self._is_animation:
            self._lengthen(packet)
            return True
        if self._is_transport and packet.pos is not None:
            if packet.pos < self._position:
                self.late += 1
                return False
            self._position = packet.pos
        if packet.dts is not None:
            if self._delay is not None:
                packet.pts = packet.dts + self._delay * packet.duration
            self.take(packet)
            begins = packet.dts if packet.pts is None else packet.pts
            # The stated duration is often that of a field, or of another rate in the
            # header.
            step = 0 if self._decoded is None else packet.dts - self._decoded
            if self._fills and self._decoded is not None:
                self._fills = False
                if packet.duration < step <= _MOST_EMPTY * packet.duration:
                    self._offsets[0] = packet.duration - step
            measured = 0 < step * self._tick <= _LONGEST_STEP
            lasts = step if measured else packet.duration or max(step, 0)
            self._decoded = packet.dts
            if self.part == len(self._offsets):
                self._begins.append(packet.dts)
                self._offsets.append(self._end - begins)
            del self._begins[self.part + 1 :]
            del self._offsets[self.part + 1 :]
            packet.dts += self._offsets[-1]
            self._end = max(self._end, begins + self._offsets[-1] + lasts)
        if packet.pts is not None:
            packet.pts += self._offsets[-1]
        return True

    def _may_overlap(self, time: Fraction, packet: Any) -> bool:
        return self._is_transport and packet.is_keyframe

    def _lengthen(self, packet: Any) -> None:
        """Give a picture of an animation a duration with which browsers show it."""
        shift(packet, self._later)
        if packet.duration * self._tick <= SHORTEST:
            self.hurried += 1
            lasts = int(SHOWN / self._tick)
            self._later += lasts - packet.duration
            packet.duration = lasts


class BesideClock(Clock):
    """A clock of a stream beside a video, whose parts begin where those of the video do.

    A part that the video does not have directly follows the part before. ``begins_part`` is
    whether the last packet is the first one of a part.
    """

    def __init__(
        self, container: InputContainer, stream: Any, restarts: Sequence[Restart]
    ) -> None:
        super().__init__(container, restarts)
        self.begins_part = False
        self._offsets = [Fraction(0), *(restart.offset for restart in restarts)]
        self._kind = stream.type
        self._is_heard = False  # whether a packet has come that no edit list hides
        self._number = 0  # of the part
        # Of this part, and the last packet's end.
        self._offset = self._reached = Fraction(0)

    def move(self, packet: Any, others: Iterable[Clock]) -> bool:
        """Move a packet to the clock of the whole video.

        ``others`` are the clocks of all streams beside the video. Return False for a packet
        that an edit list cuts out of the sound.
        """
        if packet.is_discard and self._is_heard and self._kind == "audio":
            return False
        self._is_heard |= not packet.is_discard
        self.begins_part = False
        if packet.dts is None and packet.pts is None:
            return True
        base = packet.time_base
        time = self.take(packet)
        number = self.part
        if self._kind == "subtitle":
            # Subtitles are so far apart that their own times may not show the next part's
            # start.
            parts = (other.part for other in others)
            number = min(max(parts, default=0), len(self._offsets) - 1)
        if number != self._number:
            alone = number >= len(self._offsets)
            self._offset = self._reached - time if alone else self._offsets[number]
            self._number = number
            self.begins_part = True
        self._reached = time + self._offset + (packet.duration or 0) * base
        shift(packet, round(self._offset / base))
        return True
