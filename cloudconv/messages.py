"""Build the text of every warning and format the options in messages.

A message contains options as placeholders (:func:`option`). :func:`rendered` replaces each
placeholder with a flag for the command line, or with a keyword for Python.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Word = Callable[[str, Any], str]
"""A function that formats an option from its name and its value (None: no particular value)."""

_NAMED = 6  # gaps that one message lists

# Control characters that :func:`plain` escapes: C0 without the newline, DEL, C1, the marks that
# change the direction of text, and lone surrogates.
_CONTROLS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_BEGIN, _END = "\ue000", "\ue001"
_OPTION = re.compile(f"{_BEGIN}(\\w+):([^{_END}]*){_END}")


def option(name: str, value: str | bool | None = None) -> str:
    """Return a placeholder for an option, which :func:`rendered` replaces.

    Args:
        name: the keyword of the option.
        value: the value to show with the option, if any.
    """
    return f"{_BEGIN}{name}:{json.dumps(value)}{_END}"


def keyword(name: str, value: Any = None) -> str:
    """Return an option in Python's form: ``resume=False``."""
    return f"`{name}`" if value is None else f"`{name}={value!r}`"


def flag(name: str, value: Any = None) -> str:
    """Return an option in the command line's form: ``--no-resume``."""
    words = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{words}" if value else f"--no-{words}"
    return f"--{words}" if value is None else f"--{words} {value}"


def rendered(text: str, word: Word = keyword) -> str:
    """Return the text with each placeholder of an option replaced by the result of ``word``."""
    return _OPTION.sub(lambda found: word(found[1], json.loads(found[2])), text)


