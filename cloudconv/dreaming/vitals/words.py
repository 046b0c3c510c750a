"""Describe failed vitals in plain words."""

from __future__ import annotations

from cloudconv.dreaming.vitals.vitals import Vitals

_RATIOS = {
    "sharpness": "it is{} as sharp as the clip",
    "std": "it has{} the clip's contrast",
    "saturation": "it is{} as colourful as the clip",
    "motion": "it moves{} as much as the clip",
    "anisotropy": "its edges run in one direction{} as much as the clip's",
    "crease": "it has{} the clip's fine hard lines",
}
_OTHERS = {
    "mean_shift": "its brightness has changed",
    "jump": "a frame changes suddenly",
    "static_psnr": "its still parts have changed",
    "patch": "its details are unlike the clip's",
    "patch_time": "its motion is unlike the clip's",
    "repeat": "it repeats itself",
    "strangeness": "double pictures or smears can be seen",
    "light": "its light is unlike the clip's",
    "novelty": "the same clouds come again",
    "silhouette": "a silhouette has moved",
    "border": "a straight border can be seen",
    "symmetry": "clouds stand beside their own mirror image",
}


_PARTS = {
    0.1: " a tenth",
    0.2: " a fifth",
    0.25: " a quarter",
    1 / 3: " a third",
    0.5: " half",
    2 / 3: " two thirds",
    0.75: " three quarters",
    1.0: "",
    2.0: " twice",
    3.0: " three times",
}
_NEAR = 0.07  # distance within which a ratio gets a name, relative; no limit is that near to 1


def in_words(key: str, value: float) -> str:
    """Describe a failed vital, for example as ``it moves a quarter as much as the clip``.

    A vital that is a ratio may also be within its limits.
    """
    ratio = _RATIOS.get(key)
    if ratio is None:
        return _OTHERS.get(key, key)
    part = min(_PARTS, key=lambda part: abs(part - value) / part)
    near = abs(part - value) <= _NEAR * part
    return ratio.format(_PARTS[part] if near else f" {value:.2g} times")


def failures(vitals: Vitals) -> dict[str, str]:
    """Return a description of each failed vital, by name."""
    return {key: in_words(key, vitals.values[key] or 0.0) for key in vitals.failed}
