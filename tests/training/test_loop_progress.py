"""How far a training has come, as the progress bar reads it."""

from __future__ import annotations

from cloudconv.training.loop import Schedule


def test_steps_of_an_earlier_run_are_told_apart() -> None:
    """Or the first second of a resumed training shows a hundred steps a second."""
    steps = Schedule(200, None, 10, 10)
    event = steps.event(118, 3.0, 117)
    assert (event.done, event.total, event.resumed) == (118, 200, 117)
