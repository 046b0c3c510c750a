"""Write packets into the files of an output, between those of the other streams."""

import io
import os
import struct
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any

from av.stream import Disposition

from cloudconv.events import Warned
from cloudconv.media import matroska, mp4
from cloudconv.media.carry import fresh_tags
from cloudconv.media.containers import Container, Content, container_of
from cloudconv.media.encoding import EncodingPlan
from cloudconv.media.formats import layout
from cloudconv.media.input import is_stdout, numbered
from cloudconv.media.others import OtherStreams
from cloudconv.media.output import writing
from cloudconv.media.packets import Writer
from cloudconv.media.pictures import shows_of

# Ticks of a movie in MP4 per second: 32 bits then suffice for two hours.
_MOST_SCALE = 600_000
_HEAD = 1 << 13  # bytes of the start of a file, with the description of the first track
_NAMED_TAGS = {
    *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre"),
    *("copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id"),
    *("network", "keywords", "episode_sort", "season_number", "media_type", "hd_video"),
    *("gapless_playback", "compilation", "track", "disc", "creation_time", "language"),
}


def _options(container: Container, plan: EncodingPlan) -> dict[str, str]:
    match container.muxer:
        case "mp4" | "mov":
            kept = (
                {}
                if plan.carry is None
                else fresh_tags(plan.carry.info.metadata, container)
            )
            # Without ``use_metadata_tags`` the muxer drops tags for which iTunes has no
            # name.
            free = any(key.lower() not in _NAMED_TAGS for key in kept)
            flags = "+faststart" + ("+use_metadata_tags" if free else "")
            # A tick of edit lists and durations divides one of the video, and suits the
            # audio.
            scale = plan.tick.denominator
            for rate in (48000, 44100):
                scale = finer if (finer := lcm(scale, rate)) <= _MOST_SCALE else scale
            # Boxes of 360° and 3D video are in no edition of the standard.
            return {
                "movie_timescale": str(scale),
                "movflags": flags,
                "strict": "unofficial",
            }
        case "matroska" | "webm":
            return {"write_crc32": "0"}  # checksums would be wrong after the corrections
        case "gif":
            # A GIF has the number of repeats, 0 without end. FFmpeg takes -1 for no repeat.
            shows = shows_of(plan.info.path)
            return {"loop": str(-1 if shows == 1 else max(shows - 1, 0))}
        case "apng":
            return {"plays": str(shows_of(plan.info.path))}
        case "webp":
            return {"loop": str(shows_of(plan.info.path))}
    return {}


class Muxer(Writer):
    """A writer of one file, which also contains the other streams of the source."""

    def __init__(self, plan: EncodingPlan, path: Path | None) -> None:
        """Open the muxer of the container and the encoder, and add the other streams.

        ``path`` is the temporary file, standard output, or None for a trial without a file.
        """
        container = container_of(plan.target)
        is_trial = path is None
        self._path = path = path or Path(os.devnull)
        self._others: OtherStreams | None = None
        # Data on standard output cannot be corrected afterwards.
        self._amends = container.is_amended and not is_stdout(path)
        self._order = _DecodeTimes() if container.is_mp4 and plan.rate is None else None
        options = _options(container, plan)
        url = f"file:{path}"
        if is_trial:
            options.pop("movflags", None)  # +faststart reads the file
        file = None if is_trial or is_stdout(path) else path
        super().__init__(plan, file, "pipe:1" if is_stdout(path) else url, options)

    def _add_streams(self) -> None:
        plan = self._plan
        container = self._container
        stream = self.encoder
        if plan.carry is not None and Content.STREAMS in container.keeps:
            seekable = not is_stdout(self._path)
            self._others = OtherStreams(
                plan.carry, self._out, container, stream, plan.rate, seekable=seekable
            )
            self._opened.callback(self._others.close)
            self.warnings = self._others.warnings
        if self._amends:
            self._room = matroska.room(len(self._out.streams))
            stream.metadata["title"] = stream.metadata.get("title", "") + self._room
        if plan.choice.encoder.startswith("libvpx") and layout(plan.choice.working).alpha:
            # Readers look for alpha beside the packets only if this tag is set.
            stream.metadata["alpha_mode"] = "1"
        matrix = plan.info.display_matrix
        if matrix is not None and Content.ROTATION in container.keeps:
            stream.set_display_matrix(struct.unpack("<9i", matrix))

    def write(self, packet: Any) -> None:
        """Write a packet, and before it all earlier packets of the other streams."""
        packet.stream = self.encoder
        for ready in [packet] if self._order is None else self._order.push(packet):
            self._mux(ready)

    def _mux(self, packet: Any) -> None:
        if self._others is not None:
            self._others.until(packet.dts * self._plan.tick)
        self._check(packet)
        self._out.mux(packet)

    def finish(self) -> None:
        """Write the remaining packets and close the file."""
        for packet in [] if self._order is None else self._order.finish():
            self._mux(packet)
        delays: list[Fraction] = []
        if self._others is not None:
            self._others.until(None)
            delays = self._others.delays
        hidden = [
            stream.index + 1
            for stream in self._out.streams
            if stream.type == "subtitle" and not stream.disposition & Disposition.default
        ]
        super().finish()
        if self._amends:
            info = self._plan.info
            varies = self._plan.rate is None
            size = info.width, info.height
            matroska.amend(self._path, self._room, size, info.aspect, delays, varies=varies)
        elif self._container.is_mp4:
            self._amend_mp4(hidden)
        if self._others is not None and self._path.is_file():
            self._others.compare(self._path)

    def _amend_mp4(self, hidden: list[int]) -> None:
        if hidden:
            mp4.hide(self._path, hidden)
        if self._container.muxer == "mp4":
            # FFmpeg 8 also writes Apple's box, which states neither the layout of 3D video
            # nor the pose of a sphere, and reads from that box that there is none (`ffprobe
            # OUT.mp4`).
            with self._path.open("rb+") as file:
                at = file.read(_HEAD).find(b"vexu")
                if at >= 0:
                    file.seek(at)
                    file.write(b"free")


