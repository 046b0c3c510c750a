"""Measure the free memory, within a container's limit; reuse memory; read versions."""

import ctypes
import errno
import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

_CGROUP_FOLDER = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_CGROUPS = {
    "": ("memory.max", "memory.current", "memory.stat"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),
}
"""The files with a group's memory limit, use and caches, for cgroups version 2 and then 1.

The key is the name of the controller, which is also that of the folder.
"""

_LIMITS = (
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EAGAIN,
)
_SIGNS = (
    *("failed to map segment", "annot allocate memory", "can't allocate memory"),
    *("can't start new thread", "out of memory", "not enough memory", "std::bad_alloc"),
    "could not create a primitive",  # oneDNN
)


def lack_of_memory(error: BaseException) -> str | None:
    """Return the reason and the remedy for a lack of memory; None for another error."""
    lines = str(error).splitlines() or ["none was left"]
    signs = [line.strip() for line in lines if any(sign in line for sign in _SIGNS)]
    if not signs and not isinstance(error, MemoryError):
        return None
    return (
        f"there is not enough memory ({[*signs, *lines][0]}): close other programs, or "
        "raise the limit on memory (ulimit -v)"
    )


def refusal(error: BaseException) -> str | None:
    """Return the reason and the remedy if the system refuses; None for another error."""
    if not isinstance(error, OSError):
        return None
    if error.errno in _LIMITS:
        return (
            f"the system gives no more ({error.strerror}): free some or raise the limit "
            "(ulimit)"
        )
    if error.filename is None:
        return None
    return (
        f"{error.filename} cannot be used ({error.strerror}): check its name and "
        "permissions"
    )


def free_memory() -> int | None:
    """Return the bytes that can still be allocated; None if unknown.

    If the system reports only its total memory, half of that counts as free.
    """
    amounts = [n for n in (_free_host(), _free_in_container()) if n is not None]
    return min(amounts, default=None)


# Parameters of mallopt(3). Blocks of less than 28 MiB get no map of their own; a plane of
# 4K in float32 has more. No memory goes back to the kernel, and threads have no arenas of
# their own, which cannot hold large blocks.
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8
_KEPT = {_MMAP_THRESHOLD: 28 << 20, _TRIM_THRESHOLD: -1, _ARENA_MAX: 1}


def reuse_memory() -> None:
    """Let this process keep the memory that it frees, for its own later use.

    By default the C library of Linux (glibc) maps each block of some megabytes anew, and
    the kernel fills the block with zeros. Larger blocks, such as pictures of 4K, go back,
    because kept ones are divided, and the memory grows. The call changes the whole process
    until the process ends. Other systems and C libraries are not changed.
    """
    if (library := _glibc()) is not None:
        for parameter, value in _KEPT.items():
            library.mallopt(parameter, value)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library of Linux, None on other systems and with other libraries."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None


@cache
def version_of(package: str) -> str:
    """Return the version of an installed package; the search takes milliseconds."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # for example in a bundle, or beside the source
        return "missing"


def processor_name() -> str:
    """Return the name of the processor."""
    named = (x.partition(":")[2].strip() for x in cpu_lines() if x.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def cpu_lines() -> list[str]:
    """Return the lines about the processor that Linux has; none on other systems."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _free_host() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    # Half of the memory is a guess for systems that do not report what is free.
    except OSError:
        names = getattr(os, "sysconf_names", {})
        if sys.platform == "win32" or not {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(names):
            return None
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return next(
        (int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:")), None
    )


def _free_in_container() -> int | None:
    """Return the bytes that the limits of a container leave; None without a limit.

    The limits of a group also hold for the groups inside.
    """
    left: list[int | None] = []
    for controller, names in _CGROUPS.items():
        left += [_free_in(folder, names) for folder in _groups_of(controller)]
    return min((free for free in left if free is not None), default=None)


def _groups_of(controller: str) -> list[Path]:
    """Return the folders of this process's group and of all groups around."""
    root = _CGROUP_FOLDER / controller
    try:
        lines = _OWN_CGROUPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return [root]
    for line in lines:
        _, controllers, name = (*line.split(":", 2), "", "")[:3]
        if controller in controllers.split(","):
            own = Path(name.lstrip("/"))
            return [root / group for group in (own, *own.parents)]
    return [root]


def _free_in(folder: Path, names: tuple[str, str, str]) -> int | None:
    limit, used, cache = (folder / name for name in names)
    try:
        most, now = int(limit.read_text()), int(used.read_text())
        stat = dict(x.split() for x in cache.read_text().splitlines())
    except (OSError, ValueError):  # "max" is no number: no limit
        return None
    reclaimable = int(stat.get("inactive_file", stat.get("total_inactive_file", 0)))
    return max(0, most - now + reclaimable)
