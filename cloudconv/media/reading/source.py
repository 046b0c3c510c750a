"""Take a video's frames in order and at exact times, and warn about what is lost."""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, suppress
from fractions import Fraction
from math import ceil
from pathlib import Path
from weakref import WeakSet

from av.video.frame import VideoFrame

from cloudconv.errors import InputError, UnfitInputError
from cloudconv.events import Warned, Warnings
from cloudconv.media.containers.sidedata import CAPTIONS, KINDS, readable
from cloudconv.media.frames.deinterlace import TimedPicture, frames_of_fields
from cloudconv.media.frames.formats import widened
from cloudconv.media.frames.frame import Frame, MediaInfo
from cloudconv.media.frames.timing import Timing, filmed
from cloudconv.media.reading.account import Account
from cloudconv.media.reading.decode import Decoded, VideoFile, fits
from cloudconv.media.reading.identity import check_unchanged
from cloudconv.media.reading.pictures import open_pictures
from cloudconv.media.reading.probe import lacks_its_end, no_frame, probe
from cloudconv.messages import counted, plural

# Seconds to decode before the first frame of fields, which depends on the pictures before.
_EARLY_SECONDS = Fraction(1, 2)
# The largest distance, in frames, of a time stamp from the constant rate of an arriving
# input.
_DRIFT = Fraction(1, 4)


