"""Rules for workers on Ray, on this machine and on a cluster."""

import os
import time

import pytest

from cloudconv.errors import DeviceError, InputError
from cloudconv.events import Finished
from cloudconv.jobs.interp.pool import WorkerConfig
from cloudconv.jobs.interp.run import start
from tests.helpers.tiers import first_full
from tests.helpers.workers import Number, Tenfold, Waits, numbered, rendered

pytestmark = pytest.mark.usefixtures("ray")
everywhere = pytest.mark.parametrize(
    "workers", first_full([WorkerConfig("ray"), WorkerConfig("local", 2)])
)


def run(config, work, tasks):
    with start(config, work) as workers:
        yield from rendered(workers, tasks)


def ends(events):
    """Return the results and the errors by the number of the task, which ends only once."""
    ended = [event for event in events if isinstance(event.content, Finished)]
    result = {event.number: event.error or event.content.result for event in ended}
    assert len(result) == len(ended)
    errors = {
        number: outcome
        for number, outcome in result.items()
        if isinstance(outcome, Exception)
    }
    return {
        number: outcome for number, outcome in result.items() if number not in errors
    }, errors


@everywhere
def test_every_task_is_done_once_and_reports_come_before(workers):
    tasks = list(numbered(9))
    events = list(run(workers, Tenfold(), iter(tasks)))
    assert ends(events) == ({number: number * 10 for number in range(9)}, {})
    for task in tasks:
        kinds = [type(event.content) for event in events if event.number == task.number]
        assert kinds == [int, Finished]


@everywhere
def test_a_task_that_fails_does_not_stop_the_others(workers):
    results, errors = ends(run(workers, Tenfold(fails=2), numbered(6)))
    assert (sorted(results), list(errors)) == ([0, 1, 3, 4, 5], [2])
    assert isinstance(errors[2], InputError)
    assert (
        str(errors[2]) == "this cannot be read: permission denied. Change its permissions."
    )


@everywhere
def test_workers_wait_for_tasks_that_are_planned_later(workers):
    done = set()
    latest = time.monotonic() + 60

    def slowly():
        for task in numbered(3):
            yield None
            yield task
            while task.number not in done:
                assert time.monotonic() < latest, "no event of the workers arrived"
                yield None

    for event in run(workers, Tenfold(), slowly()):
        if isinstance(event.content, Finished):
            done.add(event.number)
    assert done == {0, 1, 2}


@everywhere
def test_an_error_of_the_plan_ends_the_work(workers):
    def broken():
        yield Number(0)
        raise InputError("ends-before-frame: the clip ends before its first frame.")

    with pytest.raises(InputError, match="the clip ends"):
        list(run(workers, Tenfold(), broken()))


@everywhere
def test_closing_the_iterator_ends_the_work(workers):
    taken = []

    def noted():
        for task in numbered(1000):
            taken.append(task.number)
            yield task

    began = time.monotonic()
    events = run(workers, Waits(), noted())
    worker, _ = next(events).content
    events.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert time.monotonic() - began < 50
    assert len(taken) < 20
    assert list(events) == []


@everywhere
def test_another_worker_does_the_tasks_of_a_worker_that_dies(workers, tmp_path):
    events = list(run(workers, Tenfold(deadly=4, deaths=tmp_path / "died"), numbered(12)))
    assert ends(events) == ({number: number * 10 for number in range(12)}, {})
    assert (tmp_path / "died").stat().st_size == 1
    assert os.getpid() not in [event.content for event in events]


@everywhere
def test_a_task_that_kills_every_worker_is_given_up(workers, tmp_path):
    work = Tenfold(deadly=2, deaths=tmp_path / "died", times=99)
    results, errors = ends(run(workers, work, numbered(4)))
    assert (sorted(results), list(errors)) == ([0, 1, 3], [2])
    assert isinstance(errors[2], DeviceError)
    assert "3 times" in str(errors[2])
    assert (tmp_path / "died").stat().st_size == 3
