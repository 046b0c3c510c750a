"""Ctrl-C, a polite kill and the end of the terminal, which must not be lost.

Python raises ``KeyboardInterrupt`` wherever the program is at that moment, and in some places (a
callback from C, an object being deleted) it is swallowed. So it is remembered, too, and looked for
after each frame.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

_asked = False
_SOON = 0.05  # seconds


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
    if _is_importing(frame):
        # PyTorch ends the whole process where its own import is interrupted: soon again.
        later = threading.Timer(_SOON, _again, (number,))
        later.daemon = True
        later.start()
        return
    raise KeyboardInterrupt


def _again(number: int) -> None:
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)  # wakes it
    else:
        signal.raise_signal(number)  # Windows


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
