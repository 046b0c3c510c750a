"""Describe what a work is made of, and compare that with what an earlier work was made of.

Segments of an interpolation, outputs of a batch, and checkpoints of a training have such a
description, by which a later run continues the work, skips it, or names the difference.
"""

from collections.abc import Collection, Mapping
from typing import Any

from cloudconv.messages import shortened
from cloudconv.settings.option import Settings

Made = dict[str, str | None]
"""A text for each name of an option, an input, or anything else that changes a result."""


def describe(settings: Settings, inputs: Mapping[str, str | None], **more: Any) -> Made:
    """Return what a work is made of: options, a hash of each input, and ``more``."""
    return {**settings.pinned(), **inputs, **more}


def difference(
    settings: Settings,
    earlier: Mapping[str, Any],
    now: Mapping[str, Any],
    besides: Collection[str] = (),
) -> str:
    """Return the names of what differs in an earlier work, but for some names.

    Options that the earlier work does not name are newer; their defaults have the effect
    that it had. The text is empty if nothing differs.
    """
    before = settings.with_defaults(earlier)
    names = sorted((before.keys() | now.keys()) - set(besides))
    differing = [name for name in names if before.get(name) != now.get(name)]
    words = {option: option.replace("_", " ") for option in settings.pinned()}
    return shortened([words.get(name, name) for name in differing])
