"""Convert SMPTE time codes to another frame rate."""

from __future__ import annotations

import re
from fractions import Fraction

_TIMECODE = re.compile(r"(\d+):(\d\d):(\d\d)([:;.])(\d+)")
_DROP_RATES = (Fraction(30000, 1001), Fraction(60000, 1001))


def timecode_at_rate(
    timecode: str, source: Fraction, rate: Fraction, offset: Fraction
) -> str | None:
    """Return the time code ``offset`` seconds after ``timecode``, at the frame rate ``rate``.

    ``source`` is the frame rate of ``timecode``. The result is None if the text is no time code.
    Drop-frame codes exist at two rates only; at other rates the result counts every frame. Method:
    SMPTE ST 12-1.
    """
    parts = _TIMECODE.fullmatch(timecode.strip())
    if parts is None:
        return None
    hours, minutes, seconds, frames = (int(parts[k]) for k in (1, 2, 3, 5))
    count = ((hours * 60 + minutes) * 60 + seconds) * round(source) + frames
    if parts[4] != ":":
        count -= _dropped(hours * 60 + minutes, round(source))
    second = count / source + offset
    drop = parts[4] != ":" and rate in _DROP_RATES
    new = int(second * rate)
    nominal = round(rate)
    number = new
    for _ in range(4 if drop else 0):  # skipped numbers may reach the next minute
        number = new + _dropped(number // (nominal * 60), nominal)
    seconds, frames = divmod(number, nominal)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    mark = ";" if drop else ":"
    return f"{hours % 24:02d}:{minutes:02d}:{seconds:02d}{mark}{frames:02d}"


def _dropped(minutes: int, nominal: int) -> int:
    """Return the count of frame numbers that drop-frame codes skip in the first ``minutes``."""
    return (minutes - minutes // 10) * nominal // 15