def plain(text: str) -> str:
    """Return the text with control characters and undecodable bytes as escape sequences.

    File names and titles may contain such characters, and a terminal would act on them.
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def warning(code: str, parameters: Mapping[str, Any]) -> str:
    """Return the text of a warning, with placeholders for options.

    Raises:
        KeyError: the code is unknown.
    """
    return _WARNINGS[code](**parameters)


def counted(count: int, what: str) -> str:
    """Return the number with its noun in the right form: ``1 frame``, ``2 frames``."""
    return f"{count} {what}{'s' * (count != 1)}"


def _spans(gaps: Sequence[tuple[int, int]]) -> str:
    named = [str(a) if a == b else f"{a} to {b}" for a, b in gaps[:_NAMED]]
    more = len(gaps) - _NAMED
    return ", ".join(named) + (f" and {counted(more, 'gap')} more" if more > 0 else "")


def _scored(gain: float, frames: int) -> str:
    return f"{gain:+.2f} dB on {counted(frames, 'held-back frame')}"


_WARNINGS: dict[str, Callable[..., str]] = {
    # Warnings about the source
    "cut-off-index": lambda listed, found: (
        f"The file is cut off: its index lists {listed} frames, {found} are there."
    ),
    "cut-off-length": lambda promised, end: (
        f"The file is cut off: it should last {promised:.2f} s, its video ends at {end:.2f} s."
    ),
    "clock-restarts": lambda count: (
        f"The file's clock starts again {'once' if count == 1 else f'{count} times'}; the "
        "frames after that follow directly."
    ),
    "interlaced": lambda: (
        "The video is interlaced; its frames are taken as they are, with both fields. With "
        f"{option('deinterlace', True)} they are made whole first."
    ),
    "several-videos": lambda used: f"The file has several video streams; stream {used} is used.",
    "linear-light": lambda: (
        "Pictures of linear light are converted to sRGB with 16 bits; values above 1 become 1."
    ),
    "pictures-missing": lambda gaps: (
        f"Numbers are missing among the pictures: {_spans(gaps)}. The picture after a gap "
        "directly follows the one before."
    ),
    "frames-lost": lambda count: (
        f"{counted(count, 'frame')} could not be decoded and {'is' if count == 1 else 'are'} "
        "missing."
    ),
    "frames-damaged": lambda count: (
        f"{counted(count, 'frame')} decoded from damaged data may look wrong."
    ),
    "frames-out-of-order": lambda count: (
        f"{counted(count, 'frame')} with a repeated or backward time stamp "
        f"{'was' if count == 1 else 'were'} left out."
    ),
    "aspect-changes": lambda before, after, time, used: (
        f"The shape of the samples changes from {before} to {after} at {time:.3f} s; the output "
        f"has {used} throughout."
    ),
    "fields-change": lambda before, after, time: (
        f"The video changes from {before} to {after} at {time:.3f} s; frames are taken as they are."
    ),
    "not-nvdec": lambda why: f"The CPU decodes, not NVDEC: {why}.",
    # Warnings about the output
    "few-players": lambda pix_fmt, container, used, other, alpha: (
        f"Few players show {pix_fmt} in {container}: the pictures are written as {used}; "
        f"{option('pix_fmt', other)}, or {option('encoder')}, for others."
        + (" Their transparency is dropped." if alpha else "")
    ),
    "encoder-few-players": lambda pix_fmt, first, used: (
        f"Few players show {pix_fmt} as {first} writes it: {used} is used instead."
    ),
    "encoder-cannot-hold": lambda what, first, used: (
        f"{first} cannot hold {what}: {used} is used instead."
    ),
    "pix-fmt-changed": lambda who, pix_fmt, width, height, used, alpha: (
        f"{who} cannot hold {pix_fmt} at {width}x{height}: the pictures are written as {used}."
        + (" Their transparency is dropped." if alpha else "")
    ),
    "tones-not-mapped": lambda curve, container: (
        f"The source is HDR ({curve}), and its tones are not mapped: the pictures look flat and "
        f"pale as {container}. An .mkv or .mp4 keeps HDR."
    ),
    "dynamic-hdr": lambda name: f"{name} metadata cannot be written again and is left out.",
    "hdr10": lambda encoder: (
        f"{encoder} cannot hold the HDR10 metadata (mastering display, light levels); libx265 can."
    ),
    "odd-rotation": lambda container: (
        f"{container} cannot hold a rotation that is no quarter turn: the pictures stay as they "
        "are stored."
    ),
    "streams-left-out": lambda container, kinds: (
        f"Left out, as {container} cannot hold it: {kinds}."
    ),
    "times-lost": lambda: "Picture files keep no times; the uneven timing is lost.",
    "aspect-lost": lambda container, encoder, aspect: (
        f"{container} with {encoder} does not keep the sample aspect ratio {aspect}; players will "
        "show square samples."
    ),
    "chapters-no-room": lambda: "The chapters are left out: there is no room for them.",
    "chapters-on-a-pipe": lambda: "The chapters are left out: with this audio a pipe holds none.",
    "time-code": lambda: "The time code is left out: the frame rate varies.",
    "sound-damaged": lambda stream, packets: (
        f"{stream} is damaged: {packets} of its packets could not be decoded, and silence is in "
        "their place."
    ),
    "clock-steps-back": lambda stream, packets: (
        f"The clock of {stream} steps back: {packets} of its packets are moved to later times."
    ),
    "early-sound": lambda seconds: (
        f"{seconds:.3f} s of audio from before the first video frame are left out."
    ),
    "subtitles-plain": lambda container, codec, stream, becomes: (
        f"{container} cannot hold {codec} subtitles: {stream} becomes {becomes} and loses its "
        "styles."
    ),
    "sound-encoded": lambda stream, codec, container: (
        f"{stream} becomes {codec}, "
        + ("as it is slowed." if container is None else f"as {container} cannot hold it.")
    ),
    "seldom-heard": lambda stream, codec, container: (
        f"Few players read {codec} in {container}: for {stream}, a .mov or .mkv is better."
    ),
    "sound-mixed-down": lambda stream, layout: f"{stream} is mixed down to {layout}.",
    "stream-refused": lambda stream, container: (
        f"{stream} is left out: {container} cannot hold it."
    ),
    "stream-unreadable": lambda stream: (
        f"{stream} is left out: it cannot be decoded and encoded again."
    ),
    "stream-at-old-speed": lambda stream, stretches: (
        f"{stream} is left out: it runs at the old speed"
        + (f"; {option('audio', 'stretch')} slows it too." if stretches else ".")
    ),
    "stream-not-continued": lambda stream: f"{stream} is left out: nothing is new in it.",
    "chapters-not-continued": lambda count: (
        f"{counted(count, 'chapter')} left out: nothing is new there."
    ),
    # Warnings about the machine
    "accelerator-failed": lambda device, why: (
        f"The CPU is used, because {device} failed a trial: {why}."
    ),
    "cluster-without-gpu": lambda: "The cluster has no GPU: its CPUs are used.",
    "cluster-gpus-unused": lambda: (
        "The cluster's CPUs are used, not its GPUs: this machine plans the work and has no GPU."
    ),
    "tiles": lambda width, height, free, device, tile: (
        f"A whole {width}x{height} frame does not fit into the {free} of memory that {device} has "
        f"free: frames are worked on in tiles of {tile} pixels."
    ),
    "batch-reduced": lambda asked, width, height, free, device, batch: (
        f"A batch of {asked} frames of {width}x{height} does not fit into the {free} of memory "
        f"that {device} has free: the batch is {batch}."
    ),
    "precision-raised": lambda device: (
        f"16-bit values overflowed on {device}: float32 is used instead, which is slower."
    ),
    "out-of-memory": lambda device, batch, tile: (
        f"{device} ran out of memory: "
        + (
            f"the batch is now {batch}."
            if tile is None
            else f"frames are now worked on in tiles of {tile} pixels."
        )
    ),
    "training-in-parts": lambda device, samples: (
        f"{device} ran out of memory: each batch is now computed in parts of at most "
        f"{counted(samples, 'sample')}, which is slower."
    ),
    "disk-space": lambda bytes, folder: (
        f"The run may need about {bytes / 1e6:.0f} MB in {folder}, and less is free."
    ),
    # Warnings about work that an earlier run left
    "work-unreadable": lambda folder: (
        f"The unfinished work in {folder} cannot be resumed; it starts again."
    ),
    "segments-damaged": lambda count, folder: (
        f"{counted(count, 'finished segment')} in {folder} {'is' if count == 1 else 'are'} damaged "
        "and made again."
    ),
    # Warnings of interp
    "rate-kept": lambda rate: (
        f"The source has {rate} fps already: its frames are only encoded again, and new ones only "
        "fill gaps."
    ),
    "subfolders-ignored": lambda folder, names: (
        f"Folders inside {folder} are ignored: {', '.join(names)}."
    ),
    "few-frames-kept": lambda rate, one_of, whole: (
        f"At {rate} fps only one of {one_of} source frames is kept, new ones take the place of the "
        f"others; {whole} fps keeps them all."
    ),
    "cadence-kept": lambda cadence: (
        f"{cadence}; {option('duplicates', 'refill')} makes the motion even"
    ),
    "finer-scale": lambda gain: (
        f"A trial on source frames was {gain:.1f} dB better at scale 2, which takes about four "
        f"times as long: {option('scale', '2')}, or {option('quality', 'max')}, uses that."
    ),
    "takes-long": lambda scale, gain, minutes: (
        f"Each new frame is the mean of four, at scale {scale:g} (scale 2: {gain:+.1f} dB in a "
        "trial on source frames)"
        + ("." if minutes is None else f"; that takes about {max(minutes, 0.1):.2g} minutes.")
    ),
    "preview-failed": lambda path, why: f"The preview {path} could not be written: {why}.",
    "adapting-failed": lambda error: f"Adapting to the video failed: {error.template}",
    "kept-aside": lambda error: error.template,
    "refused": lambda error: f"this would be refused: {error.template}",
    "adapting-gained-little": lambda gain, frames, least: (
        f"Adapting to the video gained too little ({_scored(gain, frames)}, {least} dB are "
        "needed): the model is used as it ships."
    ),
    "adapting-not-judged": lambda error: (
        f"The gain of adapting to the video cannot be measured: {error.template}"
    ),
    "not-adapted": lambda: "The model is not adapted to the video but used as it ships.",
    "clip-changed": lambda path: f"{path} was changed while it was trained on: train again.",
    "nothing-learnt": lambda path: f"{path} was not written: nothing was learnt.",
    "locked": lambda path, other: (
        f"{path} cannot be replaced and is left as it is (is it open in another program?); the "
        f"new output is {other}."
    ),
    "taken": lambda path, other: (
        f"{path} appeared during the run and is left as it is; the new output is {other}."
    ),
    # Warnings of compare
    "held-back-only": lambda: (
        "Only held-back frames are scored: the model was adapted to the others."
    ),
    "frames-not-made": lambda method, count: (
        f"{method} could not make {count} frames: their scores are null."
    ),
    # Warnings of extrapolate and dream
    "context-short": lambda model, needed, found, cut: (
        f"{model} looks at {needed} frames, and there are {found} "
        f"{'since a cut' if cut else 'in the video'}: the first one is repeated for those that "
        "are missing."
    ),
    "last-scene": lambda start, count: (
        f"Only the last scene, from {start:g} s on, is used for the dream: "
        f"{counted(count, 'frame')}."
    ),
    "loop-of-another-scene": lambda: (
        "The video begins with another scene, so the end cannot lead into it: leave the source out "
        f"with {option('only_new')} for a loop of the dream alone."
    ),
    "runs-backwards": lambda share: (
        f"Too little of this clip comes back to jump to: about {share:.0%} of the frames run "
        "backwards, and time will be seen to turn."
    ),
    "dream-dies": lambda frame, failed, advice: (
        f"The dream leaves the living range by frame {frame} ({failed}): {advice}."
    ),
    # Warnings of train
    "clips-left-out": lambda unfit, given: (
        f"Left out {len(unfit)} of {given} clips: "
        f"{', '.join(unfit[:3])}{', …' if len(unfit) > 3 else ''}."
    ),
}
