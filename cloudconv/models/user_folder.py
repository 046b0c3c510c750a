"""Find the networks that the user has added: safetensors files in the user's data folder."""

from __future__ import annotations

import re
from pathlib import Path

from cloudconv.checkpoints import is_file_name
from cloudconv.errors import SettingsError
from cloudconv.files import data_folder

# Windows keeps some names, with any ending.
_NAME = re.compile(r"(?!(aux|con|nul|prn|com\d|lpt\d)(\.|$))[a-z0-9][a-z0-9._+-]{0,31}")
_SUFFIX = ".safetensors"


def folder() -> Path:
    """Return the folder of the added networks, which may not exist."""
    return data_folder() / "models"


def names() -> list[str]:
    """Return the names of the added networks in alphabetical order."""
    try:
        found = [each.stem for each in folder().iterdir() if each.suffix == _SUFFIX]
    except OSError:
        return []
    return sorted(name for name in found if _NAME.fullmatch(name))


def file_for(name: str) -> Path:
    """Return the file that a network of that name has in the folder.

    Raises:
        SettingsError: the name has other characters than file names on every system allow.
    """
    if not _NAME.fullmatch(name) or name.endswith(".") or is_file_name(name):
        raise SettingsError(
            f'bad-model-name: "{name}" cannot be the name of a model: use up to 32 lower-case '
            "letters, digits, dots, dashes and underscores, begin with a letter or digit, and end "
            "like no file of weights. Windows keeps aux, con, nul and prn."
        )
    return folder() / f"{name}{_SUFFIX}"


def find(name: str) -> Path | None:
    """Return the file of an added network, or None."""
    if not _NAME.fullmatch(name):
        return None
    path = folder() / f"{name}{_SUFFIX}"
    return path if path.is_file() else None
