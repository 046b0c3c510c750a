"""Join separately encoded segments without encoding anything again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from cloudconv.errors import OutputError
from cloudconv.media.write.packets import PacketSummary, read_packets, read_times
from cloudconv.media.write.sink import Sink
from cloudconv.media.write.target import writing


def join(sink: Sink, segments: Sequence[tuple[Path, PacketSummary]]) -> None:
    """Write the packets of all segments, which follow each other in time, into a fresh sink.

    Every segment begins with a key frame and does not refer to others. Only the decode times are
    new, because each encoder counted from its own start, and because reordered packets of a segment
    are decoded before the last picture of the segment before is shown. One delay is used
    throughout: packet ``k`` is decoded when picture ``k - delay`` is shown.

    Raises:
        OutputError: a segment is damaged, or was encoded for another output; see also Sink.
    """
    for path, summary in segments:
        if summary.extradata != sink.extradata:
            raise OutputError("segment-encoded-otherwise", path=path)
    delay = max(summary.delay for _, summary in segments)
    first, step = segments[0][1].first, sink.ticks_per_frame
    decode_times = deque(first - k * step for k in range(delay, 0, -1))
    last = first - 1
    for path, summary in segments:
        with writing(path):
            times = sorted(read_times(path))
        # On a clock too coarse for the frames, two segments can use the same tick.
        late = max(last + 1 - summary.first, 0)
        last = summary.last + late
        decode_times.extend(time + late for time in times)
        for packet in read_packets(path):
            packet.pts += late
            packet.dts = decode_times.popleft()
            sink.copy(packet)
