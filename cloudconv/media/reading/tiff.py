"""Read the list of pictures in a TIFF file, of which FFmpeg returns the first only.

Format: TIFF 6.0, section 2, and BigTIFF, whose numbers have 64 bits. Pillow reads the tags
also of pictures whose samples Pillow does not read.
"""

import struct
import warnings
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from PIL.TiffImagePlugin import ImageFileDirectory_v2 as Directory

_MOST = 100_000  # pictures
_WIDTH, _HEIGHT, _KIND = 256, 257, 254
_IS_SMALLER = 1  # bit of the kind of a smaller version of another picture
# The form of places in a file by its first bytes. The place of the first picture follows
# after as many bytes as a place has.
_PLACES = {b"II*\0": "<I", b"MM\0*": ">I", b"II+\0": "<Q", b"MM\0+": ">Q"}
# Description, make, model, date, artist, copyright, and the places of EXIF and of GPS.
_ABOUT = {270, 271, 272, 306, 315, 33432, 34665, 34853}


def pages_of(path: Path) -> int:
    """Return the number of pictures of a TIFF if all have one size; 1 for other files."""
    count = 0
    sizes = set()
    for _, tags in _directories(path):
        count += 1
        sizes.add((tags.get(_WIDTH), tags.get(_HEIGHT), tags.get(_KIND, 0) & _IS_SMALLER))
        if len(sizes) > 1:
            return 1
    return max(count, 1)


def says_more(path: Path) -> bool:
    """Return whether the first picture has tags about its content, such as its date."""
    return any(_ABOUT & tags.keys() for _, tags in islice(_directories(path), 1))


def with_page(data: bytes, path: Path, number: int) -> bytes:
    """Return the content of the file at ``path`` with picture ``number``, from 0, first."""
    place = next(islice(_directories(path), number, None), None)
    if place is None:
        return b""
    form = _PLACES[data[:4]]
    changed = bytearray(data)
    struct.pack_into(form, changed, struct.calcsize(form), place[0])
    return bytes(changed)


def _directories(path: Path) -> Iterator[tuple[int, Directory]]:
    """Yield the offset and the tags of each picture."""
    with suppress(OSError, SyntaxError, struct.error), path.open("rb") as file:
        head = file.read(4)
        head += file.read(2 * struct.calcsize(_PLACES.get(head, "I")) - 4)
        directory = Directory(head)
        seen = set[int]()
        while directory.next and directory.next not in seen and len(seen) < _MOST:
            offset = directory.next
            seen.add(offset)
            file.seek(offset)
            with warnings.catch_warnings():  # about damaged tags
                warnings.simplefilter("ignore")
                directory.load(file)
            if not directory.tagtype:
                return
            yield offset, directory
