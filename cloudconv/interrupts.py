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
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from cloudconv import files

_has_arrived = False
_guard = -1  # a pipe; a signal's number in it starts the time until the process is ended
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
    global _guard
    for number in _numbers():
        # A shell ignores SIGINT for background commands, and nohup ignores SIGHUP: change
        # neither.
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    sys.unraisablehook = _unraisable
    if os.name == "posix":
        read_end, _guard = os.pipe()
        os.set_blocking(_guard, False)
        signal.set_wakeup_fd(_guard, warn_on_full_buffer=False)
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
    while os.read(read_end, 1)[0] not in _numbers():
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

    A second signal interrupts at once. The first one does not limit the time that the
    block takes.
    """

    def request_stop(number: int, _: object) -> None:
        # A closing terminal often sends two signals.
        if stop.is_set() and number != getattr(signal, "SIGHUP", None):
            _raise()
        stop.set()

    with ExitStack() as stack:
        # Only the main thread gets signals, and those that the process ignores stay
        # ignored.
        if threading.current_thread() is threading.main_thread():
            guard = signal.set_wakeup_fd(-1)
            stack.callback(signal.set_wakeup_fd, guard, warn_on_full_buffer=False)
            for number in _numbers():
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before = signal.signal(number, request_stop)
                    stack.callback(signal.signal, number, before)
        yield


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back interrupts until the end of a block, in which a process starts.

    That process never gets the signals of a terminal. The interrupt is raised after the
    block.
    """
    stop = threading.Event()
    with deferred(stop), ExitStack() as stack:
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            before = signal.pthread_sigmask(
                signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP)
            )
            stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        yield
    if stop.is_set():
        _raise()


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
    # No byte has arrived there while signals were deferred.
    with suppress(OSError):
        os.write(_guard, bytes([signal.SIGINT]))
    raise KeyboardInterrupt


def _send_again(number: int) -> None:
    global _is_repeat
    _is_repeat = _has_arrived
    if _is_repeat and hasattr(signal, "pthread_kill"):
        # Wake the main thread.
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    elif _is_repeat:
        signal.raise_signal(number)  # Windows
