"""Vitals accept real footage, and reject stills, blur, cuts and other faults."""

import cv2
import numpy as np
import pytest
import torch

from cloudconv.doubts import Grade
from cloudconv.dreaming.methods.base import Composed, Filmed, Jump, Options
from cloudconv.dreaming.methods.modes import method
from cloudconv.dreaming.vitals.vitals import VITALS
from tests.helpers.dreams import ball, clouds, material, meter_of, pasted, tensor, vitals_of


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


def measured(source, pictures, origin=None):
    """Return the meter of a dream of 60 frames after these pictures."""
    meter = meter_of(source, frames=60)
    for picture in pictures:
        meter.push(picture, origin or Composed())
    return meter


PAINT = np.random.default_rng(0).integers(0, 255, (18, 26, 3), np.uint8)
PAINT = cv2.GaussianBlur(PAINT, (0, 0), 1)
"""A car."""


def sharpness(footage, row):
    """Return the sky's sharpness in consecutive frames, relative to the first 160."""

    def mean(pictures):
        grey = [
            cv2.cvtColor(p[:68], cv2.COLOR_RGB2GRAY).astype(np.float32) for p in pictures
        ]
        slopes = [
            cv2.magnitude(*(cv2.Sobel(g, -1, x, 1 - x) for x in (0, 1))) for g in grey
        ]
        return float(np.mean(slopes))

    return mean(footage[160 + row.start : 160 + row.end]) / mean(footage[:160])


@pytest.mark.full
def test_real_footage_is_alive(source, footage):
    rows = rows_of(source, footage[160:])
    assert [(row.start, row.end) for row in rows] == [(0, 100), (100, 160)]
    for row in rows:
        assert row.alive, (row.failed, row.values)
        assert list(row.values) == list(VITALS)
        unknown = {key for key, value in row.values.items() if value is None}
        assert unknown - {"plain"} == {"ghost"}
        # The sharpness of this sky itself falls by 4 to 12 %.
        assert row.values["sharpness"] == pytest.approx(sharpness(footage, row), abs=0.04)
        assert row.values["motion"] == pytest.approx(1, abs=0.2)


FAULTS = {
    "still": (lambda shown: [shown[159]] * 100, {"motion", "change"}),
    "blur": (lambda shown: [cv2.GaussianBlur(p, (0, 0), 1.5) for p in shown[160:260]],
             {"sharpness"}),
    "blur along the wind": (lambda shown: [cv2.blur(p, (9, 1)) for p in shown[160:260]],
                            {"sharpness"}),
    "cut": (lambda shown: [*shown[160:200], *shown[230:290]], {"residual"}),
}  # fmt: skip
"""Damage of a clip, and vitals that must find it; others may find it too."""


@pytest.mark.full
@pytest.mark.parametrize("kind", FAULTS)
def test_faulty_footage_is_dead(source, footage, kind):
    make, failed = FAULTS[kind]
    row = row_of(source, make(footage))
    assert not row.alive
    assert failed <= set(row.failed)


def limits_of(pictures):
    """Return the limits after a second of composed pictures."""
    meter = meter_of(material(pictures))
    for picture in pictures[-25:]:
        meter.push(picture, Composed())
    return meter.limits


@pytest.mark.full
def test_limits_include_the_variation_of_the_clip(footage):
    calm = limits_of(footage[:160])
    assert calm["sharpness"] == (0.8, 1.25)
    # The clip turns from sharp to soft, so its own windows exceed the default limits.
    fading = [
        cv2.GaussianBlur(p, (0, 0), 0.1 + k / 40) for k, p in enumerate(footage[:240])
    ]
    wide = limits_of(fading)
    assert wide["sharpness"][0] < 0.75
    assert wide["sharpness"][1] > 1.3


