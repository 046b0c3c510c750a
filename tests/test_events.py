"""A caller of a job gets its result, and an interrupt at any moment reaches the job."""

import pytest

from cloudconv import interrupts
from cloudconv.errors import InputError, Interrupted
from cloudconv.events import Finished, Progress, Warned, reporting, watched


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


@pytest.mark.parametrize(
    "error", [InputError("no-frame: none."), KeyboardInterrupt(), ZeroDivisionError()]
)
@pytest.mark.parametrize("others", [0, 1])
def test_warnings_before_an_error_or_an_interrupt_come_once(error, others):
    found = [Warned(f"found-{number}: It was found.") for number in range(2)]

    @reporting
    def job(warnings):
        for _ in range(others):
            warnings.add(found[0])
            yield Progress("rendering", 1, 2)
        warnings.add(*found)
        raise error

    shown = []
    with pytest.raises(type(error)):
        watched(job(), shown.append)
    assert [event for event in shown if isinstance(event, Warned)] == found


def test_a_closed_job_yields_no_warning():
    """Another thread may find one while the job ends."""

    @reporting
    def job(warnings):
        try:
            yield Progress("rendering", 1, 2)
        finally:
            warnings.add(Warned("late: It was found late."))

    running = job()
    next(running)
    running.close()  # no RuntimeError
    assert list(running) == []
