"""The HTML report: its text, its structure, and its controls in a browser."""

import math
import re
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser

import pytest
import torch

from cloudconv.report.data import (
    COLUMNS,
    Card,
    Page,
    Row,
    ScorePage,
)
from cloudconv.report.page import (
    Chart,
    draw,
    frame_card,
    jpeg,
    render,
    round_numbers,
)
from tests.helpers.browser import CHROMIUM, Browser

RATE = Fraction(24000, 1001)
LEVELS = {"rife-4.6": 34.6, "blend": 30.4, "flow": 33.1, "hold": 26.9}
SCORES = {
    "psnr": 30,
    "ssim": 0.9,
    "l2": 2e-4,
    "gdl": 0.01,
    "sharpness": 20,
    "flicker": 0.01,
}
STEPS = (1, 2, 5, 10, 15, 30)
FACTS = {
    "Clip": "clouds & <hills>.mp4, 480x270, 24000/1001 frames per second, yuv420p",
    "Task": "one frame of every 2 kept; each missing frame made at its own time",
    "Scores": "8-bit RGB in 0 to 1, full range; mean over frames",
}


FLAT = jpeg(torch.full((3, 270, 480), 0.4), 480)


def comparison(number, frame, *, horizon=None):
    """Return one frame by every method; its pictures are flat."""
    names = ("voxelflow", "hold") if horizon else tuple(LEVELS)
    scores = {"psnr": 27.3 + frame / 90}, {"psnr": 24.9}
    row = Row(frame, frame / RATE, horizon, dict(zip(names, scores, strict=False)))
    shown = [(name, FLAT) for name in ("truth", *names, f"error of {names[0]}")]
    card = frame_card(row, *names[:2], shown)
    return replace(card, key=f"worst-{number}")


def rows_of(frames, score):
    """Return a row for each frame.

    ``score(name, frame)`` is the PSNR of a method, or None.
    """
    rows = []
    for frame in frames:
        psnr = {name: score(name, frame) for name in LEVELS}
        scores = {
            n: {"psnr": p, "ssim": p and 1 - 10 ** (-p / 24)} for n, p in psnr.items()
        }
        rows.append(Row(frame, frame / RATE, None, scores))
    return tuple(rows)


def wave(name, frame):
    """Return scores that go up and down; a few are missing or perfect."""
    if name == "flow" and frame > 188:
        return None
    return 100.0 if (name, frame) == ("blend", 41) else LEVELS[name] + math.sin(frame / 13)


def example():
    """Return a comparison of four methods over 94 new frames and two cuts."""
    times = dict(zip(LEVELS, (0.213, 0.004, 0.182, 0.0001), strict=True))
    return ScorePage(
        source="clouds & <hills>.mp4",
        verdict="rife-4.6 is 4.1 dB better than blending; it is worse on 6 frames, most at "
        "3.4 s.",
        summary="One frame of every 2 kept, the others made again. 94 frames scored, 2 "
        "cuts apart.",
        model="rife-4.6",
        baseline="blend",
        metrics=tuple(SCORES),
        methods={
            name: SCORES | {"psnr": level, "seconds_per_frame": times[name]}
            for name, level in LEVELS.items()
        },
        rows=rows_of([k for k in range(1, 192, 2) if k not in (61, 127)], wave),
        cuts=(61 / RATE, 128 / RATE),
        cards=tuple(comparison(k, frame) for k, frame in enumerate((83, 85, 31))),
        facts=tuple(FACTS.items()),
        files=("side_by_side.mp4", "result.json"),
    )


def horizon_example():
    """Return a forecast by four methods over six horizons."""
    methods = {
        name: {str(step): SCORES | {"psnr": level - math.log(step)} for step in STEPS}
        for name, level in (
            ("voxelflow", 36.6),
            ("hold", 35.5),
            ("linear", 32.0),
            ("flow", 36.9),
        )
    }
    return ScorePage(
        source="clouds.mp4",
        verdict="voxelflow is 2.9 dB better than holding the last frame, from 1 to 30 "
        "frames on.",
        summary="Forecasts of 30 frames from 12 starts; 1 cut left out.",
        model="voxelflow",
        baseline="hold",
        metrics=("psnr", "ssim", "sharpness"),
        methods=methods,
        cards=(comparison(0, 60, horizon=30), comparison(1, 71, horizon=15)),
        facts=(("Starts", "every 12th frame, 4 frames of context"),),
        files=("result.json",),
    )


def places_example(**changes):
    """Return two doubtful places, of which one has no pictures."""
    unsized = replace(FLAT, width=0, height=0)
    views = tuple(("", name, unsized) for name in ("before", "new", "after"))
    cards = (
        Card("2.125 s", "no motion explains the change (seen)", views),
        Card("7.500 s", "no motion explains the change (hardly seen)", ()),
    )
    source = "clouds & <hills>.mp4"
    words = {"verdict": "2 new frames are guesses", "summary": "24 fps"}
    return replace(Page(command="interp", source=source, cards=cards, **words), **changes)


