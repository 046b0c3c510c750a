"""Ctrl-C, a polite kill and the end of the terminal, which must not be lost.

Python raises ``KeyboardInterrupt`` wherever the program is at that moment, and in some places (a
callback from C, an object being deleted) it is swallowed. So it is remembered, too, and looked for
after each frame.
"""

from __future__ import annotations

import signal
from types import FrameType

_asked = False


def heed() -> None:
    """From now on, SIGINT, SIGTERM and SIGHUP end the command as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    # Whoever started this may have turned the others off: shells in the background, and nohup.
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def check() -> None:
    """Raise KeyboardInterrupt if one was asked for and got lost."""
    if _asked:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt
