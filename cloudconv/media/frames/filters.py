"""Run a chain of FFmpeg's filters on pictures."""

from collections.abc import Iterator
from fractions import Fraction

import av


class Chain:
    """A chain of filters, each with its name and settings, for pictures like ``like``.

    ``tick`` is the time base of all pictures in seconds, ``rate`` the pictures per second.
    With ``reduces``, each picture gets a palette of 256 colours of its own; one for all
    would need all pictures in memory. Raises FFmpegError if a filter refuses such pictures.
    """

    def __init__(
        self,
        like: av.VideoFrame,
        *steps: tuple[str, str],
        tick: Fraction = Fraction(1, 25),
        rate: Fraction = Fraction(25),
        reduces: bool = False,
    ) -> None:
        self._tick = tick
        self._shape = _shape(like)
        self._graph = graph = av.filter.Graph()  # must exist as long as its filters
        self._entry = graph.add(
            "buffer",
            f"video_size={like.width}x{like.height}:pix_fmt={like.format.name}:"
            f"time_base={tick}:pixel_aspect=1/1:frame_rate={rate}:"
            f"colorspace={int(like.colorspace)}:range={int(like.color_range)}",
        )
        self._sink = graph.add("buffersink")
        nodes = [self._entry, *(graph.add(*step) for step in steps)]
        if reduces:
            split = graph.add("split")
            use = graph.add("paletteuse", "new=1")
            palette = graph.add("palettegen", "stats_mode=single")
            graph.link_nodes(*nodes, split, palette)
            palette.link_to(use, 0, 1)
            split.link_to(use, 1)
            nodes = [use]
        graph.link_nodes(*nodes, self._sink)
        graph.configure()

    def push(
        self, picture: av.VideoFrame, pts: int | None = None
    ) -> Iterator[av.VideoFrame]:
        """Add a picture with its time in ticks, and yield the pictures that are ready.

        Later changes of the picture's time have no effect. Raises ValueError for a picture
        of another size or pixel format.
        """
        if _shape(picture) != self._shape:
            raise ValueError(f"pictures of one kind are filtered: {self._shape}")
        picture.pts = pts
        picture.time_base = self._tick
        self._entry.push(picture)
        return self._ready()

    def finish(self) -> Iterator[av.VideoFrame]:
        """Yield the last pictures."""
        self._entry.push(None)
        return self._ready()

    def _ready(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                picture = self._sink.pull()
            except (BlockingIOError, av.error.EOFError):
                return
            assert isinstance(picture, av.VideoFrame)
            yield picture


def _shape(picture: av.VideoFrame) -> tuple[int, int, str]:
    return picture.width, picture.height, picture.format.name
