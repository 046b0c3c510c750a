"""Say what is wrong with a dream: each fault in the JSON, and a verdict on all."""

from collections.abc import Sequence
from fractions import Fraction

from cloudconv import doubts
from cloudconv.doubts import Entry
from cloudconv.dreaming.vitals.vitals import Fault
from cloudconv.messages import counted


def as_json(
    faults: Sequence[Fault],
    first: int,
    begins: Fraction | int,
    step: Fraction,
    shape: tuple[int, int],
) -> list[Entry]:
    """Return the entries of ``faults`` in the JSON.

    ``first``, ``begins``: number and time of the first new frame. ``shape``: height and
    width of the video.
    """
    return [
        doubts.entry(
            first + fault.frame,
            begins + fault.frame * step,
            *(fault.size, fault.box, fault.text, shape),
            fault.grade,
            vital=fault.vital,
        )
        for fault in faults
    ]


def verdict_of(faults: list[Entry]) -> str:
    """Return the verdict on a dream with these faults."""
    clauses = (f"at output frame {doubts.place_of(each)} {each['text']}" for each in faults)
    grades = (doubts.Grade(each["grade"]) for each in faults)
    return doubts.verdict_of(zip(grades, clauses, strict=True))


def said(verdict: str, faults: list[Entry]) -> str:
    """Return the verdict with the number of faults that are hardly seen."""
    few = sum(fault["grade"] == doubts.Grade.HARDLY for fault in faults)
    return verdict + f", and {counted(few, 'place')} that hardly anyone sees" * bool(few)