class Source(AbstractContextManager["Source"]):
    """The frames of a video, decoded on demand; a context manager that closes the file.

    ``path_or_info`` is a file, a folder of pictures, a pattern such as ``frames/%05d.png``,
    ``-`` for standard input, or the result of :func:`cloudconv.media.probe.probe`.
    ``start`` (inclusive) and ``end`` (exclusive) are seconds from the first frame.
    ``threads`` is the decoder's number of threads; None lets the decoder choose. ``nvdec``
    is the number of an NVIDIA GPU for decoding; if it does not decode, the CPU does, and a
    warning gives the reason. ``warnings`` get those about the frames, the last ones after
    the last frame. ``following``: the number of frames from ``end`` on that come, too, if
    the source has them. Frames are taken from one call of :meth:`frames` at a time.
    """

    def __init__(
        self,
        path_or_info: MediaInfo | Path | str,
        *,
        start: Fraction | None = None,
        end: Fraction | None = None,
        threads: int | None = None,
        nvdec: int | None = None,
        following: int = 0,
        warnings: Warnings | None = None,
    ) -> None:
        self.warnings = Warnings() if warnings is None else warnings
        self.info = (
            path_or_info if isinstance(path_or_info, MediaInfo) else probe(path_or_info)
        )
        self._whole = start is None and end is None
        self._following = following
        timing = self.info.timing
        begins, ends = timing.span(start, end)
        self._start = begins - timing.start
        # The end of the wanted part on the source's clock.
        self._end: Fraction | None = None
        if end is not None or (timing.rate is not None and timing.has_timestamps):
            self._end = ends
        self._file = VideoFile(self.info, threads, nvdec)
        self._account = Account(begins, self._end, self.warnings)
        self._open: WeakSet[Generator[Frame, None, None]] = WeakSet()
        self._reader: Iterator[Frame] | None = None  # of `onward`, and its latest frames
        self._latest: deque[Frame] = deque(maxlen=8)

    def __exit__(self, *_: object) -> None:
        for frames in self._open:
            frames.close()
        self._file.close()

    @property
    def by_gpu(self) -> bool:
        """Return whether the GPU decodes; known after the first frame."""
        return self._file.by_gpu

    def frames(self, start: Fraction | None = None) -> Generator[Frame, None, None]:
        """Yield the frames in presentation order, each in its working pixel format.

        ``start`` replaces that of the source. If ``timing.gap_rate`` is known, times are
        exactly ``timing.start + k / gap_rate``. Otherwise the times are the file's own. A
        frame lasts until the next one. A frame is left out if its time is not after the
        time of the previous frame. Raises InputError if there is no frame, and
        UnfitInputError if the size, the pixel format, the rate of an arriving input or the
        file has changed.
        """
        frames = self._decoded(self._start if start is None else start)
        self._open.add(frames)
        self._reader = None
        return frames

    def onward(self, start: Fraction) -> Iterator[Frame]:
        """Return the frames from ``start`` on.

        A file without seeking is read once for all calls. Each call may begin some frames
        before the end of the last one, else the file is read again.
        """
        if self._file.seeks or self.info.input_format.is_pictures:
            return self.frames(start)
        begin = self.info.timing.start + start
        if self._reader is None or not self._latest or self._latest[0].time > begin:
            self._latest.clear()
            self._reader = self.frames(Fraction(0))
        return self._from(begin, self._reader)

    def _from(self, begin: Fraction, reader: Iterator[Frame]) -> Iterator[Frame]:
        yield from [frame for frame in self._latest if frame.time >= begin]
        for frame in reader:
            self._latest.append(frame)
            if frame.time >= begin:
                yield frame

    def _decoded(self, start: Fraction) -> Generator[Frame, None, None]:
        info = self.info
        waiting = None
        delivered = 0
        following = self._following
        begin = info.timing.start + max(start, Fraction(0))
        account = self._account = Account(begin, self._end, self.warnings)
        changes = _Changes(info, account)
        pictures = self._pictures(account, changes)
        if info.fields is not None:
            pictures = frames_of_fields(
                pictures, info.fields, info.file_timing.second_field
            )
        for picture, time, captions in pictures:
            if time < begin:
                continue
            if waiting is not None:
                delivered += 1
                yield waiting.at(waiting.time, self._until(time) - waiting.time)
                waiting = None
            if not account.wants(time):
                if following and time < info.timing.end:
                    yield Frame(picture, time, info.timing.last_duration, info.tags)
                    following -= 1
                if not following or time >= info.timing.end:
                    break
                continue
            waiting = Frame(picture, time, Fraction(0), info.tags, captions)
        else:
            if info.timing.open_ended and lacks_its_end(info.path):
                self.warnings.add(
                    Warned(
                        "cut-off-input: The input is cut off: it ended before the end that "
                        "its header states."
                    )
                )
        if waiting is not None:
            delivered += 1
            lasts = info.timing.last_duration
            left = info.timing.end - waiting.time
            if info.timing.rate is None and left > 0:
                lasts = min(left, lasts) or lasts
            yield waiting.at(waiting.time, self._until(waiting.time + lasts) - waiting.time)
        if not delivered:
            raise self._refusal()
        self.warnings.add(*changes.warnings())

    def _pictures(self, account: Account, changes: "_Changes") -> Iterator[TimedPicture]:
        """Yield the file's pictures in their working pixel format, at their exact times."""
        info = self.info
        times = _FrameTimes(self.info.file_timing)
        early = 0 if info.fields is None else _EARLY_SECONDS
        for decoded in self._file.decode(account.begin - early, account):
            picture = decoded.picture
            time = times.next(decoded.time)
            if time is None:
                # A lost picture that comes too late is counted already.
                changes.misplaced += decoded.time not in account.missed
                continue
            captions = changes.captions(picture, time)
            changes.record(decoded, time)
            if info.fields is not None or time >= account.begin:
                yield widened(picture, info.working_pix_fmt), time, captions

    def _until(self, time: Fraction) -> Fraction:
        """Return the end of a frame that the source shows until ``time``.

        At a variable rate, the part ends within a frame. At a constant rate, the part
        consists of whole frames. The rate of an arriving input is that of its first frames:
        a gap may follow.
        """
        end = self._end
        timing = self.info.timing
        if end is None or (timing.rate is not None and not timing.open_ended):
            return time
        if timing.rate is not None:
            end = timing.start + ceil((end - timing.start) * timing.rate) / timing.rate
        return min(time, end)

    def _refusal(self) -> InputError:
        info = self.info
        check_unchanged(info)
        if self._whole:
            return no_frame(info.path)
        length = float(info.timing.end - info.timing.start)
        return InputError(
            f"part-without-frame: {info.path} lasts {length:.3f} s and has no frame in the "
            "part that was given: choose another part."
        )


