"""Say what is wrong with a dream: each fault in the JSON, and a verdict on all."""

from collections.abc import Sequence
from fractions import Fraction

from cloudconv import doubts
from cloudconv.doubts import Entry, Grade
from cloudconv.dreaming.vitals.vitals import Fault
from cloudconv.messages import counted, listed, plural

_NAMED = 4  # times of a verdict


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


def verdict_of(faults: Sequence[Entry]) -> str:
    """Return the verdict on a dream with these faults, which says each thing once.

    It is "good", or about the places of the worst grade that a viewer sees.
    """
    seen = [fault for fault in faults if fault["grade"] != Grade.HARDLY]
    if not seen:
        return "good"
    worst = [fault for fault in seen if fault["grade"] == Grade.SPOILS]
    texts = listed(list(dict.fromkeys(fault["text"] for fault in worst or seen)), "and")
    times = [f"{fault['time']:.1f}" for fault in worst or seen]
    if worst:
        return f"spoiled at {listed(times[:_NAMED], 'and')} s ({texts})"
    places = f"{counted(len(times), 'place')} {plural(len(times), 'is', 'are')} seen"
    return f"{places}, {'the first ' * (len(times) > 1)}at {times[0]} s ({texts})"
