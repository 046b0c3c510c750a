"""Handle Ctrl-C, SIGTERM and the end of the terminal without losing a signal.

The handler records the signal, and the loop of a job calls :func:`check` between two
frames, which raises ``KeyboardInterrupt``. Only if a wait or a long computation keeps the
loop from this call for a moment, the handler raises: an exception between two arbitrary
instructions can leave a lock of a queue locked for ever. A callback from C and a destructor
discard that exception; then the next check raises. No other module sets a handler.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from cloudconv import files

_has_arrived = False
_is_deferring = False
_is_repeat = False  # whether the next signal repeats an earlier one
_PATIENCE = 0.25  # seconds until a signal that no check has raised is sent again
# Seconds that a run has after an interrupt for its orderly end.
_GRACE = 20.0
_IGNORE_PERIOD = 1.0
"""Seconds after an interrupt in which further signals are ignored: a closing terminal sends
two."""
_raised_at = -_IGNORE_PERIOD


def install() -> None:
    """Make SIGINT, SIGTERM, SIGHUP and SIGBREAK raise KeyboardInterrupt, as Ctrl-C does."""
    for number in _numbers():
        # A shell ignores SIGINT for background commands, and nohup ignores SIGHUP: change
        # neither.
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    sys.unraisablehook = _unraisable
    if os.name == "posix":
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        threading.Thread(
            target=_end_at_last, args=(read_end,), name="cloudconv-end", daemon=True
        ).start()


def _unraisable(lost: Any) -> None:
    """Show an error that nothing can catch, unless it is a recorded interrupt."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)


def _end_at_last(read_end: int) -> None:
    """End this process after an interrupt, when its orderly end takes too long.

    A library that waits for ever may keep the main thread from every exception.
    """
    while os.read(read_end, 1)[0] not in _numbers() or _is_deferring:
        pass
    time.sleep(_GRACE)
    for path in files.unfinished():
        files.remove(path)
    os.write(2, f"interrupted; the end took over {_GRACE:.0f} s and was cut\n".encode())
    os._exit(130)


def remember() -> None:
    """Let :func:`check` raise an interrupt that came while a job was suspended."""
    global _has_arrived
    _has_arrived = True


def check() -> None:
    """Raise KeyboardInterrupt if a signal has arrived, also if its exception was lost.

    The loop of each job calls this between two frames.
    """
    global _has_arrived
    if _has_arrived:
        _has_arrived = False
        _raise()


def ignore() -> None:
    """Ignore the signals that :func:`install` handles from now on: the work is done."""
    for number in _numbers():
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def deferred(stop: threading.Event) -> Iterator[None]:
    """Set ``stop`` when Ctrl-C or a signal like it arrives during a block.

    A second signal interrupts at once.
    """
    global _is_deferring

    def request_stop(number: int, _: object) -> None:
        # A closing terminal often sends two signals.
        if stop.is_set() and number != getattr(signal, "SIGHUP", None):
            raise KeyboardInterrupt
        stop.set()

    # Only the main thread gets signals, and those that the process ignores stay ignored.
    in_main = threading.current_thread() is threading.main_thread()
    before = {
        number: signal.signal(number, request_stop)
        for number in _numbers()
        if in_main and signal.getsignal(number) is not signal.SIG_IGN
    }
    _is_deferring = True
    try:
        yield
    finally:
        _is_deferring = False
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back interrupts until the end of a block, in which a process starts.

    That process never gets the signals of a terminal. The interrupt is raised after the
    block.
    """
    stop = threading.Event()
    with deferred(stop), _masked():
        yield
    if stop.is_set():
        _raise()


@contextmanager
def _masked() -> Iterator[None]:
    """Block the signals of a terminal in this thread, and in processes that it starts."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _numbers() -> list[int]:
    # Windows has no SIGHUP. Only Windows has SIGBREAK (Ctrl-Break).
    return [
        getattr(signal, name)
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
        if hasattr(signal, name)
    ]


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Record a signal, and raise it when it comes again before a check has raised it."""
    global _has_arrived, _is_repeat
    repeat = _is_repeat
    _is_repeat = False
    # An exception would spoil an import, such as that of PyTorch.
    importing = any(
        caller.f_code.co_filename.startswith("<frozen importlib")
        for caller, _ in traceback.walk_stack(frame)
    )
    if repeat and _has_arrived and not importing:
        _raise()
    _has_arrived |= not repeat and time.monotonic() - _raised_at >= _IGNORE_PERIOD
    if _has_arrived:
        later = threading.Timer(_PATIENCE, _send_again, (number,))
        later.daemon = True
        later.start()


def _raise() -> NoReturn:
    global _raised_at
    _raised_at = time.monotonic()
    raise KeyboardInterrupt


def _send_again(number: int) -> None:
    global _is_repeat
    _is_repeat = _has_arrived
    main = threading.main_thread().ident
    if _is_repeat and hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)  # wakes the main thread
    elif _is_repeat:
        signal.raise_signal(number)  # Windows