class _FrameTimes:
    """The exact times of frames, which follow from the time stamps and the probed rate."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        # The last frame's time, the same before a move to ``start + k / gap_rate``, and its
        # k.
        self._last: Fraction | None = None
        self._last_raw: Fraction | None = None
        self._index = -1

    def next(self, stamp: Fraction | None) -> Fraction | None:
        """Return the time of the next frame; None if it is not later than the last frame's.

        Raise UnfitInputError if the frame rate changes in an input that is still arriving.
        """
        timing = self._timing
        last = self._last
        if stamp is None:
            stamp = timing.start if last is None else last + timing.last_duration
        time = filmed(timing.film, stamp)
        if timing.gap_rate is not None:
            nearest = round((stamp - timing.start - timing.lag) * timing.gap_rate)
            # A later time stamp than the last one means a new frame, which needs the next
            # k.
            if (
                nearest <= self._index
                and self._last_raw is not None
                and stamp > self._last_raw
            ):
                nearest = self._index + 1
            time = timing.start + nearest / timing.gap_rate
            if timing.open_ended and abs(time - stamp) * timing.gap_rate > _DRIFT:
                raise UnfitInputError(
                    "rate-changes: The frame rate changes at "
                    f"{float(stamp - timing.start):.3f} s, and an input that is read while "
                    "it arrives cannot be checked for that first: write the input to a "
                    "file."
                )
        if last is not None and time <= last:
            return None
        if timing.gap_rate is not None:
            self._index = nearest
        self._last_raw = stamp
        self._last = time
        return time


class _Changes:
    """The changes and the damage within a part: the output stores one value of each."""

    def __init__(self, info: MediaInfo, account: Account) -> None:
        self._info = info
        self._part = account
        self.misplaced = 0  # frames whose time is not after that of the frame before
        self._damaged = 0
        self._first_aspect: Fraction | None = None
        self._noted: dict[str, Warned] = {}  # the first change of each property

    def record(self, decoded: Decoded, time: Fraction) -> None:
        """Record the first changes of aspect and interlacing: the output stores one each.

        Raise UnfitInputError if the size or the pixel format has changed.
        """
        info = self._info
        picture = decoded.picture
        self._damaged += bool(picture.is_corrupt)
        at = float(time - info.timing.start)
        if not fits(picture, info):
            # Raises its own error if another file has replaced the input.
            check_unchanged(info)
            before = f"{info.width}x{info.height} {info.pix_fmt}"
            now = f"{picture.width}x{picture.height} {picture.format.name}"
            file = self._picture_file(time - info.timing.start)
            what = file or f"{info.path}, from {at:.3f} s on,"
            raise UnfitInputError(
                f"picture-changes: {what} is {now}, and the first picture is {before}: "
                "leave that out, or convert it to one size and pixel format first."
            )
        if not self._part.wants(time):
            return
        aspect = decoded.aspect or Fraction(1)
        initial = self._first_aspect = self._first_aspect or aspect
        # The aspect changes at key frames only. At other pictures the decoder may already
        # return the next aspect, because the decoder has read later packets.
        if aspect != initial and picture.key_frame:
            self._note(
                "aspect",
                f"aspect-changes: The sample aspect ratio changes from {_ratio(initial)} "
                f"to {_ratio(aspect)} at {at:.3f} s; the output has "
                f"{_ratio(info.aspect or Fraction(1))} throughout.",
            )
        if info.fields is None and picture.interlaced_frame != info.interlaced:
            kinds = ("interlaced", "progressive")
            before, now = kinds if info.interlaced else kinds[::-1]
            self._note(
                "fields",
                f"fields-change: The video changes from {before} to {now} at {at:.3f} s; "
                "its pictures are used as they are. --deinterlace makes two whole frames "
                "of each interlaced picture.",
            )

    def warnings(self) -> Iterator[Warned]:
        """Yield warnings about changes, and about lost, damaged and left-out frames."""
        yield from self._noted.values()
        part = self._part
        lost = part.lost * (1 if self._info.fields is None else 2)
        place = ""
        if part.first_lost is not None:
            at = part.first_lost - self._info.timing.start
            file = self._picture_file(at)
            first = f"at {float(at):.3f} s" if file is None else file.name
            place = f", the first {first}"
        changes = [
            ("lost", lost, f"could not be decoded and {{are}} missing{place}"),
            ("damaged", self._damaged, "decoded from damaged data may look wrong"),
            (
                "out-of-order",
                self.misplaced,
                "with a repeated or backward time {are} left out",
            ),
        ]
        for code, number, what in changes:
            if number > 0:
                told = (
                    f"{counted(number, 'frame')} "
                    f"{what.format(are=plural(number, 'is', 'are'))}"
                )
                yield Warned(f"frames-{code}: {told}.")

    def _picture_file(self, at: Fraction) -> Path | None:
        """Return the file of the picture at a time; None if the input is one file."""
        rate = self._info.file_timing.rate
        pictures = open_pictures(self._info.path, rate)
        if pictures is None or rate is None or len(pictures.files) < 2:
            return None
        return pictures.files[round(at * rate)]

    def _note(self, key: str, text: str) -> None:
        self._noted.setdefault(key, Warned(text))

    def captions(self, picture: VideoFrame, time: Fraction) -> bytes:
        """Return the captions; record side data that the first picture does not have."""
        if self._info.codec in ("png", "apng"):
            return b""
        side_data = {}
        with suppress(ValueError):
            side_data = readable(picture)
        captions = side_data.pop(CAPTIONS, b"")
        for kind in side_data.keys() - self._info.side_data.keys():
            if words := KINDS.get(kind, kind):
                at = float(time - self._info.timing.start)
                self._note(
                    kind,
                    f"side-data-late: The {words} of the source begin at {at:.3f} s and "
                    "are left out.",
                )
        return captions


def _ratio(value: Fraction) -> str:
    return f"{value.numerator}:{value.denominator}"
