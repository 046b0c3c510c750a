"""Write the plan or the result of a command as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any


def planned(plan: Any) -> dict[str, Any]:
    """Return the JSON of a plan: the keys of the result that are decided, with warnings."""
    return {**plan.facts, "warnings": [each.text for each in plan.warnings]}


def as_json(result: Any) -> dict[str, Any]:
    """Return the JSON of a result: its fields, with warnings as sentences."""
    fields = asdict(result)
    if "warnings" in fields:
        fields["warnings"] = [each.text for each in result.warnings]
    return fields
