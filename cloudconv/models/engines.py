"""Choose the engine of convolutions on a CPU by time, once for a machine.

No other module chooses an engine. Layers of few channels and many pixels wait for the
memory, to which ncnn has more traffic. Other layers wait for the multiplications, of which
ncnn needs fewer. The border between both depends on the processor. So the layers of a
network are measured, each size once, and the times are kept in the user's cache.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from math import log
from threading import Lock
from typing import NamedTuple

import torch

from cloudconv.errors import DeviceError, SettingsError
from cloudconv.files import cache_folder, sealed, unsealed, write_whole
from cloudconv.host import processor_name
from cloudconv.models.convolutions import (
    PYTORCH,
    EngineOf,
    HiddenLayer,
    trial,
    usual_engine,
)
from cloudconv.pipeline import one_thread

ENGINE = "CLOUDCONV_ENGINE"
"""The environment variable that names the engine, for tests and for reports of faults."""

_FILE = "engines.json"  # in the cache folder
_GAIN = 0.9
"""PyTorch replaces the usual engine if its time is at most this part of the other's."""
_SIDES = (24, 48, 96, 192, 384)
"""The sides of the square layers that are measured; each stands for the sizes near it."""
_SECONDS = 0.3  # of the processor, for the least rounds of all layers of a network
_LEAST_SECONDS = 0.04  # of a layer
_ROUNDS = 4  # the fewest, in which the engines take turns; the first one warms them up
_PROBED = 16  # lines, which show how many lines there is time for
_clock = time.perf_counter if os.name == "nt" else time.thread_time
"""The time of the measuring thread alone, which other programs disturb least; on Windows
that clock has steps of 16 ms."""

Times = dict[str, float]
"""Milliseconds of a layer by each engine."""

_lock = Lock()
_chosen: dict["_Shape", str] = {}


class _Shape(NamedTuple):
    channels: int
    side: int

    @classmethod
    def near(cls, channels: int, pixels: float) -> "_Shape":
        """Return the measured shape that stands for layers of so many pixels."""
        return cls(channels, min(_SIDES, key=lambda side: abs(log(pixels / side**2))))

    def __str__(self) -> str:
        return f"{self.channels} channels, {self.side}x{self.side}"


class Engines:
    """The engines of a network's layers, for frames of one size.

    Each layer has an engine for its own size until :meth:`choose` or :meth:`use` is called.
    Later the channels alone decide, so that no tile at an edge has an engine of its own.
    ``chosen``: the engine by the number of channels.
    """

    def __init__(self) -> None:
        self.chosen: dict[str, str] = {}
        self._of: EngineOf = fastest
        self._is_recorded = False

    def of(self, channels: int, pixels: int) -> str:
        """Return the engine for layers of so many channels and pixels."""
        return self._of(channels, pixels)

    def choose(self, run: Callable[[], object], enlarged: float) -> None:
        """Choose the engines, if they are not recorded.

        ``run`` calls the network with a small picture. The true ones have ``enlarged``
        times as many pixels.
        """
        if self._is_recorded:
            return
        shapes: dict[int, _Shape] = {}

        def noted(channels: int, pixels: int) -> str:
            shapes[channels] = _Shape.near(channels, pixels * enlarged)
            return PYTORCH

        self._of = noted
        run()
        engines = _engines(shapes.values())
        self._take({str(channels): engines[shape] for channels, shape in shapes.items()})

    def use(self, recorded: Mapping[str, str]) -> None:
        """Use the engines that a run has recorded, and never measure.

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
        self._is_recorded = True
        self._take(recorded)

    def _take(self, chosen: Mapping[str, str]) -> None:
        self.chosen = dict(chosen)
        self._of = lambda channels, _: self.chosen.get(str(channels), PYTORCH)


def fastest(channels: int, pixels: int) -> str:
    """Return the engine for layers of so many channels and pixels."""
    shape = _Shape.near(channels, pixels)
    return _engines([shape])[shape]


def set_engine() -> str | None:
    """Return the engine that the environment names; None if the time decides.

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


def _engines(shapes: Collection[_Shape]) -> dict[_Shape, str]:
    """Return the engine for each shape; measure the shapes that have no times."""
    only = set_engine() or (PYTORCH if usual_engine() == PYTORCH else None)
    if only is not None:
        return dict.fromkeys(shapes, only)
    with _lock:
        if new := [*dict.fromkeys(shape for shape in shapes if shape not in _chosen)]:
            times = _stored().get(_machine(), {})
            if unknown := [shape for shape in new if str(shape) not in times]:
                with one_thread("engines") as thread:
                    times = _store(thread.submit(_measured, unknown).result())
            _chosen.update((shape, _faster(times[str(shape)])) for shape in new)
        return {shape: _chosen[shape] for shape in shapes}


def _faster(times: Times) -> str:
    usual = usual_engine()
    return PYTORCH if times[PYTORCH] <= _GAIN * times[usual] else usual


@torch.inference_mode()
def _measured(shapes: list[_Shape]) -> dict[str, Times]:
    """Measure both engines on one core, in a thread of its own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        needed = 0.0  # seconds of a round
        for shape in shapes:
            probe = _rounds(shape, _PROBED)
            next(probe)
            needed += sum(next(probe).values()) * shape.side / _PROBED
        part = min(1, _SECONDS / _ROUNDS / needed)
        return {str(shape): _least(shape, part) for shape in shapes}
    finally:
        torch.set_num_threads(threads)  # the default of threads that start later


def _least(shape: _Shape, part: float) -> Times:
    rounds = _rounds(shape, max(_PROBED, int(part * shape.side)))
    next(rounds)
    until = _clock() + _LEAST_SECONDS
    taken = [next(rounds) for _ in range(1, _ROUNDS)]
    while _clock() < until:
        taken.append(next(rounds))
    return {
        engine: round(1000 * min(times[engine] for times in taken), 3)
        for engine in taken[0]
    }


def _rounds(shape: _Shape, lines: int) -> Iterator[Times]:
    """Yield the seconds of the engines for some lines of a layer, again and again."""
    numbers = torch.Generator().manual_seed(0)
    weight = torch.randn(shape.channels, shape.channels, 3, 3, generator=numbers)
    layer = HiddenLayer(weight / weight[0].numel() ** 0.5, torch.zeros(shape.channels))
    line = torch.randn(1, shape.channels, 1, shape.side, generator=numbers)
    x = line.expand(-1, -1, lines, -1).contiguous(memory_format=torch.channels_last)
    calls = {engine: trial(layer, x, engine) for engine in (PYTORCH, usual_engine())}
    while True:
        times: Times = {}
        for engine, call in calls.items():
            began = _clock()
            call()
            times[engine] = _clock() - began
        yield times


def _machine() -> str:
    kind = torch.backends.cpu.get_cpu_capability()
    return f"{processor_name()}, {kind}, PyTorch {torch.__version__}, {usual_engine()}"


def _stored() -> dict[str, dict[str, Times]]:
    """Return the times on all machines of this home; none if the file is damaged."""
    try:
        return unsealed((cache_folder() / _FILE).read_bytes()) or {}
    except OSError:
        return {}


def _store(new: dict[str, Times]) -> dict[str, Times]:
    """Keep times, if the cache can be written; those that are kept already stay."""
    every = _stored()
    machine = _machine()
    every[machine] = {**new, **every.get(machine, {})}
    with suppress(OSError):  # then each process measures
        write_whole(cache_folder() / _FILE, sealed(every))
    return every[machine]
