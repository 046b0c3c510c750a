"""Work for processes that share segments out, without a picture in it: they start quickly."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction as F
from pathlib import Path
from typing import Any

from cloudconv.engine.local import Pieces
from cloudconv.errors import InputError
from cloudconv.segments import PlannedFrame, Segment


class Echo:
    """Work that says what it is given, and does what it is told to do to itself."""

    def __init__(self, deadly: int = -1, marker: Path | None = None) -> None:
        self.deadly = deadly
        self.marker = marker

    def __call__(
        self, segments: Pieces[Segment], done: Callable[..., None], tell: Callable[[Any], None]
    ) -> None:
        for segment in segments:
            if segment.number == self.deadly and not (self.marker and self.marker.exists()):
                if self.marker is not None:
                    self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            tell(os.getpid())
            done(segment.number * 10)


class Fails:
    """Work that fails at one segment."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, segments: Pieces[Segment], done: Callable[..., None], _: Any) -> None:
        for segment in segments:
            if segment.number == self.at:
                raise InputError("this cannot be read")
            done(segment.number * 10)


def numbered(count: int) -> Iterator[Segment]:
    frame = PlannedFrame(F(0), None, F(0), F(0), F(1))
    return (Segment(number, (frame,)) for number in range(count))


class Waits:
    def __call__(self, segments: Pieces[Segment], done: Any, tell: Callable[[Any], None]) -> None:
        tell(os.getpid())
        threading.Event().wait(60)
