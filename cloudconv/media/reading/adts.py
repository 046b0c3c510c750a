"""Find changes of format in AAC whose packets state their format (ADTS).

Transport streams have such sound. Other files state one format for a track.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from av.container import InputContainer

from cloudconv.media.frames.clock import Clock, Restart

_FORMAT = 0xFDC0  # profile, sampling rate and channels in two bytes of a header


class SoundFormats:
    """The formats of all sound in ADTS, from the packets of a file.

    A recording that was joined from parts has a clock for each part, and the sound of a
    part may be stored before its first picture.
    """

    def __init__(self, container: InputContainer) -> None:
        contexts = ((stream, stream.codec_context) for stream in container.streams.audio)
        # Other AAC has its format beside the packets.
        self.streams: list[Any] = [
            stream
            for stream, context in contexts
            if context is not None and context.name == "aac" and not context.extradata
        ]
        self._clocks = {stream.index: Clock(container) for stream in self.streams}
        self._formats: dict[int, int] = {}
        # Of each change the stream, the time in seconds, and the number of the part.
        self._found: list[tuple[int, Fraction, int]] = []

    def take(self, packet: Any) -> bool:
        """Return whether a packet is of such sound, and look at its format."""
        number = packet.stream.index
        if number not in self._clocks:
            return False
        form = int.from_bytes(memoryview(packet)[2:4], "big") & _FORMAT
        if packet.pts is not None:
            clock = self._clocks[number]
            time = clock.take(packet)
            if self._formats.setdefault(number, form) != form:
                self._formats[number] = form
                self._found.append((number, time, clock.part))
        return True

    def changes(self, restarts: Sequence[Restart]) -> tuple[tuple[int, Fraction], ...]:
        """Return the first time of each new format, after the number of its stream.

        Times are in seconds on the clock of the whole video, whose clock has ``restarts``.
        """
        offsets = [Fraction(0), *(restart.offset for restart in restarts)]
        return tuple(
            (number, time + offsets[min(part, len(restarts))])
            for number, time, part in self._found
        )
