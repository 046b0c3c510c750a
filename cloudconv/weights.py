"""Find, check and load shipped weights, and files of ``cloudconv train``."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cloudconv import checkpoints
from cloudconv.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """One weights file, as described in ``weights/manifest.json``.

    ``sha256`` and ``size_bytes`` describe the file. ``scores`` has for each test the PSNR
    of this model (``psnr``) and of others, and its ``detail`` relative to the truth's. The
    manifest also has the licence, the origin, the training data and the command.
    """

    name: str
    file: str
    sha256: str
    size_bytes: int
    model: str
    scores: dict[str, dict[str, float]]


def weights_folder() -> Path:
    """Return the folder of the weights: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def manifest() -> dict[str, WeightsEntry]:
    """Return all manifest entries by name.

    Raise WeightsError if the manifest cannot be read.
    """
    path = weights_folder() / "manifest.json"
    with checkpoints.reading(path):
        data = path.read_bytes()
    try:
        raw: dict[str, dict[str, Any]] = json.loads(data)
        read = itemgetter("file", "sha256", "size_bytes", "model", "scores")
        return {name: WeightsEntry(name, *read(about)) for name, about in raw.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path) from error


def entry(name: str) -> WeightsEntry:
    """Return the manifest entry of that name; raise WeightsError if there is none."""
    if (weights := manifest().get(name)) is None:
        raise _damaged(weights_folder() / "manifest.json")
    return weights


def status(name: str) -> Literal["ok", "missing", "damaged"]:
    """Check the SHA-256 of an entry's file.

    Raise WeightsError if there is no such entry.
    """
    wanted = entry(name)
    path = weights_folder() / wanted.file
    if not path.exists():
        return "missing"
    with suppress(WeightsError):
        return "ok" if checkpoints.digest(path) == wanted.sha256 else "damaged"
    return "damaged"


def load_state(name: str) -> dict[str, Tensor]:
    """Return the tensors of an entry in the file's dtype, after a check of its SHA-256."""
    wanted = entry(name)
    path = weights_folder() / wanted.file
    data = checkpoints.content(path)
    if hashlib.sha256(data).hexdigest() != wanted.sha256:
        raise WeightsError(
            f"weights-changed: The weights file {path} is damaged (its SHA-256 is not the "
            "manifest's): reinstall cloudconv."
        )
    return checkpoints.checked(checkpoints.tensors_of(data, path)[0], path)


def trained_file(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the description of a file of weights; raise WeightsError for damaged metadata.

    ``base``, ``steps``, ``gain``, ``gained`` and ``scores`` are of ``cloudconv train``:
    ``base`` is the model that training started from. On held-back frames, ``gain`` is in dB
    of PSNR over the naive picture, and ``gained`` over ``base``; None if unknown.
    """
    size = path.stat().st_size
    sha256 = checkpoints.digest(path)
    try:
        recipe = json.loads(metadata.get("recipe", "{}"))
        recorded = json.loads(metadata.get("scores", "{}"))
        scores: dict[str, float] = {}
        for name, value in recorded.items():
            if isinstance(value, dict):
                ahead = {f"{name}_{step}": float(score) for step, score in value.items()}
                scores |= ahead
            else:
                scores[name] = float(value)
        if not all(map(math.isfinite, scores.values())):
            raise ValueError
        return {
            "file": str(path),
            "sha256": sha256,
            "size_bytes": size,
            "base": recipe.get("init"),
            "steps": int(metadata.get("steps", 0)),
            "gain": scores.get("gain"),
            "gained": None if (gained := metadata.get("gained")) is None else float(gained),
            "scores": scores,
        }
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise WeightsError(
            f"metadata-damaged: The metadata of {path} is damaged: make the file again."
        ) from error


def _damaged(path: Path) -> WeightsError:
    return WeightsError(
        f"manifest-damaged: The weights manifest {path} is damaged: reinstall cloudconv."
    )
