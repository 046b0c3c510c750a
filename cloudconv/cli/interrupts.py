"""Handle Ctrl-C, SIGTERM and the end of the terminal, so that none of them is lost.

Python raises ``KeyboardInterrupt`` at an arbitrary place, and some places ignore the exception,
such as a callback from C or a destructor. So the signal is also recorded, and checked after each
frame.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import NoReturn

_asked = False
_again_soon = False  # whether the next signal repeats an earlier one
_raised: float | None = None
_SOON = 0.05  # seconds
_AT_ONCE = 1.0
"""The time in seconds in which further signals are ignored: a terminal that ends sends two."""


def heed() -> None:
    """Let SIGINT, SIGTERM and SIGHUP end the command as Ctrl-C does."""
    for number in _numbers():
        # A shell turns the others off for background commands, and nohup does so too.
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def check() -> None:
    """Raise KeyboardInterrupt if an earlier one was lost."""
    if _asked:
        _raise()


def ignore() -> None:
    """Ignore all signals from now on, because the work is done."""
    for number in _numbers():
        signal.signal(number, signal.SIG_IGN)


def _numbers() -> list[int]:
    # Windows has no SIGHUP, and SIGBREAK (Ctrl-Break) is there only.
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _asked, _again_soon
    again, _again_soon = _again_soon, False
    _asked = True
    if _is_importing(frame):
        # An interrupt during the import of PyTorch ends the whole process, so try again soon.
        later = threading.Timer(_SOON, _again, (number,))
        later.daemon = True
        later.start()
        return
    if _raised is not None and (again or time.monotonic() - _raised < _AT_ONCE):
        return
    _raise()


def _raise() -> NoReturn:
    global _raised
    _raised = time.monotonic()
    raise KeyboardInterrupt


def _again(number: int) -> None:
    global _again_soon
    _again_soon = True
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)  # wakes the main thread
    else:
        signal.raise_signal(number)  # Windows


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
