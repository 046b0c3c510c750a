"""Join the packets of segments, without an encoder of their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappushpop
from pathlib import Path

from cloudconv.errors import OutputError
from cloudconv.media.encoding import extradata_hash
from cloudconv.media.endings import Shown, Target
from cloudconv.media.packets import PacketSummary, read_segment


def join(segments: Sequence[tuple[Path, PacketSummary]], target: Target) -> Path | None:
    """Write the packets of all segments, which follow each other in time; complete the target.

    Every segment begins with a key frame and does not refer to other segments. The decode times
    of all packets are new. Each encoder counted decode times from the start of its own segment,
    but the first packets of a segment must be decoded before the last picture of the segment
    before is shown. One delay is used throughout: packet ``k`` is decoded when picture
    ``k - delay`` is shown. Raises OutputError if a segment is damaged, or was encoded with
    other settings. Returns the unfinished file, which has its final name later.
    """
    plan = target.plan
    delay = max(summary.delay for _, summary in segments)
    # The ticks from one frame to the next; 1 at a variable rate.
    step = 1 if plan.rate is None else round(1 / (plan.rate * plan.tick))
    first = segments[0][1].first
    # A heap of the times that are not yet used as decode times; ``delay`` times remain in it.
    unused = [first - k * step for k in range(delay, 0, -1)]
    # On a clock too coarse for the frames, two segments can use the same tick. ``late`` has the
    # number of ticks by which each segment is moved.
    late, last, own = [], first - 1, extradata_hash(target.writer.encoder)
    for path, summary in segments:
        if summary.extradata != own:
            raise OutputError(
                f"segment-encoded-otherwise: The finished segment {path} was encoded with "
                "other parameters than this output: start again with --no-resume."
            )
        late.append(max(last + 1 - summary.first, 0))
        last = summary.last + late[-1]
    with target.writer.abandoned_on_error():
        for (path, summary), ticks in zip(segments, late, strict=True):
            for packet in read_segment(path, summary):
                packet.pts += ticks
                packet.dts = heappushpop(unused, packet.pts)
                target.writer.write(packet)
    return target.complete(Shown(sum(s.packets for _, s in segments), last * plan.tick))
