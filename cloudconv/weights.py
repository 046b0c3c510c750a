"""Find, check and load the weights that ship with cloudconv, and files of ``cloudconv train``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from cloudconv.errors import WeightsError


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """One weights file, as described in ``weights/manifest.json``.

    ``sha256`` and ``size_bytes`` describe the file. ``origin`` names every source of the weights.
    ``command`` is the command that made the file. ``scores`` are measured values by name.
    """

    name: str
    file: str
    sha256: str
    size_bytes: int
    parameters: int
    dtype: str
    model: str
    licence: str
    licence_file: str
    origin: tuple[str, ...]
    training_data: str
    command: str
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class TrainedFile:
    """A file of weights, as described by its own metadata.

    ``base``, ``steps``, ``gain`` and ``scores`` are of ``cloudconv train``: ``base`` is the model
    that training started from, and ``gain`` is in dB of PSNR over the naive picture, on held-back
    frames.
    """

    file: str
    sha256: str
    size_bytes: int
    base: str | None
    steps: int
    gain: float | None
    scores: dict[str, float]


def weights_folder() -> Path:
    """Return the folder of the weights: in an installed package, or beside a checkout's package."""
    package = Path(__file__).resolve().parent
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def manifest() -> dict[str, WeightsEntry]:
    """Return all manifest entries by name.

    Raises:
        WeightsError: the manifest is missing or unreadable.
    """
    return _read_manifest(weights_folder() / "manifest.json")


def entry(name: str) -> WeightsEntry:
    """Return the manifest entry of that name.

    Raises:
        WeightsError: the manifest has no such entry.
    """
    entries = manifest()
    if name not in entries:
        raise WeightsError("not-in-manifest", name=name)
    return entries[name]


def status(name: str) -> Literal["ok", "missing", "damaged"]:
    """Check the file of an entry and return its status.

    The check computes the file's SHA-256.

    Raises:
        WeightsError: the manifest has no such entry.
    """
    wanted = entry(name)
    try:
        data = (weights_folder() / wanted.file).read_bytes()
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "damaged"
    return "ok" if hashlib.sha256(data).hexdigest() == wanted.sha256 else "damaged"


def load_state(name: str) -> dict[str, Tensor]:
    """Return the tensors of an entry in the file's dtype, after a check of the file's SHA-256.

    Raises:
        WeightsError: the file is missing, or differs from the manifest's entry.
    """
    wanted = entry(name)
    path = weights_folder() / wanted.file
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != wanted.sha256:
        raise WeightsError("weights-changed", path=path)
    return _tensors(data, path)


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of any safetensors file.

    Raises:
        WeightsError: the file is not a readable safetensors file, or a tensor is not floating-point
            or not finite.
    """
    return _tensors(_read(path), path), read_metadata(path)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        WeightsError: the file cannot be read.
    """
    with _reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trained_file(path: Path, metadata: Mapping[str, str]) -> TrainedFile:
    """Return the description of a file of weights, from its metadata.

    Raises:
        WeightsError: the file cannot be read, or its metadata are damaged.
    """
    size, sha256 = path.stat().st_size, digest(path)
    try:
        recipe = json.loads(metadata.get("recipe", "{}"))
        recorded = json.loads(metadata.get("scores", "{}"))
        scores = {
            f"{name}_{ahead}" if isinstance(value, dict) else name: float(score)
            for name, value in recorded.items()
            for ahead, score in (value.items() if isinstance(value, dict) else [("", value)])
        }
        return TrainedFile(
            file=str(path),
            sha256=sha256,
            size_bytes=size,
            base=recipe.get("init"),
            steps=int(metadata.get("steps", 0)),
            gain=scores.get("gain"),
            scores=scores,
        )
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise WeightsError("metadata-damaged", path=path) from error


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file without reading its tensors.

    Raises:
        WeightsError: the file is not a readable safetensors file.
    """
    with _reading(path), safetensors.safe_open(path, framework="pt") as opened:
        return dict(opened.metadata() or {})


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert errors in reading a file to WeightsError."""
    # Opening a pipe without a writer would block for ever.
    if os.path.exists(path) and not os.path.isfile(path):
        raise WeightsError("weights-not-a-file", path=path)
    try:
        yield
    except SafetensorError as error:
        raise WeightsError("weights-cut-off", path=path) from error
    except FileNotFoundError as error:
        raise WeightsError("weights-missing", path=path) from error
    except OSError as error:
        raise WeightsError("unreadable", path=path, why=error.strerror) from error


def _read(path: Path) -> bytes:
    with _reading(path):
        return path.read_bytes()


def _tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    with _reading(path):
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.float().isfinite().all():
            raise WeightsError("not-weights", path=path, name=name)
    return tensors


def _read_manifest(path: Path) -> dict[str, WeightsEntry]:
    try:
        raw: dict[str, dict[str, Any]] = json.loads(_read(path))
        return {
            name: WeightsEntry(name=name, **{**fields, "origin": tuple(fields["origin"])})
            for name, fields in raw.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError("manifest-damaged", path=path) from error
