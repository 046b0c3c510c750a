"""Read files of weights by their content, without running anything from them.

This process reads safetensors files only. A file that PyTorch wrote is converted by a child
process with limits (:mod:`cloudconv.foreign`); the user's data folder keeps the latest
results.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from cloudconv import files
from cloudconv.errors import WeightsError
from cloudconv.host import lack_of_memory

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".safetensors", ".pkl", ".pth", ".pt", ".ckpt", ".bin")
"""The endings of the names of files with weights."""

_MOST_HEADER = 4 << 20
"""The largest header (names, shapes, metadata) that is read, in bytes; networks have 0.2
MB."""
_MOST_BYTES = 2 << 30
"""The largest file that is read, and the memory of its conversion; networks have at most
0.3 GB."""

_LEGACY_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")
"""The number that begins a PyTorch file without an archive, without its pickle opcodes."""

_SECONDS = 20
_MOST_CONVERTED = 16
# The results that the data folder keeps.
_CONVERTED = re.compile(r"[0-9a-f]{64}\.safetensors")

# By code: the words of the converting process about a file, and the text of the error.
_REFUSALS = {
    "weights-of-no-format": (
        re.compile(r"not in a subdirectory|hasRecord|file data\.pkl"),
        "is neither a PyTorch file nor a safetensors file: give a network's weights, such "
        "as flownet.pkl.",
    ),
    "weights-without-names": (
        re.compile(r"has no attribute '(?:get|items)'"),
        "contains no tensors by name: give a file with the state_dict of a network.",
    ),
    "weights-too-large": (
        re.compile(r"MemoryError|bad_alloc|allocate memory|more than the file"),
        "is larger than any known network, or reading takes more than 2 GiB or 20 s: give "
        "a file with the state_dict alone.",
    ),
    "weights-cut-off": (
        re.compile(""),
        "is cut off or damaged: make the file again, or copy or download it again.",
    ),
}


def file_of(model: str | Path) -> Path | None:
    """Return the file of a model that is given as a file, by its name's ending, or None."""
    return Path(model) if Path(model).suffix.lower() in SUFFIXES else None


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file of weights as stored, and its metadata.

    Use :func:`checked` before their values are read.
    """
    return tensors_of(content(path), path)


def content(path: Path) -> bytes:
    """Return the bytes of a file of weights, for :func:`tensors_of`."""
    with reading(path) as size:
        if size > _MOST_BYTES:
            raise refused("weights-too-large", path)
        return path.read_bytes()


def tensors_of(data: bytes, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file's bytes as stored, and the metadata.

    See :func:`read`.
    """
    with reading(path):
        start = data[:64]
        if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= len(data):
            return _loaded(data, path)
        if start.startswith(b"PK") or _LEGACY_MAGIC in start:
            return _converted(data, path), {}
        if not data:
            raise WeightsError(
                f"weights-empty: {path} is empty: copy or download the file again."
            )
        raise refused("weights-of-no-format", path)


