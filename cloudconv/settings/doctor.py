"""What can be asked of ``doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cloudconv.settings import values
from cloudconv.settings.option import Option, Settings, refused


@dataclass(frozen=True, kw_only=True)
class DoctorSettings(Settings):
    """What to look at."""

    check: Annotated[
        bool,
        Option(
            "Try the device on a synthetic clip, for up to a minute: right frames at every "
            "precision, batch and tile, a lack of memory, workers, speed.",
        ),
    ] = False
    device: Annotated[
        str | None,
        Option(
            "What --check tries: auto, cpu, cuda, cuda:N or mps.",
            metavar="NAME",
            parse=values.device,
            default_text="auto",
        ),
    ] = None

    def _check(self) -> None:
        if self.device is not None and not self.check:
            raise refused("`device` is what `check` tries: give both.")
