"""Describe failed vitals in plain words."""

from __future__ import annotations

from cloudconv.dreaming.vitals.vitals import Vitals

# Braces show a ratio as a percentage.
_FAULTS = {
    "sharpness": "it is {:.0%} as sharp as the clip",
    "std": "it has {:.0%} of the clip's contrast",
    "saturation": "it is {:.0%} as colourful as the clip",
    "motion": "it moves {:.0%} as much as the clip",
    "anisotropy": "its edges run in one direction {:.0%} as much as the clip's",
    "crease": "it has {:.0%} of the clip's fine hard lines",
    "mean_shift": "its brightness has changed",
    "jump": "a frame changes suddenly",
    "static_psnr": "its still parts have changed",
    "patch": "its details are unlike the clip's",
    "patch_time": "its motion is unlike the clip's",
    "repeat": "it repeats itself",
    "novelty": "the same clouds come again",
    "silhouette": "dark parts became bright, or bright parts dark",
    "border": "a straight border can be seen",
    "detail": "parts that never change in the clip are torn",
    "sudden": "it changes {:.0%} as suddenly as the clip",
}


def in_words(key: str, value: float | None) -> str:
    """Describe a failed vital, for example as ``it moves 26% as much as the clip``.

    A vital that is a ratio may also be within its limits.
    """
    return _FAULTS[key].format(value)


def failures(vitals: Vitals) -> dict[str, str]:
    """Return a description of each failed vital, by name."""
    return {key: in_words(key, vitals.values[key]) for key in vitals.failed}