@pytest.mark.full
def test_what_lasts_is_a_fault_once(source, footage):
    """The dream stands still. After a second this is known."""
    meter = meter_of(source, frames=60)
    for _ in range(59):
        assert meter.push(footage[159], Composed()) is None
    row = meter.push(footage[159], Composed())
    assert meter.rows == [row]
    assert "motion" in row.failed
    (fault,) = meter.faults
    assert 10 <= fault.frame < 25
    assert fault.text == "motion stops or slows"
    assert meter.visible > 1


@pytest.mark.full
def test_footage_without_still_parts_is_measured(footage):
    skies = [np.ascontiguousarray(p[:60]) for p in footage]
    row = row_of(material(skies[:160]), skies[160:220])
    assert row.alive, (row.failed, row.values)


@pytest.mark.full
def test_a_thing_that_vanishes_is_a_fault_at_its_time_and_place(source, footage):
    """A car drives through the clip and the dream, and vanishes within a frame."""

    def drive(number):
        shown = footage[number].copy()
        left = number // 3
        shown[70:88, left : left + 26] = PAINT
        return shown

    def around_car(box):
        """Return whether a box has the car's middle, and is at most twice as large."""
        x, y, width, height = box.pixels(128, 96)
        inside = x < 51 + 13 < x + width and y < 79 < y + height
        return inside and width <= 2 * 26 and height <= 2 * 18

    clip = material([drive(k) for k in range(120)])
    shown = [*map(drive, range(120, 153)), *footage[153:180]]
    meter = measured(clip, shown, pasted())
    (fault,) = meter.faults
    assert fault.vital == "appears"
    assert fault.frame == 33
    assert fault.text == "something pops up or vanishes"
    assert around_car(fault.box)
    assert fault.size > 0.5  # levels of the whole picture; the car is a twenty-sixth of it
    assert fault.grade is not Grade.HARDLY
    calm = [*map(drive, range(120, 180))]
    assert measured(clip, calm, pasted()).faults == []
    # In a collage, the place is known, and the time within 0.4 seconds.
    (fault,) = measured(clip, shown).faults
    assert 29 <= fault.frame <= 38
    assert around_car(fault.box)
    assert measured(clip, calm).faults == []


@pytest.mark.full
@pytest.mark.parametrize("vanishes", [False, True])
def test_a_thing_may_enter_at_the_border_as_in_the_clip(footage, vanishes):
    """A fast car drives through the clip twice, and once through (part of) the dream."""

    def drive(number):
        shown = np.pad(footage[number], ((0, 0), (26, 26), (0, 0)))
        for steps in (number - 20, number - 70, number - 140):
            left = 6 * (steps + 1)
            if 0 < left < 154 and not (vanishes and number >= 148):
                shown[78:96, left : left + 26] = PAINT
        return np.ascontiguousarray(shown[:, 26:-26])

    clip = material([drive(k) for k in range(120)])
    meter = measured(clip, map(drive, range(120, 180)), pasted())
    seen = [fault for fault in meter.faults if fault.grade is not Grade.HARDLY]
    result = {fault.frame for fault in seen if fault.vital == "appears"}
    assert result == ({28} if vanishes else set())


@pytest.mark.full
def test_the_time_after_which_pictures_come_again_is_measured(source, footage):
    def period(numbers):
        meter = meter_of(source, frames=60)
        for number in numbers:
            meter.push(footage[number], Filmed(number))
        return meter.repeats_every

    assert period([*range(140, 160)] * 3) == round(float(20 * source.step), 3)
    assert period(range(60)) is None


def test_composed_pictures_have_no_time_after_which_they_come_again():
    repeated = ball(72)
    assert measured(material(repeated[:24]), repeated[24:]).repeats_every is None


def test_a_still_source_has_no_limits_of_motion(footage):
    row = row_of(material(footage[:1]), footage[1:31])
    silent = {key for key, value in row.values.items() if value is None}
    assert silent == set(VITALS) - {"sharpness", "plain"}
    assert row.as_json()["motion"] is None


def test_extreme_values_are_dead_and_have_finite_vitals(source):
    wild = [torch.full((3, 96, 128), value) for value in (2.0, float("nan"), float("inf"))]
    (row,) = vitals_of(source, wild * 10)
    assert not row.alive
    assert all(v is None or np.isfinite(v) for v in row.values.values())


