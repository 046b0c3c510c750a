"""Add the network ``tiny`` to the models of each Python process that the tests start.

Python imports a module of this name at its start; ``tests/conftest.py`` lists this folder
in PYTHONPATH.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

_REGISTRY = "cloudconv.models.registry"
_NETWORK = "cloudconv.models.tiny"


class Finder(MetaPathFinder):
    """A finder of the network's module, which also completes the registry's import."""

    def find_spec(self, name: str, path: Any, _: object = None) -> ModuleSpec | None:
        if name == _NETWORK:
            return spec_from_file_location(name, Path(__file__).parents[1] / "tiny.py")
        if name != _REGISTRY:
            return None
        found = PathFinder.find_spec(name, path)
        loader: Any = found.loader if found else None
        run = loader.exec_module

        def run_and_add(module: ModuleType) -> None:
            run(module)
            add_tiny(module)

        loader.exec_module = run_and_add
        return found


def add_tiny(registry: Any) -> None:
    """Let the registry load ``tiny`` by name; lists of models for people omit this one."""
    from cloudconv.models.catalogue import FOUR, ModelSpec

    row = ModelSpec(
        "tiny",
        FOUR,
        4,
        160,
        8,
        "tiny:Tiny",
        "tests only",
        task="interpolate",
        origin="cloudconv; random weights, for tests only",
        arbitrary_timestep=True,
        entry=None,
    )
    registry.MODELS = (*registry.MODELS, row)


sys.meta_path.insert(0, Finder())
if _REGISTRY in sys.modules:
    add_tiny(sys.modules[_REGISTRY])
