"""Compare the verdicts of ``dream`` with an eye's, docs/measurements/eyes.json.

    python benchmarks/verdicts.py FOLDER [--list JSON] [--half tune] [--auto] [--verbose]

FOLDER/in has the small clips that docs/measurements/eyes.md describes, and FOLDER has the dreams:
"_" stands for a slash of a clip's name, and "__other" marks the other mode. A missing dream is
made; the eye saw dreams of older versions.

A fault is named if a warning has a time within half a second of the fault, or if the fault is a
repeat and the period is reported. Each line counts the named faults, obvious and visible, the
dreams without a fault that get a warning, and the warnings near no fault, of all warnings. Then
follow the obvious faults that one vital alone names, with the false warnings of that vital alone.
``--auto`` compares the choices of ``auto`` with the eye's, where one of two modes looks better.
"""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch

from cloudconv.api import dream
from cloudconv.dreaming.auto import choose
from cloudconv.dreaming.images import as_picture, small_copy
from cloudconv.dreaming.methods.base import Composed
from cloudconv.dreaming.vitals.vitals import VitalsMeter
from cloudconv.jobs.extend.ending import gather_material
from cloudconv.media.probe import probe

LIST = Path(__file__).parents[1] / "docs" / "measurements" / "eyes.json"
NEAR = 0.5  # greatest distance of a warning from its fault, in seconds
REPEAT = re.compile(r"\b(again|every|once)\b")
VISIBLE, OBVIOUS = 2, 3


@torch.inference_mode()
def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--list", type=Path, default=LIST)
    parser.add_argument("--half", choices=("tune", "held"))
    parser.add_argument("--auto", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    listed = json.loads(options.list.read_text())
    seen = [entry for entry in listed if options.half in (None, entry["half"])]
    if options.auto:
        choices(seen, options.folder, verbose=options.verbose)
        return
    lines: dict[str, list[list[int]]] = defaultdict(list)
    alone: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for entry in seen:
        found, period = verdict(entry, options.folder)
        counts, kind = counted(entry, found, period), entry["kind"]
        for key in (f"{entry['half']} {kind}", entry["half"]):
            lines[key].append(counts)
        for vital in {each["vital"] for each in found}:
            fewer = counted(entry, [each for each in found if each["vital"] != vital], period)
            alone[vital][0] += counts[0] - fewer[0]
            alone[vital][1] += counts[4] - fewer[4]
        if options.verbose:
            print(entry["half"], entry["clip"], entry["mode"], "verdict", entry["verdict"], period)
            for fault in entry["faults"]:
                missed = "" if named(fault, found, period) else "MISSED"
                print("   eye", *fault.values(), missed)
            for each in found:
                print("   says", f"{each['time']:.2f}", each["text"], f"{each['size']:.2f}")
    print(f"{'':14} obvious  visible  clean warned  warnings near no fault")
    for key, rows in sorted(lines.items()):
        a, b, c, d, e, f, g, h = (sum(each) for each in zip(*rows, strict=True))
        print(f"{key:14} {a:3}/{b:<3}  {c:3}/{d:<3}  {e:3}/{f:<3}  {g:3}/{h:<3}")
    for vital, (names, warns) in sorted(alone.items()):
        print(f"only {vital:12} names {names}, warns {warns} clean")


def paths(entry: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """Return the small clip of an entry, and its dream."""
    clip, _, still = entry["clip"].replace("/", "_").partition(", ")
    stem = clip.removesuffix(Path(clip).suffix)[:60] + ("_still" if still else "")
    small = next(path for path in (folder / "in").iterdir() if path.stem == stem)
    return small, folder / f"{stem}{'' if entry['auto'] else '__other'}.mkv"


def verdict(entry: dict[str, Any], folder: Path) -> tuple[list[dict[str, Any]], float | None]:
    """Return the faults that the vitals find in a dream, and its period in seconds."""
    small, made = paths(entry, folder)
    if not made.exists():
        dream(small, made, mode=entry["mode"], seconds=8, seed=entry["seed"], threads=1)
    material, pictures = gather_material(probe(small)), []
    with av.open(str(made)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number >= entry["source_frames"]:
                shown = as_picture(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
                pictures.append(small_copy(shown, material.small_size))
    meter = VitalsMeter(material, len(pictures))
    for picture in pictures:
        meter.push(picture, Composed())
    step = float(material.step)
    period = None if meter.period is None else meter.period * step
    return [{**each._asdict(), "time": each.frame * step} for each in meter.faults], period


def named(fault: dict[str, Any], found: list[dict[str, Any]], period: float | None) -> bool:
    """Return whether a verdict names a fault that the eye saw."""
    begin, end = fault["at"] - NEAR, (fault.get("until") or fault["at"]) + NEAR
    repeats = period is not None and REPEAT.search(fault["seen"]) is not None
    return repeats or any(begin <= each["time"] <= end for each in found)


def counted(entry: dict[str, Any], found: list[dict[str, Any]], period: float | None) -> list[int]:
    """Return pairs: obvious and visible faults, clean dreams, and warnings near no fault."""
    row = []
    for least in (OBVIOUS, VISIBLE):
        faults = [fault for fault in entry["faults"] if fault["clear"] >= least]
        row += [sum(named(fault, found, period) for fault in faults), len(faults)]
    clean = entry["verdict"] == 0
    stray = [
        each for each in found if not any(named(fault, [each], None) for fault in entry["faults"])
    ]
    return [*row, clean and bool(found), clean, len(stray), len(found)]


def choices(seen: list[dict[str, Any]], folder: Path, *, verbose: bool) -> None:
    """Print what ``auto`` takes, where the eye prefers one of two modes."""
    right: dict[str, list[bool]] = defaultdict(list)
    for entry in seen:
        eye = entry.get("preferred")
        if not entry["auto"] or eye in (None, "alike"):
            continue
        chosen = choose(gather_material(probe(paths(entry, folder)[0])))
        right[entry["half"]].append(chosen.mode == eye)
        if verbose or chosen.mode != eye:
            print(f"{entry['half']} {entry['clip']}: eye {eye}, {chosen.why}", flush=True)
    for half, marks in right.items():
        print(f"{half}: auto is right on {sum(marks)} of {len(marks)}")


if __name__ == "__main__":
    main()
