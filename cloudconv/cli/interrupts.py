"""Ctrl-C and a polite kill, which must not be lost.

Python raises ``KeyboardInterrupt`` wherever the program is at that moment, and in some places (a
callback from C, an object being deleted) it is swallowed. So it is remembered, too, and looked for
after each frame.
"""

from __future__ import annotations

import signal
from types import FrameType

_asked = False


def heed() -> None:
    """From now on, SIGINT and SIGTERM end the command as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    # Whoever started this may have turned Ctrl-C off for it, as shells do in the background.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)


def check() -> None:
    """Raise KeyboardInterrupt if one was asked for and got lost."""
    if _asked:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt
