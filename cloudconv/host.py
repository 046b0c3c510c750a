"""Measure the free memory of the host, within the limit of a container; read versions."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

_CGROUP_FOLDER = Path("/sys/fs/cgroup")
_CGROUPS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
"""The files with a container's memory limit, use and caches, for cgroups version 2 and then 1."""


def free_memory() -> int | None:
    """Return the bytes that can still be allocated; None if unknown.

    If the system reports only its total memory, half of that counts as free.
    """
    amounts = [n for n in (_free_host(), _free_in_container()) if n is not None]
    return min(amounts, default=None)


def version_of(package: str) -> str:
    """Return the version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # for example in a bundle, or beside the source
        return "missing"


def _free_host() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return _half_of_host()
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:")), None)


def _half_of_host() -> int | None:
    """Return half of the memory, a guess for systems that do not report their free memory."""
    names = getattr(os, "sysconf_names", {})
    if sys.platform == "win32" or not {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(names):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _free_in_container() -> int | None:
    """Return the bytes that the limit of a container leaves; None without a limit."""
    for names in _CGROUPS:
        limit, used, cache = (_CGROUP_FOLDER / name for name in names)
        try:
            most, now = int(limit.read_text()), int(used.read_text())
            stat = dict(x.split() for x in cache.read_text().splitlines())
        except (OSError, ValueError):  # "max" is no number: no limit
            continue
        reclaimable = int(stat.get("inactive_file", stat.get("total_inactive_file", 0)))
        return max(0, most - now + reclaimable)
    return None
