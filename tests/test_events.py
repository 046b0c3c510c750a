"""A caller of a job gets its result, and an interrupt at any moment reaches the job."""

import pytest

from cloudconv import interrupts
from cloudconv.errors import Interrupted
from cloudconv.events import Finished, watched


class Late:
    """An event after which a signal arrives before the event is shown."""

    @property
    def __class__(self):
        raise KeyboardInterrupt


def test_an_interrupt_between_two_events_ends_the_job_at_its_next_check():
    def job():
        try:
            yield Late()
            interrupts.check()
        except KeyboardInterrupt as error:
            raise Interrupted("the work is kept") from error

    with pytest.raises(Interrupted, match="the work is kept"):
        watched(job())


def test_a_job_that_ends_on_an_interrupt_ends_the_call_with_it():
    def job():
        try:
            yield Late()
            interrupts.check()
        except KeyboardInterrupt:
            return

    with pytest.raises(KeyboardInterrupt):
        watched(job())


def test_a_job_that_finishes_after_an_interrupt_returns_its_result():
    def job():
        try:
            yield Late()
            interrupts.check()
        except KeyboardInterrupt:
            yield Finished("the best so far")

    assert watched(job()) == "the best so far"
