"""Compare what extrapolate says of forecasts with what the eye saw of them.

    python benchmarks/eyes_forecasts.py CLIPS [--list docs/measurements/eyes-forecasts.json]

``CLIPS`` is the folder of the list's clips; a clip that is missing is left out. Each line
has a clip's half, the model that ``auto`` takes beside those that the eye prefers, and the
number of frames that held beside the number that the eye gives. The last lines count, for
each half, how often the model is one of those, and how often the numbers differ by two at
most. A second look of the eye, ``again``, counts in place of the first. The trials use
pictures of 320 pixels, like the list. It takes about half a minute for a clip on one core.
"""

import argparse
import json
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

from cloudconv.jobs.extend import extrapolate
from cloudconv.settings import ExtrapolateSettings

LIST = Path(__file__).parents[1] / "docs/measurements/eyes-forecasts.json"
AHEAD, NEAR = 15, 2
SIDE = 320
T = TypeVar("T")


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--list", type=Path, default=LIST)
    arguments = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    for row in json.loads(arguments.list.read_text(encoding="utf-8")):
        row |= row.get("again", {})
        clip = arguments.clips / row["clip"]
        half = row["half"]
        if not clip.exists():
            continue
        model, held = verdict(clip, row["from"])
        agrees = model in row["preferred"]
        near = abs(held - row["holds"][model]) <= NEAR
        counts.update([(half, "clips")])
        counts.update(
            (half, what) for what, yes in (("model", agrees), ("held", near)) if yes
        )
        eye = f"{'/'.join(row['preferred'])} {row['holds'][model]}"
        signs = ("" if agrees else " MODEL") + ("" if near else " HELD")
        print(f"{half:5} {clip.stem[-40:]:40} {model} {held} | {eye}{signs}", flush=True)
    for half in sorted({half for half, _ in counts}):
        agreed, close, clips = (counts[half, what] for what in ("model", "held", "clips"))
        print(f"{half:5} model {agreed} of {clips}, held within {NEAR}: {close} of {clips}")


def verdict(clip: Path, last: float) -> tuple[str, int]:
    """Return the model that ``auto`` takes after frame ``last``, and how long it held."""
    settings = ExtrapolateSettings(
        input=clip, output=Path("unwritten.mkv"), at=str(last + 0.01), frames=AHEAD
    )
    plan, scene = extrapolate._resolve(extrapolate.decide(settings))
    with patch.object(extrapolate, "SIDE", SIDE):
        model, held, _ = result(extrapolate._trial(plan, scene))
    return model, held


def result(steps: Generator[object, None, T]) -> T:
    """Run a generator to its end, and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value


if __name__ == "__main__":
    main()