@pytest.mark.parametrize("size", [(5, 4), (33, 17), (700, 20)])
def test_frames_of_any_size_have_vitals(size):
    random = np.random.default_rng(0)
    pictures = list(random.integers(0, 255, (12, size[1], size[0], 3), np.uint8))
    row = row_of(material(pictures), pictures)
    assert row.values["sharpness"] == pytest.approx(1, abs=0.05)


def test_a_repeating_clip_may_repeat():
    pictures = ball(120)
    row = row_of(material(pictures[:72]), pictures[72:])
    assert row.alive, (row.failed, row.values)


@pytest.mark.full
def test_land_that_slides_is_a_fault():
    sliding = clouds(120, (160, 120))
    wall = np.random.default_rng(0).integers(0, 255, (40, 250, 3), np.uint8)
    wall = cv2.GaussianBlur(wall, (0, 0), 1.5)
    for slides in (False, True):
        pictures = [p.copy() for p in sliding]
        for number, picture in enumerate(pictures):
            left = 2 * max(number - 80, 0) if slides else 0
            picture[80:] = wall[:, left : left + 160]
        row = row_of(material(pictures[:80]), pictures[80:])
        assert ("slides" in row.failed) is slides, row.values


def test_a_sky_that_becomes_another_at_once_is_dead(source, footage):
    """The whole picture dissolves within 0.4 s, from a sky to its mirror image."""
    shares = np.clip((np.arange(40) - 15) / 10, 0, 1)
    still = [p.astype(float) for p in footage[160:200]]
    dissolve = [p + s * (p[:, ::-1] - p) for s, p in zip(shares, still, strict=True)]
    for pictures, dies in ((footage[160:200], False), (list(np.uint8(dissolve)), True)):
        row = row_of(source, pictures)
        assert row.values["residual"] is not None
        assert ("residual" in row.failed) is dies, row.values


@pytest.mark.full
def test_a_row_names_all_vitals_and_those_that_were_not_measured_are_null(source, footage):
    jump = Jump(159, 20, 0.5, 0, 1)
    origins = {
        "residual": jump,
        "ghost": jump,
        "appears": pasted(),
        "sharpness": Composed(),
    }
    names = [
        "plain",
        "appears",
        "residual",
        "ghost",
        "slides",
        "motion",
        "change",
        "sharpness",
    ]
    for key, origin in origins.items():
        meter = meter_of(source, frames=100)
        for picture in footage[160:260]:
            double = np.ones((22, 40), np.float32) if key == "ghost" else None
            meter.push(picture, origin, double)
        row = meter.rows[0].as_json()
        assert list(row) == ["from", "to", *names, "alive"]
        known = {name for name in names if row[name] is not None} - {"plain"}
        mixed = {"appears", "residual"}
        wanted = {
            "residual": mixed,
            "ghost": {"appears", "ghost"},
            "appears": {"appears"},
            "sharpness": {*mixed, "slides", "motion", "change", "sharpness"},
        }
        assert known == wanted[key]


@pytest.mark.full
def test_half_transparent_trees_of_a_drawn_pan_are_seen():
    """A scene of 28 frames has no place to which a jump leads."""
    random = np.random.default_rng(1)
    wide = np.full((120, 520, 3), (150, 200, 235), np.uint8)
    wide[90:] = 90, 150, 70
    for left in range(20, 520, 60):
        tree = left, int(random.integers(50, 75))
        cv2.circle(wide, tree, int(random.integers(12, 24)), (40, 90, 30), -1)
    clip = material([wide[:, 10 * k :][:, :200].copy() for k in range(28)])
    meter = meter_of(clip, 40)
    for frame in method("texture").dream(clip, Options(40)):
        meter.push(frame.small(clip), frame.origin, frame.ghost)
    assert any(f.grade is not Grade.HARDLY for f in meter.faults)
