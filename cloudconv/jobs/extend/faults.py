"""Say what is wrong with a dream: each fault in the JSON, and a verdict on all."""

from collections.abc import Sequence
from fractions import Fraction

from cloudconv import doubts
from cloudconv.doubts import Entry
from cloudconv.dreaming.vitals.vitals import Fault
from cloudconv.messages import counted


def as_json(
    faults: Sequence[Fault], begins: Fraction | int, step: Fraction, shape: tuple[int, int]
) -> list[Entry]:
    """Return the entries of ``faults`` in the JSON.

    ``begins``: the time of the first new frame. ``shape``: height and width of the video.
    """
    return [
        doubts.entry(
            *(begins + fault.frame * step, fault.size, fault.box, fault.text, shape),
            fault.grade,
            vital=fault.vital,
        )
        for fault in faults
    ]


def verdict_of(faults: list[Entry]) -> str:
    """Return the verdict on a dream with these faults."""
    return doubts.verdict_of(
        (doubts.Grade(fault["grade"]), f"at {fault['time']:.1f} s {fault['text']}")
        for fault in faults
    )


def said(verdict: str, faults: list[Entry]) -> str:
    """Return the verdict with the number of faults that are hardly seen."""
    few = sum(fault["grade"] == doubts.Grade.HARDLY for fault in faults)
    return verdict + f"; besides, {counted(few, 'place')} hardly seen" * bool(few)
