"""Encode frames at exact times."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cloudconv.errors import OutputError
from cloudconv.events import Warned
from cloudconv.media.containers import container_of
from cloudconv.media.convert import encoder_picture
from cloudconv.media.encoders import supported_options
from cloudconv.media.encoding import EncodingPlan
from cloudconv.media.endings import Shown, Target
from cloudconv.media.filters import Chain
from cloudconv.media.frame import Frame
from cloudconv.media.output import too_close, writing
from cloudconv.media.packets import PacketFile
from cloudconv.media.sidedata import CAPTIONS, KINDS, Captions

FEW = 2  # at most so many pictures get arbitrary decode times from libx265, as one shows


class Sink(AbstractContextManager["Sink"]):
    """An encoder of frames into the target of a plan, or into ``file``, a segment's packet file.

    The target appears when the ``with`` block ends without an error; see
    :class:`cloudconv.media.endings.Target`, which also explains ``overwrite``. Most errors are
    raised before the first frame, but that for a full disk is raised later. ``warnings`` are about
    the encoding and the other streams; they are complete after :meth:`complete`.
    """

    def __init__(
        self, plan: EncodingPlan, *, file: Path | None = None, overwrite: bool = False
    ) -> None:
        self.plan, info, choice = plan, plan.info, plan.choice
        self._target = target = None if file else Target(plan, overwrite=overwrite)
        self._writer = target.writer if target else PacketFile(plan, file or plan.target)
        self.file = self._writer.file or plan.target  # the unfinished one, or standard output
        self._container = container_of(plan.target)
        self._palette: Chain | None = None
        stores = "a53cc" in supported_options(choice.encoder)
        self._captions = Captions(info.width, info.height, choice.pix_fmt) if stores else None
        self._lost: list[Warned] = []
        self._durations: dict[int, int] = {}  # of the pictures in the encoder, by time in ticks
        self._shown = Shown()
        self._last = -1  # the time of the last picture in ticks
        self._is_complete = False

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.abandon()
            return
        self.complete()
        if self._target is not None:
            self._target.commit()

    @property
    def warnings(self) -> list[Warned]:
        """Return the warnings so far."""
        return [*self.plan.warnings, *self._writer.warnings, *self._lost]

    def write(self, frame: Frame) -> None:
        """Encode a frame without changing the frame's picture.

        ``frame.time`` is on the output's clock, at least 0, and later than the time of the frame
        before. Raises OutputError if players cannot show frames so close to each other, or the
        container cannot store so long a frame.
        """
        plan, container, shown = self.plan, self._container, self._shown
        tick = round(frame.time / plan.tick)
        end = round((frame.time + frame.duration) / plan.tick)
        frame = replace(frame, picture=plan.turn.picture(frame.picture))
        gap = 1 if container.fastest is None else round(1 / (container.fastest * plan.tick))
        if shown.frames and tick - self._last < gap:
            # The frame is too close to the frame before: players need a larger gap, or the clock is
            # so coarse that both frames have the same tick.
            if container.fastest is not None:
                raise too_close(container)
            tick = self._last + 1
        container.check_span(frame.time, frame.duration, plan.tick)
        choice = plan.choice
        picture = encoder_picture(
            frame, pix_fmt=choice.pix_fmt, working=choice.working, tags=plan.tags
        )
        if container.has_palette:
            self._palette = self._palette or Chain(picture, reduces=True)
            (picture,) = self._palette.push(picture, shown.frames)
        if frame.captions and self._captions is not None:
            picture = self._captions.add(picture, frame.captions)
        elif frame.captions and not self._lost:
            text = f"The {KINDS[CAPTIONS]} of the source cannot be written by {choice.encoder}"
            which = "will be missing; libx264 and libx265 write them"
            self._lost.append(Warned(f"captions-lost: {text}, and {which}."))
        picture.pts, picture.time_base = tick, plan.tick
        lasts = self._durations[tick] = max(end - tick, 1)
        with writing(plan.target):
            self._store(self._writer.encoder.encode(picture))
        end, self._last = tick + lasts, tick
        self._shown = Shown(shown.frames + 1, frame.time, end * plan.tick, lasts * plan.tick)

    def _store(self, packets: list[Any], *, restamp: bool = False) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            if restamp:
                packet.dts = packet.pts
            self._writer.write(packet)

    def complete(self) -> Any:
        """Complete the output except for its name; further calls do nothing.

        Return the unfinished file of a target, or the summary of a segment.
        """
        if self._is_complete:
            return None
        with self._writer.abandoned_on_error():
            frames = self._shown.frames
            if not frames:
                raise OutputError(
                    f"no-frames: There are no frames to write, so {self.plan.target} was not made: "
                    "choose another part."
                )
            self._store(self._writer.encoder.encode(None), restamp=frames <= FEW)
            self._is_complete = True
            if self._target is not None:
                return self._target.complete(self._shown)
            return self._writer.finish()

    def abandon(self) -> None:
        """Delete the unfinished output; do nothing if the output is complete."""
        self._writer.abandon()
