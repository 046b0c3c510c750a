"""Raise a video's frame rate exactly; forecast and continue videos.

>>> import cloudconv
>>> result = cloudconv.interpolate("in.mp4", factor=4)  # doctest: +SKIP
>>> result.output_frames  # doctest: +SKIP
1000

Every command has a function, and every option of a command is a keyword of the function:
the fields of its settings class (``InterpSettings`` for :func:`interpolate`). The fields of
the result are the keys of the command's JSON. Rates, factors and times may be numbers,
fractions, or text as on the command line: ``"60000/1001"``, ``"1:02"``. Heavy modules are
imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloudconv.api import *  # noqa: F403
    from cloudconv.api import __all__ as __all__


def __getattr__(name: str) -> Any:
    """Return a submodule, or a public object from :mod:`cloudconv.api`.

    Nothing else is imported before the first use, so that the command line can end quietly
    if Ctrl-C arrives during the imports.
    """
    if find_spec(f"{__name__}.{name}"):
        return import_module(f"{__name__}.{name}")
    api = import_module("cloudconv.api")
    if name == "__all__" or name in api.__all__:
        return getattr(api, name)
    raise AttributeError(f"module 'cloudconv' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names in this module, for ``dir``, ``help`` and completion."""
    return [*globals(), *__getattr__("__all__")]
