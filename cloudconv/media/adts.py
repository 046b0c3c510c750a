"""Find changes of format in AAC whose packets state their format (ADTS).

Transport streams have such sound. Other files state one format for a track.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from av.container import InputContainer

_FORMAT = 0xFDC0  # profile, sampling rate and channels in two bytes of a header


class SoundFormats:
    """The formats of all sound in ADTS, from the packets of a file.

    ``changes`` has the first time of each new format in seconds, after the number of the
    stream.
    """

    def __init__(self, container: InputContainer) -> None:
        self.streams = [*_with_headers(container)]
        self.changes: list[tuple[int, Fraction]] = []
        self._formats: dict[int, int] = {}

    def take(self, packet: Any, offset: Fraction) -> bool:
        """Return whether a packet is of such sound; ``offset`` is added to its time."""
        number = packet.stream.index
        if all(stream.index != number for stream in self.streams):
            return False
        form = int.from_bytes(memoryview(packet)[2:4], "big") & _FORMAT
        if self._formats.setdefault(number, form) != form and packet.pts is not None:
            self._formats[number] = form
            self.changes.append((number, packet.pts * packet.time_base + offset))
        return True


def _with_headers(container: InputContainer) -> Iterator[Any]:
    for stream in container.streams.audio:
        context = stream.codec_context
        if context is not None and context.name == "aac" and not context.extradata:
            yield stream