class Structure(HTMLParser):
    """A parser that records open tags, repeated ids, images and visible text."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, page):
        super().__init__()
        self.open = []
        self.ids = []
        self.images = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        result = dict(attrs)
        if result.get("id"):
            self.ids.append(str(result["id"]))
        if tag == "img":
            self.images.append(result)
        if tag not in self.VOID and not (
            self.open and self.open[-1] == "svg" and tag == "path"
        ):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in ("path", *self.VOID)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data


@pytest.mark.parametrize(
    "data",
    [example(), horizon_example(), places_example()],
    ids=["drop", "horizon", "places"],
)
def test_the_page_is_well_formed_and_self_contained(data):
    page = render(data)
    structure = Structure(page)
    assert structure.open == []
    assert len(structure.ids) == len(set(structure.ids))
    assert all("alt" in image for image in structure.images)
    outside = re.findall(
        r'(?:src|href|action)="(?!data:)([^"]*)"|url\(|@import|https?:', page
    )
    assert sorted(filter(None, outside)) == sorted(getattr(data, "files", ()))


@pytest.mark.full
def test_the_page_has_the_verdict_the_methods_and_the_conditions():
    page = render(example())
    text = Structure(page).text
    for said in (
        *LEVELS,
        *FACTS.values(),
        "213 ms",
        "2 frames missing",
        "Frame 83 at 3.462 s",
    ):
        assert said in text
    assert "rife-4.6 is 4.1 dB better than blending" in text
    assert "rife-4.6 28.22 dB, blend 24.90 dB (+3.32)" in text
    bare = Structure(render(replace(example(), rows=(), cards=(), facts=(), files=()))).text
    for heading in ("Over time", "Look for yourself", "is worst", "How it was measured"):
        assert heading in text
        assert heading not in bare
    for side in ("left", "right"):
        menu = page.partition(f'id="wipe-{side}"')[2].partition("</select>")[0]
        assert [name for name in ("truth", *LEVELS) if f">{name}</option>" in menu] == [
            "truth",
            *LEVELS,
        ]


@pytest.mark.full
def test_names_from_the_disk_cannot_become_markup():
    evil = '</script><img src=x onerror="alert(1)">&amp;.mp4'
    data = replace(
        example(),
        source=evil,
        verdict=evil,
        summary=evil,
        methods={n.replace("hold", evil): m for n, m in example().methods.items()},
        facts=((evil, evil),),
        files=('a"b <c>.csv',),
        rows=tuple(
            replace(r, scores={n.replace("hold", evil): s for n, s in r.scores.items()})
            for r in example().rows
        ),
    )
    structure = Structure(render(data))
    assert structure.open == []
    assert "x" not in [image.get("src") for image in structure.images]
    assert structure.text.count(evil) >= 5
    card = Card(evil, evil, ())
    places = places_example(source=evil, verdict=evil, summary=evil, cards=(card,))
    structure = Structure(render(places))
    assert (structure.open, structure.images) == ([], [])
    assert structure.text.count(evil) >= 5


def test_the_best_score_is_bold_if_lower_or_higher_is_better():
    methods = {
        "good": {"psnr": 40.0, "l2": 0.001, "seconds_per_frame": 0.1},
        "bad": {"psnr": 30.0, "l2": 0.01, "seconds_per_frame": 0.1},
        "none": {"psnr": None, "l2": math.nan, "seconds_per_frame": None},
    }
    bare = replace(example(), rows=(), cards=())
    page = render(replace(bare, methods=methods, metrics=("psnr", "l2"), model="good"))
    assert re.findall(r'<td class="best">([^<]*)</td>', page) == ["40.00", "0.001000"]
    column = COLUMNS["psnr"]
    assert column.best([30.001, 30.0, 29.0]) == "30.00"
    assert column.best([30.001, 30.0]) is None, "equal scores are not best"
    assert column.best([None, None]) is None


def test_each_metric_of_horizons_has_a_table_and_psnr_a_chart():
    page = render(horizon_example())
    text = Structure(page).text
    assert "Scores by horizon" in text
    for step in STEPS:
        assert f'<th scope="col">{step}</th>' in page
    assert page.count('class="plot"') == 1
    assert "Frame 60 at 2.502 s, 30 frames ahead" in text


def test_a_page_of_many_frames_is_small_and_has_the_worst_frame():
    special = {6223: 12.5, 6225: None}
    rows = rows_of(range(1, 12_000, 2), lambda _, frame: special.get(frame, 35.0))
    page = render(replace(example(), rows=rows, cards=()))
    assert len(page) < 1_000_000
    assert "12.5," in page
    note = (
        "Of each group of neighbouring frames, the chart shows the one where rife-4.6 is "
        "worst."
    )
    assert note in page
    assert note not in render(example())


@pytest.mark.parametrize(
    ("low", "high"), [(0.93, 0.99), (12.0, 48.0), (30.0, 30.0), (0.0, 7200.0)]
)
def test_axis_steps_are_round_numbers_that_cover_the_range(low, high):
    result = round_numbers(low, high, 5)
    assert result[0] <= low + 1e-9
    assert result[-1] >= high - 1e-9
    assert 2 <= len(result) <= 8


def test_perfect_frames_do_not_stretch_the_axis_of_a_chart():
    line = ("rife-4.6", 0, [30.0, 34.0, 100.0])
    levels = draw(Chart("PSNR", [0, 1, 2], ["", "", ""], [], [line]))["levels"]
    assert [float(text) for _, text in levels] == [30, 31, 32, 33, 34]


# In a browser

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    written = []
    for data in (example(), horizon_example(), places_example()):
        written.append(tmp_path_factory.mktemp("report") / "index.html")
        written[-1].write_text(render(data), "utf-8")
    return written


def at(browser, selector):
    """Scroll an element into view; return its left, top, width and height in the window."""
    return browser.run(
        f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}});"
        "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })"
        f"(document.querySelector({selector!r}))"
    )


def wipe_position(browser):
    """Return the part of the left picture that is visible, in percent of the width."""
    clip = browser.run("getComputedStyle(document.querySelector('#picture-left')).clipPath")
    value = browser.run("Number(document.querySelector('#wipe').value)")
    hidden = float(re.findall(r"([\d.]+)%", clip)[-1])  # or what is visible, in "100% - X%"
    assert min(abs(hidden - value), abs(100 - hidden - value)) < 0.01, clip
    return float(value)


@needs_chromium
def test_the_wipe_follows_the_mouse_and_the_arrow_keys(browser, pages):
    browser.open(pages[0])
    left, top, width, height = at(browser, "#stage")
    assert wipe_position(browser) == 50
    drag = [
        ("mouseMoved", 0.5),
        ("mousePressed", 0.5),
        ("mouseMoved", 0.7),
        ("mouseMoved", 0.8),
    ]
    for number, (kind, place) in enumerate(
        [*drag, ("mouseReleased", 0.8), ("mouseMoved", 0.2)]
    ):
        browser.mouse(kind, left + width * place, top + height / 2, held=1 <= number <= 3)
    dragged = wipe_position(browser)
    assert dragged == pytest.approx(80, abs=1)
    for key, moved in (("ArrowLeft", -0.5), ("ArrowRight", 0), ("ArrowRight", 0.5)):
        browser.key(key)
        assert wipe_position(browser) == dragged + moved
    label = browser.run("document.querySelector('#wipe').getAttribute('aria-valuetext')")
    assert re.match(r"8\d % truth, the rest rife-4\.6", label)


@needs_chromium
def test_the_wipe_shows_the_chosen_frames(browser, pages):
    def shown():
        return browser.run(
            "['left', 'right'].map(s => document.getElementById('picture-' + s).alt)"
        )

    browser.open(pages[0])
    assert shown() == ["Frame 83 at 3.462 s: truth", "Frame 83 at 3.462 s: rife-4.6"]
    browser.run("document.querySelector('[data-open=worst-1]').click()")
    assert shown()[0] == "Frame 85 at 3.545 s: truth"
    assert browser.run("document.activeElement.id") == "wipe"
    browser.run(
        "(s => { s.value = 'made-1'; s.dispatchEvent(new Event('change')); })"
        "(document.querySelector('#wipe-left'))"
    )
    assert shown()[0] == "Frame 85 at 3.545 s: blend"
    assert "blend 24.90 dB" in browser.run(
        "document.querySelector('#wipe-verdict').textContent"
    )
    browser.run("document.querySelector('[data-step=\"1\"]').click()")
    assert shown()[1] == "Frame 31 at 1.293 s: rife-4.6"


@needs_chromium
def test_the_chart_shows_values_for_the_pointer_and_the_arrow_keys(browser, pages):
    def readout():
        return browser.run("document.querySelector('#plot .readout').innerText")

    browser.open(pages[0])
    left, top, width, height = at(browser, "#plot")
    browser.mouse("mouseMoved", left + width / 2, top + height / 2)
    assert re.search(r"[34]\.\d{3} s, frame 9\d", readout())
    assert all(name in readout() for name in LEVELS)
    browser.run("document.querySelector('#plot').focus()")
    browser.key("End")
    assert re.search("frame 191(.|\n)*none", readout())
    browser.key("ArrowLeft")
    assert "frame 189" in readout()
    browser.run("document.querySelector('.legend [data-color=\"1\"]').click()")
    drawn = "getComputedStyle(document.querySelector('[data-series=\"1\"]')).display"
    assert browser.run(drawn) == "none"


@needs_chromium
@pytest.mark.parametrize("width", [360, 500, 700, 1000, 1280])
def test_the_page_fits_any_window_and_colour_scheme_and_loads_nothing_else(
    browser, pages, width
):
    dark = width not in (500, 1000)
    pictures = (
        "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    )
    sides = (
        "[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth)"
    )
    for path in pages:
        browser.open(path, width=width, dark=dark)
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert width < 500 or set(browser.run(sides)) <= {0}
        color = browser.run("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", color))) < 200) == dark
        assert browser.run(pictures)
    assert browser.console == []
    own = {page.as_uri() for page in pages}
    assert {url for url in browser.requests if not url.startswith("data:")} <= own
