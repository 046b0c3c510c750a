"""A Ctrl-C is not lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from cloudconv.cli import interrupts
from cloudconv.cli.console import Console


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interrupts, "_asked", False)
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_that_got_lost_ends_the_run(name: str) -> None:
    interrupts.heed()
    with pytest.raises(KeyboardInterrupt):  # as if a library swallowed it here
        os.kill(os.getpid(), getattr(signal, name))
    with Console(quiet=True).progress("working") as tell, pytest.raises(KeyboardInterrupt):
        tell(1, 2)


def test_without_one_the_work_goes_on() -> None:
    interrupts.heed()
    interrupts.check()
