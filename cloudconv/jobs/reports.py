"""Show the doubtful places of an output on a page, and put a report into its folder."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloudconv import files
from cloudconv.doubts import SHOWN, Entry, place_of
from cloudconv.dreaming.vitals.vitals import Fault
from cloudconv.errors import OutputError
from cloudconv.events import Warned, Warnings
from cloudconv.images import Bytes, as_picture, tensor_of
from cloudconv.jobs.drawn import as_shown
from cloudconv.jobs.video import check_outputs
from cloudconv.media.containers.input import is_stdout
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.writing.output import check_free, check_home, claimed, writing
from cloudconv.report.data import Card, Page, ReportPicture
from cloudconv.report.page import jpeg, render, shrunk

PAGE = "index.html"
_SECONDS = 3  # pictures of a dream that wait for faults
_APART = Fraction(1, 5)  # seconds to the pictures before and after a dream's fault
_SIDE = 480  # of a picture on a page, the longer one
_LINE = 2  # pixels around a box
_RED = torch.tensor([1.0, 0.1, 0.1])[:, None, None]


def check_report(
    settings: Any, names: Sequence[str], read: Sequence[Path], output: Path | None = None
) -> None:
    """Raise OutputError if these files of a report cannot be written beside an output."""
    if settings.report is None:
        return
    if output is not None and not is_stdout(output):
        home, taken = Path(settings.report).resolve(), claimed(output).resolve()
        if home == taken or output.resolve() in home.parents:
            raise OutputError(
                f"report-is-output: The report and the output have the same name {taken}: "
                "name another folder for the report."
            )
    pages = [Path(settings.report, name) for name in names]
    check_outputs(settings, pages, read)
    check_home(pages[0])
    files.clear(pages[0].parent.resolve())
    for page in pages:
        check_free(page, overwrite=settings.overwrite)


@contextmanager
def opened_report(settings: Any) -> Iterator[Path | None]:
    """Claim the folder of ``settings.report`` in a block, if there is one.

    Yield the unfinished folder, which :func:`finish_report` completes; else the folder is
    deleted.
    """
    if settings.report is None:
        yield None
        return
    folder = Path(settings.report)
    home = folder.resolve()
    with ExitStack() as stack:
        with writing(folder):
            home.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.claim(home))
            within = home if home.is_dir() else None
            path = files.create_part(home, folder=True, within=within)
            stack.callback(files.remove, path)
        yield path


def finish_report(path: Path, settings: Any, texts: Mapping[str, str]) -> None:
    """Write the texts by name, and move all files to the report's folder.

    If the folder has appeared meanwhile, the files move beside it.
    """
    folder = Path(settings.report)
    home = folder.resolve()
    with writing(folder):
        for name, text in texts.items():
            # A file name on the page may contain bytes that are not text.
            (path / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        try:
            files.put_all(path, home, overwrite=settings.overwrite)
        except FileExistsError as error:
            raise files.put_under_free_name(path, home, error) from error


def pictured(pictures: Sequence[Tensor], box: Sequence[int], info: MediaInfo) -> list[str]:
    """Return pictures, (3, H, W) RGB in [0, 1], as JPEGs in base64.

    Lines are around a ``box``: x, y, width and height in pixels.
    """
    return [jpeg(as_shown(_outlined(rgb, box), info), _SIDE).base64 for rgb in pictures]


def _outlined(rgb: Tensor, box: Sequence[int]) -> Tensor:
    small = shrunk(rgb, min(_SIDE, max(1, _SIDE * rgb.shape[2] // rgb.shape[1])))
    times = max(1, _SIDE // max(small.shape[1:]))  # lines cover little of a small picture
    small = small.repeat_interleave(times, 1).repeat_interleave(times, 2)
    scale = small.shape[2] / rgb.shape[2]
    x, y, right, bottom = (
        round(scale * side) for side in (*box[:2], box[0] + box[2], box[1] + box[3])
    )
    inside = slice(y + _LINE, bottom - _LINE), slice(x + _LINE, right - _LINE)
    kept = small[:, *inside].clone()
    small[:, y:bottom, x:right] = _RED
    small[:, *inside] = kept
    return small


def write_places(
    path: Path,
    settings: Any,
    command: str,
    info: MediaInfo,
    verdict: str,
    entries: Sequence[Entry],
    names: Sequence[str],
    *,
    warnings: Warnings,
) -> None:
    """Write the page of the worst of the ``entries``, with the ``pictures`` of each.

    The page completes the report that :func:`opened_report` has opened. ``names`` are those
    of the pictures before, at and after each place. The output is complete already, so a
    page that cannot be written is a warning.
    """
    cards = []
    for entry in entries[:SHOWN]:
        x, y, width, height = entry["box"]
        views = zip(names, entry.get("pictures", ()), strict=False)
        cards.append(
            Card(
                f"Output frame {place_of(entry)}",
                f"{entry['text']} ({entry['grade']}; {width}x{height} pixels at {x},{y})",
                tuple(("", name, ReportPicture(data)) for name, data in views),
            )
        )
    page = Page(
        command=command,
        source=Path(f"{info.path}").name,  # of a copy: standard input
        verdict=verdict,
        summary=f"{info.width}x{info.height}, {info.timing.in_words}",
        cards=tuple(cards),
    )
    try:
        finish_report(path, settings, {PAGE: render(page)})
    except OutputError as error:
        warnings.add(
            Warned(f"report-failed: The output is complete, but no report: {error.text}")
        )


class Glimpses:
    """The latest pictures of a dream, from which those of its faults are taken."""

    def __init__(self, step: Fraction, info: MediaInfo) -> None:
        self._apart = max(1, round(_APART / step))
        self._recent: deque[Bytes] = deque(maxlen=round(_SECONDS / step))
        self._seen = 0
        self._info = info
        self._taken: dict[tuple[int, str], list[str]] = {}  # by frame and vital

    def push(self, picture: Bytes) -> None:
        """Add the picture of the next frame."""
        self._recent.append(picture)
        self._seen += 1

    def take(self, faults: Sequence[Fault], *, last: bool = False) -> list[Fault]:
        """Keep the pictures of the worst faults, and return these; ``last``: at the end."""
        worst = sorted(faults, key=lambda fault: -fault.size)[:SHOWN]
        first = self._seen - len(self._recent)
        for fault in worst:
            numbers = [fault.frame + by * self._apart for by in (-1, 0, 1)]
            is_complete = last or numbers[2] < self._seen
            is_taken = fault[:2] in self._taken
            if is_taken or fault.frame < first or not is_complete:
                continue
            pictures = [
                self._recent[min(max(number - first, 0), len(self._recent) - 1)]
                for number in numbers
            ]
            height, width = pictures[0].shape[:2]
            self._taken[fault[:2]] = pictured(
                [tensor_of(as_picture(picture)) for picture in pictures],
                fault.box.pixels(width, height),
                self._info,
            )
        self._taken = {
            fault[:2]: self._taken[fault[:2]] for fault in worst if fault[:2] in self._taken
        }
        return worst

    def of(self, faults: Sequence[Fault]) -> list[list[str]]:
        """Return the pictures of faults; nothing where none were kept."""
        return [self._taken.get(fault[:2], []) for fault in faults]
