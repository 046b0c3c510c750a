"""Define the parts of a finished file that the row of a container reads.

The rows do not import FFmpeg, so that a wrong name of an output is refused at once.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple


class MuxedFile(NamedTuple):
    """A file that a muxer has closed, for the container's row, which corrects the file."""

    path: Path
    size: tuple[int, int]  # of the pictures: width and height
    aspect: Fraction | None  # of a sample, which the file must state; None for any
    varies: bool  # whether the rate is variable
    end: Fraction  # of the last frame, in seconds
    lasts: Fraction  # the last frame, in seconds; 0 if packets were copied
    # Of each track, by its number from 1 on: whether nobody chose it, and its language.
    tracks: Mapping[int, tuple[bool, str]]
    prepared: bytes = b""  # what the row's ``prepare`` has returned
    delays: Sequence[Fraction] = ()  # in seconds, to state for the tracks of audio
