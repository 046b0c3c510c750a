"""Join separately encoded segments without encoding anything again."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappushpop
from pathlib import Path

from cloudconv.errors import OutputError
from cloudconv.media.write.encode import extradata_hash
from cloudconv.media.write.packets import PacketSummary, read_packets
from cloudconv.media.write.sink import Sink


def join(sink: Sink, segments: Sequence[tuple[Path, PacketSummary]]) -> None:
    """Write the packets of all segments, which follow each other in time, into a fresh sink.

    Every segment begins with a key frame and does not refer to other segments. The decode times of
    all packets are new. Each encoder counted decode times from the start of its own segment, but
    the first packets of a segment must be decoded before the last picture of the segment before is
    shown. One delay is used throughout: packet ``k`` is decoded when picture ``k - delay`` is
    shown.

    Raises:
        OutputError: a segment is damaged, or was encoded with other settings; see also Sink.
    """
    delay = max(summary.delay for _, summary in segments)
    first, step = segments[0][1].first, sink.plan.ticks_per_frame
    # A heap of the times that are not yet used as decode times; ``delay`` times remain in it.
    unused = [first - k * step for k in range(delay, 0, -1)]
    # On a clock too coarse for the frames, two segments can use the same tick. ``late`` contains
    # the number of ticks by which each segment is moved.
    late, last = [], first - 1
    for _, summary in segments:
        late.append(max(last + 1 - summary.first, 0))
        last = summary.last + late[-1]
    with sink.copying(sum(summary.packets for _, summary in segments), last) as writer:
        for path, summary in segments:
            if summary.extradata != extradata_hash(writer.encoder):
                raise OutputError(
                    f"segment-encoded-otherwise: The finished segment {path} was encoded with "
                    "other parameters than this output: start again with --no-resume."
                )
        for (path, summary), ticks in zip(segments, late, strict=True):
            for packet in read_packets(path, summary):
                packet.pts += ticks
                packet.dts = heappushpop(unused, packet.pts)
                writer.write(packet)
