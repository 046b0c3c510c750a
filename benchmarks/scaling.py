"""Simulate how long videos take on many GPUs, and the cost, from measured times of the parts.

    python benchmarks/scaling.py --videos 1 --frames 172800 --segment 4.3 --plan 0.55

Segments become known one by one while a video is planned. Each segment goes to the next free
worker, and a video ends with its join. One command plans its videos in turn, while earlier videos
are rendered, and joins them in turn. Several commands share the workers. All times are given in
seconds: this script measures nothing. workers.py measures.
"""

from __future__ import annotations

import argparse
import heapq
from dataclasses import dataclass


@dataclass(frozen=True)
class VideoPlan:
    """The work, with its times in seconds.

    ``segment`` is the time on a worker, ``plan`` the time to plan a segment, ``start`` that of a
    worker, ``task`` the additional time of each segment, and ``join`` that of a video.
    """

    videos: int
    segments: int
    segment: float
    plan: float
    start: float
    task: float
    join: float


def makespan(job: VideoPlan, workers: int, commands: int) -> float:
    """Return the time at which the last video is joined, in seconds."""
    free = [job.start] * workers
    heapq.heapify(free)
    queue = [(0.0, command, 0) for command in range(min(commands, job.videos))]
    left = job.videos - len(queue)
    made_at = [0.0] * len(queue)  # end of the last segment of each command's video
    joined_at = [0.0] * len(queue)
    while queue:
        # The next segment that becomes known, of any video.
        known, command, number = heapq.heappop(queue)
        known += job.plan
        finished = max(known, heapq.heappop(free)) + job.task + job.segment
        heapq.heappush(free, finished)
        made_at[command] = max(made_at[command], finished)
        if number + 1 < job.segments:
            heapq.heappush(queue, (known, command, number + 1))
            continue
        joined_at[command] = max(made_at[command], joined_at[command]) + job.join
        if left:
            left -= 1
            made_at[command] = 0.0
            heapq.heappush(queue, (known, command, 0))
    return max(joined_at)


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--videos", type=int, default=1)
    parser.add_argument("--frames", type=int, default=172_800, help="source frames of a video")
    parser.add_argument("--segment", type=float, required=True, help="seconds on a worker")
    parser.add_argument("--plan", type=float, required=True, help="seconds to plan a segment")
    parser.add_argument("--start", type=float, default=15.0, help="seconds to start a worker")
    parser.add_argument(
        "--task", type=float, default=0.05, help="additional seconds of each segment"
    )
    parser.add_argument("--join", type=float, default=60.0, help="seconds to join a video")
    parser.add_argument("--commands", type=int, default=1, help="commands that run at once")
    parser.add_argument("--price", type=float, default=3.0, help="price of a worker for an hour")
    asked = parser.parse_args()
    segments = -(-asked.frames // 64)
    job = VideoPlan(
        asked.videos, segments, asked.segment, asked.plan, asked.start, asked.task, asked.join
    )
    alone = makespan(job, 1, asked.commands)
    print(f"{'workers':>8}{'hours':>10}{'speed-up':>10}{'price':>10}")
    for workers in (1, 2, 4, 8, 16, 32, 64, 100):
        seconds = makespan(job, workers, asked.commands)
        price = workers * seconds / 3600 * asked.price
        print(f"{workers:>8}{seconds / 3600:>10.2f}{alone / seconds:>10.1f}{price:>10.2f}")


if __name__ == "__main__":
    main()