class _DecodeTimes:
    """A queue of packets that gives an MP4 track of a variable rate the right length.

    The track's length is the sum of all gaps between decode times. Encoders that reorder
    frames set the first ones before 0, by the durations of the first frames, and their last
    packet need not be the last one shown: at a variable rate the sum is wrong by seconds.
    The queue places the packets before the first shown frame one tick apart, and gives the
    last packet the remaining duration. All times are in ticks. No presentation time
    changes.
    """

    def __init__(self) -> None:
        self._waiting: list[Any] = []
        self._first: int | None = None
        self._end = 0
        self._early = 0

    def push(self, packet: Any) -> list[Any]:
        """Add a packet, and return packets to write.

        The newest packet stays in the queue.
        """
        self._first = packet.pts if self._first is None else self._first
        self._end = max(self._end, packet.pts + packet.duration)
        self._waiting.append(packet)
        if packet.dts < self._first:
            return []
        self._number_early()
        ready, self._waiting = self._waiting[:-1], self._waiting[-1:]
        return ready

    def finish(self) -> list[Any]:
        if self._first is not None:
            self._number_early()
            last = self._waiting[-1]
            last.duration = self._end - self._early - last.dts
            # No packet may seem to be shown beyond the end of the track.
            late = max(last.pts + last.duration - self._end, 0)
            last.dts += late
            last.duration -= late
        return self._waiting

    def _number_early(self) -> None:
        """Place the decode times before the first shown frame one tick apart."""
        if self._early or self._first is None:
            return
        early = [packet for packet in self._waiting if packet.dts < self._first]
        self._early = len(early)
        for number, packet in enumerate(early):
            packet.dts = self._first + number - self._early


class PictureFolder(Writer):
    """A writer of one file per frame, numbered from 1, without times."""

    def __init__(self, plan: EncodingPlan, folder: Path) -> None:
        """Open the encoder; the name of the plan's target has the number field."""
        super().__init__(plan, folder, io.BytesIO())
        names = numbered(plan.target)
        assert names is not None
        self._folder = folder
        self._names = names
        self._count = 0

    def write(self, packet: Any) -> None:
        """Write the next file; the times are ignored."""
        self._count += 1
        (self._folder / self._names.name(self._count)).write_bytes(bytes(packet))


def carried_warnings(plan: EncodingPlan) -> list[Warned]:
    """Return the warnings about the streams beside the video, before any work.

    The header of the output is written to nowhere. Raises OutputError if FFmpeg refuses
    that.
    """
    with writing(plan.target):
        muxer = Muxer(plan, None)
        muxer.abandon()
    return muxer.warnings
