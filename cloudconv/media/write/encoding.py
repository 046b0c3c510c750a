"""Plan the encoding of an output: encoder, clock, and warnings about contents that get lost."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import lcm
from pathlib import Path

from cloudconv.events import Warned
from cloudconv.media.carry.carry import Carry
from cloudconv.media.containers import Container, container_of
from cloudconv.media.convert import output_tags
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.names import is_stdout
from cloudconv.media.turn import UPRIGHT, turn_of
from cloudconv.media.write.encode import EncodingPlan
from cloudconv.media.write.encoder_options import DEFAULTS, EncoderChoice, known_encoder
from cloudconv.media.write.encoders import choose_for
from cloudconv.media.write.hdr import hdr_parameters
from cloudconv.media.write.target import check_rate
from cloudconv.settings import EncodeSettings

# Ticks per second of the finest clocks. MP4 stores the gap between two frames in 32 bits; with a
# finer clock, a gap of a few seconds overflows them.
_FINEST = 100_000_000
_VPX = 10_000_000  # the same for libvpx, which rounds all times to a clock of its own


def plan_encoding(
    path: Path,
    info: MediaInfo,
    *,
    rate: Fraction | None,
    time_base: Fraction,
    settings: EncodeSettings = DEFAULTS,
    carry: Carry | None = None,
) -> EncodingPlan:
    """Choose the encoder and the clock of an output.

    Args:
        path: the final name of the output.
        info: the description of the source.
        rate: the exact constant rate of the output; None for a variable one.
        time_base: a time in seconds. All times of the frames are multiples of this time.
        settings: the settings of the encoding.
        carry: the contents to carry over from the source file; None for none.

    Raises:
        EncoderError: the encoder is missing, or the container refuses it.
        OutputError: the output cannot store the rate.
    """
    container = container_of(path)
    check_rate(path, rate)
    turn = UPRIGHT if container.is_video else turn_of(info)
    info = (turn or UPRIGHT).info(info)
    choice = choose_for(container, info, settings)
    warnings = [*choice.warnings]
    choice = _with_hdr(choice, info, warnings)
    plan = EncodingPlan(
        target=path,
        info=info,
        turn=turn or UPRIGHT,
        choice=choice,
        rate=rate,
        tick=_clock(container, choice.encoder, rate, time_base),
        tags=output_tags(
            choice.encoder, info.working_pix_fmt, choice.working, info.tags, info.width, info.height
        ),
        threads=settings.threads,
        carry=carry,
        # Data on standard output cannot be corrected afterwards.
        amends=not is_stdout(path)
        and (
            (container.states_delay and carry is not None)
            or container.needs_amending(choice.encoder, aspect=info.aspect, varies=rate is None)
        ),
    )
    warnings += _losses(container, plan)
    if turn is None:
        warnings.append(
            Warned(
                f"odd-rotation: {container.name} cannot hold a rotation that is not a quarter "
                "turn: the pictures stay as they are stored."
            )
        )
    return replace(plan, warnings=tuple(warnings))


def _clock(
    container: Container, encoder: str, rate: Fraction | None, time_base: Fraction
) -> Fraction:
    """Return the encoder's tick in seconds; all times are whole ticks if the clock allows that."""
    if container.clock is not None and not container.is_video:
        return container.clock
    exact = time_base.denominator if rate is None else lcm(rate.numerator, time_base.denominator)
    finest = _VPX if encoder.startswith("libvpx") else _FINEST
    if exact > finest and rate is not None:
        exact = rate.numerator
    return Fraction(1, min(exact, finest))


def _with_hdr(choice: EncoderChoice, info: MediaInfo, warnings: list[Warned]) -> EncoderChoice:
    """Return the choice with the source's HDR metadata; add warnings about lost metadata."""
    for name in info.dynamic_hdr:
        warnings.append(
            Warned(f"dynamic-hdr: {name} metadata cannot be written to the output and is left out.")
        )
    if not (info.mastering_display or info.content_light):
        return choice
    words = hdr_parameters(choice.encoder, info.mastering_display, info.content_light)
    key = known_encoder(choice.encoder).parameters
    if words is None or key is None:
        warnings.append(
            Warned(
                f"hdr10: {choice.encoder} cannot hold the HDR10 metadata (mastering display, "
                "light levels); libx265 can."
            )
        )
        return choice
    if not words:
        return choice
    given = choice.options.get(key)
    # The user's parameters come last and take precedence.
    return replace(choice, options={**choice.options, key: f"{words}:{given}" if given else words})


def _losses(container: Container, plan: EncodingPlan) -> list[Warned]:
    """Return warnings about contents that the container cannot store."""
    info, warnings = plan.info, []
    if not container.is_video:
        kinds = sorted({stream.kind for stream in info.streams})
        kinds += ["chapters"] * (info.chapters > 0)
        if plan.carry is not None and kinds:
            warnings.append(
                Warned(
                    f"streams-left-out: {container.name} cannot hold these parts of the source, "
                    f"which are left out: {', '.join(kinds)}."
                )
            )
        if container.is_folder and plan.rate is None:
            warnings.append(
                Warned("times-lost: Picture files keep no times; the uneven timing is lost.")
            )
    is_wrong = container.needs_amending(plan.choice.encoder, aspect=info.aspect, varies=False)
    is_lost = is_stdout(plan.target) and is_wrong
    if is_lost:
        encoder = plan.choice.encoder
        warnings.append(
            Warned(
                f"aspect-lost: {container.name} with {encoder} does not keep the sample aspect "
                f"ratio {info.aspect}; players will show square samples."
            )
        )
    elif info.aspect is not None and not container.is_video:
        looks = "narrow" if info.aspect > 1 else "wide"
        warnings.append(
            Warned(
                f"aspect-ignored: Most programs show {container.name} with square samples: the "
                f"pictures look too {looks}, because the sample aspect ratio is {info.aspect}. An "
                ".mkv or .mp4 is shown right."
            )
        )
    return warnings
