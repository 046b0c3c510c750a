"""Carry the streams beside the video over, while the video is written.

`AddedStreams` adds the streams to the output before its header is written. Their packets
follow as soon as the video has reached their time (`OtherStreams.until`). At last the
finished file is compared with the source.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.container import OutputContainer
from av.stream import Disposition

from cloudconv.media.carried.additions import AddedStreams
from cloudconv.media.carried.audio import EncodedTrack
from cloudconv.media.carried.carry import Carry
from cloudconv.media.carried.tracks import (
    LONG_AGO,
    PRIMING,
    Timed,
)
from cloudconv.media.containers.containers import Container
from cloudconv.media.containers.muxing import kind_of, label_of
from cloudconv.media.reading.demux import is_made_anew

_NOT_YET: Timed = (LONG_AGO, None)  # in the place of a packet that is not known yet


class OtherStreams(AddedStreams):
    """The source's streams beside its video, on their way into an output container.

    The constructor opens the source a second time, and adds the streams to ``out``, whose
    header is not written yet. ``video`` is the output's own stream, of that ``rate``.
    ``seekable`` is whether the output can be written at any position. Raises OutputError if
    ``carry.copies_only`` is set and the container cannot store an audio stream.
    """

    def __init__(
        self,
        carry: Carry,
        out: OutputContainer,
        container: Container,
        video: Any,
        rate: Fraction | None,
        *,
        seekable: bool,
    ) -> None:
        super().__init__(carry, out, container, seekable=seekable)
        self.add_all()
        self.describe_video(video, rate)
        self._queue = chain(self.covers, self._packets())
        self._pending: Timed | None = None
        self._filled = set[int]()  # the numbers of the output's streams with packets

    @property
    def delays(self) -> list[Fraction]:
        """Return the delays in seconds that the file must state, one per audio track."""
        tracks = self.tracks.values()
        return [track.delay for track in tracks if track.target.type == "audio"]

    def until(self, time: Fraction | None) -> None:
        """Write every packet at or before ``time`` on the output's clock; all with None."""
        while True:
            self._pending = self._pending or next(self._queue, None)
            if self._pending is _NOT_YET:
                self._pending = None
                return
            if self._pending is None or (time is not None and self._pending[0] > time):
                return
            self._filled.add(self._pending[1].stream.index)
            self._out.mux(self._pending[1])
            self._pending = None

    def _packets(self) -> Iterator[Timed]:
        tracks = self.tracks
        if not tracks:
            return
        encoded = [track for track in tracks.values() if isinstance(track, EncodedTrack)]
        carry = self._carry
        begin = None
        if carry.start is not None:
            begin = min([carry.begin, *(track.begin for track in encoded)])
        for packet in self._input.packets(tracks, begin, carry.end):
            yield from tracks[packet.stream.index].packets(packet)
        playlist = carry.playlist
        while playlist is not None and not playlist.is_complete:
            for track in encoded:
                yield from track.continued()
            if not playlist.is_complete:  # by now
                yield _NOT_YET
        for track in encoded:
            yield from track.finish()

    def compare(self, path: Path) -> None:
        """Add warnings about streams, languages and flags that the finished file lacks."""
        name = self._container.name
        targets = (track.target for track in self.tracks.values())
        empty = [target for target in targets if target.index not in self._filled]
        with av.open(f"file:{path}") as file:
            streams = [stream for stream in file.streams if not is_made_anew(stream)]
            for kind in dict.fromkeys(entry.kind for entry in self.carried):
                written = [stream for stream in streams if kind_of(stream) == kind]
                carried = [entry for entry in self.carried if entry.kind == kind]
                # Some muxers store no stream without packets; such a stream is the missing
                # one.
                likely = sorted(carried, key=lambda entry: entry.target in empty)
                for entry in likely[len(written) :]:
                    carried.remove(entry)
                    such = "such stream"
                    if entry.target in empty:
                        such = "stream without packets"
                    self._warn(
                        f"stream-lost: {entry.label} is left out: FFmpeg stores no {such} "
                        f"in {name}."
                    )
                for entry, stream in zip(carried, written, strict=False):
                    lost = _lost_marks(entry.target, stream)
                    if lost:
                        self._warn(
                            f"marks-lost: FFmpeg stores no {lost} of {entry.label} in "
                            f"{name}."
                        )

    def close(self) -> None:
        """Close the source.

        Add warnings about damaged, moved and left-out audio and packets.
        """
        for track in self.tracks.values():
            for text in track.warnings(label_of(track.source)):
                self._warn(text)
        led = max((track.led for track in self.tracks.values()), default=Fraction(0))
        # Audio from before a chosen start is not missed.
        if led > PRIMING and self._carry.start is None:
            self._warn(
                f"early-sound: {float(led):.3f} s of audio from before the first video "
                "frame are left out."
            )
        self._input.close()


def _lost_marks(before: Any, after: Any) -> str:
    """Return the words for a stream's language and flags that the finished file lacks."""
    if before is None:
        return ""
    language = before.metadata.get("language", "und")
    is_lost = language != "und" and after.metadata.get("language", "und") == "und"
    kept = after.disposition | Disposition.default | Disposition.attached_pic
    kept |= Disposition.multilayer  # the probe names the view
    names = [mark.name for mark in Disposition if mark in before.disposition & ~kept]
    marks = [f'language "{language}"'] * is_lost + [f'flag "{name}"' for name in names]
    return " and no ".join(marks).replace("_", " ")
