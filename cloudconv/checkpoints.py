"""Open files of weights that other programs wrote, without running anything from them.

The content of a file decides how the file is read, not its name. PyTorch writes a zip archive or,
before version 1.6, a series of pickles; both are read by PyTorch's restricted unpickler, and only
after a scan that accepts the few types that weights need. Tensors stay on the disk (mapped into
memory) where the format allows that.
"""

from __future__ import annotations

import errno
import mmap
import pickle
import pickletools
import re
import stat
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from cloudconv.errors import WeightsError

SUFFIXES = (".safetensors", ".pkl", ".pth", ".pt", ".ckpt", ".bin")
"""The endings of the names of files with weights."""

_WEIGHTS_ONLY = re.compile(
    r"(?:__builtin__|builtins) set|collections (?:OrderedDict|Counter|defaultdict)"
    r"|torch(?:\.cuda|\.storage)? \w+Storage|torch\._utils _rebuild_(?:tensor(?:_v2)?|parameter)"
    r"|torch (?:Size|device|b?float\d+|u?int\d+|bool)|torch\.nn\.parameter Parameter"
)
"""The types that the description of weights names; everything else is refused."""

_MOST_DESCRIPTION = 1 << 26
"""The largest description (types, names and shapes) of a PyTorch file, in bytes."""

_DEEPEST = 4
"""The depth of mappings within mappings that are read."""

_MOST_HEADER = 100_000_000
"""The largest header of a safetensors file in bytes, by its specification."""

_LEGACY_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")
"""The number that begins a PyTorch file without an archive, without its pickle opcodes."""
_MOST_LEGACY = 2 << 30
"""The largest such file in bytes, because it is read as a whole; networks have at most 0.3 GB."""
_LEGACY_PICKLES = 4
"""The pickles before the data of such a file: magic number, version, system, description."""

_DAMAGE = (
    *(pickle.UnpicklingError, RuntimeError, ValueError, TypeError, KeyError, IndexError),
    *(AttributeError, AssertionError, OverflowError, EOFError, struct.error, zipfile.BadZipFile),
)
"""The errors of readers about a damaged or malicious file; ``RuntimeError`` is PyTorch's own."""


def is_file_name(name: str | Path) -> bool:
    """Return whether a model is given as a file, by the ending of its name."""
    return Path(name).suffix.lower() in SUFFIXES


def read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the content of a file of weights as stored, and its metadata.

    Tensors are on the CPU, and usually still on the disk. Use :func:`checked` before their values
    are read.

    Raises:
        WeightsError: the file is missing, damaged, too large, of another kind, or contains more
            than weights.
    """
    with reading(path) as size:
        if not size:
            raise WeightsError("weights-empty", path=path)
        with path.open("rb") as file:
            start = file.read(64)
            if start.startswith(b"PK"):
                _check_archive(path, file)
            elif _LEGACY_MAGIC in start:
                if size > _MOST_LEGACY:
                    raise WeightsError("weights-too-large", path=path, most=_MOST_LEGACY >> 30)
                _check_pickles(path, file, _LEGACY_PICKLES)
                return _loaded(path, mapped=False), {}
            elif _is_safetensors(start, size):
                return _safetensors(path)
            else:
                if start.startswith(b"\x80"):  # a plain pickle
                    _check_pickles(path, file, 1)
                raise WeightsError("weights-of-no-format", path=path)
        return _loaded(path, mapped=True), {}


def checked(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return tensors whose values can be read.

    Raises:
        WeightsError: a tensor is not floating-point, or has values that are not finite.
    """
    for name, tensor in state.items():
        if not tensor.is_floating_point() or not tensor.float().isfinite().all():
            raise WeightsError("not-weights", path=path, name=name)
    return dict(state)


def _safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    with safetensors.safe_open(path, framework="pt") as opened:
        metadata = dict(opened.metadata() or {})
    return dict(safetensors.torch.load_file(path)), metadata


def _loaded(path: Path, *, mapped: bool) -> dict[str, Any]:
    if mapped and path.suffix.lower() != SUFFIXES[0]:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    else:  # PyTorch takes a path's ending for its format, but not that of an open file
        with path.open("rb") as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise WeightsError("weights-without-names", path=path)
    return _tensors(state, path)


def _tensors(content: Mapping[Any, Any], path: Path, depth: int = 0) -> dict[str, Any]:
    """Return the tensors of a mapping, and of mappings in it, by name; leave out the rest."""
    kept: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and depth < _DEEPEST:
            kept[str(name)] = _tensors(value, path, depth + 1)
        elif isinstance(value, Tensor):
            # A damaged file may describe a tensor of any size, whose elements are the same few.
            if value.numel() * value.element_size() > path.stat().st_size:
                raise WeightsError("weights-larger-than-file", path=path, name=str(name))
            kept[str(name)] = value
    return kept


def _is_safetensors(start: bytes, size: int) -> bool:
    header = int.from_bytes(start[:8], "little")
    return start[8:9] == b"{" and header <= min(size, _MOST_HEADER)


def _check_archive(path: Path, file: IO[bytes]) -> None:
    """Refuse an archive that PyTorch did not write, and one that grows when it is read."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        ends = {each.filename.rpartition("/")[2]: each for each in entries}
        if "constants.pkl" in ends:
            raise WeightsError("weights-script", path=path)
        if any(each.compress_type != zipfile.ZIP_STORED for each in entries):
            raise WeightsError("weights-compressed", path=path)
        if sum(each.file_size for each in entries) > path.stat().st_size:
            raise WeightsError("weights-cut-off", path=path)
        if "data.pkl" not in ends:
            raise WeightsError("weights-of-no-format", path=path)
        with archive.open(ends["data.pkl"]) as described:
            # Nothing is compressed, so the entry is not larger than the file.
            _check_types(path, described, 1)


def _check_pickles(path: Path, file: IO[bytes], count: int) -> None:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        _check_types(path, mapped, count)


def _check_types(path: Path, described: Any, count: int) -> None:
    """Refuse pickles that name other types than weights need; nothing is unpickled."""
    for _ in range(count):
        texts: list[str] = []
        for opcode, argument, _ in pickletools.genops(described):
            if described.tell() > _MOST_DESCRIPTION:
                raise WeightsError("weights-description-too-large", path=path)
            if "UNICODE" in opcode.name or "STRING" in opcode.name:
                texts = [*texts[-1:], str(argument)]
            named = " ".join(texts) if opcode.name == "STACK_GLOBAL" else argument
            if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL") and not _WEIGHTS_ONLY.fullmatch(
                str(named)
            ):
                name = str(named).replace(" ", ".")
                raise WeightsError("weights-with-code", path=path, name=name)


@contextmanager
def reading(path: Path) -> Iterator[int]:
    """Yield the size of a file; convert the errors of all readers, and ignore their warnings.

    Raises:
        WeightsError: the path is not a file, or the block cannot read the file.
    """
    try:
        status = path.stat()
        # Opening a pipe without a writer would block for ever.
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError("weights-not-a-file", path=path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield status.st_size
    except WeightsError:
        raise
    except FileNotFoundError as error:
        raise WeightsError("weights-missing", path=path) from error
    except OSError as error:
        # A damaged archive names positions before its beginning, which no file can seek.
        if error.errno in (None, errno.EINVAL):
            raise WeightsError("weights-cut-off", path=path) from error
        raise WeightsError("unreadable", path=path, why=error.strerror) from error
    except (*_DAMAGE, SafetensorError, MemoryError) as error:
        raise WeightsError("weights-cut-off", path=path) from error
