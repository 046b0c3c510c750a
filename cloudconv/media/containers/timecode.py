"""Convert time codes of a video to another frame rate."""

import re
from fractions import Fraction

from cloudconv.media.containers.containers import Container

_TIMECODE = re.compile(r"(\d+):(\d\d):(\d\d)([:;.])(\d+)")
_DROP_RATES = (Fraction(30000, 1001), Fraction(60000, 1001))


def timecode_fault(
    source: Fraction | None, rate: Fraction | None, container: Container
) -> str:
    """Return why an output has no time code; empty if it can have one.

    The rates are those of the source and of the output, None for a variable one.
    """
    for whose, value in (("source", source), ("output", rate)):
        if value is None or value < 1:
            fault = "varies" if value is None else "is below 1"
            return f"the frame rate of the {whose} {fault}"
    most = container.fastest_code
    if most is not None and rate is not None and round(rate) > most:
        return f"{container.name} stores none above {most} fps"
    return ""


def timecode_at_rate(
    timecode: str, source: Fraction, rate: Fraction, cut: Fraction
) -> str | None:
    """Return the time code ``cut`` seconds later, from rate ``source`` to ``rate``.

    The result is None if the text is no time code. Drop-frame codes exist at two rates
    only; at other rates the result counts every frame. Method: SMPTE ST 12-1.
    """
    parts = _TIMECODE.fullmatch(timecode.strip())
    if parts is None:
        return None
    hours, minutes, seconds, frames = (int(parts[k]) for k in (1, 2, 3, 5))
    minutes += hours * 60
    number = (minutes * 60 + seconds) * round(source) + frames
    drops = parts[4] != ":"
    nominal = round(rate)
    if drops:
        number -= _dropped(minutes, round(source))
    number = result = int((number / source + cut) * rate)
    drops = drops and rate in _DROP_RATES
    for _ in range(4 if drops else 0):  # skipped numbers may reach the next minute
        result = number + _dropped(result // (nominal * 60), nominal)
    return timecode_of(result, nominal, ":;"[drops])


def timecode_of(number: int, nominal: int, mark: str = ":") -> str:
    """Return the time code of a frame, at a whole number of frames a second."""
    seconds, frames = divmod(number, nominal)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    return f"{hours % 24:02d}:{minutes:02d}:{seconds:02d}{mark}{frames:02d}"


def _dropped(minutes: int, nominal: int) -> int:
    """Return how many frame numbers drop-frame codes skip in the first ``minutes``."""
    return (minutes - minutes // 10) * nominal // 15
