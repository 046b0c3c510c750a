"""The vitals in plain words, for whoever does not know their names."""

from __future__ import annotations

from cloudconv.dreaming.vitals.vitals import Vitals

_RATIOS = {
    "sharpness": "it is {} times as sharp as the clip",
    "std": "it has {} times the clip's contrast",
    "saturation": "it is {} times as colourful as the clip",
    "motion": "it moves {} times as much as the clip",
    "anisotropy": "its edges run alike {} times as much as the clip's",
    "crease": "it has {} times the clip's fine hard lines",
}
_OTHERS = {
    "mean_shift": "its brightness is off",
    "jump": "a frame jumps",
    "static_psnr": "what stands still has changed",
    "patch": "its details are unlike the clip's",
    "patch_time": "its motion is unlike the clip's",
    "repeat": "it repeats itself",
    "strangeness": "double pictures or smears can be seen",
    "light": "its light is unlike the clip's",
}


def in_words(key: str, value: float) -> str:
    """What a vital says: ``it moves 0.26 times as much as the clip``."""
    ratio = _RATIOS.get(key)
    return _OTHERS.get(key, key) if ratio is None else ratio.format(f"{value:.2g}")


def failures(vitals: Vitals) -> dict[str, str]:
    """What is wrong where a dream has left the living range, by the vitals' names."""
    return {key: in_words(key, vitals.values[key] or 0.0) for key in vitals.failed}
