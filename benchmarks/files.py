"""Find files on which ``interp`` ends with an error that nobody wrote.

    python benchmarks/files.py FOLDER...

Each file below the folders, and each folder of several files, is doubled to MKV and MP4,
whole and from 0.2 to 0.6 seconds, by blending. A failure is every end but a complete output
or one sentence for the user, every file that is left besides, and every run of over two
minutes. Only failures are printed; the traceback is above. The exit code is 1 if there is
one.
"""

import argparse
import multiprocessing
import sys
import tempfile
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudconv

_PARTS: tuple[dict[str, Any], ...] = ({}, {"start": "0.2", "end": "0.6"})
_SUFFIXES = (".mkv", ".mp4")
_LONGEST = 120  # seconds of a run


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    count = 0
    for failure in failures(list(inputs(parser.parse_args().folders))):
        print(failure, flush=True)
        count += 1
    sys.exit(count > 0)


def inputs(folders: list[Path]) -> Iterator[Path]:
    """Yield the files below the folders, and the folders of several files."""
    for folder in folders:
        for path in [folder, *sorted(folder.rglob("*"))]:
            if path.is_file() or sum(each.is_file() for each in path.iterdir()) > 1:
                yield path


def failures(paths: list[Path]) -> Iterator[str]:
    """Yield a text for each failure; a process that dies or hangs is replaced."""
    context = multiprocessing.get_context("spawn")
    late = f"more than {_LONGEST} s"
    left = [
        (path, suffix, part) for path in paths for suffix in _SUFFIXES for part in _PARTS
    ]
    while left:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        while left:
            run = left.pop(0)
            ours.send(run)
            try:
                failure = ours.recv() if ours.poll(_LONGEST) else late
            except EOFError:
                process.join()
                failure = f"the process has ended ({process.exitcode})"
            if failure:
                path, suffix, part = run
                yield f"{path} to {suffix}{' in part' if part else ''}: {failure}"
            if process.exitcode is not None or failure == late:
                break
        process.kill()


def _serve(connection: Connection) -> None:
    warnings.simplefilter("ignore")
    while True:
        connection.send(_outcome(*connection.recv()))


def _outcome(path: Path, suffix: str, part: dict[str, Any]) -> str:
    """Return the failure of one run, or an empty text."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, f"out{suffix}")
        names = {output.name}
        try:
            cloudconv.interpolate(path, output, factor=2, model="blend", **part)
        except cloudconv.CloudconvError:
            names = set()
        found = {each.name for each in Path(folder).iterdir()}
        return "" if found == names else f"the folder has {', '.join(found) or 'no file'}"


if __name__ == "__main__":
    main()
