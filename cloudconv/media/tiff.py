"""Read the list of pictures in a TIFF file, of which FFmpeg returns the first only.

Format: TIFF 6.0, section 2, and BigTIFF, whose numbers have 64 bits.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

_ORDERS = {b"II": "<", b"MM": ">"}
_MOST = 100_000  # pictures
_WIDTH, _HEIGHT, _KIND = 256, 257, 254
_IS_SMALLER = 1  # bit of the kind of a smaller version of another picture
# Description, make, model, date, artist, copyright, and the places of EXIF and of GPS.
_ABOUT = {270, 271, 272, 306, 315, 33432, 34665, 34853}


class _Form(NamedTuple):
    """The forms of numbers in a file."""

    order: str
    place: str  # of offsets
    many: str  # of the number of tags
    entry: str
    first: int  # where the file has the offset of the first picture


def pages_of(path: Path) -> int:
    """Return the number of pictures of equal size.

    1 if there are others, and for other files.
    """
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
    form = _form_of(data[:16])
    place = next(islice(_directories(path), number, None), None)
    if form is None or place is None:
        return b""
    changed = bytearray(data)
    struct.pack_into(form.order + form.place, changed, form.first, place[0])
    return bytes(changed)


def _form_of(head: bytes) -> _Form | None:
    if head[:2] not in _ORDERS or len(head) < 16:
        return None
    order = _ORDERS[head[:2]]
    (version,) = struct.unpack_from(order + "H", head, 2)
    forms = {42: _Form(order, "I", "H", "HHI4s", 4), 43: _Form(order, "Q", "Q", "HHQ8s", 8)}
    return forms.get(version)


def _directories(path: Path) -> Iterator[tuple[int, dict[int, int]]]:
    """Yield each picture's offset, and the first values of its tags or their offsets."""
    with suppress(OSError, struct.error), path.open("rb") as file:
        head = file.read(16)
        if (form := _form_of(head)) is None:
            return
        (offset,) = struct.unpack_from(form.order + form.place, head, form.first)
        seen: set[int] = set()
        while offset and offset not in seen and len(seen) < _MOST:
            seen.add(offset)
            file.seek(offset)
            (count,) = _read(file, form.order + form.many)
            tags = {}
            for _ in range(min(count, 1 << 16)):
                tag, kind, _, value = _read(file, form.order + form.entry)
                size = {1: "B", 3: "H"}.get(kind, form.place)
                (tags[tag],) = struct.unpack_from(form.order + size, value)
            yield offset, tags
            file.seek(offset + struct.calcsize(form.order + form.many)
                      + count * struct.calcsize(form.order + form.entry))  # fmt: skip
            (offset,) = _read(file, form.order + form.place)


def _read(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
