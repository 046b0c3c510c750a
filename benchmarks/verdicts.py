"""Compare the verdicts of ``dream`` with an eye's.

    python benchmarks/verdicts.py FOLDER [--half tune] [--collages | --auto] [--verbose]

FOLDER/in has the small clips that docs/measurements/eyes.md describes; "_" stands for a
slash of a clip's name. The program makes the textures of the whole picture again, up to the
second jump. A jump of docs/measurements/jumps.json is named if a warning has a time within
it. Each line counts the jumps that the eye sees, and those that it does not see, and how
many of both are named. A jump of the list that the program no longer makes is printed, and
not counted. ``--collages`` counts the spans of docs/measurements/collages.json: a span is
named if its residual or its ghost is above the limit. ``--auto`` compares the choices of
``auto`` with the eye's in docs/measurements/eyes.json, where one of two modes looks better.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch

from cloudconv.dreaming.auto import choose
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Jump, Options
from cloudconv.dreaming.methods.modes import method
from cloudconv.dreaming.methods.texture import texture
from cloudconv.dreaming.rehearsal import Rehearsal
from cloudconv.dreaming.vitals.features import Features, FilmFeatures
from cloudconv.dreaming.vitals.vitals import Fault, VitalsMeter
from cloudconv.jobs.extend.ending import gather_material
from cloudconv.media.reading.probe import probe

LISTS = Path(__file__).parents[1] / "docs" / "measurements"
SECONDS = 8


@torch.inference_mode()
def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", choices=("tune", "held"))
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--collages", action="store_true")
    kinds.add_argument("--auto", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    name = "jumps.json"
    count: Callable[..., None] = count_jumps
    if options.auto:
        name = "eyes.json"
        count = count_choices
    elif options.collages:
        name = "collages.json"
        count = count_spans
    listed = json.loads((LISTS / name).read_text())
    entries = [entry for entry in listed if options.half in (None, entry["half"])]
    count(entries, options.folder, verbose=options.verbose)


def small_clip(clip: str, folder: Path) -> Path:
    """Return the small clip of a name in a list."""
    stem = clip.replace("/", "_").removesuffix(Path(clip).suffix)[:60]
    return next(path for path in (folder / "in").iterdir() if path.stem == stem)


def count_jumps(entries: list[dict[str, Any]], folder: Path, *, verbose: bool) -> None:
    """Print how many of the jumps are named."""
    rows: dict[str, dict[bool, list[bool]]] = defaultdict(lambda: {True: [], False: []})
    for clip in dict.fromkeys(entry["clip"] for entry in entries):
        jumps = [entry for entry in entries if entry["clip"] == clip]
        faults, actual = verdict(small_clip(clip, folder), len(jumps))
        for jump in jumps:
            inside = range(jump["frame"], jump["frame"] + jump["pictures"])
            if inside not in actual:
                print(clip, jump["frame"], "is no longer made")
                continue
            texts = [fault.text for fault in faults if fault.frame in inside]
            for key in (jump["half"], f"{jump['half']} {jump['kind']}"):
                rows[key][jump["seen"]].append(bool(texts))
            if verbose:
                print(clip, jump["frame"], "seen" if jump["seen"] else "not seen", texts)
    print_table(rows)


def count_spans(entries: list[dict[str, Any]], folder: Path, *, verbose: bool) -> None:
    """Print how many of the spans of collages are named."""
    rows: dict[str, dict[bool, list[bool]]] = defaultdict(lambda: {True: [], False: []})
    for clip in dict.fromkeys(entry["clip"] for entry in entries):
        named = named_spans(small_clip(clip, folder))
        for span in (entry for entry in entries if entry["clip"] == clip):
            frames = range(span["frame"], span["frame"] + span["pictures"])
            rows[span["half"]][span["seen"]].append(frames in named)
            if verbose:
                print(clip, frames, "seen" if span["seen"] else "not seen", frames in named)
    print_table(rows)


def print_table(rows: dict[str, dict[bool, list[bool]]]) -> None:
    """Print how many that are seen, and how many that are not seen, are named."""
    print(f"{'':14}  seen: named  not seen: named")
    for key, row in sorted(rows.items()):
        seen, unseen = row[True], row[False]
        print(
            f"{key:14}  {sum(seen):3} of {len(seen):3}  {sum(unseen):3} of {len(unseen):3}"
        )


def verdict(small: Path, jumps: int) -> tuple[list[Fault], set[range]]:
    """Return the faults and the jumps of a texture, up to the end of some jumps."""
    material = gather_material(probe(small), threads=1)
    frames = round(SECONDS / material.step)
    meter = VitalsMeter(FilmFeatures(material), frames)
    actual = set()
    for frame in texture(material, Options(frames)):
        meter.push(frame.small(material), frame.origin, frame.ghost)
        if isinstance(frame.origin, Jump):
            jump = frame.origin
            actual.add(range(jump.start, jump.start + jump.length))
        if len(actual) == jumps and meter.seen > max(jump.stop for jump in actual) + 1:
            break
    return meter.faults, actual


class SpanMeter(VitalsMeter):
    """A measurement that keeps the spans whose residual or ghost is above the limit."""

    def __init__(self, film: FilmFeatures, frames: int) -> None:
        """Start the measurement."""
        super().__init__(film, frames)
        self.named: set[range] = set()

    def _judge(self, features: Features, frames: range) -> None:
        both = {"residual", "ghost"} & features.keys()
        if any(features[key].value > self.limits[key][1] for key in both):
            self.named.add(frames)
        super()._judge(features, frames)


def named_spans(small: Path) -> set[range]:
    """Return the frames of the spans of a collage that are named."""
    material = gather_material(probe(small), threads=1)
    frames = round(SECONDS / material.step)
    meter = SpanMeter(FilmFeatures(material), frames)
    for frame in method("collage").dream(material, Options(frames)):
        meter.push(frame.small(material), frame.origin)
    return meter.named


def rehearsed(material: Material, asked: Options, mode: str) -> Rehearsal:
    """Return the finished rehearsal of a mode."""
    return Rehearsal(method(mode), material, asked).made()


def count_choices(entries: list[dict[str, Any]], folder: Path, *, verbose: bool) -> None:
    """Print what ``auto`` takes, where the eye prefers one of two modes."""
    right: dict[str, list[bool]] = defaultdict(list)
    for entry in entries:
        eye = entry.get("preferred")
        if not entry["auto"] or eye in (None, "alike"):
            continue
        material = gather_material(probe(small_clip(entry["clip"], folder)))
        asked = Options(round(SECONDS / material.step))
        chosen = choose(material, partial(rehearsed, material, asked))
        right[entry["half"]].append(chosen.mode == eye)
        if verbose or chosen.mode != eye:
            print(f"{entry['half']} {entry['clip']}: eye {eye}, {chosen.why}", flush=True)
    for half, marks in right.items():
        print(f"{half}: auto is right on {sum(marks)} of {len(marks)}")


if __name__ == "__main__":
    main()
