"""Say what is wrong with a dream: each fault in the JSON, each kind of fault in words."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any

from cloudconv import doubts
from cloudconv.dreaming.vitals.vitals import Fault
from cloudconv.messages import counted, listed

_MOST_TIMES = 4  # of one kind of fault that are named, or one more


def as_json(
    faults: Sequence[Fault], begins: Fraction | int, step: Fraction, size: tuple[int, int]
) -> list[dict[str, Any]]:
    """Return the entries of ``faults`` in the JSON.

    ``begins``: the time of the first new frame. ``size``: (height, width) of the video.
    """
    height, width = size
    return [
        {
            "time": round(float(begins + fault.frame * step), 3),
            "vital": fault.vital,
            "text": fault.text,
            "grade": str(fault.grade),
            "box": fault.box.pixels(width, height),
        }
        for fault in faults
    ]


def kinds_of(faults: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a clause for each kind of fault that a viewer sees, the worst grade first."""

    def rank(fault: dict[str, Any]) -> int:
        return -doubts.GRADES.index(fault["grade"])

    for grade, graded in groupby(sorted(faults, key=rank), key=lambda f: f["grade"]):
        kinds: dict[str, list[dict[str, Any]]] = {}
        for fault in graded:
            kinds.setdefault(fault["text"], []).append(fault)
        for text, same in kinds.items() if grade != doubts.Grade.HARDLY else ():
            few = len(same) <= _MOST_TIMES + 1
            named = same if few else same[:_MOST_TIMES]
            times = listed([f"{fault['time']:.1f}" for fault in named], "and")
            more = "" if few else f", and {len(same) - _MOST_TIMES} more times,"
            x, y, width, height = same[0]["box"]
            where = f"first in {width}x{height} pixels at {x},{y}"
            yield f"At {times} s{more} {text} ({grade}; {where})"


def verdict_of(faults: list[dict[str, Any]]) -> str:
    """Return the verdict on a dream with these faults."""
    return doubts.verdict_of(
        (doubts.Grade(fault["grade"]), f"at {fault['time']:.1f} s {fault['text']}")
        for fault in faults
    )


def said(verdict: str, faults: list[dict[str, Any]]) -> str:
    """Return the verdict with the number of faults that are hardly seen."""
    few = sum(fault["grade"] == doubts.Grade.HARDLY for fault in faults)
    return verdict + f" ({counted(few, 'place')} hardly seen)" * bool(few)
