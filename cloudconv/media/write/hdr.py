"""Build the HDR10 parameters of each encoder.

Encoders ignore the side data of frames. The mastering display and the light levels are therefore
passed as parameters, which the encoder writes into the bitstream.
"""

from __future__ import annotations

import struct
from fractions import Fraction

# The names of the parameters for the mastering display and for the light levels.
_NAMES = {
    "libx264": ("mastering-display", "cll"),
    "libx265": ("master-display", "max-cll"),
    "libsvtav1": ("mastering-display", "content-light"),
}


def hdr_parameters(
    encoder: str, mastering_display: bytes | None, content_light: bytes | None
) -> str | None:
    """Return the ``key=value:…`` string for the encoder; None if the encoder cannot store HDR10.

    ``mastering_display`` is FFmpeg's AVMasteringDisplayMetadata (88 bytes), ``content_light`` its
    AVContentLightMetadata (at least 8 bytes). The string is empty if neither is given.
    """
    if encoder not in _NAMES:
        return None
    name_of_display, name_of_light = _NAMES[encoder]
    parts: list[str] = []
    display = _display(mastering_display, decimal=encoder == "libsvtav1")
    if display:
        parts.append(f"{name_of_display}={display}")
    if content_light:
        most, mean = struct.unpack_from("<2I", content_light)
        parts.append(f"{name_of_light}={most},{mean}")
    if parts and encoder == "libx265":
        parts += ["hdr10=1", "repeat-headers=1"]
    return ":".join(parts)


def _display(data: bytes | None, *, decimal: bool) -> str:
    """Return the mastering display as text; empty without primaries or luminance.

    The numbers are decimal, or multiples of the units of HEVC: 0.00002 for chromaticities, 0.0001
    cd/m² for luminances.
    """
    if not data:
        return ""
    # Ten fractions (red, green, blue, white point, least and most luminance), and two flags.
    numbers = struct.unpack_from("<22i", data)
    has_primaries, has_luminance = numbers[20], numbers[21]
    if not (has_primaries and has_luminance):
        return ""
    values = [
        Fraction(top, bottom) if bottom else Fraction(0)
        for top, bottom in zip(numbers[0:20:2], numbers[1:20:2], strict=True)
    ]

    def scaled(value: Fraction, unit: int) -> str:
        return f"{float(value):g}" if decimal else str(round(value * unit))

    red, green, blue, white = (
        f"({scaled(values[k], 50000)},{scaled(values[k + 1], 50000)})" for k in (0, 2, 4, 6)
    )
    least, most = scaled(values[8], 10000), scaled(values[9], 10000)
    return f"G{green}B{blue}R{red}WP{white}L({most},{least})"
