"""Write the plan or the result of a command as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any


def planned(plan: Any) -> dict[str, Any]:
    """Return the JSON of a plan: the keys of the result that are decided, with warnings."""
    from cloudconv.media.muxer import try_copies  # imports PyAV

    encoding = getattr(plan, "encoding", None)
    others = [] if encoding is None else try_copies(encoding, packets=False)
    texts = dict.fromkeys(each.text for each in (*plan.warnings, *others))
    return {**plan.facts, "warnings": [*texts]}


def as_json(result: Any) -> dict[str, Any]:
    """Return the JSON of a result: its fields, with warnings as sentences."""
    fields = asdict(result)
    if "warnings" in fields:
        fields["warnings"] = [each.text for each in result.warnings]
    return fields
