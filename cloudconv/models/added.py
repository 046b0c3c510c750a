"""Add networks from the user's files to the user's data folder, and remove them."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path

import safetensors.torch

from cloudconv import checkpoints, files
from cloudconv.errors import OutputError, SettingsError, UnknownModelError
from cloudconv.media.output import writing
from cloudconv.messages import did_you_mean, listed
from cloudconv.models import registry
from cloudconv.models.catalogue import ModelSpec

_HEADER = 8  # bytes: the length of the JSON in front of a safetensors file's data


def add(
    file: Path | str, name: str, *, timesteps: str = "any", overwrite: bool = False
) -> ModelSpec:
    """Check a file of weights, and store its network under a name as a safetensors file.

    The file is that of a published network, or one that ``cloudconv train`` wrote. ``timesteps`` is
    ``middle`` for a network that was trained for the middle of two frames only. With ``overwrite``,
    a network that the user added under the same name is replaced. Raises SettingsError if the name
    cannot be used, WeightsError for the file, and OutputError if the name is in use.
    """
    target = registry.added_file(name)
    if any(known.name == name for known in registry.MODELS) or name in _METHODS:
        raise SettingsError(
            f"shipped-model-name: {name} is a model of cloudconv itself: choose another name."
        )
    path = registry.file_of(file)
    if path is None:
        raise UnknownModelError(
            f"add-needs-file: {file} is not a file of weights: give a file whose name ends in "
            f"{listed(checkpoints.SUFFIXES, 'or')}."
        )
    # Load the network completely, so that a file which does not fit is refused.
    registry.build_model(path)
    spec, metadata_of_file = registry.describe(path)
    state = registry.state_of(path, spec)
    assert state is not None
    # safetensors refuses tensors with common memory.
    state = {key: tensor.contiguous().clone() for key, tensor in state.items()}
    kept = dict(metadata_of_file)
    if spec.published:
        kept["network"] = spec.family
    if timesteps == "middle":
        kept["timesteps"] = timesteps
    kept |= {
        "source": kept.get("source", path.name),
        "source_sha256": kept.get("source_sha256", checkpoints.digest(path)),
        "added_by": f"cloudconv {metadata.version('cloudconv')}",
        "sha256": hashlib.sha256(_data(safetensors.torch.save(state))).hexdigest(),
    }
    with writing(target), files.Claim(target):
        if target.exists() and not overwrite:
            raise OutputError(
                f"model-exists: There is a model {name} already: replace it with --overwrite."
            )
        files.write_whole(target, _ordered(safetensors.torch.save(state, kept)))
    return registry.spec(name)


def remove(name: str) -> Path:
    """Delete the file of a network that the user added, and return its path."""
    if any(known.name == name for known in registry.MODELS):
        raise SettingsError(
            f"shipped-model-stays: {name} is a model of cloudconv itself: only added ones can be "
            "removed."
        )
    known = registry.added_files()
    if name not in known:
        there = f"; there are: {', '.join(known)}" if known else ""
        raise UnknownModelError(
            f"no-added-model: You have added no model {name!r}{did_you_mean(name, known)}{there}."
        )
    with writing(known[name]):
        known[name].unlink()
    return known[name]


def is_intact(path: Path) -> bool:
    """Return whether the tensors of an added file are those that were added."""
    recorded = checkpoints.read(path)[1].get("sha256")
    return hashlib.sha256(_data(path.read_bytes())).hexdigest() == recorded


def _ordered(whole: bytes) -> bytes:
    """Sort a file's header, so that equal networks are equal files; metadata come in any order."""
    start = int.from_bytes(whole[:_HEADER], "little")
    header = json.loads(whole[_HEADER : _HEADER + start])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // _HEADER) * _HEADER)
    return len(text).to_bytes(_HEADER, "little") + text + _data(whole)


def _data(whole: bytes) -> memoryview:
    start = int.from_bytes(whole[:_HEADER], "little")
    return memoryview(whole)[_HEADER + start :]


_METHODS = ("minterpolate", "adapted", "auto", "off", "none")
"""Words that other options use beside the names of models."""
