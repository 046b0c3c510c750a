"""Warn of what an interpolation will do to the rate, long pictures and the disk."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from shutil import disk_usage

from cloudconv.events import Warned
from cloudconv.media.containers.containers import container_of
from cloudconv.media.containers.input import is_stdout
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.frames.timing import Timing
from cloudconv.media.reading import pictures as images
from cloudconv.messages import amount, rate_name
from cloudconv.settings import InterpSettings, exact
from cloudconv.settings.numbers import parse_rate
from cloudconv.timemap import TimeMap

# The rates that the warning of a long gap names for repeated pictures.
_STILL_RATES = 30, 50, 60
_LONG_GAP = Fraction(1)
_LONG_TIMES = 8
"""A gap between two frames gives a warning if it lasts at least so many seconds, and at
least the second number times the median gap."""


def disk_warnings(
    info: MediaInfo, output: Path, frames: int | None, copies: int
) -> Iterator[Warned]:
    """Warn if the disk may lack the room for so many frames, stored ``copies`` times."""
    if frames is None or is_stdout(output):
        return
    home = next(folder for folder in output.absolute().parents if folder.is_dir())
    read = sum(file.stat().st_size for file in images.files_of(info.path))
    need = copies * read * frames // max(info.timing.frames, 1)
    if need > disk_usage(home).free:
        yield Warned(
            f"disk-space: The run may need about {amount(need)} in {home}, and less is "
            "free."
        )


def gap_warnings(timing: Timing, start: Fraction, end: Fraction) -> Iterator[Warned]:
    """Warn of a picture between ``start`` and ``end`` that lasts much longer than most."""
    if timing.median_gap is None or timing.longest_gap is None:
        return
    begin, following = timing.longest_gap
    lasts = following - begin
    usual = timing.median_gap
    if lasts < max(_LONG_GAP, _LONG_TIMES * usual) or following >= end or begin < start:
        return
    rate = min(_STILL_RATES, key=lambda usual_rate: abs(usual_rate - 1 / usual))
    yield Warned(
        f"long-gap: The picture at {float(begin - timing.start):.3f} s lasts "
        f"{float(lasts):.1f} s, and others mostly {float(usual):.2f} s: unless a cut "
        "follows, new frames spread the change to the next picture over the whole "
        "time. To keep still pictures of a screen recording still, repeat them first: "
        f"ffmpeg -i IN -vf fps={rate} OUT."
    )


def rate_warnings(
    settings: InterpSettings, timing: Timing, shows: TimeMap, output: Path
) -> Iterator[Warned]:
    """Warn of source frames that a chosen rate leaves out, or keeps as they are."""
    rate = exact(settings.fps)
    is_unknown = timing.open_ended and timing.rate is None
    if settings.shutter or rate is None or shows.speed is None or is_unknown:
        return
    source = "source" if settings.slowmo is None else "slowed source"
    own = (timing.rate or timing.frames / (timing.end - timing.start)) * shows.speed
    factor = rate / own
    if factor < 1 and (timing.rate is None or factor.numerator == 1):
        yield Warned(
            f"frames-dropped: {rate_name(rate)} fps is less than the {rate_name(own)} "
            f"fps of the {source}: about {float(1 - factor):.0%} of its frames are "
            "left out."
        )
    elif timing.rate is None:
        return
    elif factor.denominator > 1:
        whole = own * max(1, round(factor))
        is_played = is_stdout(output) or container_of(output).plays(whole)
        advice = f"; {_typed(whole)} fps keeps all source frames" if is_played else ""
        yield Warned(
            f"few-frames-kept: At {rate_name(rate)} fps only one of "
            f"{factor.denominator} source frames is kept, and new frames replace the "
            f"others{advice}."
        )
    elif factor == 1 and not settings.refill:
        yield Warned(
            f"rate-kept: The {source} has {rate_name(own)} fps already: its frames are "
            "only encoded again, and new ones only fill gaps."
        )


def _typed(rate: Fraction) -> str:
    """Return a rate as --fps takes it, for people."""
    name = rate_name(rate)
    return name if parse_rate(name) == rate else str(rate)
