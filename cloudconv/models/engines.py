"""Choose the engine of convolutions on a CPU by the processor.

No other module chooses an engine. ncnn needs fewer multiplications, and has more traffic to
the memory. Layers of few channels wait for the memory on Intel's processors with AVX-512;
docs/measurements/processors.md has the times.
"""

import os
from collections.abc import Mapping
from functools import cached_property

import torch

from cloudconv.errors import DeviceError, SettingsError
from cloudconv.host import processor_name
from cloudconv.models.convolutions import PYTORCH, usual_engine

ENGINE = "CLOUDCONV_ENGINE"
"""The environment variable that names the engine, for tests and for reports of faults."""

_WIDE = 96
"""The fewest channels of layers that do not wait for the memory."""


class Engines:
    """The engines of a network's layers: those for this machine, or those of a run."""

    @cached_property
    def chosen(self) -> dict[str, str]:
        """Return the engine of ``wide`` layers, and of ``narrow`` ones.

        For errors see :func:`set_engine`.
        """
        named = set_engine()
        usual = named or usual_engine()
        waits = torch.backends.cpu.get_cpu_capability() == "AVX512"
        is_slow = named is None and waits and "Intel" in processor_name()
        return {"wide": usual, "narrow": PYTORCH if is_slow else usual}

    def of(self, channels: int) -> str:
        """Return the engine for layers of so many channels."""
        return self.chosen["wide" if channels >= _WIDE else "narrow"]

    def use(self, recorded: Mapping[str, str]) -> None:
        """Use the engines that a run has recorded.

        Raises DeviceError if one of them is missing here.
        """
        here = usual_engine()
        for engine in recorded.values():
            if engine not in (PYTORCH, here):
                raise DeviceError(
                    f"other-engine: The run computes convolutions with {engine}, and here "
                    f"is {here}: install the same packages on all machines, or start again "
                    "with --no-resume."
                )
        self.chosen.update(recorded)


def set_engine() -> str | None:
    """Return the engine that the environment names; None if the processor decides.

    Raises SettingsError for another name, and DeviceError for an engine that is missing.
    """
    name = os.environ.get(ENGINE)
    if not name:
        return None
    engines = {"pytorch": PYTORCH, "ncnn": usual_engine()}
    if name not in engines:
        raise SettingsError(f'bad-engine: {ENGINE} must be pytorch or ncnn, got "{name}".')
    if name == "ncnn" and engines[name] == PYTORCH:
        raise DeviceError(
            f"no-ncnn: {ENGINE} names ncnn, which is not installed: run pip install ncnn, "
            "or leave the variable out."
        )
    return engines[name]