def checked(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the tensors, after a check that all values are finite floats."""
    import torch

    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    for name, tensor in state.items():
        if tensor.dtype not in kinds or not tensor.float().isfinite().all():
            raise WeightsError(
                f"not-weights: {path} is damaged: {name} holds values that are not finite "
                "floating-point numbers. Make the file again."
            )
    return dict(state)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _loaded(data: bytes, source: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors.torch import load

    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end]) if end <= _MOST_HEADER else None
    if header is None:
        raise refused("weights-too-large", source)
    return load(data), header.get("__metadata__", {})


def _converted(data: bytes, source: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that PyTorch wrote; the data folder keeps them."""
    folder = files.data_folder() / "converted"
    kept = folder / f"{hashlib.sha256(data).hexdigest()}.safetensors"
    with suppress(OSError, SafetensorError, ValueError):
        os.utime(kept)
        return _loaded(kept.read_bytes(), source)[0]
    with (
        files.storing_temporarily(),
        tempfile.TemporaryDirectory(
            prefix="cloudconv-", ignore_cleanup_errors=True
        ) as scratch,
    ):
        copy = Path(scratch, "given")
        copy.write_bytes(data)  # the file itself may be replaced meanwhile
        target = Path(scratch, kept.name)
        _convert(copy, target, source)
        converted = target.read_bytes()
    with suppress(OSError):  # without a data folder, each run converts the file again
        folder.mkdir(parents=True, exist_ok=True)
        files.write_whole(kept, converted)
        own = [
            file
            for file in folder.iterdir()
            if _CONVERTED.fullmatch(file.name) and stat.S_ISREG(file.lstat().st_mode)
        ]
        for old in sorted(own, key=lambda file: file.lstat().st_mtime)[:-_MOST_CONVERTED]:
            files.remove(old)
    return _loaded(converted, source)[0]


def _convert(copy: Path, target: Path, source: Path) -> None:
    """Write the tensors of a file to ``target``; errors name ``source``."""
    from cloudconv import foreign

    words = [str(copy), str(target), str(_MOST_BYTES)]
    command = [sys.executable, "-P", foreign.__file__, *words]
    end = time.monotonic() + _SECONDS
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
        ) as child,
    ):
        try:
            while child.poll() is None:
                if time.monotonic() > end or _resident(child) > _MOST_BYTES:
                    raise refused("weights-too-large", source)
                time.sleep(0.02)
        finally:
            child.kill()
        said.seek(max(0, said.seek(0, os.SEEK_END) - 5000))
        text = said.read().decode("utf-8", "replace")
    if child.returncode:
        if "failed to map segment" in text:  # the machine has no memory even for PyTorch
            raise MemoryError(text.splitlines()[-1])
        if shutil.disk_usage(target.parent).free < source.stat().st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise _refusal(source, text)


def refused(code: str, path: Path) -> WeightsError:
    """Return the error with one of the codes of ``_REFUSALS``."""
    return WeightsError(f"{code}: {path} {_REFUSALS[code][1]}")


def _refusal(path: Path, text: str) -> WeightsError:
    if match := re.search(r"GLOBAL (\S{1,100}) (?:was|whose)|(TorchScript) archives", text):
        return WeightsError(
            f"weights-with-code: {path} contains more than weights "
            f"({match[1] or match[2]}), and cloudconv runs no code of a file: give a file "
            "with the state_dict alone."
        )
    return refused(
        next(code for code, (sign, _) in _REFUSALS.items() if sign.search(text)), path
    )


def _resident(child: subprocess.Popen[bytes]) -> int:
    """Return the memory of a process in bytes; 0 on Linux, where it has a limit."""
    if sys.platform == "linux":
        return 0
    if sys.platform == "win32":
        counters = (ctypes.c_size_t * 9)()  # PROCESS_MEMORY_COUNTERS
        kernel = ctypes.windll.kernel32
        # PROCESS_QUERY_LIMITED_INFORMATION and PROCESS_VM_READ
        handle = ctypes.c_void_p(kernel.OpenProcess(0x1010, False, child.pid))
        kernel.K32GetProcessMemoryInfo(handle, counters, ctypes.sizeof(counters))
        kernel.CloseHandle(handle)
        return counters[1]  # the peak; 0 if the system gives none
    command = ["ps", "-o", "rss=", "-p", str(child.pid)]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return 1024 * int(output.strip() or 0)


@contextmanager
def reading(path: Path) -> Iterator[int]:
    """Yield the size of a file.

    Convert the errors of readers, and ignore their warnings.
    """
    try:
        status = path.stat()
        # Opening a pipe without a writer would block for ever.
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError(
                f"weights-not-a-file: The weights {path} are not a file: name a file of "
                "weights."
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield status.st_size
    except WeightsError:
        raise
    except FileNotFoundError as error:
        raise WeightsError(
            f"weights-missing: The weights file {path} is missing: check the name, or "
            "reinstall cloudconv if the file belongs to it."
        ) from error
    except OSError as error:
        raise WeightsError(
            f"unreadable: {path} cannot be read ({error.strerror}): check its name and "
            "permissions."
        ) from error
    except (SafetensorError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        if lack_of_memory(error) is not None:
            raise MemoryError(str(error)) from error
        raise refused("weights-cut-off", path) from error
