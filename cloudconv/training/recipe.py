"""Resolve the settings of a training from recipe, model and options."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from cloudconv.checkpoints import is_file_name
from cloudconv.errors import SettingsError
from cloudconv.files import reading
from cloudconv.media.input import local_file
from cloudconv.models import registry
from cloudconv.settings import TrainingRecipe, TrainSettings, fields_of
from cloudconv.settings.values import names_folder

_STEPS = 1000  # if neither steps nor minutes are given


def completed(settings: TrainSettings) -> TrainingRecipe:
    """Return the complete settings of a training: given, the recipe's or else the model's own.

    The default model is the model that ``init`` names, which also names the output.
    """
    known = {each.name for each in fields_of(TrainSettings)} - {"recipe"}
    given = {name: value for name, value in settings.passed.items() if value not in ((), "")}
    merged = {} if settings.recipe is None else _read_recipe(settings.recipe)
    if unknown := sorted(merged.keys() - known):
        raise SettingsError(
            f"unknown-training-setting: The recipe {settings.recipe} has {unknown[0]!r}, which is "
            "not a training setting: correct that name."
        )
    # A given `steps` also replaces the recipe's `minutes`, and the reverse.
    if "minutes" in given or "steps" in given:
        merged = {name: value for name, value in merged.items() if name not in ("minutes", "steps")}
    merged |= given
    if "model" not in merged and "init" in merged:
        merged["model"] = registry.network_of(merged["init"])
    if "model" not in merged:
        raise SettingsError(
            "no-model: There is no model to train: give --model, --init or --recipe."
        )
    if settings.recipe is None:
        suited = registry.spec(merged["model"], merged.get("task")).cls.training_settings
        merged = {**dict(suited), **merged}
    folder = merged.get("output", "")
    if not folder or names_folder(folder):
        model = merged["model"]
        name = Path(model).stem if is_file_name(model) else model
        merged["output"] = str(Path(folder, f"{name}_trained.safetensors"))
    if not merged.keys() & {"steps", "minutes"}:
        merged["steps"] = _STEPS
    try:
        return TrainingRecipe(**merged)
    except SettingsError as error:
        if settings.recipe is None:
            raise
        raise SettingsError(f"in-recipe: The recipe {settings.recipe}: {error.text}") from error


def _read_recipe(path: Path | str) -> dict[str, Any]:
    try:
        with reading(path):
            return tomllib.loads(local_file(path).read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SettingsError(
            f"recipe-not-toml: The recipe {path} is not TOML ({error}): correct that line."
        ) from error
