"""Vitals accept real footage and reject stills, blur, grey, smears, repeats and other faults."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from cloudconv.dreaming.vitals.features import FeatureMeter
from cloudconv.dreaming.vitals.vitals import VITALS, in_words
from tests.helpers.dreams import ball, clouds, material, meter_of, tensor, vitals_of


@pytest.fixture(scope="module")
def footage():
    return clouds(320)


@pytest.fixture(scope="module")
def source(footage):
    return material(footage[:160])


def rows_of(source, pictures, **kind):
    return vitals_of(source, map(tensor, pictures), **kind)


def row_of(source, pictures, **kind):
    (row,) = rows_of(source, pictures, **kind)
    return row


def sharpness(footage, row):
    """Return the sharpness of the sky in the frames of a row, relative to the first 160 frames."""

    def mean(pictures):
        grey = [cv2.cvtColor(p[:68], cv2.COLOR_RGB2GRAY).astype(np.float32) for p in pictures]
        slopes = [cv2.magnitude(*(cv2.Sobel(g, -1, x, 1 - x) for x in (0, 1))) for g in grey]
        return float(np.mean(slopes))

    return mean(footage[160 + row.start : 160 + row.end]) / mean(footage[:160])


@pytest.mark.full
def test_real_footage_is_alive(source, footage):
    rows = rows_of(source, footage[160:], sky=True)
    assert [(row.start, row.end) for row in rows] == [(0, 100), (60, 160)]
    for row in rows:
        assert row.alive, (row.failed, row.values)
        assert list(row.values) == list(VITALS)
        assert [key for key, value in row.values.items() if value is None] == []
        # The sharpness of this sky itself falls by 4 to 12 %.
        assert row.values["sharpness"] == pytest.approx(sharpness(footage, row), abs=0.04)
        assert row.values["motion"] == pytest.approx(1, abs=0.2)


def creased(picture):
    made = picture.copy()
    made[10:60, 40] = 0
    return made


def smeared(picture):
    made = picture.copy()
    made[:, :8] = made[:, 8:9]
    return made


def grey(picture):
    return np.uint8(0.5 * picture + 0.5 * picture.mean())


def slid(shown):
    """Return a clip whose land slides below its sky."""
    land = [np.roll(p[80:], k // 2, 1) for k, p in enumerate(shown[160:260])]
    return [np.vstack([p[:80], below]) for p, below in zip(shown[160:260], land, strict=True)]


def doubled(shown):
    """Return a clip in which, in a third of the picture, one part dissolves into another."""
    ghosts = []
    for k in range(100):
        share = 0.5 + 0.2 * np.sin(k / 10)
        picture = shown[k // 2].copy()
        mixed = share * shown[k // 2] + (1 - share) * shown[100 + k // 2]
        picture[:, 40:85] = np.rint(mixed[:, 40:85])
        ghosts.append(picture)
    return ghosts


def pasted(shown):
    """Return a clip with a rectangle of another time, which has the light of what it covers."""
    made = [picture.copy() for picture in shown[160:260]]
    for picture, other in zip(made, shown, strict=False):
        part, covered = other[5:75, 30:90].astype(float), picture[5:75, 30:90]
        light = covered.mean((0, 1)) - part.mean((0, 1))
        picture[5:75, 30:90] = np.uint8(np.clip(np.rint(part + light), 0, 255))
    return made


FAULTS = {
    "still": (lambda shown: [shown[159]] * 100, {"motion"}),
    "blur": (lambda shown: [cv2.GaussianBlur(p, (0, 0), 1.5) for p in shown[160:260]],
             {"sharpness"}),
    "grey": (lambda shown: [grey(p) for p in shown[160:260]], {"std", "saturation"}),
    # Along the wind; across the wind the picture stays sharp.
    "blur along the wind": (lambda shown: [cv2.blur(p, (9, 1)) for p in shown[160:260]], set()),
    "smear along the edge": (lambda shown: [smeared(p) for p in shown[160:260]], {"smear"}),
    "crease": (lambda shown: [creased(p) for p in shown[160:260]], set()),
    "cut": (lambda shown: [*shown[160:200], *shown[230:290]], {"jump", "sudden", "local"}),
    "land that slides": (slid, {"detail"}),
    "double exposure": (doubled, set()),
    "pasted rectangle": (pasted, set()),
}  # fmt: skip
"""Damage of a clip, and vitals that must find it; others may find it too."""


@pytest.mark.full
@pytest.mark.parametrize("kind", FAULTS)
def test_faulty_footage_is_dead(source, footage, kind):
    make, failed = FAULTS[kind]
    row = row_of(source, make(footage))
    assert not row.alive
    assert failed <= set(row.failed)
    assert kind != "cut" or failed == set(row.failed)
    assert kind != "still" or row.values["sharpness"] == pytest.approx(1, abs=0.2)


@pytest.mark.full
def test_limits_include_the_variation_of_the_clip(footage):
    calm = meter_of(material(footage[:160])).limits
    assert calm["sharpness"] == (0.8, 1.25)
    assert calm["smear"] == (-np.inf, 0.005)
    # The clip turns from sharp to soft, so its own windows exceed the default limits.
    fading = [cv2.GaussianBlur(p, (0, 0), 0.1 + k / 40) for k, p in enumerate(footage[:240])]
    wide = meter_of(material(fading)).limits
    assert wide["sharpness"][0] < 0.75
    assert wide["sharpness"][1] > 1.3


@pytest.mark.full
def test_limits_include_the_last_frames_of_the_clip(footage):
    calm = meter_of(material(footage[:160]), frames=50).limits
    # Some frames are missing before the last one.
    wide = meter_of(material([*footage[:159], footage[180]]), frames=50).limits
    assert wide["jump"][1] > calm["jump"][1]


@pytest.mark.full
def test_faster_motion_is_no_jump(source, footage):
    hurried = row_of(source, [*footage[160:200], *footage[200:240:4]])
    assert "jump" not in hurried.failed
    cut = row_of(source, [*footage[160:185], *footage[215:240]])
    assert "jump" in cut.failed


def test_a_window_is_judged_at_its_end(source, footage):
    """A few frames vary more than a window, also in the clip."""
    meter = meter_of(source, frames=60)
    for _ in range(59):
        assert meter.push(footage[159]) is None
        assert meter.now().alive
    row = meter.push(footage[159])
    assert meter.rows == [row]
    assert "motion" in row.failed


@pytest.mark.full
def test_pictures_without_colour_have_no_saturation(footage):
    grey = [np.repeat(p.mean(2, keepdims=True), 3, 2).astype(np.uint8) for p in footage]
    source = material(grey[:120])
    row = row_of(source, grey[120:200])
    assert row.values["saturation"] is None
    assert row.alive, row.failed


@pytest.mark.full
def test_footage_without_still_parts_is_measured(footage):
    skies = [np.ascontiguousarray(p[:60]) for p in footage]
    row = row_of(material(skies[:160]), skies[160:220])
    # The sky of this clip clears up; every other vital is within its limits.
    assert set(row.failed) <= {"saturation", "mean_shift"}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("motion", 0.26, "motion stops or slows"),
        ("motion", 2.6, "motion grows"),
        ("mean_shift", -20.0, "the picture becomes dark"),
        ("jump", 7.0, "a frame jumps"),
    ],
)
def test_a_failed_vital_is_described(key, value, said):
    assert in_words(key, value) == said


@pytest.mark.full
def test_a_thing_that_vanishes_is_a_fault_at_its_time_and_place(source, footage):
    """A car drives through the clip and the dream, and vanishes within a frame."""
    paint = np.random.default_rng(0).integers(0, 255, (18, 26, 3), np.uint8)

    def drive(number):
        shown = footage[number].copy()
        left = number // 3
        shown[70:88, left : left + 26] = paint
        return shown

    meter = meter_of(material([drive(k) for k in range(120)]), frames=60)
    for number in range(60):
        meter.push(footage[120 + number] if number >= 33 else drive(120 + number))
    (fault,) = [each for each in meter.faults if each.vital == "local"]
    assert fault.frame == 33
    assert fault.text == "something in the lower middle appears, vanishes or jumps"
    assert fault.size > 1.5
    calm = meter_of(material([drive(k) for k in range(120)]), frames=60)
    for number in range(60):
        calm.push(drive(120 + number))
    assert [each for each in calm.faults if each.vital == "local"] == []


def test_the_time_after_which_pictures_come_again_is_measured(source, footage):
    meter = meter_of(source, frames=60)
    for number in range(60):
        meter.push(footage[160 + number % 20])
    assert meter.period == 20
    new = meter_of(source, frames=60)
    for number in range(60):
        new.push(footage[160 + number])
    assert new.period is None


def test_a_still_source_has_no_limits_of_motion(footage):
    row = row_of(material(footage[:1]), footage[1:31])
    silent = [key for key, value in row.values.items() if value is None]
    assert silent == ["motion", "novelty", "silhouette", "detail", "sudden", "local", "against"]
    assert row.as_json()["motion"] is None


def test_extreme_values_are_dead_and_have_finite_vitals(source):
    wild = [torch.full((3, 96, 128), value) for value in (2.0, float("nan"), float("inf"))]
    (row,) = vitals_of(source, wild * 10)
    assert not row.alive
    assert all(v is None or np.isfinite(v) for v in row.values.values())


@pytest.mark.parametrize("size", [(5, 4), (33, 17), (700, 20)])
def test_frames_of_any_size_have_vitals(size):
    random = np.random.default_rng(0)
    shown = list(random.integers(0, 255, (12, size[1], size[0], 3), np.uint8))
    row = row_of(material(shown), shown)
    assert row.values["sharpness"] == pytest.approx(1, abs=0.05)


def test_a_repeating_clip_may_repeat():
    pictures = ball(120)
    row = row_of(material(pictures[:72]), pictures[72:])
    assert row.alive, (row.failed, row.values)


@pytest.mark.full
def test_clouds_that_return_are_dead_in_a_sky(source, footage):
    """The clip is played back and forth for ten seconds, which no sky does."""
    swing = [*footage[110:160], *footage[158:110:-1]] * 3
    assert "novelty" in rows_of(source, swing, sky=True)[-1].failed
    assert "novelty" not in rows_of(source, swing, repeats=True)[-1].failed


def test_things_that_run_back_are_a_fault_at_their_time(source, footage):
    """Clouds drift on for 20 frames, back for 15, and on again."""
    meter = meter_of(source, frames=60)
    for number in (*range(20), *range(20, 5, -1), *range(5, 30)):
        meter.push(footage[160 + number])
    (fault,) = [each for each in meter.faults if each.vital == "against"]
    assert 20 <= fault.frame <= 38
    assert fault.text == "things run back"


@pytest.mark.full
def test_a_silhouette_that_moves_is_dead(footage):
    """Either a piece of land floats in the sky, or sky covers a part of the land."""
    dark = [np.vstack([p[:84], p[84:] // 4]) for p in footage]
    piece = (slice(50, 56), slice(60, 80)), (slice(88, 94), slice(60, 80))
    hole = (slice(86, 96), slice(40, 90)), (slice(20, 30), slice(40, 90))
    for place, other, dies in ((*piece, True), (*hole, True), (..., ..., False)):
        shown = [p.copy() for p in dark[160:260]]
        for picture in shown:
            picture[place] = picture[other]
        row = row_of(material(dark[:160]), shown, sky=True)
        assert ("silhouette" in row.failed) is dies


def test_torn_detail_is_dead_without_any_mask(footage):
    """A part of the land, as bright as the sky, turns into a smooth surface."""
    bright = [np.uint8(p // 2 + 90) for p in footage]
    source = material(bright[:100])
    assert "detail" not in row_of(source, bright[100:140]).failed
    torn = [p.copy() for p in bright[100:140]]
    for picture in torn:
        picture[84:, 20:60] = picture[84:, 20:60].mean((0, 1)).astype(np.uint8)
    assert "detail" in row_of(source, torn).failed


def test_a_sky_that_becomes_another_at_once_is_dead(source, footage):
    """A dissolve of the whole picture within 0.4 seconds, from a sky to its mirror image."""
    shares = np.clip((np.arange(40) - 15) / 10, 0, 1)
    still = [p.astype(float) for p in footage[160:200]]
    shown = [p + s * (p[:, ::-1] - p) for s, p in zip(shares, still, strict=True)]
    for pictures, dies in ((footage[160:200], False), (list(np.uint8(shown)), True)):
        row = row_of(source, pictures)
        assert row.values["sudden"] is not None
        assert ("sudden" in row.failed) is dies, row.values


def test_a_clip_whose_moving_parts_are_tiny_has_changes(footage):
    nowhere = np.zeros(footage[0].shape[:2], bool)
    meter = FeatureMeter(~nowhere, nowhere, Fraction(1, 25))
    for picture in footage[:40]:
        meter.measure(picture)
    meter.begin(follows=True)
    found = [meter.measure(picture)["sudden"] for picture in footage[40:60]]
    assert all(0 < value < 2 for value in found if value is not None)
    assert any(value is not None for value in found)


@pytest.mark.full
def test_a_straight_border_is_dead(source, footage):
    """On one side of a line, which is soft over a few pixels, the sky is from another time."""
    level = np.clip((np.arange(96) - 30) / 4, 0, 1)[:, None, None]
    upright = np.clip((np.arange(128) - 60) / 4, 0, 1)[None, :, None]
    for share in (level, upright):
        dim = [p * (1 - share) + 0.6 * np.roll(p, 50, 1) * share for p in footage[160:260]]
        assert not row_of(source, map(np.uint8, dim), sky=True).alive
